"""The data folder: where it is if nobody says, and that nobody else reads it."""

import stat
from collections.abc import Mapping
from pathlib import Path

from settings.errors import SettingError
from settings.variables import variable


def default_home(environ: Mapping[str, str]) -> Path:
    """Name the user's data folder (XDG Base Directory): $XDG_DATA_HOME/osint-pipeline."""
    base = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "/root")) / ".local" / "share")
    return Path(base) / "osint-pipeline"


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may read (0700), and return it. Leaves an existing one's parents alone.

    An existing folder that others may read is made private if it is empty or ours (it holds a spool); SettingError otherwise.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        if any(path.iterdir()) and not any((path / one).is_dir() for one in ("spool", "postgres", "store")):
            advice = "name a folder of its own, or make this one private: chmod 700"
            raise SettingError(variable("home"), f"{path} holds other files and is open to others", advice)
        path.chmod(0o700)
    return path
