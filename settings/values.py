"""Reads the text of a setting as a value of its field's type, within the field's bounds."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from settings.errors import SettingError
from settings.variables import variable

MOST_HOURS = 876_600  # a hundred years
_MOST_SECONDS = 2_000_000  # 23 days: system calls count a wait in milliseconds of 31 bits
_MOST_BYTES = 1 << 60
_MOST = 1_000_000_000  # of anything else
_YES_OR_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def read_value(one: Any, value: Any) -> Any:
    """Read the value of a dataclass field, from text or as TOML gives it. Raises SettingError, which holds nothing of a secret."""
    kinds = [kind for kind in (get_args(one.type) or (one.type,)) if kind is not type(None)]
    try:
        if one.default == ():
            return _listed(value)
        if kinds[0] is bool:
            return _YES_OR_NO[str(value).lower()]
        if kinds[0] in (int, float):
            return _in_bounds(one, kinds[0](str(value).replace("_", "")))
        return Path(value).expanduser() if Path in kinds else str(value)
    except (ValueError, TypeError, KeyError) as error:
        shown = "its value" if one.metadata["secret"] else repr(value)
        raise SettingError(variable(one.name), f"cannot read {shown}", one.metadata["about"]) from error


def _listed(value: Any) -> tuple[str, ...]:
    """Take the entries of a list: comma-separated or one a line, or what TOML writes as a list or a table."""
    if isinstance(value, str):
        value = re.split(r"[,\n]", value)
    elif isinstance(value, Mapping):
        value = [f"{name}={one}" for name, one in value.items()]
    return tuple(part.strip() for part in map(str, value) if part.strip())


def _in_bounds(one: Any, value: float) -> float:
    least, most = one.metadata["at_least"], _most(one)
    if least is not None and not value >= least:  # so that nan is refused too
        raise SettingError(variable(one.name), f"{value} is below {least}", one.metadata["about"])
    if not value <= most:
        raise SettingError(variable(one.name), f"it is above {most}", one.metadata["about"])
    return value


def _most(one: Any) -> float:
    if one.metadata["at_most"] is not None:
        return float(one.metadata["at_most"])
    units = {"seconds": _MOST_SECONDS, "hours": MOST_HOURS, "bytes": _MOST_BYTES}
    return units.get(one.name.rpartition("_")[2], _MOST)
