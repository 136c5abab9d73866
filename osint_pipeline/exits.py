"""The way out that a source names, and whether it can be used: asked of the proxy itself, and of nobody else."""

import threading
import time
from functools import lru_cache

from osint_pipeline.errors import ExitUnusable
from osint_pipeline.fetch.tunnel import TunnelFailed, dial, greet
from settings.exits import DIRECT, BadExit, Exit, read_exit, read_exits
from settings.service import Service

KEPT_SECONDS = 60.0
_checked: dict[Exit, tuple[float, str | None]] = {}


def exit_of(service: Service, named: str | None) -> Exit | None:
    """Give the exit of a source: by its name, or a proxy's URL; None goes out directly.

    Raises ExitUnusable for a name that OSINT_EXITS does not know: what is not known is never passed by.
    """
    if not named or named == DIRECT:
        return None
    if known := exits_of(service).get(named):
        return known
    if "://" not in named:
        raise ExitUnusable(named[:32], "OSINT_EXITS names none like it")
    try:
        return read_exit(named)
    except BadExit as error:
        raise ExitUnusable("OSINT_PROXY", str(error)) from error


def exits_of(service: Service) -> dict[str, Exit]:
    """Give all exits that OSINT_EXITS names, by name."""
    return _read(service.exits)


@lru_cache(maxsize=8)
def _read(entries: tuple[str, ...]) -> dict[str, Exit]:
    return read_exits(entries)


def check_exit(exit: Exit, seconds: float) -> None:
    """Connect to the proxy and greet it (blocking, at most `seconds`); what came of it holds for a minute.

    Raises ExitUnusable.
    """
    when, why = _checked.get(exit, (0.0, None))
    if not when or time.monotonic() - when > KEPT_SECONDS:
        why = _trouble(exit, seconds)
        _checked[exit] = (time.monotonic(), why)
    if why:
        raise ExitUnusable(exit.label, why)


def _trouble(exit: Exit, seconds: float) -> str | None:
    """Greet in a thread of its own: a resolver that hangs cannot be given a limit otherwise."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(_greeted(exit, seconds)), name="exit-check", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else f"it did not answer within {seconds:g} s"


def _greeted(exit: Exit, seconds: float) -> str | None:
    try:
        dial(exit, greet(exit), seconds=seconds).close()
    except TunnelFailed as error:
        return error.why
    return None
