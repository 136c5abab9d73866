"""Ends a group of processes when this process ends, however it ends: SIGKILL leaves us no time to do it."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

# reads from a pipe whose other end only we have: its end without a word means that we are gone
_WATCH = 'read -r word && exit 0; kill -s KILL -- "-$1"; sleep 0.2; rm -rf -- "$2"'

REMOVALS, REMOVAL_SECONDS = 10, 0.02


class Leash:
    """Holds one process group, and the folder that goes with it. `kill` and `let_go` may be called twice.

    A Chromium that still answers ends by itself when its pipe closes (0.2 to 0.8 s); one that is hung lived on for
    30 s after the SIGKILL of ours. The shell that waits here ends it at once, and costs 0.5 MB.
    """

    def __init__(self, group: int, folder: Path) -> None:
        if group == os.getpgrp():
            raise ValueError(f"group {group} is our own")
        self.group, self.folder = group, folder
        command = ["/bin/sh", "-c", _WATCH, "leash", str(group), str(folder)]
        self._watcher: subprocess.Popen[bytes] | None = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def kill(self) -> None:
        """End all processes of the group at once; not after let_go(), when their number may be another's."""
        if self._watcher is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, signal.SIGKILL)

    def let_go(self) -> None:
        """Kill what is left, take the folder away and hold nothing any more."""
        self.kill()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with suppress(BrokenPipeError):  # somebody ended it
                watcher.communicate(b"\n")
        remove_folder(self.folder)


def remove_folder(folder: Path) -> None:
    """Take a folder away; what is dying may still write into it for a moment."""
    for _ in range(REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(REMOVAL_SECONDS)
