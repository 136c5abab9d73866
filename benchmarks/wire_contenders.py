"""The crawls that benchmarks/wire.py compares, each in a process of its own: plain Scrapy, and this pipeline."""

import json
import logging
import re
import resource
import sys
from collections.abc import AsyncIterator
from typing import Any

from scrapy import Request, Spider
from scrapy.http import Response

from settings import crawl
from spiders.page import Page, Verdict
from spiders.site import SiteSpider

TITLE = re.compile(rb"<title>([^<]*)</title>")
TUNED = {
    "CONCURRENT_REQUESTS": 16,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
    "CONCURRENT_ITEMS": 4,
    "DOWNLOAD_DELAY": 0,
    "ROBOTSTXT_OBEY": False,
    "RETRY_TIMES": 1,
    "LOG_LEVEL": "ERROR",
    "LOG_ENABLED": False,
    "TELNETCONSOLE_ENABLED": False,
    "REMOTE_CONTROL_ENABLED": False,
    "COOKIES_ENABLED": False,
    "WARN_ON_GENERATOR_RETURN_VALUE": False,
    "TWISTED_REACTOR": "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
}
PLAIN = {  # what settings/crawl.py switches off and plain Scrapy does not need either
    **TUNED,
    "EXTENSIONS": {
        "scrapy.extensions.remote_control.RemoteControl": None,
        "scrapy.extensions.telnet.TelnetConsole": None,
    },
    "SPIDER_MIDDLEWARES": {"scrapy.spidermiddlewares.metacopy.MetaCopyDetectionMiddleware": None},
}


STRIPPED = {  # all that settings/crawl.py switches off, so that only the archive differs
    **PLAIN,
    "EXTENSIONS": {name: None for name, value in crawl.EXTENSIONS.items() if value is None},
    "DOWNLOADER_MIDDLEWARES": {
        name: None for name, value in crawl.DOWNLOADER_MIDDLEWARES.items() if value is None and "Retry" not in name
    },
    "SPIDER_MIDDLEWARES": {name: None for name, value in crawl.SPIDER_MIDDLEWARES.items() if value is None},
}


class Plain(Spider):
    """Scrapy as it is, tuned, without an archive; reads the title of each page."""

    name = "plain"

    async def start(self) -> AsyncIterator[Any]:
        for number in range(int(self.count)):
            yield Request(f"{self.base}/{number}.html", callback=self.parse)

    def parse(self, response: Response) -> Any:
        found = TITLE.search(response.body)
        yield {"url": response.url, "title": found[1].decode() if found else None}


class Archived(SiteSpider):
    """The same work by a site spider of the pipeline."""

    name = "archived"

    async def start(self) -> AsyncIterator[Any]:
        base, count = self.seeds
        for number in range(int(count)):
            if request := self.ask(f"{base}/{number}.html"):
                yield request

    def read(self, body: bytes, url: str, content_type: str | None) -> Page:
        found = TITLE.search(body)
        return Page(url=url, verdict=Verdict.CONTENT, title=found[1].decode() if found else None)


def quiet() -> None:
    """Keep Scrapy from building log records that nobody reads; to be called after a process set its levels."""
    for name in ("scrapy", "twisted", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)


def stripped(base: str, count: str) -> None:
    """Crawl with plain Scrapy, all switched off that the pipeline switches off."""
    plain(base, count, STRIPPED)


def plain(base: str, count: str, settings: dict[str, Any] = PLAIN) -> None:
    """Crawl with plain Scrapy."""
    from scrapy.crawler import AsyncCrawlerProcess

    process = AsyncCrawlerProcess(settings)
    quiet()
    process.crawl(Plain, base=base, count=count)
    process.start()


def service_at(home: str) -> Any:
    """Load the settings of a pipeline whose data folder is `home`."""
    from settings.service import load

    environ = {"HOME": home, "OSINT_HOME": home, "OSINT_ALLOW_NETWORKS": "127.0.0.0/8", "OSINT_LIMIT": "1000000"}
    return load(environ).service


def prepare(home: str) -> None:
    """Make the data folder, once for an archive: database, tables."""
    from osint_pipeline.workspace import Workspace

    with Workspace(service_at(home)) as workspace:
        assert workspace.catalog


def archived(base: str, count: str, home: str) -> None:
    """Crawl with the pipeline, to synced WARCs and a committed catalogue."""
    from scrapy.crawler import AsyncCrawlerProcess
    from scrapy.settings import Settings

    from osint_pipeline.crawl import RunExtension, scrapy_settings
    from osint_pipeline.source import Source
    from osint_pipeline.workspace import Workspace

    service = service_at(home)
    with Workspace(service) as workspace:
        source = Source(url=base, slug="bench", spider="archived")
        settings = Settings()
        settings.setmodule("settings.crawl")
        settings.update({**scrapy_settings(service, source), **TUNED}, priority="cmdline")
        RunExtension.prepared = (workspace, source)
        RunExtension.finished = lambda summary: print(json.dumps(summary.as_json()), file=sys.stderr)
        process = AsyncCrawlerProcess(settings)
        quiet()
        process.crawl(Archived, url=f"{base} {count}", limit=1_000_000)
        process.start()


if __name__ == "__main__":
    {"plain": plain, "stripped": stripped, "prepare": prepare, "archived": archived}[sys.argv[1]](*sys.argv[2:])
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_seconds": used.ru_utime + used.ru_stime, "peak_kb": used.ru_maxrss}))
