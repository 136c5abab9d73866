"""One request of the browser with its answers, hop by hop, as CDP tells of them piece by piece."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from storage.exchange import Truncated
from storage.ids import new_id

BODILESS = frozenset((204, 205, 304))
REDIRECTS = frozenset((301, 302, 303, 307, 308))
LENGTH_DIGITS = 18  # of a Content-Length that is believed
Note = tuple[str, str]


POSTED_LOST: Note = ("OSINT-Omission", "the browser does not give the body of the request")


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
