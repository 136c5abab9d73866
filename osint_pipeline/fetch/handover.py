"""Run by Chromium's launcher in an interpreter of its own, before Chromium: hands us both ends of its debugging pipe.

Playwright gives Chromium its commands on descriptor 3 and reads from 4. Both are sent to us over a socket in a folder that only
we may enter, with our ends of two new pipes, on which Chromium is started.
"""

import os
import socket
import sys

EXECUTABLE, SOCKET = "OSINT_HANDOVER_EXECUTABLE", "OSINT_HANDOVER_SOCKET"
PYTHON, SCRIPT = "OSINT_HANDOVER_PYTHON", "OSINT_HANDOVER_SCRIPT"


def main() -> None:
    """Hand over, then become Chromium."""
    names = (EXECUTABLE, SOCKET, PYTHON, SCRIPT)
    executable, path = os.environ[EXECUTABLE], os.environ[SOCKET]
    commands, answers = os.pipe(), os.pipe()
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(path)
        socket.send_fds(ours, [b"\0"], [3, 4, answers[0], commands[1]])
    os.dup2(commands[0], 3)
    os.dup2(answers[1], 4)
    kept = {name: value for name, value in os.environ.items() if name not in names}
    os.execve(executable, [executable, *sys.argv[1:]], kept)


if __name__ == "__main__":
    main()
