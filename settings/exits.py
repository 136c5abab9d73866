"""Ways out through a proxy, as OSINT_EXITS and OSINT_PROXY name them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

DIRECT = "direct"  # what a source says that goes out without a proxy, whatever OSINT_PROXY is
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PORTS = {"http": 80, "socks5": 1080}
_WAYS = {"http": "http-proxy", "socks5": "socks5"}
_REFUSED = {
    "socks4": "SOCKS4 cannot be used: it gives no names to the proxy, so each would be looked up here",
    "socks4a": "SOCKS4a cannot be used: it knows no password; take socks5://",
    "https": "a proxy that is itself reached by TLS cannot be used; take http:// or socks5://",
}
_MOST_BYTES = 255  # RFC 1929 2


class BadExit(ValueError):
    """An exit cannot be read; says which and why, and nothing of its host or credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A proxy that every request of a source goes through; it resolves the names. `scheme` is "http" or "socks5".

    `name` is None for the URL of OSINT_PROXY. Only the name and `way` may be archived or shown.
    """

    name: str | None
    scheme: str
    host: str = field(repr=False)
    port: int = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def label(self) -> str:
        """What people know it by."""
        return self.name or "OSINT_PROXY"

    @property
    def way(self) -> str:
        """Its kind, for the record: "http-proxy" or "socks5"."""
        return _WAYS[self.scheme]

    @property
    def declared(self) -> str:
        """What may be archived of it."""
        return f"{self.way} through exit {self.name}" if self.name else self.way

    @property
    def place(self) -> str:
        """Host and port, for the operator's screen alone."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def masked(self) -> str:
        """The entry as `osint config` shows it."""
        login = "********@" if self.user else ""
        return f"{self.name}={self.scheme}://{login}{self.place}"

    def conceal(self, text: str) -> str:
        """Take host and credentials out of a text that others wrote."""
        words = {self.place, self.host} | {word for word in (self.user, self.password) if len(word) > 3}
        for word in sorted(words, key=len, reverse=True):
            text = text.replace(word, "...")
        return text


def read_exits(entries: Iterable[str]) -> dict[str, Exit]:
    """Read "name=scheme://user:password@host:port" for each exit, by name. Raises BadExit."""
    found: dict[str, Exit] = {}
    for number, entry in enumerate(entries, 1):
        name, equals, url = entry.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            raise BadExit(f"entry {number} has no name of letters, digits, dots, hyphens (at most 32)")
        one = read_exit(url.strip(), name.strip())
        if one.label == DIRECT or one.label in found:
            raise BadExit(f"{one.label!r} cannot be the name of an exit, or is there twice")
        found[one.label] = one
    return found


def read_exit(url: str, name: str | None = None) -> Exit:
    """Read a proxy's URL; socks5h is socks5, as names are always resolved by the proxy. Raises BadExit."""
    who = name or "the URL"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadExit(f"{who}: its address cannot be read") from None  # it would show a part of the secret
    scheme = parts.scheme.removesuffix("h") if parts.scheme == "socks5h" else parts.scheme
    if scheme not in _PORTS:
        raise BadExit(f"{who}: {_REFUSED.get(scheme, 'it is neither http:// nor socks5://')}")
    if not parts.hostname or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise BadExit(f"{who}: write {scheme}://user:password@host:port, and , / # ? @ in a password as %2C %2F ...")
    user, password = _login(parts, scheme, who)
    return Exit(
        name=name, scheme=scheme, host=parts.hostname, port=port or _PORTS[scheme], user=user, password=password
    )


def _login(parts: SplitResult, scheme: str, who: str) -> tuple[str, str]:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    for word in (user, password):
        if len(word) > _MOST_BYTES or not (word.isascii() and word.isprintable()):
            raise BadExit(f"{who}: user and password are at most {_MOST_BYTES} printable ASCII characters each")
    if bool(user) != bool(password) and (scheme == "socks5" or password):
        raise BadExit(f"{who}: a user and a password belong together")
    if ":" in user and scheme == "http":
        raise BadExit(f"{who}: a user's name with a colon cannot be sent to an HTTP proxy (RFC 7617 2)")
    return user, password
