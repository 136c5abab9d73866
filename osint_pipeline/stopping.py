"""Ends a command on SIGTERM or Ctrl-C: in order and within seconds, at once when asked again.

A process that is ended at once is one that was killed: what it had synced is kept, and `osint recover` mends the rest.
"""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

INTERRUPTED = "interrupted"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ORDERLY_SECONDS = 9.0  # how long an orderly end may take before it is cut short
_CODE = 130


def arm() -> None:
    """Let the first signal end the command in order (KeyboardInterrupt), the second at once; main thread only."""
    for number in SIGNALS:
        signal.signal(number, _now if _Asked.already else _first)


def last_call(seconds: float = ORDERLY_SECONDS) -> None:
    """End this process at once if it has not ended after so long."""
    _Asked.already = True
    signal.signal(signal.SIGALRM, _now)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def leave(*streams: Any) -> None:
    """End this process now, with what it printed: threads that still wait for a slow server do not hold it up."""
    for stream in streams:
        with suppress(OSError, ValueError):  # its reader may have gone
            stream.flush()
    os._exit(_CODE)


class _Asked:
    already = False


def _first(number: int, frame: FrameType | None) -> None:
    last_call()
    arm()
    raise KeyboardInterrupt


def _now(number: int, frame: FrameType | None) -> None:
    os._exit(_CODE)
