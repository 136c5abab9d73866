"""Slows and pauses what a crawl sends, below everything that wants something sent."""

from typing import Any

from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from twisted.python.failure import Failure

SLOWEST_SECONDS = 5.0  # what is added to the pause between two requests just below the mark


class Throttle:
    """Turns the downloader's slots down and up again. Open requests go on."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._usual: dict[str, tuple[int, float]] = {}  # concurrency and delay of each slot before we touched it
        self._default: tuple[int, float] | None = None
        self._why: str | None = None

    @property
    def _downloader(self) -> Any:
        return self._crawler.engine.downloader if self._crawler.engine else None

    def slow(self, depth: float) -> None:
        """Send one request at once to a host and wait longer between two; `depth` from 0 to 1 is how much longer."""
        self._set(1, SLOWEST_SECONDS * min(1.0, max(0.0, depth)))

    def pause(self) -> None:
        """Send nothing more; open requests finish."""
        self._set(0, 0.0)

    def free(self) -> None:
        """Go on as before."""
        downloader = self._downloader
        if downloader is None or self._default is None:
            return
        downloader.domain_concurrency, downloader._delay = self._default
        self._default = None
        for name, slot in downloader.slots.items():
            slot.concurrency, slot.delay = self._usual.get(name, (downloader.domain_concurrency, downloader._delay))
            self._kick(slot)
        self._usual.clear()

    def abandon(self, why: str) -> None:
        """Fail what waits to be sent, now and at each sweep(); a paused crawl could not end otherwise."""
        self._why = why
        self.sweep()

    def sweep(self) -> None:
        """Fail what has come to wait since the crawl was abandoned: the redirects and retries of open requests."""
        downloader = self._downloader
        if downloader is None or self._why is None or downloader.domain_concurrency:
            return
        for slot in downloader.slots.values():
            while slot.queue:
                _, waiting = slot.queue.popleft()
                waiting.errback(Failure(IgnoreRequest(f"not reached: {self._why}")))

    def _set(self, concurrency: int, more_seconds: float) -> None:
        downloader = self._downloader
        if downloader is None:
            return
        if self._default is None:
            self._default = (downloader.domain_concurrency, downloader._delay)
            self._usual = {name: (slot.concurrency, slot.delay) for name, slot in downloader.slots.items()}
        usual_concurrency, usual_delay = self._default
        downloader.domain_concurrency = min(concurrency, usual_concurrency)  # slots that are made meanwhile take these
        downloader._delay = usual_delay + more_seconds
        for name, slot in downloader.slots.items():
            before = self._usual.get(name, self._default)
            slot.concurrency, slot.delay = min(concurrency, before[0]), before[1] + more_seconds
            self._kick(slot)

    def _kick(self, slot: Any) -> None:
        if slot.queue and slot.latercall is None:
            self._downloader._process_queue(slot)
