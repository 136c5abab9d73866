"""Fetches a page with Chromium, records every exchange of it, and keeps how it looked: picture, DOM, text, page info."""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from playwright.async_api import BrowserContext
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.attempt import LostTry
from osint_pipeline.fetch.behaving import Behaving
from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.cdp_link import LinkFailed
from osint_pipeline.fetch.chromium import FLAGS, BrowserMissing, Chromium, Launch
from osint_pipeline.fetch.failure import FetchFailed
from osint_pipeline.fetch.guard import AddressRefused, Guard
from osint_pipeline.fetch.relay import Relay
from osint_pipeline.fetch.request_limit import RequestLimit
from osint_pipeline.fetch.sink import Sink
from osint_pipeline.fetch.visit import BrowserCrashed, RenderedPage, Visit
from settings.exits import Exit

VIEW_COUNTERS = ("http*://t.me/v/*", "http*://telegram.me/v/*")  # the preview's script reports each view there
LOOKING_SECONDS = (
    90.0  # beyond a page's own time: picture, DOM and text have bounds of their own, this one ends what they miss
)
WORN_PAGES = 250  # after these a Chromium is replaced: whatever it gathers is bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserLimits:
    """What one Chromium may take: silence before it counts as hung, rest before it is ended, requests of a page."""

    hung_seconds: float = 30.0
    idle_seconds: float = 60.0
    requests: int = 5000


class Browser:
    """`async with Browser(...) as browser:` starts Chromium at the first fetch, and again after it ended or had to be killed.

    One page at a time, each in a context of its own. `scratch` is a folder for bodies; nothing stays in it. `certified` names the
    certificate chains that were kept, and may be shared by the browsers of a run. Chromium's sandbox is on unless this process is root, where Chromium cannot have one.
    """

    def __init__(
        self,
        executable: Path | None,
        guard: Guard,
        *,
        scratch: Path,
        user_agent: str | None = None,
        headless: bool = True,
        exit: Exit | None = None,
        block: tuple[str, ...] = VIEW_COUNTERS,
        bounds: BrowserLimits | None = None,
        width: int = 1280,
        height: int = 800,
        storage_state: Mapping[str, Any] | None = None,
        certified: set[str] | None = None,
        behaving: Behaving | None = None,
    ) -> None:
        self.executable, self.guard, self.scratch = executable, guard, scratch
        self.user_agent, self.headless, self.block = user_agent, headless, block
        self.viewport = (width, height)
        self.bounds = bounds or BrowserLimits()
        self._state: Any = storage_state  # of a named identity; each page begins with it anew
        self.behaving = behaving or Behaving()
        self.relay = Relay(guard, exit)
        self.certified = set() if certified is None else certified
        self._stack = AsyncExitStack()
        self._one = asyncio.Lock()
        self._chromium: Chromium | None = None
        self._resting: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.relay)
        self.scratch.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End Chromium, also under a fetch, which then raises BrowserCrashed."""
        self._closed = True
        self._wake()
        try:
            await self._end()
            async with self._one:  # a Chromium that was being started is ended by the fetch that started it
                pass
        finally:
            await self._stack.aclose()

    @property
    def version(self) -> str:
        """The version of the Chromium that runs, "" while none does."""
        return self._chromium.handle.version if self._chromium is not None else ""

    async def fetch(
        self,
        url: str,
        capture: UUID,
        sink: Sink,
        *,
        timeout_seconds: float,
        limit_bytes: int,
        earlier: tuple[LostTry, ...] = (),
    ) -> RenderedPage:
        """Open a page, wait until its network is quiet, keep it. `earlier` are tries that were lost, told in the page info.

        Raises AddressRefused when the address, or one it redirects to, may not be reached, and BrowserCrashed; what the sink raises
        passes through. FetchFailed: Chromium does not take the storage state; its error is not told, which may quote it.
        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"not an http address: {url}")
        self.guard.check_url(url)
        async with self._one:
            self._wake()
            try:
                chromium = await self._running()
            except (PlaywrightError, LinkFailed, OSError) as error:
                raise BrowserCrashed(url, f"it did not start: {first_line(error)}") from error
            if self._closed:
                await self._end()
                raise BrowserCrashed(url, "the browser was closed")
            folder = Path(tempfile.mkdtemp(dir=self.scratch, prefix="fetch-"))
            recorder = Recorder(chromium.link, self.relay, sink, capture, folder, limit_bytes=limit_bytes, block=self.block, certified=self.certified)  # fmt: skip
            recorder.alterations += [one.sentence for one in earlier]
            visit = Visit(url, capture, sink, recorder, self._facts(chromium, earlier), self.behaving)
            try:
                return await self._watched(chromium, visit, timeout_seconds)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                if not self._closed:
                    self._resting = asyncio.create_task(self._rest())

    async def _watched(self, chromium: Chromium, visit: Visit, timeout_seconds: float) -> RenderedPage:
        """Make a visit; a Chromium that did not come through it as it should does not see another."""
        chromium.link.listener = RequestLimit(visit.recorder, self.bounds.requests).event
        chromium.pages += 1
        worn = True
        most = timeout_seconds + self.behaving.bounds.seconds + LOOKING_SECONDS
        try:
            async with chromium.watched(hung_seconds=self.bounds.hung_seconds, at_most_seconds=most):
                rendered = await visit.make(lambda: self._context(chromium, visit.url), timeout_seconds)
                if not await chromium.lives():  # what it could not be asked any more is no omission of the page's
                    raise BrowserCrashed(visit.url, "it ended before the visit did", rendered.records)
            worn = visit.hung or chromium.pages >= WORN_PAGES
        except AddressRefused:
            worn = False
            raise
        except BrowserCrashed as error:
            if chromium.gone is None:
                raise
            raise BrowserCrashed(error.url, chromium.gone, error.records) from error
        finally:
            chromium.link.listener = None
            if worn:
                await self._end()
        return rendered

    def _facts(self, chromium: Chromium, earlier: tuple[LostTry, ...]) -> dict[str, Any]:
        width, height = self.viewport
        return {
            "browser": f"Chromium {chromium.handle.version}",
            "user_agent": self.user_agent,
            "viewport": f"{width}x{height}",
            "attempt": len(earlier) + 1,
            "lost_attempts": [one.told() for one in earlier],
        }

    async def _context(self, chromium: Chromium, url: str) -> BrowserContext:
        width, height = self.viewport
        try:
            return await chromium.context(
                user_agent=self.user_agent, width=width, height=height, storage_state=self._state
            )
        except PlaywrightError as error:
            told = error.message.lower()
            if ("storagestate" in told or "storage state" in told) and await chromium.lives():
                raise FetchFailed(
                    url, "Chromium refuses the cookies or storage of the source's named identity"
                ) from None
            raise

    async def _running(self) -> Chromium:
        if self._chromium is None or not self._chromium.alive:
            await self._end()
            self.relay.forget()
            launch = Launch(executable=self.executable, headless=self.headless, proxy=self.relay.url)
            self._chromium = await Chromium.start(launch)
        return self._chromium

    async def _rest(self) -> None:
        await asyncio.sleep(self.bounds.idle_seconds)
        async with self._one:
            await self._end()

    def _wake(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    async def _end(self) -> None:
        chromium, self._chromium = self._chromium, None
        if chromium is not None:
            await chromium.end()


def first_line(error: Exception) -> str:
    """Give what an error says first, its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


__all__ = ["FLAGS", "VIEW_COUNTERS", "Browser", "BrowserCrashed", "BrowserLimits", "BrowserMissing", "RenderedPage"]
