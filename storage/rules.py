"""What ISO 28500:2017 asks of a record's header, rule by rule. Pure: header in, violations out."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import NamedTuple

from storage.digest import read_label
from storage.drafts import IDENTICAL_PAYLOAD
from storage.fields import RESERVED
from storage.records import Header

VERSIONS = frozenset({"0.17", "0.18", "1.0", "1.1"})
TYPES = frozenset(["warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation"])
_IDENTICAL = frozenset({IDENTICAL_PAYLOAD, IDENTICAL_PAYLOAD.replace("1.1", "1.0")})
PROFILES = _IDENTICAL | {one.replace("identical-payload-digest", "server-not-modified") for one in _IDENTICAL}
_REPEATABLE = frozenset({"warc-concurrent-to", "warc-protocol", "warc-cipher-suite"})
_DATE = re.compile(r"\d{4}(-(?P<m>\d\d)(-(?P<d>\d\d)(T(?P<H>\d\d):(?P<M>\d\d)(:(?P<S>\d\d)(\.\d{1,9})?)?Z)?)?)?")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+([ \t]*;.*)?")
_URI = re.compile(r"<[A-Za-z][A-Za-z0-9+.\-]*:[^\s<>]+>")
_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+")
_NUMBER = re.compile(r"[0-9]{1,18}")
_IDENTIFIERS = {
    "WARC-Record-ID": "5.2",
    "WARC-Refers-To": "5.11",
    "WARC-Warcinfo-ID": "5.16",
    "WARC-Segment-Origin-ID": "5.21",
}
EARLIEST = "1990"  # there was no web to capture before
_GZIP_SYSTEMS = frozenset({*range(14), 19, 255})  # 19: zlib on Darwin, in no RFC
_GZIP_EFFORTS = frozenset({0, 2, 4})
_MANDATORY = {"WARC-Record-ID": "5.2", "Content-Length": "5.3", "WARC-Date": "5.4", "WARC-Type": "5.5"}
_NOT_HTTP = frozenset({"warcinfo", "conversion", "continuation"})
_FORBIDDEN = {  # field: (clause, types that shall not have it)
    "WARC-Concurrent-To": ("5.7", _NOT_HTTP),
    "WARC-IP-Address": ("5.10", _NOT_HTTP),
    "WARC-Refers-To": ("5.11", TYPES - {"metadata", "revisit", "conversion"}),
    "WARC-Target-URI": ("5.14", frozenset({"warcinfo"})),
    "WARC-Warcinfo-ID": ("5.16", frozenset({"warcinfo"})),
    "WARC-Filename": ("5.17", TYPES - {"warcinfo"}),
    "WARC-Segment-Origin-ID": ("5.21", TYPES - {"continuation"}),
    "WARC-Segment-Total-Length": ("5.22", TYPES - {"continuation"}),
}


class Violation(NamedTuple):
    """A rule that a header breaks, what is wrong, and the clause of ISO 28500:2017."""

    rule: str
    why: str
    clause: str


def violations(header: Header) -> Iterator[Violation]:
    """Name every rule that a record's header breaks."""
    for rule in _RULES:
        yield from rule(header)


def untimely(header: Header, latest: datetime | None) -> Iterator[Violation]:
    """Name the dates of a record that cannot be: before there was anything to capture, or after `latest`."""
    last = f"{latest:%Y-%m-%dT%H:%M:%S}" if latest else None
    for name, clause in (("WARC-Date", "5.4"), ("WARC-Refers-To-Date", "5.13")):
        if not (value := header.get(name)) or not is_date(value):
            continue  # all that are have one order, as texts and as times
        if value < EARLIEST:
            yield Violation("date-too-early", f"{name} {value} lies before the web", clause)
        elif last and value[:19] > last[: len(value[:19])]:
            yield Violation("date-in-future", f"{name} {value} is later than {last}Z", clause)


def gzip_faults(start: bytes, latest: datetime | None) -> Iterator[Violation]:
    """Name what no writer puts into the header of a gzip member; `start` is its first ten bytes."""
    if len(start) < 10:
        return
    written, effort, system = int.from_bytes(start[4:8], "little"), start[8], start[9]
    if written and written < 631152000:  # 1990
        yield Violation("gzip-header", f"MTIME {written} lies before the web", "RFC 1952 2.3.1")
    if latest and written > latest.timestamp():
        yield Violation("gzip-header", f"MTIME {written} lies in the future", "RFC 1952 2.3.1")
    if effort not in _GZIP_EFFORTS:
        yield Violation("gzip-header", f"XFL {effort} is no effort of deflate's", "RFC 1952 2.3.1")
    if system not in _GZIP_SYSTEMS:
        yield Violation("gzip-header", f"OS {system} is no known system", "RFC 1952 2.3.1")


def is_date(text: str) -> bool:
    """Whether text is a WARC-Date: W3C date and time in UTC, a day that exists, at most nine decimals."""
    if not (found := _DATE.fullmatch(text)):
        return False
    numbers = [
        int(found[key]) if found[key] else least for key, least in (("m", 1), ("d", 1), ("H", 0), ("M", 0), ("S", 0))
    ]
    try:
        datetime(int(text[:4]), *numbers)  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return False
    return True


def _mandatory(header: Header) -> Iterator[Violation]:
    if header.version not in VERSIONS:
        yield Violation("version", f"WARC/{header.version} is no version of the format", "4")
    for name, clause in _MANDATORY.items():
        if not header.get(name):
            yield Violation("required-field", f"{name} is missing or empty", clause)
    if header.type not in TYPES and header.type:
        yield Violation("record-type", f"{header.type!r} is no type of the standard", "5.5")
    if header.type in TYPES - {"warcinfo", "metadata"} and not header.url:
        yield Violation("required-field", f"a {header.type} record needs WARC-Target-URI", "5.14")
    if not header.get("Content-Type") and header.type != "continuation" and header.get("Content-Length") != "0":
        yield Violation("required-field", "a record with a block should say its Content-Type", "5.6")


def _repeated(header: Header) -> Iterator[Violation]:
    seen = set()
    for name, value in header.fields:
        low = name.lower()
        if not RESERVED.fullmatch(low):
            continue
        if low in seen and low not in _REPEATABLE:
            yield Violation("repeated-field", f"{name} stands more than once", "4")
        if not value and name not in _MANDATORY:
            yield Violation("empty-field", f"{name} has no value", "4")
        seen.add(low)


def _forbidden(header: Header) -> Iterator[Violation]:
    for name, (clause, types) in _FORBIDDEN.items():
        if header.type in types and header.get(name) is not None:
            yield Violation("forbidden-field", f"{name} shall not stand in a {header.type} record", clause)


def _identifiers(header: Header) -> Iterator[Violation]:
    for name, clause in _IDENTIFIERS.items():
        if (value := header.get(name)) and not _URI.fullmatch(value):
            yield Violation("identifier", f"{name} {value!r} is no <URI>", clause)
    for value in header.all("WARC-Concurrent-To"):
        if not _URI.fullmatch(value):
            yield Violation("identifier", f"WARC-Concurrent-To {value!r} is no <URI>", "5.7")


def _values(header: Header) -> Iterator[Violation]:
    for name, clause in (("WARC-Date", "5.4"), ("WARC-Refers-To-Date", "5.13")):
        if (value := header.get(name)) and not is_date(value):
            yield Violation("date", f"{name} {value!r} is no UTC time in W3C form", clause)
    if (value := header.get("Content-Type")) and not _MEDIA_TYPE.fullmatch(value):
        yield Violation("media-type", f"Content-Type {value!r} is no media type", "5.6")
    for name, clause in (("WARC-Block-Digest", "5.8"), ("WARC-Payload-Digest", "5.9")):
        if (value := header.get(name)) and not _is_label(value):
            yield Violation("digest-syntax", f"{name} {value!r} is no labelled digest", clause)
    if (value := header.get("WARC-IP-Address")) and not _is_address(value):
        yield Violation("ip-address", f"{value!r} is no IP address", "5.10")
    if (value := header.url) and not _TARGET.fullmatch(value):
        yield Violation("target-uri", f"{value!r} is no URI", "5.14")


def _segments(header: Header) -> Iterator[Violation]:
    number, total = header.get("WARC-Segment-Number"), header.get("WARC-Segment-Total-Length")
    if header.type == "continuation":
        if number is None or not header.get("WARC-Segment-Origin-ID"):
            yield Violation("required-field", "a continuation needs its segment number and origin", "5.20")
        elif not (_NUMBER.fullmatch(number) and int(number) >= 2):
            yield Violation("segment-number", f"a continuation cannot be segment {number!r}", "5.20")
        if header.get("WARC-Truncated") and total is None:
            yield Violation("segment-number", "only the last segment can be truncated", "7")
    elif number is not None and number != "1":
        yield Violation("segment-number", f"a {header.type} record cannot be segment {number!r}", "5.20")
    if total is not None and not _NUMBER.fullmatch(total):
        yield Violation("segment-length", f"{total!r} is no length", "5.22")


def _revisit(header: Header) -> Iterator[Violation]:
    profile = header.get("WARC-Profile")
    if header.type != "revisit":
        if profile is not None:
            yield Violation("revisit-profile", f"a {header.type} record has no profile", "5.18")
        return
    if not _TARGET.fullmatch(profile or ""):
        yield Violation("revisit-profile", f"{profile!r} is no profile's URI", "5.18")
    if profile in _IDENTICAL and not header.get("WARC-Payload-Digest"):
        yield Violation("revisit-digest", "a revisit of an identical payload needs its digest", "6.7.2")
    if profile == IDENTICAL_PAYLOAD and header.get("Content-Length") != "0" and not header.get("WARC-Truncated"):
        yield Violation("revisit-truncated", "the block of such a revisit is declared as truncated in length", "6.7.2")


def _http(header: Header) -> Iterator[Violation]:
    found = re.search(r"msgtype=\"?([^\s;\"]*)", header.get("Content-Type") or "", re.I)
    wanted = {"response": "response", "revisit": "response", "request": "request"}.get(header.type)
    if header.is_http and wanted and found and found[1].lower() != wanted:
        clause = {"response": "6.3.2", "revisit": "6.7.2", "request": "6.5.2"}[header.type]
        yield Violation("message-type", f"msgtype is {found[1]!r} in a {header.type} record", clause)


def _is_label(text: str) -> bool:
    try:
        read_label(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_RULES: tuple[Callable[[Header], Iterator[Violation]], ...] = (
    _mandatory,
    _repeated,
    _forbidden,
    _identifiers,
    _values,
    _segments,
    _revisit,
    _http,
)
