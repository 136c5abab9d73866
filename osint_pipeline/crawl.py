"""Where Scrapy meets a run: counts what is wanted, records the outcome of each request, keeps what was read."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import scrapy.core.downloader.handlers.http11  # noqa: F401  # first: it searches all modules loaded before it, 0.25 s if late
from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.settings import BaseSettings
from scrapy.utils.asyncio import AsyncioLoopingCall
from twisted.python.failure import Failure

from osint_pipeline.backpressure import Backpressure
from osint_pipeline.captures import ROBOTS
from osint_pipeline.conditions import given
from osint_pipeline.errors import ExitUnusable, for_the_archive
from osint_pipeline.fetch.failure import FetchFailed
from osint_pipeline.fetch.guard import AddressRefused
from osint_pipeline.limits import LIMIT, limits_of
from osint_pipeline.logs import bind, bound, in_context, logger
from osint_pipeline.outcome import Summary, Tally
from osint_pipeline.pressure import Load
from osint_pipeline.run import Run
from osint_pipeline.shared import SharedWarcs
from osint_pipeline.source import Source, slug_of
from osint_pipeline.stopping import INTERRUPTED
from osint_pipeline.throttle import Throttle
from osint_pipeline.workspace import Workspace
from settings.service import Service, load
from spiders.site import Reading, SiteSpider
from storage.durable import is_full
from storage.errors import SpoolFull, StorageError
from storage.rows import CaptureState as State

log = logger(__name__)

_runs: dict[Crawler, Run] = {}
_ends: list["asyncio.Future[None]"] = []  # kept, or they may be collected before they are done


def run_of(crawler: Crawler) -> Run:
    """Give the run that a crawler records into."""
    return _runs[crawler]


def end_crawl(crawler: Crawler, reason: str) -> None:
    """Close the spider soon; what is under way is finished."""
    if RunExtension.current is not None:
        RunExtension.current.pressure.throttle.abandon(reason)
    _ends.append(asyncio.ensure_future(_close_spider(crawler, reason)))


async def _close_spider(crawler: Crawler, reason: str) -> None:
    """Close the spider, unless it has been closed already: what fails at the very end may ask for it once more."""
    if crawler.engine and crawler.engine.spider is not None and crawler.engine._slot is not None:
        await crawler.engine.close_spider_async(reason=reason)


def scrapy_settings(service: Service, source: Source | None = None) -> dict[str, Any]:
    """Say in Scrapy's words what the service and the source are set to."""
    robots = (source.robots if source else service.robots) == "obey"
    return {
        "USER_AGENT": service.user_agent,
        "ROBOTSTXT_OBEY": robots,
        "ROBOTSTXT_USER_AGENT": "osint-pipeline",
        "OSINT_ROBOTS_SECONDS": service.robots_seconds,
        "DOWNLOAD_DELAY": service.delay_seconds,
        "DOWNLOAD_DELAY_JITTER": 0,
        "CONCURRENT_REQUESTS_PER_DOMAIN": service.concurrency_per_host,
        "DOWNLOAD_TIMEOUT": service.timeout_seconds,
        "RETRY_TIMES": service.retries,
        "OSINT_RETRY_AFTER_LIMIT_SECONDS": service.retry_after_limit_seconds,
        "DOWNLOAD_MAXSIZE": service.decoded_limit_bytes,
        "DOWNLOAD_WARNSIZE": 0,
    }


class OsintAddon:
    """Puts the service's settings into Scrapy's, so that `scrapy crawl` behaves as `osint crawl`."""

    def update_settings(self, settings: BaseSettings) -> None:
        for name, value in scrapy_settings(load().service).items():
            settings.set(name, value, priority="addon")


class RunExtension:
    """Begins the run with the spider and ends it with it; syncs and commits beside the crawl."""

    current: ClassVar["RunExtension | None"] = None
    prepared: ClassVar[tuple[Workspace, Source] | None] = None
    warcs: ClassVar[SharedWarcs | None] = None  # that the runs of this process share
    drains: ClassVar[bool] = False  # whether a crawl may bring WARCs to the store while it runs
    begun: ClassVar[Callable[[UUID], None] | None] = None
    finished: ClassVar[Callable[[Summary], None] | None] = None
    progress: ClassVar[Callable[[Source, Tally], None] | None] = None

    def __init__(self, crawler: Crawler, run: Run, own: Workspace | None) -> None:
        self.crawler, self.run, self.own = crawler, run, own
        self.loop: AsyncioLoopingCall | None = None
        self.pressure = Backpressure(run, Throttle(crawler), drains=self.drains)
        self.limits = limits_of(run.source, run.workspace.service)
        self.limit: str | None = None
        self.flushing: asyncio.Future[Load] | None = None
        self.ending: asyncio.Future[None] | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "RunExtension":
        spider = crawler.spider
        assert isinstance(spider, SiteSpider)
        own = None
        if cls.prepared is not None:
            workspace, source = cls.prepared
        else:
            workspace = own = Workspace(load().service).__enter__()
            url = spider.address(spider.seeds[0]) if spider.seeds else "about:blank"
            source = Source(
                url=url,
                slug=slug_of(url),
                spider=spider.name,
                render=spider.render,
                robots=workspace.service.robots,
                proxy=workspace.service.proxy,
                pages=spider.seeds,
            )
        # a robots.txt that cannot be had is recorded as such; Scrapy would print a traceback for it
        logging.getLogger("scrapy.downloadermiddlewares.robotstxt").setLevel(logging.CRITICAL)
        _runs.clear()  # an ended run is kept until the next begins: late answers ask for it
        run = _runs[crawler] = Run(workspace, source, attempt=source.attempt, warcs=cls.warcs)
        if cls.begun:
            cls.begun(run.id)
        spider.known, spider.second_look.walls = run.known or spider.known, run.walls
        spider.second_look.has_login = source.identity is not None
        spider.limit = source.limit_pages or spider.limit
        bind(run=run.id, source=source.slug)  # for all that the crawl does from here on
        log.info("the run begins", spider=source.spider, pages=len(source.pages))
        extension = cls.current = cls(crawler, run, own)
        connect = crawler.signals.connect
        connect(extension.scheduled, signals.request_scheduled)
        connect(extension.dropped, signals.request_dropped)
        connect(extension.stumbled, signals.spider_error)
        connect(extension.opened, signals.engine_started)
        connect(extension.stopped, signals.engine_stopped)
        connect(extension.closing, signals.spider_closed)
        return extension

    def scheduled(self, request: Request) -> None:
        """Count a capture as wanted when it is first asked for; retries and redirects carry it on.

        A redirect is followed even to an address that was asked for before: what it leads to decides what was captured.
        """
        if request.meta.get("redirect_times"):
            request.dont_filter = True
        if "osint_capture" not in request.meta:
            request.meta["osint_capture"] = self.run.captures.want(
                request.url, request.meta.get("osint_kind", "page"), request.meta.get("osint_parent")
            )
            request.meta["osint_records"] = []

    def dropped(self, request: Request) -> None:
        """A request seen before: not wanted twice."""
        self.run.captures.unwant(request.meta["osint_capture"])

    def stumbled(self, failure: Failure, response: Response) -> None:
        """A parser broke: our own fault, said so; what was recorded stays. Without the catalogue nobody knows what to ask for."""
        if isinstance(failure.value, StorageError):
            self.run.break_off(failure.value)
            end_crawl(self.crawler, "cannot_keep")
        with bound(url=response.url, capture=response.meta["osint_capture"]):
            log.error("parser failed on %s: %s", response.url, failure.getErrorMessage())
        self.run.captures.unread.append(f"{response.url}: {failure.getErrorMessage()}")
        self.run.captures.gave_up(
            response.meta["osint_capture"], State.FAILED, f"parser failed: {failure.getErrorMessage()}"
        )

    def opened(self) -> None:
        self.loop = AsyncioLoopingCall(self.flush_soon)
        self.loop.start(self.run.workspace.service.sync_seconds or 0.1, now=False)

    def flush_soon(self) -> None:
        """Start a flush in a thread unless one is under way."""
        if RunExtension.progress:
            RunExtension.progress(self.run.source, self.run.tally)
        if self.flushing is None or self.flushing.done():
            self.flushing = asyncio.get_running_loop().run_in_executor(None, in_context(self.pressure.keep))
            self.flushing.add_done_callback(self.flushed)

    def flushed(self, future: "asyncio.Future[Load]") -> None:
        """Slow or pause the crawl as the spool fills; stop it when what it brings can no longer be kept."""
        error = future.exception()
        if error is None and self.ending is None:
            error = self.pressure.apply(future.result())
        if error and self.run.error is None:
            log.info("cannot keep what is captured: %s", error)  # the command says so at its end
            self.run.break_off(error if isinstance(error, Exception) else RuntimeError(str(error)))
            end_crawl(self.crawler, "cannot_keep")
        self.end_at_limit()
        self.pressure.throttle.sweep()

    def end_at_limit(self) -> None:
        """End the crawl in order once it has taken as long or brought as much as it may."""
        spent = datetime.now(UTC) - self.run.started_at
        reached = self.limits.reached(spent_seconds=spent.total_seconds(), got_bytes=self.run.tally.bytes)
        if reached and self.limit is None and self.ending is None:
            self.limit = reached
            self.pressure.throttle.pause()
            self.pressure.throttle.abandon(reached)  # what waits its turn would take as long again
            end_crawl(self.crawler, LIMIT)

    def closing(self, reason: str) -> None:
        self.reason = None if reason in ("finished", LIMIT) else reason

    async def stopped(self) -> None:
        """End the run once the last answer is in."""
        await self.end(getattr(self, "reason", None))

    async def end(self, reason: str | None) -> None:
        """End the run, once; whoever asks again waits for the same end."""
        if self.ending is None:
            self.ending = asyncio.ensure_future(self._end(reason))
        await asyncio.shield(self.ending)

    async def _end(self, reason: str | None) -> None:
        if self.loop:
            self.loop.stop()
        if self.flushing:
            await asyncio.wait([self.flushing])
        if reason != INTERRUPTED:
            await self.pressure.end()
        try:
            held = getattr(self.crawler.spider, "held_back", 0)
            summary = await asyncio.to_thread(self.run.end, reason=reason, held_back=held, limit=self.limit)
            log.info("the run ended", outcome=summary.outcome.value, reason=summary.reason, **asdict(summary.tally))
            if RunExtension.finished:
                RunExtension.finished(summary)
        finally:
            if self.own:
                self.own.close()


class CaptureMiddleware:
    """The outermost downloader middleware: sees the final answer or the final failure of each wanted capture."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "CaptureMiddleware":
        return cls(crawler)

    def process_request(self, request: Request) -> None:
        """Send a request with the conditions of its own address."""
        run_of(self.crawler).conditions.put_on(request, request.meta.get("osint_capture"))

    def process_response(self, request: Request, response: Response) -> Response:
        if capture := request.meta.get("osint_capture"):
            run_of(self.crawler).captures.answered(
                capture,
                url=response.url,
                status=response.status,
                media_type=(response.headers.get("Content-Type") or b"").decode("latin-1").partition(";")[0].strip()
                or None,
                refs=request.meta["osint_records"],
                unread="stored" in response.flags,
                given=given(response.headers.get("ETag"), response.headers.get("Last-Modified")),
            )
        return response

    def process_exception(self, request: Request, exception: Exception) -> None:
        capture = request.meta.get("osint_capture")
        if isinstance(exception, OSError) and is_full(exception):
            exception = SpoolFull(str(run_of(self.crawler).workspace.spool.folder), 0)
        if isinstance(exception, StorageError):
            run_of(self.crawler).break_off(exception)
            end_crawl(self.crawler, "cannot_keep")
        if capture:
            state, reason = _judge(exception, request)
            exit = run_of(self.crawler).way.exit
            reason = exit.conceal(reason) if exit else reason
            run_of(self.crawler).captures.gave_up(capture, state, reason, request.meta["osint_records"])


class ReadingPipeline:
    """Gives what was read to the run."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "ReadingPipeline":
        return cls(crawler)

    def process_item(self, item: Reading) -> Reading:
        run_of(self.crawler).captures.read(
            item.capture, item.page, item.trouble, will_render=item.will_render, aside=item.aside
        )
        return item


def _judge(exception: Exception, request: Request) -> tuple[State, str]:
    """Tell what a failed request came to."""
    if isinstance(exception, (StorageError, OSError)) and not isinstance(exception, ConnectionError):
        return State.FAILED, for_the_archive(exception)
    said = (str(exception).strip().splitlines() or [""])[0][:300]
    if isinstance(exception, AddressRefused):
        return State.REFUSED, said
    if isinstance(exception, ExitUnusable):
        return State.FAILED, said
    if isinstance(exception, FetchFailed):
        return (State.REFUSED if exception.refused else State.FAILED), said
    if isinstance(exception, IgnoreRequest):
        return (State.REFUSED, ROBOTS) if "robots" in said.lower() else (State.FAILED, said)
    cut = any(ref.truncated for ref in request.meta["osint_records"][-1:])
    return (State.TRUNCATED if cut else State.FAILED), f"{type(exception).__name__}: {said}"
