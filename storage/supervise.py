"""A server process that outlives whoever started it: started, known again, stopped.

It is known by its pid and its start time together, so that a later process with the same pid is never taken for it.
"""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.01
_LAUNCH = 'cd / && umask 077 && read -r stat < "/proc/$$/stat" && echo "$stat" > "$0" && exec "$@"'


def launch(argv: Sequence[str], environ: Mapping[str, str], log: Path, kept: Path) -> None:
    """Start a program in a session of its own, output to `log`; it leaves its identity in `kept` before it runs.

    Nothing but that output is inherited: locks and sockets of ours stay ours.
    """
    kept.unlink(missing_ok=True)
    os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", _LAUNCH, str(kept), *argv],
        dict(environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
    )


def living(kept: Path) -> int | None:
    """Give the pid of the process that left its identity in `kept`, if it still runs."""
    try:
        pid, started = _identity(kept.read_text("ascii"))
        state, now_started = _state(pid)
    except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
        return None
    if state == "Z":
        _reap(pid)
        return None
    return pid if started == now_started else None


def ended(kept: Path) -> bool:
    """Whether a process left its whole identity and is gone; one that is just being launched has not ended."""
    try:
        return kept.read_text("ascii").endswith("\n") and living(kept) is None
    except FileNotFoundError:
        return False


def stop(kept: Path, patience_seconds: float = 5.0) -> None:
    """End that process, kindly and then not; returns when it is gone. May be called when there is none."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if (pid := living(kept)) is None:
            break
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + patience_seconds
        while living(kept) is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    kept.unlink(missing_ok=True)


def _identity(stat: str) -> tuple[int, str]:
    pid = int(stat.split(" ", 1)[0])
    return pid, _fields(stat)[19]


def _state(pid: int) -> tuple[str, str]:
    try:
        fields = _fields(Path(f"/proc/{pid}/stat").read_text("ascii", "replace"))
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    return fields[0], fields[19]


def _fields(stat: str) -> list[str]:
    """Split proc(5) stat after the name, which may hold anything: state first, start time in ticks at 19."""
    return stat.rpartition(")")[2].split()


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
