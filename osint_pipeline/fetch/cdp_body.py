"""Reads the bodies of paused responses, or copies them while the page reads them, within a limit of bytes for the whole page."""

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from osint_pipeline.fetch.cdp_exchange import BODILESS, Flight, Hop
from osint_pipeline.fetch.cdp_link import Answer, Link, LinkFailed
from storage.exchange import Truncated

TAPPED = frozenset(("XHR", "Fetch", "Media", "Image", "Script", "Stylesheet", "Font", "EventSource"))
ENDLESS = ("text/event-stream", "multipart/x-mixed-replace")
READ_WHOLE = ("text/", "image/", "font/", "application/json", "application/javascript", "application/xml", "application/x-javascript")  # fmt: skip
WHOLE_BYTES = 4 << 20  # a longer answer is copied as the page reads it
CODED_BYTES = 1 << 20  # the same for one that has still to be decompressed
TOLD_SECONDS = 2.0  # how long a pause waits to be told of its own request: a busy page tells late
MEMORY_BYTES = 1 << 20  # a longer body waits in a scratch file


class Bodies:
    """The bodies of one fetch. `omit` is told of each that is not whole; `used_bytes` counts what was kept."""

    def __init__(self, link: Link, folder: Path, limit_bytes: int, omit: Callable[[str], None]) -> None:
        self.link, self.folder, self.limit_bytes, self.omit = link, folder, limit_bytes, omit
        self.used_bytes = 0
        self._taps: dict[str, Path] = {}  # by the hop's record id

    @property
    def room_bytes(self) -> int:
        """How much may still be kept."""
        return max(0, self.limit_bytes - self.used_bytes)

    async def read(self, session: str, flight: Flight, hop: Hop, params: Answer) -> bool:
        """Give a paused hop its posted bytes and its body, or a tap for it; False: the page may not have the answer."""
        await self._read_posted(hop, flight, params)
        if hop.redirects:
            if hop.declared_bytes != 0:
                hop.truncated, hop.body = Truncated.UNSPECIFIED, b""
                hop.notes.append(("OSINT-Omission", "the browser gives no body of a redirect"))
            return True
        if hop.status in BODILESS or hop.method == "HEAD":
            return True
        if hop.kind in TAPPED and not hop.main_frame and _must_flow(hop):
            await _told(flight)
        tappable = bool(flight.session) and flight.kind in TAPPED and not hop.main_frame
        if not self.room_bytes or ((hop.declared_bytes or 0) > self.room_bytes and not tappable):
            self.cut(hop, Truncated.LENGTH, f"the limit of {self.limit_bytes} bytes was reached")
            return False
        if tappable and _must_flow(hop) and await self._tap(hop, flight):
            return True
        answer = await self.link.send("Fetch.getResponseBody", {"requestId": params["requestId"]}, session)
        self._take(hop, base64.b64decode(answer["body"]) if answer["base64Encoded"] else answer["body"].encode())
        return True

    async def _read_posted(self, hop: Hop, flight: Flight, params: Answer) -> None:
        request = params["request"]
        entries = request.get("postDataEntries") or []
        if entries and all("bytes" in one for one in entries):
            hop.posted = b"".join(base64.b64decode(one["bytes"]) for one in entries)
        elif request.get("hasPostData"):
            with suppress(LinkFailed):
                got = await self.link.send("Network.getRequestPostData", {"requestId": flight.key}, flight.session)
                hop.posted = str(got["postData"]).encode()
            hop.notes.append(("OSINT-Alteration", "request body as the browser shows it; files in it are not kept"))

    def _take(self, hop: Hop, body: bytes) -> None:
        hop.how, hop.ended_at, whole = "read", datetime.now(UTC), len(body)
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

    async def _tap(self, hop: Hop, flight: Flight) -> bool:
        path = self.folder / f"{hop.record_id}.tap"
        path.touch(exist_ok=False)
        self._taps[hop.record_id.hex] = path
        try:
            got = await self.link.send("Network.streamResourceContent", {"requestId": flight.key}, flight.session)
        except LinkFailed:
            del self._taps[hop.record_id.hex]
            path.unlink()
            return False
        hop.how, hop.body = "copied", path
        self.pour(hop, got["bufferedData"])
        return True

    def tapped(self, hop: Hop) -> bool:
        """Whether a body is being copied."""
        return hop.record_id.hex in self._taps

    def pour(self, hop: Hop, data: str) -> None:
        """Take a piece (base64) of a body that is being copied."""
        if not data or (path := self._taps.get(hop.record_id.hex)) is None:
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
        hop.ended_at = datetime.now(UTC)
        whole = hop.body_bytes == (None if hop.coded else hop.declared_bytes)
        if why is None or whole or hop.truncated is not None:
            return
        hop.truncated = why
        if not hop.media_type.startswith(ENDLESS):
            self.omit(f"{hop.url}: {hop.body_bytes} of {hop.declared_bytes or 'unknown'} bytes were read ({why})")


async def _told(flight: Flight) -> None:
    """Wait until it is known which session a request belongs to: without it nothing can be copied from there."""
    with suppress(TimeoutError):
        async with asyncio.timeout(TOLD_SECONDS):
            await flight.told.wait()


def _must_flow(hop: Hop) -> bool:
    """Whether holding a body up would starve the page, or reading it whole would fill the memory."""
    if hop.media_type.startswith(ENDLESS):
        return True
    if hop.declared_bytes is not None:
        return hop.declared_bytes > (CODED_BYTES if hop.coded else WHOLE_BYTES)
    return not hop.media_type.startswith(READ_WHOLE)
