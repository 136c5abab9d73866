"""Where a setting's text comes from: its environment variable, a file that holds a secret, or the TOML file."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from settings.errors import SettingError

PREFIX = "OSINT_"


def variable(name: str) -> str:
    """Name a field's environment variable."""
    return PREFIX + name.upper()


def refuse_unknown(environ: Mapping[str, str], names: Mapping[str, Any]) -> None:
    """Raise SettingError for a variable that begins like ours and names no field."""
    others = {PREFIX + "CONFIG", PREFIX + "CORPORA", PREFIX + "TEST_DATABASE_URL"}
    known = {variable(name) for name in names} | {variable(name) + "_FILE" for name in names} | others
    for key in environ:
        if key.startswith(PREFIX) and key not in known:
            raise SettingError(key, "is no setting of this program", "`osint config` lists every setting")


def read_file(environ: Mapping[str, str], home: Path, names: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Read the file OSINT_CONFIG or <home>/osint.toml: its values, none where it is not there, and its path. Raises SettingError."""
    named = environ.get(PREFIX + "CONFIG")
    path = Path(named) if named else home / "osint.toml"
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        if named:
            raise SettingError(PREFIX + "CONFIG", f"no file {path}", "name a file that exists") from error
        return {}, str(path)
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(str(path), str(error), "mend the file; it is TOML: name = value") from error
    for key in values:
        if key not in names:
            raise SettingError(f"{path}: {key}", "is no setting of this program", "`osint config` lists every setting")
    return values, str(path)


def find_text(environ: Mapping[str, str], name: str, from_file: Mapping[str, Any], path: str) -> tuple[Any, str]:
    """Find what is said of a field, and where; (None, "default") where nothing is. Raises SettingError."""
    key = variable(name)
    if environ.get(key):
        return environ[key], key
    if secret := environ.get(key + "_FILE"):
        try:
            return Path(secret).read_text("utf-8").strip(), key + "_FILE"
        except (OSError, UnicodeError) as error:
            raise SettingError(key + "_FILE", str(error), "name a file that can be read") from error
    if name in from_file:
        return from_file[name], path
    return None, "default"
