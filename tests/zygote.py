"""Starts `osint` commands, or another function, by fork from a process that has imported everything: 10 ms instead of 1.5 s.

python -m tests.zygote FD      reads a JSON line for each command from the socket FD, answers with the child's pid
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent
MODULES = (
    "osint_pipeline.cli.crawl", "osint_pipeline.cli.keeping", "osint_pipeline.cli.stores", "osint_pipeline.cli.rebuilding",
    "osint_pipeline.crawl", "osint_pipeline.crawling", "osint_pipeline.preserve", "osint_pipeline.recovery",
    "osint_pipeline.rebuild", "osint_pipeline.verify", "storage.catalog", "storage.embedded_postgres",
    "storage.embedded_store", "boto3", "scrapy.crawler", "spiders.channels", "osint_pipeline.fetch.handler",
    "osint_pipeline.cli.source_views", "osint_pipeline.trying",
)  # fmt: skip


class Zygote:
    """Use it in a with statement; `main` is the function, "module:name", that takes the words. Each child leads a process group of its own, so that killpg() kills all that it started."""

    def __init__(self, environ: Mapping[str, str], log: Path, main: str = "osint_pipeline.cli:main") -> None:
        self.environ, self.log, self.main = dict(environ), log, main

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote", str(theirs.fileno())],
            cwd=ROOT,
            env=self.environ,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._socket, self._answers = ours, ours.makefile("r")
        assert self._answers.readline() == "ready\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait(30)

    def start(self, *words: str, **more: str) -> int:
        """Start a command with its output going to the log; the pid, which is its group's too."""
        order = {"words": words, "environ": {**self.environ, **more}, "log": str(self.log), "main": self.main}
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        return int(self._answers.readline())

    def ended(self, pid: int, seconds: float) -> int | None:
        """Wait for a command at most so long: its exit code, None while it runs."""
        self._socket.sendall(json.dumps({"wait": pid, "seconds": seconds}).encode() + b"\n")
        answer = self._answers.readline().strip()
        return None if answer == "alive" else int(answer)

    def kill(self, pid: int) -> None:
        """Kill a command and all that it started, as a power cut would."""
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.ended(pid, 30)

    def run(self, *words: str, seconds: float = 300, **more: str) -> int:
        """Run a command to its end; its exit code."""
        code = self.ended(pid := self.start(*words, **more), seconds)
        if code is None:
            self.kill(pid)
            raise TimeoutError(f"{words} took more than {seconds} s")
        return code


def serve(connection: socket.socket) -> None:
    """Fork a child for each order until the other side closes."""
    for name in MODULES:
        import_module(name)
    assert "twisted.internet.reactor" not in sys.modules, "the child installs its own"
    connection.sendall(b"ready\n")
    ended: dict[int, int] = {}
    for line in connection.makefile("r"):
        order = json.loads(line)
        asked = "wait" in order
        answer = _wait(order["wait"], order["seconds"], ended) if asked else str(_fork(connection, order))
        connection.sendall(answer.encode() + b"\n")


def _wait(pid: int, seconds: float, ended: dict[int, int]) -> str:
    deadline = time.monotonic() + seconds
    while pid not in ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            return "alive"
        else:
            time.sleep(0.002)
    return str(ended[pid])


def _fork(connection: socket.socket, order: dict[str, object]) -> int:
    if pid := os.fork():
        return pid
    try:
        os.setsid()
        connection.close()
        number = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(number, stream)
        os.environ.clear()
        os.environ.update(order["environ"])  # type: ignore[call-overload]
        sys.argv = ["osint", *order["words"]]  # type: ignore[misc]
        module, _, name = str(order["main"]).partition(":")
        getattr(import_module(module), name)()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - what a program prints that ends so
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(inherited)
