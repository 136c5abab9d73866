"""The download handler that Scrapy loads: hands each request to the fetcher that it names."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from scrapy import Request
from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.crawler import Crawler
from scrapy.http import HtmlResponse, Response, TextResponse

from osint_pipeline.errors import ExitUnusable, UserError
from osint_pipeline.fetch.failure import FetchFailed
from osint_pipeline.fetch.redacting import Redacting
from osint_pipeline.fetch.sink import Sink
from osint_pipeline.fetch.tap import WireLimits
from osint_pipeline.fetch.wire import CAPTURE, RECORDS, WireFetcher
from osint_pipeline.identities import Identity
from osint_pipeline.logs import logger
from spiders.site import HEAD

log = logger(__name__)


class RecordingHandler(BaseDownloadHandler):
    """request.meta["osint_fetch"] is "wire" (the default), "browser" or "media"."""

    lazy = False

    def __init__(self, crawler: Crawler) -> None:
        from osint_pipeline.crawl import run_of

        super().__init__(crawler)
        self.crawler, self.run = crawler, run_of(crawler)
        service, workspace = self.run.workspace.service, self.run.workspace
        self.wire = WireFetcher(
            crawler,
            guard=workspace.guard,
            sink=self.run.recorder,
            limits=WireLimits(
                memory_body_bytes=service.memory_body_bytes,
                body_limit_bytes=service.body_limit_bytes,
                timeout_seconds=service.timeout_seconds,
            ),
            scratch=self.run.scratch,
            exit=self.run.way.exit,
        )
        self._pool: Any = None
        self._open = self.run.way.direct
        self._gate = asyncio.Lock()

    async def download_request(self, request: Request) -> Response:
        """Fetch; the records stand in request.meta["osint_records"] when this returns or raises."""
        if not self._open:
            await self._check_way()
        fetch = request.meta.get("osint_fetch", "wire")
        if fetch == "browser":
            return await self._render(request)
        if fetch == "media":
            return await self._media(request)
        return await self.wire.download_request(request)

    async def _check_way(self) -> None:
        """See that the run's way out can be gone, before its first request; where it cannot, end the run and raise."""
        from osint_pipeline.crawl import end_crawl

        async with self._gate:
            if self._open:
                return
            try:
                await asyncio.to_thread(self.run.way.check, self.run.workspace.service.exit_check_seconds)
            except ExitUnusable as error:
                if self.run.error is None:
                    self.run.break_off(error)
                    end_crawl(self.crawler, str(error))
                raise
            self._open = True

    async def close(self) -> None:
        await self.wire.close()
        if self._pool is not None:
            await self._pool.__aexit__()

    async def _render(self, request: Request) -> Response:
        from osint_pipeline.fetch.browser import BrowserCrashed

        service = self.run.workspace.service
        sink, identity = self._seen_as(request)
        capture: UUID = request.meta[CAPTURE]
        try:
            page = await self._pages(identity.state if identity else None).fetch(
                request.url,
                capture,
                sink,
                timeout_seconds=service.page_timeout_seconds,
                limit_bytes=service.page_limit_bytes,
            )
        except BrowserCrashed as error:
            request.meta[RECORDS] = [*request.meta[RECORDS], *error.records]
            why = sink.words.text(error.why) if isinstance(sink, Redacting) else error.why
            raise FetchFailed(request.url, f"the browser ended under it each time: {why}") from error
        if isinstance(sink, Redacting):
            page = sink.rendered(page)
        records = [one for one in page.records if one is not page.main]
        request.meta[RECORDS] = [*request.meta[RECORDS], *records, *([page.main] if page.main else ())]
        request.meta[HEAD] = page.head
        if page.main is None or page.status is None or not page.html:  # a page that was opened has a DOM
            raise FetchFailed(request.url, page.failure or "; ".join(page.omissions) or "the page did not load")
        headers = {"Content-Type": "text/html; charset=utf-8"}
        return HtmlResponse(
            page.final_url, status=page.status, headers=headers, body=page.html.encode(), encoding="utf-8"
        )

    def _pages(self, state: Mapping[str, Any] | None) -> Any:
        """Give the run's pool of browsers, with an identity's state or None.

        None of them is shared with another run, whose way out and identity may be others.
        """
        from osint_pipeline.fetch.behaving import behaving_of
        from osint_pipeline.fetch.browser import Browser, BrowserLimits
        from osint_pipeline.fetch.pool import Pool

        if self._pool is None:
            run, service = self.run, self.run.workspace.service
            bounds = BrowserLimits(
                hung_seconds=service.browser_hung_seconds,
                idle_seconds=service.browser_idle_seconds,
                requests=service.page_requests,
            )
            make = partial(
                Browser,
                service.chromium,
                run.workspace.guard,
                scratch=run.scratch,
                user_agent=service.user_agent,
                headless=not service.headed,
                exit=run.way.exit,
                bounds=bounds,
                behaving=behaving_of(service),
                storage_state=state,
                certified=set(),  # one for all of them
            )
            self._pool = Pool(make, pages=service.browser_pages, tries=service.browser_tries)
        return self._pool

    def _seen_as(self, request: Request) -> tuple[Sink, Identity | None]:
        """Give what takes the browser's records, and the source's identity; nobody else is to be seen in its place."""
        try:
            return self.run.browser_sink, self.run.identity
        except UserError as error:
            log.warning("the source's identity cannot be used", why=str(error))
            raise FetchFailed(request.url, "the source's named identity cannot be used on this machine") from error

    async def _media(self, request: Request) -> Response:
        from osint_pipeline.fetch.media import fetch_media

        service, workspace = self.run.workspace.service, self.run.workspace
        result = await asyncio.to_thread(
            fetch_media,
            request.url,
            capture=request.meta[CAPTURE],
            sink=self.run.recorder,
            guard=workspace.guard,
            scratch=self.run.scratch,
            user_agent=service.user_agent,
            limit_bytes=service.media_limit_bytes,
            timeout_seconds=service.media_timeout_seconds,
            exit=self.run.way.exit,
        )
        request.meta[RECORDS] = [*request.meta[RECORDS], *result.records]
        if result.failure or result.info is None:
            raise FetchFailed(request.url, result.failure or "no video was found", refused=result.refused)
        if not result.reconciled:
            raise FetchFailed(request.url, f"no record proves {', '.join(result.missing)}")
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return TextResponse(request.url, status=200, headers=headers, body=result.info, encoding="utf-8")
