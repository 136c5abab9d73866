"""Takes secrets out of what is logged: values of secret settings, passwords in URLs, credentials in headers."""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import fields
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from settings.service import Service

HIDDEN = "********"
_SHORTEST = 4  # characters: a shorter word stands in too much that is no secret
_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-amz-security-token"})
_IN_URL = re.compile(r"(?<=://)[^/?#@\s\"'<>]+(?=@)")
_VALUE = r"(?:b?'[^']*'|b?\"[^\"]*\"|\[[^\]]*\]|[^\r\n]+)"
_HEADER = re.compile(
    rf"((?:proxy-)?authorization|(?:set-)?cookie|x-amz-security-token)(b?['\"]?\s*[:=]\s*){_VALUE}", re.IGNORECASE
)
_SIGNED = re.compile(
    r"((?:X-Amz-(?:Signature|Credential|Security-Token)|password|passwd|token)=)[^&\s\"']+", re.IGNORECASE
)


class Mask:
    """A processor of log events; also callable on a text by `text`."""

    def __init__(self, secrets: Iterable[str]) -> None:
        words = sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, words))) if words else None

    @classmethod
    def of(cls, service: Service) -> Self:
        """Hide what the settings hold as secret, and the passwords within it."""
        found: set[str] = set()
        for one in fields(Service):
            if one.metadata["secret"] and (value := getattr(service, one.name)):
                for text in value if isinstance(value, tuple) else (str(value),):
                    found |= {text, *_passwords(text)}
        return cls(found)

    def text(self, text: str) -> str:
        """Hide the secrets of a text."""
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        if "://" in text:
            text = _IN_URL.sub(HIDDEN, text)
        text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
        return _SIGNED.sub(rf"\1{HIDDEN}", text) if "=" in text else text

    def value(self, value: Any) -> Any:
        """Hide the secrets of whatever was logged."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(key): self._of_key(_name(key), one) for key, one in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(one) for one in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self.text(str(value))

    def __call__(self, _: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if not key.startswith("_"):
                event[key] = self._of_key(_name(key), value)
        return event

    def _of_key(self, name: str, value: Any) -> Any:
        return HIDDEN if name in _HEADERS else self.value(value)


def _name(key: Any) -> str:
    text = key.decode("latin-1") if isinstance(key, bytes) else str(key)
    return text.lower().replace("_", "-")


def _passwords(text: str) -> set[str]:
    """Find the password of a URL, as it is written and as it is meant; no other part is one."""
    try:
        password = urlsplit(text).password if "://" in text else None
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()
