"""Reads the cookies and storage of a browser as Playwright writes them, and refuses what Chromium would; no word of them is told."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from osint_pipeline.errors import UserError

_ADVICE = "a storage state as Playwright writes it: context.storage_state(path=...)"
_LATEST = 253_402_300_799  # the end of the year 9999, in seconds: Playwright takes no later one
_PAIR_BYTES = 4096  # of a name and its value together (RFC 6265bis 5.7)
_CONTROLS = r"\x00-\x1f\x7f;"
_Check = tuple[Callable[[Any], bool], str]


def _like(pattern: str) -> Callable[[Any], bool]:
    found = re.compile(pattern)
    return lambda one: isinstance(one, str) and found.fullmatch(one) is not None


def _is_time(one: Any) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool) and (one == -1 or 0 <= one <= _LATEST)


_FIELDS: Mapping[str, _Check] = {
    "name": (_like(rf"[^={_CONTROLS}]*"), "a text without =, ; and control letters"),
    "value": (_like(rf"[^{_CONTROLS}]*"), "a text without ; and control letters"),
    "domain": (_like(r"[^\s/:]+"), "the name of a host"),
    "path": (_like(rf"/[^{_CONTROLS}]*"), "a text that begins with /"),
}
_OPTIONAL: Mapping[str, _Check] = {
    "expires": (_is_time, "a number: seconds since 1970, or -1 for the session"),
    "sameSite": (lambda one: one in ("Strict", "Lax", "None"), "Strict, Lax or None"),
    "httpOnly": (lambda one: isinstance(one, bool), "true or false"),
    "secure": (lambda one: isinstance(one, bool), "true or false"),
    "partitionKey": (lambda one: isinstance(one, str), "a text"),
}


def read_state(data: bytes, file: str) -> dict[str, Any]:
    """Read a storage state. Raises UserError, which names the file, the place in it, the field and what it must be."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        raise UserError(f"{file}: it is no JSON", _ADVICE) from None  # the error would quote it
    if not isinstance(told, dict) or not isinstance(told.get("cookies"), list):
        raise UserError(f"{file}: there is no list called cookies in it", _ADVICE)
    for number, one in enumerate(told["cookies"], 1):
        _check_cookie(one, f"{file}: cookie {number}")
    if not isinstance(origins := told.get("origins", []), list):
        raise UserError(f"{file}: origins is no list", _ADVICE)
    for number, one in enumerate(origins, 1):
        _check_origin(one, f"{file}: origin {number}")
    return told


def _check_cookie(one: Any, place: str) -> None:
    if not isinstance(one, dict):
        raise UserError(f"{place} is no object", _ADVICE)
    for field, (fits, what) in (*_FIELDS.items(), *_OPTIONAL.items()):
        if (field in _FIELDS or one.get(field) is not None) and not fits(one.get(field)):
            raise _wrong(place, field, what, missing=field not in one)
    if not 0 < len((one["name"] + one["value"]).encode("utf-8", "replace")) <= _PAIR_BYTES:
        raise _wrong(place, "value", f"at most {_PAIR_BYTES} bytes with the name, and one of them not empty")
    if (one["name"].startswith(("__Secure-", "__Host-")) or one.get("sameSite") == "None") and not one.get("secure"):
        raise _wrong(place, "secure", "true beside such a name or sameSite None: Chromium takes no other")


def _check_origin(one: Any, place: str) -> None:
    if not isinstance(one, dict) or not _is_web(one.get("origin")):
        raise _wrong(place, "origin", "an address, as https://example.org")
    items = one.get("localStorage")
    if not isinstance(items, list) or not all(map(_is_item, items)):
        raise _wrong(place, "localStorage", "a list of objects with the texts name and value")
    if not isinstance(one.get("indexedDB", []), list):
        raise _wrong(place, "indexedDB", "a list")


def _is_web(one: Any) -> bool:
    try:
        parts = urlsplit(one) if isinstance(one, str) else None
    except ValueError:
        return False
    return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_item(one: Any) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(field), str) for field in ("name", "value"))


def _wrong(place: str, field: str, what: str, *, missing: bool = False) -> UserError:
    return UserError(
        f"{place}: {field} {'is missing; it' if missing else ''} must be {what}".replace("  ", " "), _ADVICE
    )
