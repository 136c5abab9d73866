"""Several pages at once, each in a Chromium of its own; what a browser loses when it ends is tried again with the next."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from osint_pipeline.fetch.attempt import LostTry
from osint_pipeline.fetch.browser import Browser, BrowserCrashed, RenderedPage
from osint_pipeline.fetch.sink import Sink
from osint_pipeline.logs import logger

log = logger(__name__)


class Pool:
    """`async with Pool(make) as pool:` fetches up to `pages` pages at once; each that waits longer has its turn first.

    `make` gives a Browser that was not entered yet; one is made when no other is free. `tries`: how often a page is asked for
    again whose browser ended under it. Fetches under way when the pool is left end with BrowserCrashed.
    """

    def __init__(self, make: Callable[[], Browser], *, pages: int = 2, tries: int = 2) -> None:
        self._make, self.tries = make, tries
        self._turn = asyncio.Semaphore(pages)
        self._free: list[Browser] = []
        self._all: list[Browser] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await asyncio.gather(*(one.__aexit__() for one in self._all))

    async def fetch(
        self, url: str, capture: UUID, sink: Sink, *, timeout_seconds: float, limit_bytes: int, **more: Any
    ) -> RenderedPage:
        """Fetch as Browser does, and again where its browser ends. `records` of the result hold those of lost tries first.

        Raises BrowserCrashed, with the records of every try, when the last try is lost too.
        """
        lost: tuple[LostTry, ...] = ()
        async with self._browser(url) as browser:
            while True:
                begun = datetime.now(UTC)
                try:
                    rendered = await browser.fetch(
                        url,
                        capture,
                        sink,
                        timeout_seconds=timeout_seconds,
                        limit_bytes=limit_bytes,
                        earlier=lost,
                        **more,
                    )
                except BrowserCrashed as error:
                    if self._closed:  # the run may have ended, and takes no more records
                        raise BrowserCrashed(url, error.why, (*_records(lost), *error.records)) from error
                    lost = (*lost, await self._declared(error, len(lost) + 1, begun, capture, sink))
                    if len(lost) > self.tries:
                        raise BrowserCrashed(url, error.why, _records(lost)) from error
                    log.info("the browser ended under a page", url=url, why=error.why, attempt=len(lost))
                else:
                    return replace(rendered, records=(*_records(lost), *rendered.records))

    async def _declared(
        self, error: BrowserCrashed, number: int, begun: datetime, capture: UUID, sink: Sink
    ) -> LostTry:
        """Write into the archive that a try was lost."""
        lost = LostTry(
            number=number, started_at=begun, ended_at=datetime.now(UTC), why=error.why, records=error.records
        )
        told = await asyncio.to_thread(sink.resource, lost.resource(error.url), capture)
        return replace(lost, records=(*lost.records, told))

    @asynccontextmanager
    async def _browser(self, url: str) -> AsyncIterator[Browser]:
        """Wait for a turn and take the browser that rested for the shortest time: the others may fall asleep."""
        async with self._turn:
            if self._closed:
                raise BrowserCrashed(url, "the pool was closed")
            browser = self._free.pop() if self._free else await self._another()
            try:
                yield browser
            finally:
                self._free.append(browser)

    async def _another(self) -> Browser:
        browser = self._make()
        self._all.append(browser)
        return await browser.__aenter__()


def _records(lost: tuple[LostTry, ...]) -> tuple[Any, ...]:
    return tuple(record for one in lost for record in one.records)
