"""Names processes among all of all machines, so that one that is gone is told from one that lives."""

import os
from pathlib import Path


def this_process(machine: str) -> str:
    """Name this process among all of all machines, for `osint recover`."""
    return f"{machine}:{os.getpid()}:{process_start(os.getpid())}"


def process_start(pid: int) -> str:
    """Tell when a process of this machine started, in clock ticks since boot, which no step of the clock changes.

    Empty where there is no such process (proc(5), field 22 of stat).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
