"""One visit of one page in Chromium: open it, wait for its signals, look at it, keep what it was."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from playwright.async_api import BrowserContext, Dialog, Download, FloatRect, Page
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.cdp_link import LinkFailed
from osint_pipeline.fetch.sink import Sink
from storage.exchange import RecordRef, Resource, Truncated

QUIET_SECONDS = 0.5
STEP_SECONDS = 10.0
PICTURE_PIXELS = 16_000  # Chromium draws no taller picture reliably

T = TypeVar("T")


class BrowserCrashed(Exception):
    """Chromium, or the page's process, ended in the middle of a fetch; what came before is in `records`."""

    def __init__(self, url: str, why: str, records: tuple[RecordRef, ...] = ()) -> None:
        super().__init__(f"{url}: the browser ended ({why})")
        self.url, self.why, self.records = url, why, records


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A fetched page. `main` is the response that the page was made from, `status` its status; None where none came.

    `failure` says why the page could not be opened, None when it was. `timed_out`: not everything had come when the time was up.
    """

    final_url: str
    status: int | None
    html: str
    text: str
    records: tuple[RecordRef, ...]
    main: RecordRef | None
    screenshot: RecordRef | None
    omissions: tuple[str, ...]
    alterations: tuple[str, ...]
    failure: str | None = None
    timed_out: bool = False


class Visit:
    """One page from its address to its records."""

    def __init__(self, url: str, capture: UUID, sink: Sink, recorder: Recorder, facts: dict[str, Any]) -> None:
        self.url, self.capture, self.sink, self.recorder, self.facts = url, capture, sink, recorder, facts
        self.started_at = datetime.now(UTC)
        self.failure: str | None = None
        self.timed_out = False
        self.hung = False
        self.crashed = asyncio.Event()
        self.html = self.text = ""
        self.final_url = url
        self.screenshot: RecordRef | None = None
        self.made: list[tuple[str, str, bytes]] = []

    async def make(self, context_of: Callable[[], Awaitable[BrowserContext]], timeout_seconds: float) -> Rendered:
        """Visit the page and keep it."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            context = await context_of()
            try:
                page = await context.new_page()
                self._watch(page)
                await self._open(page, deadline)
                if self.failure is None and not self.crashed.is_set():
                    await self._look(page)
                    await self.recorder.leave()
            finally:
                async with asyncio.timeout(STEP_SECONDS):
                    await context.close()
        except (PlaywrightError, LinkFailed, TimeoutError) as error:
            await self._crash(str(error).splitlines()[0] if str(error) else type(error).__name__)
        if self.crashed.is_set():
            await self._crash("the page's process ended")
        await self.recorder.finish(Truncated.TIME if self.timed_out else Truncated.DISCONNECT)
        self._check_refused()
        return await self._kept()

    async def _crash(self, why: str) -> None:
        self.recorder.link.lose(why)
        await self.recorder.finish(Truncated.DISCONNECT)
        raise BrowserCrashed(self.url, why, tuple(self.recorder.records))

    def _watch(self, page: Page) -> None:
        page.on("crash", lambda _: self.crashed.set())
        page.on("dialog", self._dismiss)
        page.on("download", self._refuse)

    async def _dismiss(self, dialog: Dialog) -> None:
        self.recorder.alterations.append(f"a dialog of the page was dismissed ({dialog.type})")
        with suppress(PlaywrightError):  # the page may have gone on
            await dialog.dismiss()

    async def _refuse(self, download: Download) -> None:
        self.recorder.omit(f"{download.url}: a download was refused")
        with suppress(PlaywrightError):
            await download.cancel()

    async def _open(self, page: Page, deadline: float) -> None:
        async with asyncio.timeout(STEP_SECONDS):
            await self.recorder.ready.wait()
        try:
            async with asyncio.timeout_at(deadline):
                going = asyncio.ensure_future(page.goto(self.url, wait_until="load", timeout=0))
                await self._first(going)
                await self._quiet()
        except TimeoutError:
            self.timed_out = True
            self.recorder.omit("timed out: not everything had come when the time was up")
            if page.url in ("", "about:blank"):
                self.failure = "timed out"
        except PlaywrightError as error:
            if self.crashed.is_set() or not _connected(page):
                raise
            self.failure = error.message.splitlines()[0]

    async def _first(self, going: asyncio.Future[Any]) -> None:
        """Wait for the page's load, or for the end of its process."""
        ended = asyncio.ensure_future(self.crashed.wait())
        try:
            await asyncio.wait({going, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            if not going.done():
                going.cancel()
        if going.done() and not going.cancelled():
            going.result()

    async def _quiet(self) -> None:
        while (silent := self.recorder.quiet_seconds) < QUIET_SECONDS and not self.crashed.is_set():
            await asyncio.sleep(max(0.02, QUIET_SECONDS - silent))

    async def _look(self, page: Page) -> None:
        """Take the picture, the DOM and the text; a page that answers no more gives what it gave."""
        self.final_url = page.url
        picture = await self._step("screenshot", lambda: self._picture(page))
        with suppress(TimeoutError):
            async with asyncio.timeout(3 * QUIET_SECONDS):
                await self._quiet()  # the picture made the page as tall as it is: late images came into view
        self.html = await self._step("DOM", page.content) or ""
        self.text = await self._step("text", lambda: page.inner_text("body", timeout=STEP_SECONDS * 1000)) or ""
        if picture:
            self.made.append(("urn:screenshot:", "image/png", picture))
        if self.html:
            self.made.append(("urn:dom:", "text/html; charset=utf-8", self.html.encode("utf-8", "replace")))
        if not self.hung:
            self.made.append(("urn:text:", "text/plain; charset=utf-8", self.text.encode("utf-8", "replace")))

    async def _picture(self, page: Page) -> bytes:
        wide, tall = await page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")  # fmt: skip
        view = page.viewport_size or {"width": wide, "height": tall}
        if wide > view["width"] or tall > PICTURE_PIXELS:
            self.recorder.omit(f"screenshot: {view['width']}x{min(tall, PICTURE_PIXELS)} pixels of {wide}x{tall}")
        clip: FloatRect = {"x": 0, "y": 0, "width": view["width"], "height": max(1, min(tall, PICTURE_PIXELS))}
        return await page.screenshot(full_page=True, clip=clip, timeout=STEP_SECONDS * 1000)

    async def _step(self, name: str, work: Callable[[], Awaitable[T]]) -> T | None:
        if self.hung:
            return None
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await work()
        except TimeoutError:
            self.hung = True
            self.recorder.omit(f"{name} and what follows it: the page did not answer within {STEP_SECONDS:.0f} s")
        except PlaywrightError as error:
            self.recorder.omit(f"{name}: {error.message.splitlines()[0]}")
        return None

    def _check_refused(self) -> None:
        """Raise AddressRefused if the page itself, not a part of it, was refused."""
        if self.failure is not None and self.recorder.main is None and (refused := self.recorder.refused_page):
            raise refused

    async def _kept(self) -> Rendered:
        recorder, now = self.recorder, datetime.now(UTC)
        main, hop = recorder.main or (None, None)
        for prefix, media_type, body in [*self.made, ("urn:pageinfo:", "application/json", self._info())]:
            resource = Resource(url=prefix + self.url, made_at=now, media_type=media_type, body=body, about=main.record_id if main else None)  # fmt: skip
            record = await asyncio.to_thread(self.sink.resource, resource, self.capture)
            recorder.records.append(record)
            if prefix == "urn:screenshot:":
                self.screenshot = record
        return Rendered(
            final_url=self.final_url,
            status=hop.status if hop else None,
            html=self.html,
            text=self.text,
            records=tuple(recorder.records),
            main=main,
            screenshot=self.screenshot,
            omissions=tuple(recorder.omissions),
            alterations=tuple(recorder.alterations),
            failure=self.failure,
            timed_out=self.timed_out,
        )

    def _info(self) -> bytes:
        told = {
            "url": self.url,
            "final_url": self.final_url,
            "started_at": self.started_at.isoformat(),
            "ended_at": datetime.now(UTC).isoformat(),
            "failure": self.failure,
            "timed_out": self.timed_out,
            **self.facts,
            "resources": self.recorder.resources,
            "omissions": self.recorder.omissions,
            "alterations": self.recorder.alterations,
        }
        return json.dumps(told, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _connected(page: Page) -> bool:
    browser = page.context.browser
    return browser is not None and browser.is_connected()
