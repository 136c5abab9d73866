"""One visit of one page in Chromium: open it, wait for its signals, behave on it, look at it, keep what it was."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from playwright.async_api import BrowserContext, Dialog, Download, Page
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.behaving import Behaving, behave
from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.cdp_link import LinkFailed
from osint_pipeline.fetch.hand import Hand, HandFailed
from osint_pipeline.fetch.look import (
    DOM_CHARACTERS,
    STEP_SECONDS,
    Before,
    FrameSeen,
    Made,
    Seen,
    document_of,
    frames_of,
    picture_of,
)
from osint_pipeline.fetch.pageinfo import made_of, page_info
from osint_pipeline.fetch.sink import Sink
from osint_pipeline.fetch.stage import Stage, Step
from storage.exchange import RecordRef, Resource, Truncated

QUIET_SECONDS = 0.5

T = TypeVar("T")


class BrowserCrashed(Exception):
    """Chromium, or the page's process, ended in the middle of a fetch; what came before is in `records`."""

    def __init__(self, url: str, why: str, records: tuple[RecordRef, ...] = ()) -> None:
        super().__init__(f"{url}: the browser ended ({why})")
        self.url, self.why, self.records = url, why, records


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPage:
    """A fetched page. `main` is the response that the page was made from, `status` its status; None where none came.

    `head` are the fields of the main response. `failure` says why the page could not be opened, None when it was. `timed_out`: not everything had come when the time was up.
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
    head: tuple[tuple[str, str], ...] = ()
    failure: str | None = None
    timed_out: bool = False
    view: RecordRef | None = None


class Visit:
    """One page from its address to its records. `screenshot` in what it gives is of the whole page, `view` as it was first seen."""

    def __init__(
        self, url: str, capture: UUID, sink: Sink, recorder: Recorder, facts: dict[str, Any], behaving: Behaving
    ) -> None:
        self.url, self.capture, self.sink, self.recorder, self.facts = url, capture, sink, recorder, facts
        self.behaving = behaving
        self.started_at = datetime.now(UTC)
        self.failure: str | None = None
        self.timed_out = False
        self.hung = self.looked = False
        self._windows = 0  # that were closed and told of
        self.crashed = asyncio.Event()
        self.html = self.text = ""
        self.final_url = url
        self.made: list[Made] = []
        self.frames: list[FrameSeen] = []
        self.steps: list[Step] = []
        self.looked_for: tuple[str, ...] = ()
        self._main: Any = None  # the main response before the first click, as the recorder has it
        self._before: Before | None = None  # what was there before the last click

    async def make(self, context_of: Callable[[], Awaitable[BrowserContext]], timeout_seconds: float) -> RenderedPage:
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
        for _ in range(len(self.recorder.targets.windows) - self._windows):
            self.recorder.alterations.append("a window that the page opened was closed: before it told its address")
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
        page.context.on("page", self._close)

    async def _dismiss(self, dialog: Dialog) -> None:
        leaving = self.looked and dialog.type == "beforeunload"
        done = "accepted, the page being left" if leaving else "dismissed"
        self.recorder.alterations.append(f"a dialog of the page was {done} ({dialog.type})")
        with suppress(PlaywrightError):  # the page may have gone on
            await (dialog.accept() if leaving else dialog.dismiss())

    async def _refuse(self, download: Download) -> None:
        self.recorder.omit(f"{download.url}: a download was refused")
        with suppress(PlaywrightError):
            await download.cancel()

    async def _close(self, other: Page) -> None:
        self._windows += 1
        self.recorder.alterations.append(f"a window that the page opened was closed: {other.url}")
        with suppress(PlaywrightError):
            await other.close()

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
        """Take the pictures, the DOM and the text; a page that answers no more gives what it gave."""
        self.final_url = page.url
        hand = await self._step("view", lambda: Hand.of(page))
        if hand is None:
            return
        if view := await self._step("view", lambda: hand.picture()):
            self._make("urn:view:", "image/png", view)
        if self.behaving.on and not self.hung:
            await self._behave(page, hand)
        if hand.left_for is not None:
            self.recorder.omit(f"screenshot: the page went to {hand.left_for}")
        else:
            await self._look_closely(page, hand)
        self.looked = True
        if self._before and self._wiped(self._before):
            self.recorder.omit(
                "DOM and text after the last click: it took the page's text away, what is kept was there before it"
            )
            self._take(self._before.seen)
        if self.html:
            self._make("urn:dom:", "text/html; charset=utf-8", self.html.encode("utf-8", "replace"))
            self._make("urn:text:", "text/plain; charset=utf-8", self.text.encode("utf-8", "replace"))

    def _wiped(self, before: Before) -> bool:
        """Whether a click took away what the page was: its document, or more of its text than it may."""
        return not self.html or len(self.text) < len(before.seen.text) * (1 - before.takes)

    def _take(self, seen: Seen) -> None:
        self.final_url, self.html, self.text = seen.url, seen.html, seen.text
        if seen.cut:
            self.recorder.omit(f"DOM or text after the first {DOM_CHARACTERS} characters")

    async def _look_closely(self, page: Page, hand: Hand) -> None:
        if picture := await self._step("screenshot", lambda: picture_of(page, hand, self.recorder.omit)):
            self._make("urn:screenshot:", "image/png", picture)
        with suppress(TimeoutError):
            async with asyncio.timeout(3 * QUIET_SECONDS):
                await self._quiet()  # the picture made the page as tall as it is: late images came into view
        seen = await self._step("DOM and text", lambda: document_of(hand))
        if self._before and self.hung:
            return
        self.final_url = page.url  # the picture may have made the page go on
        if seen is not None:
            self._take(seen)
        self.frames = await self._step("frames", lambda: frames_of(page, self.recorder.omit)) or []
        for number, frame in enumerate(self.frames, 1):
            if frame.html is not None:
                made = self._make(f"urn:frame-{number}:", "text/html; charset=utf-8", frame.html, of=frame.url)
                frame.record_id = made.record_id

    async def _behave(self, page: Page, hand: Hand) -> None:
        """Do what the page's behaviours say, and write it down."""
        assert self.behaving.behaviours is not None
        if self.timed_out:
            return self.recorder.omit("behaviours: the page's time was up before them")
        stage = Stage(
            hand, self.recorder, self.behaving.behaviours, self.behaving.bounds, lambda takes: self._keep(hand, takes)
        )
        self.looked_for = await behave(stage, self.final_url)
        self.steps, self.hung = stage.steps, stage.dead
        told = f"a script of ours looked at the page, and did what the steps say, from a world of its own ({hand.calls} calls)"
        self.recorder.alterations += [told, *(step.line() for step in stage.steps)]
        if hand.moved:
            await self._follow(page)

    async def _follow(self, page: Page) -> None:
        """Wait for the document that the page went to by itself."""
        with suppress(TimeoutError, PlaywrightError):
            async with asyncio.timeout(STEP_SECONDS):
                await page.wait_for_load_state("load", timeout=0)
                await self._quiet()
        self.final_url = page.url

    async def _keep(self, hand: Hand, takes: float) -> bool:
        """Keep the page as it is before a click, should it be lost by it; False while its main response is not known."""
        if self.recorder.main is None:
            return False
        self._main = self._main or self.recorder.main
        self._before = Before(seen=await document_of(hand), takes=takes)
        return True

    def _make(self, prefix: str, media_type: str, body: bytes, *, of: str | None = None) -> Made:
        self.made.append(Made(url=prefix + (of or self.url), media_type=media_type, body=body))
        return self.made[-1]

    async def _step(self, name: str, work: Callable[[], Awaitable[T]]) -> T | None:
        if self.hung:
            return None
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await work()
        except TimeoutError:
            self.hung = True
            self.recorder.omit(f"{name} and what follows it: the page did not answer within {STEP_SECONDS:.0f} s")
        except (HandFailed, PlaywrightError) as error:
            self.recorder.omit(f"{name}: {str(error).splitlines()[0]}")
        return None

    def _check_refused(self) -> None:
        """Raise AddressRefused if the page itself, not a part of it, was refused."""
        if self.failure is not None and self.recorder.main is None and (refused := self.recorder.refused_page):
            raise refused

    async def _kept(self) -> RenderedPage:
        recorder = self.recorder
        main, hop = self._main or recorder.main or (None, None)
        refs: dict[str, RecordRef] = {}
        told = []
        for made in self.made:
            resource, record = await self._put(made, main)
            refs[resource.url.split(":")[1]] = record
            told.append(made_of(record, resource))
        await self._put(
            Made(url="urn:pageinfo:" + self.url, media_type="application/json", body=self._info(main, told)), main
        )
        return RenderedPage(
            final_url=self.final_url,
            status=hop.status if hop else None,
            head=tuple(hop.fields) if hop else (),
            html=self.html,
            text=self.text,
            records=tuple(recorder.records),
            main=main,
            screenshot=refs.get("screenshot"),
            omissions=tuple(recorder.omissions),
            alterations=tuple(recorder.alterations),
            failure=self.failure,
            timed_out=self.timed_out,
            view=refs.get("view"),
        )

    async def _put(self, made: Made, main: RecordRef | None) -> tuple[Resource, RecordRef]:
        resource = Resource(
            url=made.url,
            made_at=made.made_at,
            media_type=made.media_type,
            body=made.body,
            about=main.record_id if main else None,
            record_id=made.record_id,
        )
        record = await asyncio.to_thread(self.sink.resource, resource, self.capture)
        self.recorder.records.append(record)
        return resource, record

    def _info(self, main: RecordRef | None, made: list[dict[str, Any]]) -> bytes:
        recorder = self.recorder
        facts = {
            "url": self.url,
            "final_url": self.final_url,
            "main": str(main.record_id) if main else None,
            "failure": self.failure,
            "timed_out": self.timed_out,
            **self.facts,
            "behaviours": {**self.behaving.told(), "looked_for": self.looked_for},
        }
        return page_info(
            facts,
            started_at=self.started_at,
            ended_at=datetime.now(UTC),
            made=made,
            frames=[frame.told() for frame in self.frames],
            resources=recorder.resources,
            steps=[step.told() for step in self.steps],
            alterations=recorder.alterations,
            omissions=recorder.omissions,
        )


def _connected(page: Page) -> bool:
    browser = page.context.browser
    return browser is not None and browser.is_connected()
