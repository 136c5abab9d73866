"""Which texts of a login are secrets, and where they stand among bytes, however they were written there."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SHORTEST_SECRET = 16  # letters: a shorter value stands in too much that is no secret
MOST_SECRETS = 500  # each is looked for in all that is made of a page: a tenth of a second for a megabyte at this many
_DEPTH = 6  # texts within texts: JSON in a query in JSON
_ASCII = re.compile(r"[!-~]+")
_RUN = re.compile(r"[A-Za-z0-9]+")
_MIXED, _TURNING, _LONG = 4, 12, 32  # letters of a run that no word has: with digits, with capitals inside, at all
_HARMLESS = re.compile(
    r"""[\[{"].*                                                    # JSON: its leaves are looked at
    |[A-Za-z][A-Za-z0-9+.-]*://.*                                   # an address: its query is
    |\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)?                   # a time
    |(?:[a-z0-9-]{1,20}\.)+[a-z]{2,}                                # a host
    """,
    re.VERBOSE | re.DOTALL,
)
_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


def secrets_in(told: Any) -> frozenset[str]:
    """Find every text that looks like a secret: among what mappings and lists hold, and in texts that are JSON, addresses or queries."""
    waiting, seen, found = [(told, 0)], set[str](), set[str]()
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, str):
            if one in seen:
                continue
            seen.add(one)
            found |= {one} if looks_secret(one) else set()
            waiting += [(part, depth + 1) for part in _parts(one)] if depth < _DEPTH else []
        elif isinstance(one, Mapping | list):
            waiting += [(part, depth) for part in (one.values() if isinstance(one, Mapping) else one)]
    return frozenset(found)


def looks_secret(text: str) -> bool:
    """Tell a token from what people write: long, without blanks, and some part of it is no word and no number."""
    if len(text) < SHORTEST_SECRET or not _ASCII.fullmatch(text) or _HARMLESS.fullmatch(text):
        return False
    return any(map(_is_no_word, _RUN.findall(text)))


def _is_no_word(run: str) -> bool:
    mixed = len(run) >= _MIXED and not run.isalpha() and not run.isdigit()
    turns = sum(one.islower() != other.islower() for one, other in pairwise(run))
    return mixed or len(run) >= _LONG or (len(run) >= _TURNING and turns * 3 >= len(run))


def _parts(text: str) -> Iterator[Any]:
    if text[:1] in ("{", "[", '"'):
        try:
            yield json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return
    yield from words if len(words := text.split()) > 1 else ()
    if "%" in text:
        yield unquote(text)
    if "=" in text:
        try:
            parts = urlsplit(text)
            texts = (parts.query, parts.fragment) if parts.scheme and parts.netloc else (text,)
        except ValueError:
            texts = (text,)
        for one in texts:
            yield from (value for _, value in parse_qsl(one))


class Words:
    """Secrets to be found among bytes: as they are, escaped for a URL, HTML or JSON, or so more than once."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted(secrets, key=len, reverse=True)
        self._all = tuple((max(_RUN.findall(one) or [one], key=len).encode(), one) for one in longest_first)
        self._patterns: dict[str, re.Pattern[bytes]] = {}

    def redact(self, data: bytes) -> tuple[bytes, int]:
        """Write an x for each byte of each secret, and count them; an address that holds one stays an address."""
        found = 0
        for run, secret in self._all:
            if run in data:  # no way of writing changes letters and digits; much faster than any pattern
                data, count = self._pattern(secret).subn(lambda hit: b"x" * len(hit[0]), data)
                found += count
        return data, found

    def text(self, text: str) -> str:
        """Redact a text, as `redact` does its UTF-8."""
        return self.redact(text.encode("utf-8", "surrogatepass"))[0].decode("utf-8", "surrogatepass")

    def _pattern(self, secret: str) -> re.Pattern[bytes]:
        if secret not in self._patterns:
            self._patterns[secret] = re.compile("".join(map(_written, secret)).encode())
        return self._patterns[secret]


def _written(letter: str) -> str:
    """Give a pattern of the ways in which one letter may be written."""
    if letter.isalnum():
        return letter
    code = ord(letter)
    entities = [f"#0*{code}", f"#[xX]0*(?i:{code:x})", *([_ENTITIES[letter]] if letter in _ENTITIES else [])]
    ways = [re.escape(letter), f"%(?:25)*(?i:{code:02x})", f"u(?i:{code:04x})", f"&(?:amp;)*(?:{'|'.join(entities)});"]
    return rf"\\{{0,8}}(?:{'|'.join(reversed(ways))})"
