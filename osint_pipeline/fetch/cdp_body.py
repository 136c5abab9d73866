"""Gets the bodies of answers, within a limit of bytes for the whole page.

One that is paused is read before it is let go; one that must flow is copied while the page reads it; one that went by
unpaused is asked back from what the browser kept of it.
"""

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from osint_pipeline.fetch.cdp_hop import BODILESS, Flight, Hop, posted_in
from osint_pipeline.fetch.cdp_link import Answer, Link, LinkFailed
from storage.exchange import Truncated

TAPPED = frozenset(("XHR", "Fetch", "Media", "Image", "Script", "Stylesheet", "Font", "EventSource"))
SCRIPTED = frozenset(("XHR", "Fetch", "EventSource"))  # a script may read what never ends
ENDLESS = ("text/event-stream", "multipart/x-mixed-replace")
READ_WHOLE = ("text/", "image/", "font/", "application/json", "application/javascript", "application/xml", "application/x-javascript")  # fmt: skip
WHOLE_BYTES = 4 << 20  # a longer answer is copied as the page reads it
CODED_BYTES = 1 << 20  # the same for one that has still to be decompressed
TOLD_SECONDS = 2.0  # how long a pause waits to be told of its own request: a busy page tells late
RECALL_SECONDS = 20.0
MEMORY_BYTES = 1 << 20  # a longer body waits in a scratch file


class Bodies:
    """The bodies of one fetch. `omit` is told of each that is not whole; `used_bytes` counts what was kept."""

    def __init__(self, link: Link, folder: Path, limit_bytes: int, omit: Callable[[str], None]) -> None:
        self.link, self.folder, self.limit_bytes, self.omit = link, folder, limit_bytes, omit
        self.used_bytes = 0
        self._taps: dict[str, Path] = {}  # by the hop's record id
        self._early: dict[str, list[str]] = {}  # pieces that came before what had been buffered was told

    @property
    def room_bytes(self) -> int:
        """How much may still be kept."""
        return max(0, self.limit_bytes - self.used_bytes)

    async def read(self, session: str, flight: Flight, hop: Hop, params: Answer) -> bool:
        """Give a paused hop its posted bytes and its body, or a tap for it; False: the page may not have the answer."""
        await self._read_posted(hop, flight, params)
        if bodiless(hop):
            return True
        if hop.kind in TAPPED and not hop.main_frame and must_flow(hop):
            await _told(flight)
        tappable = bool(flight.session) and flight.kind in TAPPED and not hop.main_frame
        if not self.room_bytes or ((hop.declared_bytes or 0) > self.room_bytes and not tappable):
            self.cut(hop, Truncated.LENGTH, f"the limit of {self.limit_bytes} bytes was reached")
            return False
        if tappable and must_flow(hop) and await self._tap(hop, flight, flight.session):
            return True
        answer = await self.link.send("Fetch.getResponseBody", {"requestId": params["requestId"]}, session)
        self._take(hop, _decoded(answer))
        hop.how = "read"
        self._check(hop, hop.body_bytes if hop.coded else hop.declared_bytes)
        return True

    async def recall(self, session: str, flight: Flight, hop: Hop) -> None:
        """Give a hop that was not paused its body, from what the browser kept for the page's `session`."""
        try:
            async with asyncio.timeout(RECALL_SECONDS):
                answer = await self.link.send("Network.getResponseBody", {"requestId": flight.key}, session)
        except LinkFailed as error:
            if hop.body is None:
                self.cut(hop, Truncated.DISCONNECT if flight.broke else Truncated.UNSPECIFIED, flight.broke or error.why)  # fmt: skip
            return
        except TimeoutError:
            return self.cut(hop, Truncated.TIME, f"the browser did not give it within {RECALL_SECONDS:.0f} s")
        self.used_bytes -= hop.body_bytes  # a copy that was not whole
        self._take(hop, _decoded(answer))
        hop.how = "recalled"
        self._check(hop, flight.data_bytes if hop.coded or hop.declared_bytes is None else hop.declared_bytes)

    def _check(self, hop: Hop, came: int | None) -> None:
        """Say that a body is shorter than what was declared, or than what came."""
        if hop.truncated is None and hop.body_bytes < (came or 0):
            self.cut(hop, Truncated.DISCONNECT, f"{hop.body_bytes} of {came} bytes were read")

    def take(self, count: int) -> bool:
        """Count bytes that are kept elsewhere; False: the limit leaves no room for them."""
        if count > self.room_bytes:
            return False
        self.used_bytes += count
        return True

    async def _read_posted(self, hop: Hop, flight: Flight, params: Answer) -> None:
        request = params["request"]
        if (posted := posted_in(request)) is not None:
            hop.posted = posted
        elif request.get("hasPostData"):
            with suppress(LinkFailed):
                got = await self.link.send("Network.getRequestPostData", {"requestId": flight.key}, flight.session)
                hop.posted = str(got["postData"]).encode()
            hop.notes.append(("OSINT-Alteration", "request body as the browser shows it; files in it are not kept"))

    def _take(self, hop: Hop, body: bytes) -> None:
        hop.ended_at, whole = datetime.now(UTC), len(body)
        body = body[: self.room_bytes]
        self.used_bytes += len(body)
        hop.body = body
        if len(body) < whole:
            self.cut(hop, Truncated.LENGTH, f"the limit of {self.limit_bytes} bytes was reached")
        if len(body) > MEMORY_BYTES:
            hop.body = self.folder / f"{hop.record_id}.body"
            hop.body.write_bytes(body)

    def cut(self, hop: Hop, why: Truncated, reason: str) -> None:
        """Say that a body ends before its end."""
        hop.truncated, hop.body = why, hop.body or b""
        self.omit(f"{hop.url}: body cut ({reason})")

    async def _tap(self, hop: Hop, flight: Flight, session: str) -> bool:
        path = self.folder / f"{hop.record_id}.tap"
        path.touch(exist_ok=False)
        key = hop.record_id.hex
        self._taps[key], self._early[key] = path, []
        try:
            async with asyncio.timeout(RECALL_SECONDS):
                got = await self.link.send("Network.streamResourceContent", {"requestId": flight.key}, session)
        except (LinkFailed, TimeoutError):
            self._taps.pop(key, None)
            self._early.pop(key, None)
            path.unlink()
            return False
        if key not in self._taps:  # it has ended meanwhile
            path.unlink()
            return False
        hop.how, hop.body = "copied", path
        for piece in (got["bufferedData"], *self._early.pop(key)):
            self.pour(hop, piece)
        return True

    async def copy(self, hop: Hop, flight: Flight, session: str) -> None:
        """Copy an answer that was not paused, from here on, if it is one that the browser would not keep."""
        if hop.media_type.startswith(ENDLESS) or (hop.declared_bytes or 0) > WHOLE_BYTES:
            await self._tap(hop, flight, session)

    def tapped(self, hop: Hop) -> bool:
        """Whether a body is being copied."""
        return hop.record_id.hex in self._taps

    def pour(self, hop: Hop, data: str) -> None:
        """Take a piece (base64) of a body that is being copied."""
        key = hop.record_id.hex
        if not data or (path := self._taps.get(key)) is None:
            return
        if key in self._early:
            self._early[key].append(data)
            return
        chunk = base64.b64decode(data)
        kept = chunk[: self.room_bytes]
        with path.open("ab") as out:
            out.write(kept)
        self.used_bytes += len(kept)
        if len(kept) < len(chunk):
            self.cut(hop, Truncated.LENGTH, f"the limit of {self.limit_bytes} bytes was reached")

    def end_tap(self, hop: Hop, why: Truncated | None) -> None:
        """Close a copy; `why` it did not end by itself, None when it did."""
        del self._taps[hop.record_id.hex]
        self._early.pop(hop.record_id.hex, None)
        hop.ended_at = datetime.now(UTC)
        whole = hop.body_bytes == (None if hop.coded else hop.declared_bytes)
        if why is None or whole or hop.truncated is not None:
            return
        hop.truncated = why
        if not hop.media_type.startswith(ENDLESS):
            self.omit(f"{hop.url}: {hop.body_bytes} of {hop.declared_bytes or 'unknown'} bytes were read ({why})")


def _decoded(answer: Answer) -> bytes:
    return base64.b64decode(answer["body"]) if answer["base64Encoded"] else str(answer["body"]).encode()


async def _told(flight: Flight) -> None:
    """Wait until it is known which session a request belongs to: without it nothing can be copied from there."""
    with suppress(TimeoutError):
        async with asyncio.timeout(TOLD_SECONDS):
            await flight.told.wait()


def bodiless(hop: Hop) -> bool:
    """Whether an answer has no body that could be had."""
    return hop.redirects or hop.status in BODILESS or hop.method == "HEAD"


def must_flow(hop: Hop) -> bool:
    """Whether holding a body up would starve the page, or reading it whole would fill the memory."""
    if hop.media_type.startswith(ENDLESS):
        return True
    if hop.declared_bytes is not None:
        return hop.declared_bytes > (CODED_BYTES if hop.coded else WHOLE_BYTES)
    return hop.kind in SCRIPTED or not hop.media_type.startswith(READ_WHOLE)
