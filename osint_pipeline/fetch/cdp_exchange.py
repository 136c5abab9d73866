"""Turns what Chromium tells of a request over CDP into the Exchange that is kept. No protocol here, only bytes."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
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

Addresses = Mapping[tuple[str, int], str]
Note = tuple[str, str]


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
    cached: bool = False  # out of the page's memory, nothing crossed the wire
    request_headers: Mapping[str, str] = field(default_factory=dict)
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

    def day(self, stamp: float | None) -> datetime:
        """The time of day of one of CDP's monotonic stamps, now where it cannot be told."""
        return datetime.fromtimestamp(stamp + self.clock, UTC) if stamp and self.clock else datetime.now(UTC)

    def answer(self, index: int) -> Mapping[str, Any]:
        """The Network domain's Response of one hop, empty where it told none."""
        if index < len(self.redirects):
            return self.redirects[index]
        return self.response or {} if index == len(self.hops) - 1 else {}


def hop_of(paused: Mapping[str, Any], main_target: str) -> Hop:
    """Read a Fetch.requestPaused of the response stage."""
    request, now = paused["request"], datetime.now(UTC)
    return Hop(
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


def hop_told(flight: Flight, answer: Mapping[str, Any]) -> Hop:
    """Read an answer that was not paused, from a Network Response; call it before the next request of its flight is heard."""
    now = datetime.now(UTC)
    return Hop(
        url=flight.url,
        method=flight.method,
        headers=flight.request_headers,
        posted=None,
        status=answer["status"],
        reason=answer.get("statusText") or "",
        fields=tuple(answer["headers"].items()),
        started_at=now,
        ended_at=now,
        kind=flight.kind,
        main_frame=flight.kind == "Document" and flight.main_frame,
        paused=False,
    )


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
    head, notes = response_head(
        hop, status, str(received.get("headersText") or ""), None if body is None else hop.body_bytes
    )
    security = answer.get("securityDetails") or {}
    return Exchange(
        url=hop.url,
        method=hop.method,
        started_at=flight.begun[index] if index < len(flight.begun) else hop.started_at,
        ended_at=hop.ended_at,
        request=request_bytes(hop.url, hop.method, sent.get("headers") or hop.headers, hop.posted),
        response=_block(head, body, folder / f"{hop.record_id}.response"),
        ip=address_of(hop.url, addresses),
        protocols=_protocols(str(answer.get("protocol") or ""), str(security.get("protocol") or "")),
        cipher=SUITES.get(str(security.get("cipher"))) if security.get("protocol") == "TLS 1.3" else None,
        truncated=hop.truncated,
        notes=(*hop.notes, *notes, ("OSINT-Alteration", "request head rebuilt from the browser's list, order lost")),
        record_id=hop.record_id,
    )


def failed_exchange(flight: Flight, failure: str, now: datetime, addresses: Addresses) -> Exchange:
    """Make the exchange of a request that got no answer."""
    sent = flight.asked(len(flight.hops)).get("headers") or flight.request_headers
    return Exchange(
        url=flight.url,
        method=flight.method,
        started_at=flight.begun[-1] if flight.begun else now,
        ended_at=now,
        request=request_bytes(flight.url, flight.method, sent, None),
        response=None,
        ip=address_of(flight.url, addresses),
        failure=failure,
        notes=(("OSINT-Alteration", "request head rebuilt from the browser's list, order lost"),),
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


def response_head(hop: Hop, status: int, raw: str, length: int | None) -> tuple[bytes, list[Note]]:
    """Write a response's head so that it fits the decoded body; what does not fit is kept as X-Archive-Orig-*.

    `raw` is the head as received ("" where the browser gave none), `length` that of the body, None where none is kept.
    """
    notes: list[Note] = []
    first, *lines = raw.rstrip("\r\n").split("\r\n")
    if not raw:
        lines = [f"{name}: {part}" for name, value in hop.fields for part in value.split("\n")]
        notes.append(("OSINT-Alteration", "response head rebuilt from the browser's list"))
    if not first.startswith("HTTP/1."):
        first = f"HTTP/1.1 {status} {hop.reason}"
    if length is not None:
        lines, changes = _fit(lines, length)
        notes += changes
    return _encoded("\r\n".join([first, *lines]) + "\r\n\r\n"), notes


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


def address_of(url: str, addresses: Addresses) -> str | None:
    """The address that a URL's host was dialled at, None behind a proxy or where it was not dialled."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "wss": 443}.get(parts.scheme, 80)
    return addresses.get(((parts.hostname or "").lower(), port))


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
