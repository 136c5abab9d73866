"""Runs the crawls of several sources one after the other in this process, and brings what they captured to the store."""

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any, Protocol
from uuid import UUID

from osint_pipeline.hostturn import HostTurn
from osint_pipeline.logs import logger
from osint_pipeline.outcome import Summary, Tally
from osint_pipeline.shared import SharedWarcs
from osint_pipeline.source import Source, host_of
from osint_pipeline.stopping import INTERRUPTED, SIGNALS, arm, last_call
from osint_pipeline.workspace import Workspace

log = logger(__name__)

CLOSING_SECONDS = 1.5  # for the browser, once the run has ended
END_SECONDS = 3.0  # for the end of a run that was interrupted, after OSINT_STOP_SECONDS
Progress = Callable[[Source, Tally], None]


class Feed(Protocol):
    """Gives a crawl its sources, one after the other, and is told what came of each. take() is called in a thread."""

    def take(self) -> Source | None:
        """Give the next source, after waiting for one if need be; None: there are no more."""

    def began(self, run: UUID) -> None:
        """The run of the source taken last has begun; nothing was asked of it yet."""

    def ended(self, summary: Summary) -> None:
        """The run of the source taken last has ended."""

    def stop(self) -> None:
        """The crawl is being interrupted: take() gives no more, and waits no longer. May be called from a signal's handler."""


class Listed:
    """A feed of sources that are known from the start."""

    def __init__(self, sources: Sequence[Source], turn: HostTurn) -> None:
        self.left, self.summaries, self._stopped = deque(sources), list[Summary](), False
        self._turn = turn

    def take(self) -> Source | None:
        if not self.left or self._stopped:
            return None
        self._turn.come_to(host_of(self.left[0].url))
        return None if self._stopped else self.left[0]

    def began(self, run: UUID) -> None:
        self.left.popleft()

    def ended(self, summary: Summary) -> None:
        self.summaries.append(summary)

    def stop(self) -> None:
        self._stopped = True
        self._turn.stop()


def crawl_sources(
    workspace: Workspace,
    sources: Sequence[Source],
    *,
    limit: int | None = None,
    since: datetime | None = None,
    progress: Progress | None = None,
    drains: bool = False,
    warcs: SharedWarcs | None = None,
) -> list[Summary]:
    """Visit each source once; SIGINT or SIGTERM ends the crawl under way and keeps what it has.

    `drains`: bring WARCs to the store already while the spool fills. `warcs`: what the runs append to instead of WARCs of
    their own; the caller closes it. To be called once in a process.
    """
    turn = HostTurn(workspace.catalog, workspace.service.host_wait_seconds, log.warning)
    feed = Listed(sources, turn)
    try:
        crawl_feed(workspace, feed, limit=limit, since=since, progress=progress, drains=drains, warcs=warcs)
    finally:
        turn.leave()
    return feed.summaries + [unvisited(workspace, source, warcs) for source in feed.left]


def crawl_feed(
    workspace: Workspace,
    feed: Feed,
    *,
    limit: int | None = None,
    since: datetime | None = None,
    progress: Progress | None = None,
    drains: bool = False,
    warcs: SharedWarcs | None = None,
) -> None:
    """Visit the sources that a feed gives, one after the other, until it has no more; see crawl_sources().

    To be called once in a process: Twisted's reactor does not start twice.
    """
    from scrapy.utils.reactor import install_reactor

    install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")
    from twisted.internet import reactor as installed

    from osint_pipeline.crawl import RunExtension

    reactor: Any = installed
    quiet_scrapy(workspace.service.log_level)
    RunExtension.drains, RunExtension.warcs = drains, warcs
    crawls = _Crawls(workspace, feed, limit or workspace.service.limit, since, progress)
    task = reactor._asyncioEventloop.create_task(crawls.until_done())
    task.add_done_callback(lambda _: reactor.stop())
    reactor.run(installSignalHandlers=False)
    task.result()


def unvisited(workspace: Workspace, source: Source, warcs: SharedWarcs | None = None) -> Summary:
    """Write down that a source was not come to before the crawl was interrupted."""
    from osint_pipeline.run import Run

    run = Run(workspace, source, warcs=warcs)
    for page in source.pages:
        run.captures.want(page, "page")
    return run.end(reason=INTERRUPTED)


class _Crawls:
    def __init__(
        self, workspace: Workspace, feed: Feed, limit: int, since: datetime | None, progress: Progress | None
    ) -> None:
        self.workspace, self.feed, self.limit, self.since = workspace, feed, limit, since
        self.progress = progress
        self.stopping = False
        self.visiting = False
        self.done = asyncio.Event()
        self.cutting: asyncio.Task[None] | None = None
        self._crawler: Any = None

    async def until_done(self) -> None:
        """Visit all sources, or leave off when cut short."""
        loop = asyncio.get_running_loop()
        every, cut = loop.create_task(self.all()), loop.create_task(self.done.wait())
        try:
            await asyncio.wait((every, cut), return_when=asyncio.FIRST_COMPLETED)
            if self.cutting is not None:
                await self.cutting
            if every.done():
                cut.cancel()
                every.result()
        finally:
            arm()  # what comes after the crawl (the upload) ends as any command does

    async def all(self) -> None:
        from osint_pipeline.crawl import RunExtension

        loop = asyncio.get_running_loop()
        for (
            number
        ) in SIGNALS:  # not the loop's own: a parser that holds the loop up must not keep the end from being timed
            signal.signal(number, partial(self._asked_to_stop, loop))
        RunExtension.begun, RunExtension.finished = self.feed.began, self.feed.ended
        RunExtension.progress = self.progress
        last: Source | None = None
        while not self.stopping and (source := await asyncio.to_thread(self.feed.take)) is not None:
            if last is not None and host_of(last.url) == host_of(source.url):
                await asyncio.sleep(self.workspace.service.delay_seconds)
            if self.stopping:
                break
            self.visiting = True
            await self.one(source)
            self.visiting, last = False, source

    async def one(self, source: Source) -> None:
        from scrapy.crawler import AsyncCrawlerRunner
        from scrapy.settings import Settings

        from osint_pipeline.crawl import RunExtension, scrapy_settings

        settings = Settings()
        settings.setmodule("settings.crawl", priority="project")
        settings.update(scrapy_settings(self.workspace.service, source), priority="cmdline")
        RunExtension.prepared = (self.workspace, source)
        runner = AsyncCrawlerRunner(settings)
        self._crawler = runner.create_crawler(source.spider)
        await runner.crawl(
            self._crawler,
            url=source.pages,
            limit=self.limit,
            since=self.since,
            render=source.render,
        )

    def _asked_to_stop(self, loop: asyncio.AbstractEventLoop, number: int, frame: FrameType | None) -> None:
        """Time the end, from within the signal's handler, and let the loop do the rest when it comes to it."""
        if not self.stopping:
            last_call(self.workspace.service.stop_seconds + END_SECONDS)
        loop.call_soon_threadsafe(self.stop)

    def stop(self) -> None:
        """End the crawl under way: open requests may finish within OSINT_STOP_SECONDS; called again, at once."""
        loop = asyncio.get_running_loop()
        if self.stopping:
            self.cutting = loop.create_task(self.cut())
            return
        self.stopping = True
        self.feed.stop()
        self._end_when_it_runs()
        loop.call_later(self.workspace.service.stop_seconds, self.stop)

    def _end_when_it_runs(self) -> None:
        """End the crawl under way; one that is only about to begin is ended as soon as it has."""
        from osint_pipeline.crawl import end_crawl

        engine = self._crawler._engine if self._crawler is not None else None
        if engine is not None and engine.running and engine.spider is not None:
            end_crawl(self._crawler, INTERRUPTED)
        elif self.visiting and not self.done.is_set():
            asyncio.get_running_loop().call_later(0.05, self._end_when_it_runs)

    async def cut(self) -> None:
        """Leave open requests as they are, and end the run with what is recorded."""
        from osint_pipeline.crawl import RunExtension

        if RunExtension.current is not None:
            await RunExtension.current.end(INTERRUPTED)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._close_browser(), CLOSING_SECONDS)
        self.done.set()

    async def _close_browser(self) -> None:
        engine = self._crawler and self._crawler._engine
        for handler in engine.downloader.handlers._handlers.values() if engine else ():
            await handler.close()


def quiet_scrapy(level: str) -> None:
    """Keep libraries from building log records that nobody reads (facts: DEBUG records cost a tenth of a crawl)."""
    for name in ("scrapy", "twisted", "asyncio", "urllib3", "botocore", "trafilatura", "htmldate", "PIL"):
        logging.getLogger(name).setLevel(getattr(logging, level.upper()))


def crawl_and_preserve(
    workspace: Workspace,
    sources: Sequence[Source],
    *,
    limit: int | None = None,
    since: datetime | None = None,
    progress: Progress | None = None,
) -> tuple[list[Summary], str | None]:
    """Crawl, then drain the spool. Returns the summaries, and why the store did not take everything (None if it did)."""
    from osint_pipeline.preserve import upload
    from osint_pipeline.retention import clean
    from storage.errors import StorageError

    summaries = crawl_sources(workspace, sources, limit=limit, since=since, progress=progress, drains=True)
    if any(one.reason == INTERRUPTED for one in summaries):
        return summaries, "the crawl was interrupted"
    trouble = None
    try:
        for one in upload(workspace):
            if one.why:
                trouble = f"{one.name}: {one.why}"
        for _ in clean(workspace):
            pass
    except StorageError as error:
        trouble = str(error)
    if workspace.service.replay_sample:
        _check_replays(workspace, summaries)
    return [replace(one, preserved=_preserved(workspace, one.run)) for one in summaries], trouble


def _check_replays(workspace: Workspace, summaries: Sequence[Summary]) -> None:
    from twisted.internet import reactor

    from osint_pipeline.replay.check import check_sample

    ours: Any = reactor
    check_sample(workspace, [one.run for one in summaries])
    asyncio.set_event_loop(ours._asyncioEventloop)  # the check had a loop of its own; the reactor's was never closed


def _preserved(workspace: Workspace, run: UUID) -> int:
    from storage.rows import WarcState
    from storage.warc_files import list_warcs

    return len(list_warcs(workspace.catalog, state=WarcState.PRESERVED, run_id=run))
