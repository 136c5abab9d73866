"""What is seen of a page: the picture of all of it, its text, and the DOM of the frames inside it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Frame, Page

from osint_pipeline.fetch.hand import Hand
from storage.ids import new_id

STEP_SECONDS = 10.0  # how long a page may take for one of these
PICTURE_PIXELS = 16_000  # Chromium draws no taller picture reliably
DOM_CHARACTERS = 16 << 20  # a longer DOM or text of the page is cut
FRAMES = 30  # so many frames' DOM is kept
FRAME_BYTES = 8 << 20  # a longer DOM of a frame is not kept
FRAME_SECONDS = 2.0  # a frame that does not answer within this is busy with itself

Omit = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Something made of the page, to be kept when its main response is known; `url` is the record's."""

    url: str
    media_type: str
    body: bytes
    record_id: UUID = field(default_factory=new_id)
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Address, DOM and text of a document at one moment; `cut`: one of the two was longer than DOM_CHARACTERS."""

    url: str
    html: str
    text: str
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was seen before a click, and the share of the text that may go by it."""

    seen: Seen
    takes: float


@dataclass(slots=True, kw_only=True)
class FrameSeen:
    """A frame inside the page: its DOM (UTF-8), or why there is none."""

    url: str
    name: str
    parent: str
    html: bytes | None = None
    why: str | None = None
    record_id: UUID | None = None

    def told(self) -> dict[str, Any]:
        """Give it as page info holds it."""
        record = str(self.record_id) if self.record_id else None
        return {"url": self.url, "name": self.name, "parent": self.parent, "record": record, "omitted": self.why}


async def document_of(hand: Hand) -> Seen:
    """Read the page's address, DOM and visible text. Raises HandFailed, PlaywrightError."""
    told = await hand.document(DOM_CHARACTERS)
    return Seen(url=told["url"], html=told["html"], text=told["text"], cut=told["longest"] > DOM_CHARACTERS)


async def picture_of(page: Page, hand: Hand, omit: Omit) -> bytes:
    """Take a picture of the page, as wide as the view and as tall as it is, within PICTURE_PIXELS. Raises PlaywrightError."""
    wide, tall = await hand.extent()
    view = page.viewport_size or {"width": wide, "height": tall}
    width, height = view["width"], max(1, min(tall, PICTURE_PIXELS))
    if wide > width or tall > height:
        omit(f"screenshot: {width}x{height} pixels of {wide}x{tall}")
    return await hand.picture(width, height)


async def frames_of(page: Page, omit: Omit) -> list[FrameSeen]:
    """Read the DOM of every frame inside the page; what cannot be read is declared."""
    inner = [frame for frame in page.frames if frame is not page.main_frame]
    seen = await asyncio.gather(*(_seen(frame, number) for number, frame in enumerate(inner)))
    for frame in seen:
        if frame.why:
            omit(f"DOM of the frame {frame.url}: {frame.why}")
    return list(seen)


async def _seen(frame: Frame, number: int) -> FrameSeen:
    parent = frame.parent_frame
    seen = FrameSeen(url=frame.url, name=frame.name, parent=parent.url if parent else "")
    if number >= FRAMES:
        seen.why = f"only {FRAMES} frames of a page are kept"
        return seen
    try:
        async with asyncio.timeout(FRAME_SECONDS):
            html = (await frame.content()).encode("utf-8", "replace")
    except TimeoutError:
        seen.why = f"it did not answer within {FRAME_SECONDS:.0f} s"
    except PlaywrightError as error:
        seen.why = error.message.splitlines()[0]
    else:
        seen.html, seen.why = (
            (html, None) if len(html) <= FRAME_BYTES else (None, f"{len(html)} bytes are more than {FRAME_BYTES}")
        )
    return seen
