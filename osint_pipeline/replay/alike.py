"""Which recorded address stands for one that was asked for and is not recorded. The rule is the one in docs/replay.md."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

STATIC = re.compile(
    r"\.(?:js|mjs|css|png|jpe?g|gif|webp|avif|svg|ico|woff2?|ttf|otf|eot|mp4|webm|mp3|ogg|wav|m4a|m4s|ts|vtt|map|wasm)$",
    re.IGNORECASE,
)
FLEETING_NAMES = frozenset(
    [
        "_",
        "t",
        "ts",
        "cb",
        "rnd",
        "rand",
        "random",
        "nocache",
        "cachebuster",
        "cache_bust",
        "callback",
        "jsonp",
        "v1",
        "time",
        "timestamp",
    ]
)
RANDOM = re.compile(r"0?\.[0-9]{4,}")  # as Math.random() gives it
TIME = re.compile(r"([0-9]{10})(?:[0-9]{3}|\.[0-9]+)?")  # in seconds or milliseconds since 1970
NEAR_SECONDS = 86_400  # so far from the capture, or from now, a number may be and still be taken for a time


def plain(url: str) -> str:
    """Write an address as browsers compare it: scheme and host in small letters, no default port, a path, no fragment."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.netloc.rpartition("@")[2].lower()
    for known, port in (("http", ":80"), ("https", ":443")):
        host = host.removesuffix(port) if scheme == known else host
    return f"{scheme}://{host}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")


def bare(url: str) -> str:
    """Take away what follows the `?`."""
    return url.partition("?")[0]


def both_schemes(url: str) -> tuple[str, str]:
    """Give an address with http and with https."""
    rest = url.partition("://")[2]
    return f"http://{rest}", f"https://{rest}"


def most_alike(url: str, recorded: Sequence[str], *, times: Sequence[float] = (), document: bool = False) -> str | None:
    """Choose among recorded addresses (all plain) the one that is most like `url`; None where none is near enough.

    Same host and path always. In this order: another scheme alone; the same names in the query, differing in fleeting values
    alone (a time near one of `times`, a random number); a static file, whatever its query. For a document another scheme alone:
    the number of a post looks like any other number.
    """
    path = bare(url).partition("://")[2]
    near = [one for one in dict.fromkeys(recorded) if bare(one).partition("://")[2] == path]
    rules = (
        lambda one: one.partition("://")[2] == url.partition("://")[2],
        lambda one: not document and _differ_in_fleeting_values(url, one, times),
        lambda one: not document and STATIC.search(bare(one)) is not None,
    )
    for rule in rules:
        if found := [one for one in near if rule(one)]:
            return max(found, key=lambda one: _shared(url, one))
    return None


def _query(url: str) -> list[tuple[str, str]]:
    return sorted(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def _shared(one: str, other: str) -> int:
    return len(set(_query(one)) & set(_query(other)))


def _differ_in_fleeting_values(one: str, other: str, times: Sequence[float]) -> bool:
    mine, theirs = _query(one), _query(other)
    if [name for name, _ in mine] != [name for name, _ in theirs]:
        return False
    pairs = ((name, a, b) for (name, a), (_, b) in zip(mine, theirs, strict=True) if a != b)
    return all(name.lower() in FLEETING_NAMES or (_fleeting(a, times) and _fleeting(b, times)) for name, a, b in pairs)


def _fleeting(value: str, times: Sequence[float]) -> bool:
    if RANDOM.fullmatch(value):
        return True
    time = TIME.fullmatch(value)
    return time is not None and any(abs(int(time[1]) - one) < NEAR_SECONDS for one in times)
