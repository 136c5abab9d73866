"""Keeps what a host's robots.txt says for all runs of this process: a host that is visited each minute is not asked each minute."""

import time
from typing import Any, ClassVar

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.robotstxt import RobotsTxtMiddleware
from scrapy.robotstxt import RobotParser

_MOST_HOSTS = 10_000


class KeptRobots(RobotsTxtMiddleware):
    """Scrapy's obedience to robots.txt; what was read is read again after OSINT_ROBOTS_SECONDS.

    One that could not be had is asked for again by the next run. The file stands in the archive with the run that asked.
    """

    kept: ClassVar[dict[tuple[str, Any], tuple[float, RobotParser]]] = {}  # by host and way out

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._fresh: set[tuple[str, Any]] = set()
        self.keep_seconds = crawler.settings.getfloat("OSINT_ROBOTS_SECONDS", 0.0)

    async def robot_parser(self, request: Request) -> RobotParser | None:
        """Give what is kept, or ask."""
        scheme, _, rest = request.url.partition("://")
        key = (f"{scheme}://{rest.partition('/')[0]}", request.meta.get("proxy"))
        read_at, parser = self.kept.get(key, (float("-inf"), None))
        if parser is not None and time.monotonic() - read_at < self.keep_seconds:
            return parser
        asked: RobotParser | None = await super().robot_parser(request)
        if asked is not None and self.keep_seconds and key not in self._fresh:
            self._fresh.add(key)  # its other requests of this run get the same one
            if len(self.kept) >= _MOST_HOSTS:
                self.kept.clear()
            self.kept[key] = (time.monotonic(), asked)
        return asked
