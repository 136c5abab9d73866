"""Turns what Chromium tells of a request over CDP into the Exchange that is kept. No protocol here, only bytes."""

import asyncio
import base64
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from storage.exchange import Block, Exchange, Stored, Truncated
from storage.ids import new_id

BODILESS = frozenset((204, 205, 304))
REDIRECTS = frozenset((301, 302, 303, 307, 308))
LENGTH_DIGITS = 18  # of a Content-Length that is believed
SUITES = {
    "AES_128_GCM": "TLS_AES_128_GCM_SHA256",
    "AES_256_GCM": "TLS_AES_256_GCM_SHA384",
    "CHACHA20_POLY1305": "TLS_CHACHA20_POLY1305_SHA256",
}  # TLS 1.3 (RFC 8446 B.4); of older suites CDP tells only a part

Addresses = Mapping[tuple[str, int], tuple[str, ...]]  # all at which a (host, port) was dialled
Note = tuple[str, str]

REQUEST_REBUILT: Note = ("OSINT-Alteration", "request head rebuilt from the browser's list, order lost")
HEAD_SHOWN: Note = ("OSINT-Alteration", "response head as the browser shows it: folded lines joined, octets of the status text that are no UTF-8 lost, interim answers and trailers not told")  # fmt: skip

POSTED_LOST: Note = ("OSINT-Omission", "the browser does not give the body of the request")
SENT_TWICE: Note = ("OSINT-Omission", "the browser may have sent the request twice: where a kept connection ends without an answer it does, and tells of one")  # fmt: skip
HEAD_LOSSY: Note = ("OSINT-Alteration", "response head as the browser shows it: octets that are no UTF-8 lost")


@dataclass(slots=True, kw_only=True)
class Hop:
    """One request with its answer inside a flight; a redirect is a hop of its own.

    `paused`: the Fetch domain held it; otherwise the Network domain told of it while it went by. `body` is the decoded body, in memory or in a scratch file; None: there is none to be had. `how` says by which way it came.
    """

    url: str
    method: str
    headers: Mapping[str, str]
    posted: bytes | None
    status: int
    reason: str
    fields: Sequence[tuple[str, str]]
    started_at: datetime
    ended_at: datetime
    kind: str = ""
    main_frame: bool = False
    paused: bool = True
    body: bytes | Path | None = None
    how: str = "none"
    truncated: Truncated | None = None
    notes: list[Note] = field(default_factory=list)
    record_id: UUID = field(default_factory=new_id)

    @property
    def body_bytes(self) -> int:
        """The length of the decoded body."""
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body or b"")

    @property
    def declared_bytes(self) -> int | None:
        """The length that the head declares, None where it declares none."""
        text = self._field("content-length")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= LENGTH_DIGITS else None

    @property
    def coded(self) -> bool:
        """Whether the body had a content coding on the wire."""
        return bool(self._field("content-encoding"))

    @property
    def media_type(self) -> str:
        """The media type without parameters, "" where none is declared."""
        return self._field("content-type").partition(";")[0].strip().lower()

    def _field(self, wanted: str) -> str:
        return next((value.strip() for name, value in self.fields if name.lower() == wanted), "")

    @property
    def made_up(self) -> bool:
        """Whether the browser made the answer, as where it goes to https by itself (HSTS); believe it of no answer from the wire."""
        return self.status == 307 and bool(self._field("non-authoritative-reason"))

    @property
    def redirects(self) -> bool:
        """Whether the browser goes on elsewhere; it then gives the body to nobody."""
        return self.status in REDIRECTS and any(name.lower() == "location" for name, _ in self.fields)


@dataclass(slots=True, kw_only=True)
class Flight:
    """Everything heard of one network id: the hops, and what the Network domain told beside them, in order of arrival."""

    key: str
    session: str = ""
    begun: list[datetime] = field(default_factory=list)
    clock: float = 0.0  # seconds from CDP's monotonic time to that of the day
    answered_at: datetime | None = None
    url: str = ""
    method: str = ""
    kind: str = ""
    main_frame: bool = False
    frame: str = ""
    document: str = ""
    initiators: list[Mapping[str, Any]] = field(default_factory=list)
    data_bytes: int = 0  # of the last answer's decoded body, as it came
    wire_bytes: int | None = None  # of the last answer's head and body, as they came; told at its end
    cached: bool = False  # out of the page's memory, nothing crossed the wire
    request_headers: Mapping[str, str] = field(default_factory=dict)
    posts: bool = False  # the request has a body
    posted: bytes | None = None  # all of it, None where it is not told
    hops: list[Hop] = field(default_factory=list)
    sent: list[Mapping[str, Any]] = field(default_factory=list)
    received: list[Mapping[str, Any]] = field(default_factory=list)
    redirects: list[Mapping[str, Any]] = field(default_factory=list)
    response: Mapping[str, Any] | None = None
    extras: list[bool] = field(
        default_factory=list
    )  # of each answer told: whether `sent` and `received` have its heads
    pauses: int = 0
    finished: bool = False
    failure: str | None = None
    broke: str | None = None  # the same, of an answer that had begun
    severed: bool = False  # it was the wire that broke
    left: bool = False  # asked for while the page was left: the Network domain tells nothing of it
    emitted: int = 0
    first: dict[str, str] = field(default_factory=dict)
    told: asyncio.Event = field(default_factory=asyncio.Event)  # the Network domain has told of its request
    headed: asyncio.Event = field(default_factory=asyncio.Event)  # and of the raw head of its last answer

    def heard_first(self, what: str, session: str) -> bool:
        """Whether this session is the one that told `what` first; a target attached twice tells everything twice."""
        return self.first.setdefault(what, session) == session

    @property
    def complete(self) -> bool:
        """Whether nothing more is to be waited for before its hops are kept."""
        return self.finished and not self.pauses and len(self.received) >= sum(self.extras)

    def asked(self, index: int) -> Mapping[str, Any]:
        """What the Network domain tells of one hop's request as it was sent, empty where nothing."""
        return self._beside(self.sent, index)

    def heard(self, index: int) -> Mapping[str, Any]:
        """What it tells of the answer as it came, empty where nothing crossed the wire."""
        return self._beside(self.received, index)

    def _beside(self, told: Sequence[Mapping[str, Any]], index: int) -> Mapping[str, Any]:
        """A hop that the browser answered itself has no place in `told`; one whose answer is not told yet counts as sent."""
        if index < len(self.extras) and not self.extras[index]:
            return {}
        place = sum(self.extras[:index]) + max(0, index - len(self.extras))
        return told[place] if place < len(told) else {}

    @property
    def short_bytes(self) -> int | None:
        """How much of the last answer's body never came, where the browser calls it whole all the same (a picture).

        None: it cannot be told. The browser then gave up on the picture, and counts what it had decoded by then.
        """
        hop, answer = self.hops[-1], self.response or {}
        shown = self.heard(len(self.hops) - 1).get("statusCode") != hop.status  # after a 304
        if self.wire_bytes is None or shown or (hop.declared_bytes is not None and not hop.coded):
            return 0
        if self.wire_bytes == self.data_bytes:
            return None
        if hop.declared_bytes is None or not str(answer.get("protocol")).startswith("http/1"):
            return 0
        return max(0, hop.declared_bytes - (self.wire_bytes - int(answer.get("encodedDataLength", 0))))

    def day(self, stamp: float | None) -> datetime:
        """The time of day of one of CDP's monotonic stamps, now where it cannot be told."""
        return datetime.fromtimestamp(stamp + self.clock, UTC) if stamp and self.clock else datetime.now(UTC)

    def answer(self, index: int) -> Mapping[str, Any]:
        """The Network domain's Response of one hop, empty where it told none."""
        if index < len(self.redirects):
            return self.redirects[index]
        return self.response or {} if index == len(self.hops) - 1 else {}


def posted_in(request: Mapping[str, Any]) -> bytes | None:
    """The posted body that a request of CDP shows, None where it has none or not all of it (files)."""
    entries = request.get("postDataEntries") or []
    if not entries or not all("bytes" in one for one in entries):
        return None
    return b"".join(base64.b64decode(one["bytes"]) for one in entries)


def severed(told: Mapping[str, Any]) -> bool:
    """Whether a loadingFailed says that the wire broke, and not that somebody here wanted no more of the answer."""
    ours = told.get("canceled") or told.get("blockedReason") or told.get("corsErrorStatus")
    why = str(told.get("errorText", ""))
    return not ours and why not in ("net::ERR_ABORTED", "net::ERR_FAILED") and not why.startswith("net::ERR_BLOCKED")


def hop_of(paused: Mapping[str, Any], main_target: str) -> Hop:
    """Read a Fetch.requestPaused of the response stage."""
    request, now = paused["request"], datetime.now(UTC)
    hop = Hop(
        url=request["url"],
        method=request["method"],
        headers=request["headers"],
        posted=None,
        status=paused["responseStatusCode"],
        reason=paused.get("responseStatusText") or "",
        fields=tuple((one["name"], one["value"]) for one in paused.get("responseHeaders") or ()),
        started_at=now,
        ended_at=now,
        kind=paused.get("resourceType", ""),
        main_frame=paused.get("resourceType") == "Document" and paused.get("frameId") == main_target,
    )
    return _with_what_is_missing(hop)


def hop_told(flight: Flight, answer: Mapping[str, Any]) -> Hop:
    """Read an answer that was not paused, from a Network Response; call it before the next request of its flight is heard."""
    now = datetime.now(UTC)
    hop = Hop(
        url=flight.url,
        method=flight.method,
        headers=flight.request_headers,
        posted=flight.posted,
        notes=[POSTED_LOST] if flight.posts and flight.posted is None else [],
        status=answer["status"],
        reason=answer.get("statusText") or "",
        fields=tuple(answer["headers"].items()),
        started_at=now,
        ended_at=now,
        kind=flight.kind,
        main_frame=flight.kind == "Document" and flight.main_frame,
        paused=False,
    )
    return _with_what_is_missing(hop)


def _with_what_is_missing(hop: Hop) -> Hop:
    if hop.redirects and hop.declared_bytes != 0:
        hop.truncated, hop.body = Truncated.UNSPECIFIED, b""
        hop.notes.append(("OSINT-Omission", "the browser gives no body of a redirect"))
    return hop


def hop_hidden(flight: Flight, reason: str, why: Truncated = Truncated.UNSPECIFIED) -> Hop:
    """Read an answer that the browser gave to nobody (CORS, ORB): its head alone is told, without its status text."""
    told = flight.heard(len(flight.hops))
    hop = hop_told(flight, {"status": told["statusCode"], "headers": told["headers"]})
    hop.notes.append(("OSINT-Omission", reason))
    hop.body, hop.truncated = b"", why
    return hop


def source_of(flight: Flight, index: int) -> str | None:
    """Where in the browser an answer came from, None if it came over the wire."""
    if flight.heard(index):
        return None
    answer = flight.answer(index)
    if answer.get("fromServiceWorker"):
        return "service worker"
    if flight.hops[index].made_up and flight.extras[index : index + 1] == [False]:
        return "browser"
    kept = flight.cached or answer.get("fromDiskCache") or answer.get("fromPrefetchCache")
    return "cache" if kept else None


def exchange_of(flight: Flight, index: int, addresses: Addresses, folder: Path) -> Exchange:
    """Make the exchange of one hop; a body in a scratch file stays in one, behind its head."""
    hop, answer = flight.hops[index], flight.answer(index)
    sent, received = flight.asked(index), flight.heard(index)
    status, body = hop.status, hop.body
    if received.get("statusCode") == 304 and status != 304:
        status, body = 304, None  # the wire said 304, the browser shows its own copy as 200
    length = None if body is None else hop.body_bytes
    head, notes = response_head(hop, status, str(received.get("headersText") or ""), length, received.get("headers"))
    security = answer.get("securityDetails") or {}
    ip, unknown = address_of(hop.url, addresses)
    return Exchange(
        url=hop.url,
        method=hop.method,
        started_at=flight.begun[index] if index < len(flight.begun) else hop.started_at,
        ended_at=hop.ended_at,
        request=request_bytes(hop.url, hop.method, sent.get("headers") or hop.headers, hop.posted),
        response=_block(head, body, folder / f"{hop.record_id}.response"),
        ip=ip,
        protocols=_protocols(str(answer.get("protocol") or ""), str(security.get("protocol") or "")),
        cipher=SUITES.get(str(security.get("cipher"))) if security.get("protocol") == "TLS 1.3" else None,
        truncated=hop.truncated,
        notes=(*hop.notes, *notes, HEAD_SHOWN if received else HEAD_LOSSY, REQUEST_REBUILT, *unknown),
        record_id=hop.record_id,
    )


def failed_exchange(flight: Flight, failure: str, now: datetime, addresses: Addresses) -> Exchange:
    """Make the exchange of a request that got no answer."""
    sent = flight.asked(len(flight.hops)).get("headers") or flight.request_headers
    ip, unknown = address_of(flight.url, addresses)
    lost = [POSTED_LOST] if flight.posts and flight.posted is None else []
    if "ERR_EMPTY_RESPONSE" in failure:
        lost.append(SENT_TWICE)
    return Exchange(
        url=flight.url,
        method=flight.method,
        started_at=flight.begun[-1] if flight.begun else now,
        ended_at=now,
        request=request_bytes(flight.url, flight.method, sent, flight.posted),
        response=None,
        ip=ip,
        failure=failure,
        notes=(REQUEST_REBUILT, *lost, *unknown),
    )


def request_bytes(url: str, method: str, headers: Mapping[str, str], posted: bytes | None) -> bytes:
    """Write a request in HTTP/1.1 form; the pseudo-fields of HTTP/2 become the request line and Host."""
    parts = urlsplit(url)
    named = {name.lower() for name in headers}
    lines = [f"{method} {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1"]
    if "host" not in named:
        lines.append(f"Host: {headers.get(':authority') or parts.netloc.rpartition('@')[2]}")
    lines += [f"{name}: {value}" for name, value in headers.items() if not name.startswith(":")]
    if posted is not None and "content-length" not in named:
        lines.append(f"Content-Length: {len(posted)}")
    return _encoded("\r\n".join(lines) + "\r\n\r\n") + (posted or b"")


def response_head(hop: Hop, status: int, raw: str, length: int | None, octets: Mapping[str, str] | None = None) -> tuple[bytes, list[Note]]:  # fmt: skip
    """Write a response's head so that it fits the decoded body; what does not fit is kept as X-Archive-Orig-*.

    `raw` is the head as received ("" where the browser gave none), read by the browser as UTF-8: what is none it drops,
    also the end of a line. `octets` are the fields as it shows them beside, each octet as a Latin-1 character, without
    their order. `length` is that of the body, None where none is kept.
    """
    notes: list[Note] = []
    first, *lines = _octets(raw).rstrip("\r\n").split("\r\n")
    if not raw:
        lines = _listed((_octets(name), _octets(value)) for name, value in hop.fields)
        notes.append(("OSINT-Alteration", "response head rebuilt from the browser's list"))
    listed = _listed((octets or {}).items())
    if _dropped(lines, listed):
        first, lines = "", listed
        notes = [("OSINT-Alteration", "response head rebuilt from the browser's list, order lost")]
    if not first.startswith("HTTP/1."):
        version = raw[:8] if raw.startswith("HTTP/1.") else "HTTP/1.1"
        first = f"{version} {status} {_octets(hop.reason)}"
    if length is not None:
        lines, changes = _fit(lines, length)
        notes += changes
    return _encoded("\r\n".join([first, *lines, "", ""])), notes


def _octets(text: str) -> str:
    """The octets of a text in UTF-8, each as a Latin-1 character."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _listed(fields: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {part}" for name, value in fields for part in value.split("\n")]


def _dropped(lines: Sequence[str], listed: Sequence[str]) -> bool:
    """Whether a field with octets above 127 stands in the list and not, as it is there, among the lines."""
    there = {_plain(line) for line in lines}
    return any(not line.isascii() and _plain(line) not in there for line in listed)


def _plain(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip(" \t")


def _fit(lines: Sequence[str], length: int) -> tuple[list[str], list[Note]]:
    coded = {line.partition(":")[0].strip().lower() for line in lines}
    out, notes, fits = [], [], False
    for line in lines:
        name, _, value = line.partition(":")
        lower = name.strip().lower()
        if lower in ("content-encoding", "transfer-encoding"):
            line = "X-Archive-Orig-" + line
        elif lower == "content-length":
            same = value.strip() == str(length)
            fits = fits or same
            line = line if same else "X-Archive-Orig-" + line
        out.append(line)
    if not fits:
        out.append(f"Content-Length: {length}")
    if "content-encoding" in coded:
        notes.append(("OSINT-Alteration", "content-decoding removed by the browser"))
    if "transfer-encoding" in coded:
        notes.append(("OSINT-Alteration", "transfer-coding removed by the browser"))
    return out, notes


def address_of(url: str, addresses: Addresses) -> tuple[str | None, tuple[Note, ...]]:
    """The address that a URL's host was dialled at. None behind a proxy, where it was not dialled, and where it was dialled
    at several: the browser does not tell which connection a request took."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "wss": 443}.get(parts.scheme, 80)
    at = addresses.get(((parts.hostname or "").lower(), port), ())
    if len(at) > 1:
        return None, (("OSINT-Omission", f"the host was dialled at {', '.join(at)}: which of them this was is not known"),)  # fmt: skip
    return (at[0] if at else None), ()


def _protocols(http: str, tls: str) -> tuple[str, ...]:
    return tuple(name for name in (http, tls.lower().replace("tls ", "tls/")) if name)


def _encoded(text: str) -> bytes:
    """Give back the bytes of a head: CDP shows octets as Latin-1 where they are no UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _block(head: bytes, body: bytes | Path | None, path: Path) -> Block:
    if not isinstance(body, Path):
        return head + (body or b"")
    with path.open("xb") as out, body.open("rb") as source:
        out.write(head)
        shutil.copyfileobj(source, out, 1 << 20)
    length = path.stat().st_size
    body.unlink()
    return Stored(path=path, length_bytes=length)
