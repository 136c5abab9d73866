"""Where a browser's window can be shown."""

import os
from collections.abc import Mapping

from osint_pipeline.errors import UserError

SHOWING = ("DISPLAY", "WAYLAND_DISPLAY")
NEEDED = (*SHOWING, "XAUTHORITY", "XDG_RUNTIME_DIR")  # what Chromium reads to find the screen and to be let in


class NoDisplay(UserError):
    """A window was asked for where there is no screen."""

    def __init__(self) -> None:
        advice = "run it in a desktop session or under xvfb-run, or leave out --headed and OSINT_HEADED"
        super().__init__("Chromium cannot show a window: neither DISPLAY nor WAYLAND_DISPLAY is set", advice)


def check_display(environ: Mapping[str, str] | None = None) -> None:
    """Raise NoDisplay where no window can be shown."""
    environ = os.environ if environ is None else environ
    if not any(environ.get(name) for name in SHOWING):
        raise NoDisplay
