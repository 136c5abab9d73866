"""Looks at one page as a crawl would and keeps nothing: same fetchers, guard, robots.txt and way out, no catalogue, no spool."""

import hashlib
import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import scrapy.core.downloader.handlers.http11  # noqa: F401  # first: it searches all modules loaded before it, 0.25 s if late
from scrapy import Request, Spider
from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.crawler import AsyncCrawlerRunner, Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http import HtmlResponse, Response
from scrapy.settings import Settings

from osint_pipeline.crawl import scrapy_settings
from osint_pipeline.crawling import quiet_scrapy
from osint_pipeline.egress import NamedProxy
from osint_pipeline.fetch.failure import FetchFailed
from osint_pipeline.fetch.guard import AddressRefused, Guard, read_networks
from osint_pipeline.fetch.tap import WireLimits
from osint_pipeline.fetch.wire import RECORDS, WireFetcher
from osint_pipeline.outcome import by_status
from osint_pipeline.source import Source
from osint_pipeline.trial import Trial
from osint_pipeline.way import way_of
from settings.exits import Exit
from settings.service import Service
from spiders.page import LayoutChanged
from spiders.site import HEAD, asked_for, head_of
from spiders.verdict import judge_answer, needs_browser
from storage.exchange import Exchange, RecordRef, RecordType, Resource, Truncated
from storage.ids import new_id
from storage.rows import CaptureState

_NOT_LOADED = (
    "osint_pipeline.crawl.RunExtension",
    "osint_pipeline.crawl.CaptureMiddleware",
    "osint_pipeline.egress.NamedProxy",  # it asks the run
)
_NOTHING = hashlib.sha256(b"").hexdigest()


class Forgetful:
    """A Sink that keeps nothing."""

    def exchange(self, exchange: Exchange, capture: UUID | None) -> RecordRef:
        """Give a reference to a record that is nowhere."""
        return _nowhere(RecordType.RESPONSE, exchange.url, capture, exchange.truncated)

    def resource(self, resource: Resource, capture: UUID | None) -> RecordRef:
        """Give a reference to a record that is nowhere."""
        return _nowhere(RecordType.RESOURCE, resource.url, capture, None)


def _nowhere(type_: RecordType, url: str, capture: UUID | None, truncated: Truncated | None) -> RecordRef:
    return RecordRef(
        record_id=new_id(),
        type=type_,
        url=url,
        date=datetime.now(UTC).isoformat(),
        warc="",
        offset_bytes=0,
        length_bytes=0,
        record_sha256=_NOTHING,
        block_sha256=_NOTHING,
        truncated=truncated,
        capture=capture,
    )


class TrialHandler(BaseDownloadHandler):
    """Downloads for a trial: on the wire, or by the browser where meta says so."""

    lazy = False
    trial: ClassVar[Trial]

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        service, self.sink = self.trial.service, Forgetful()
        self.guard = Guard(allow=read_networks(service.allow_networks))
        limits = WireLimits(
            memory_body_bytes=service.memory_body_bytes,
            body_limit_bytes=min(service.body_limit_bytes, service.memory_body_bytes + 1),
            timeout_seconds=service.timeout_seconds,
        )
        self.wire = WireFetcher(
            crawler, guard=self.guard, sink=self.sink, limits=limits, scratch=self.trial.scratch, exit=TrialProxy.exit
        )

    async def download_request(self, request: Request) -> Response:
        """Fetch one answer."""
        if request.meta.get("osint_fetch") == "browser":
            return await self._render(request)
        return await self.wire.download_request(request)

    async def close(self) -> None:
        await self.wire.close()

    async def _render(self, request: Request) -> Response:
        from osint_pipeline.fetch.behaving import behaving_of
        from osint_pipeline.fetch.browser import Browser

        service = self.trial.service
        browser = Browser(
            service.chromium,
            self.guard,
            scratch=self.trial.scratch,
            user_agent=service.user_agent,
            headless=not service.headed,
            exit=TrialProxy.exit,
            behaving=behaving_of(service),
        )
        limits = {"timeout_seconds": service.page_timeout_seconds, "limit_bytes": service.page_limit_bytes}
        async with browser:
            seen = await browser.fetch(request.url, new_id(), self.sink, **limits)  # type: ignore[arg-type]
        if seen.main is None or seen.status is None or not seen.html:
            raise FetchFailed(request.url, seen.failure or "; ".join(seen.omissions) or "the page did not load")
        request.meta[HEAD] = seen.head
        headers = {"Content-Type": "text/html; charset=utf-8"}
        return HtmlResponse(
            seen.final_url, status=seen.status, headers=headers, body=seen.html.encode(), encoding="utf-8"
        )


class TrialProxy(NamedProxy):
    """The trial's way out."""

    exit: ClassVar[Exit | None] = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "TrialProxy":
        return cls(cls.exit)


class TrialSpider(Spider):
    """Asks for one page and reads it as the source's own site module does."""

    name = "trial"

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial

    async def start(self) -> Any:
        site = self.trial.site
        yield self._ask(site.address(site.seeds[0]), rendered=self.trial.source.render == "always")

    def _ask(self, url: str, *, rendered: bool) -> Request:
        self.trial.rendered = rendered
        if rendered and self.trial.source.identity:
            self.trial.notes.append("what only its identity is shown: a trial does not use it")
        meta: dict[str, Any] = {"osint_fetch": "browser" if rendered else "wire", RECORDS: []}
        return Request(url, callback=self.parse, errback=self.lose, meta=meta, dont_filter=True)

    def parse(self, response: Response) -> Any:
        trial = self.trial
        trial.status, trial.final_url, trial.bytes = response.status, response.url, len(response.body)
        trial.refused, trial.failure = False, None  # what the browser sees stands for what the wire saw
        if known := by_status(response.status):
            trial.refused, trial.failure = known[0] is CaptureState.REFUSED, known[1]
        truncated = next((one.truncated for one in response.meta[RECORDS][-1:]), None)
        trial.cut = truncated is not None or "stored" in response.flags
        if "stored" in response.flags or truncated is Truncated.LENGTH:
            trial.failure = "too large to be read (OSINT_MEMORY_BODY_BYTES); a crawl would record it"
            return
        if truncated:
            trial.notes.append(f"the rest: the answer was cut ({truncated})")
        content_type = (response.headers.get("Content-Type") or b"").decode("latin-1") or None
        try:
            page = trial.site.read(response.body, response.url, content_type)
            head = head_of(response, response.request)
            trial.page = judge_answer(page, response.status, head, response.body)
        except LayoutChanged as error:
            trial.failure = trial.failure or f"layout changed: {error}"
            return
        again = needs_browser(trial.page) and not trial.rendered
        if again and trial.source.render == "auto" and trial.source.spider != "video":
            yield self._ask(asked_for(response), rendered=True)

    def lose(self, failure: Any) -> None:
        """Note why there was no answer."""
        error = failure.value
        said = (str(error).strip().splitlines() or [""])[0][:300]
        if self.trial.page is not None:  # the wire had an answer, the browser none
            self.trial.notes.append(f"the browser failed: {said}")
            return
        robots = isinstance(error, IgnoreRequest) and "robots" in said.lower()
        self.trial.refused = robots or isinstance(error, AddressRefused) or getattr(error, "refused", False)
        ours = isinstance(error, (AddressRefused, FetchFailed))
        self.trial.failure = "robots.txt forbids it" if robots else said if ours else f"{type(error).__name__}: {said}"


def try_source(service: Service, source: Source) -> Trial:
    """Fetch a source's first page and read it; nothing is kept. To be called once in a process.

    Raises ExitUnusable where its way out cannot be gone: no other is taken, which would show who watches.
    """
    way = way_of(service, source.proxy)
    way.check(service.exit_check_seconds)
    TrialProxy.exit = way.exit
    from scrapy.utils.reactor import install_reactor

    install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")
    from twisted.internet import reactor as installed

    reactor: Any = installed
    quiet_scrapy(service.log_level)
    # a robots.txt that cannot be had is told of by what follows; Scrapy would print a traceback for it
    logging.getLogger("scrapy.downloadermiddlewares.robotstxt").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="osint-trial-") as scratch:
        trial = Trial(source=source, service=service, scratch=Path(scratch))
        task = reactor._asyncioEventloop.create_task(_crawl(trial))
        task.add_done_callback(lambda _: reactor.stop())
        reactor.run(installSignalHandlers=False)
        task.result()
    return trial


async def _crawl(trial: Trial) -> None:
    settings = Settings()
    settings.setmodule("settings.crawl", priority="project")
    settings.update(scrapy_settings(trial.service, trial.source), priority="cmdline")
    settings.set("ADDONS", {}, priority="cmdline")
    settings.set("ITEM_PIPELINES", {}, priority="cmdline")
    for name in ("EXTENSIONS", "DOWNLOADER_MIDDLEWARES"):
        kept = {key: value for key, value in settings[name].items() if key not in _NOT_LOADED}
        kept |= {f"{__name__}.{TrialProxy.__name__}": 750} if name == "DOWNLOADER_MIDDLEWARES" else {}
        settings.set(name, kept, priority="cmdline")
    handler = f"{__name__}.{TrialHandler.__name__}"
    handlers = {**settings["DOWNLOAD_HANDLERS"], "http": handler, "https": handler}
    settings.set("DOWNLOAD_HANDLERS", handlers, priority="cmdline")
    TrialHandler.trial = trial
    runner = AsyncCrawlerRunner(settings)
    await runner.crawl(TrialSpider, trial)
