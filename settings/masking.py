"""How the value of a setting is shown: secrets are masked."""

from typing import Any
from urllib.parse import urlsplit

from settings.exits import read_exits


def shown(value: Any, secret: bool) -> str:
    """Write a value for people: of a secret only what tells nobody how to use it."""
    if value is None or value == ():
        return "-"
    if secret and isinstance(value, tuple):
        return ",".join(one.masked for one in read_exits(value).values())
        return "********"
    if secret:
        return _mask_url(str(value)) if "://" in str(value) else "********"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _mask_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    at = f"{parts.username}:********@" if parts.username else ""
    return f"{parts.scheme}://{at}{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
