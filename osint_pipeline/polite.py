"""Keeps to what a host asks for: its Retry-After before the next try."""

import asyncio
import time
from email.utils import parsedate_to_datetime
from typing import Any

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.retry import RetryMiddleware
from scrapy.http import Response

from spiders.page import Verdict
from spiders.reading import text_of, tree_of
from spiders.site import head_of
from spiders.verdict import MARKUP_CHARS, Head, judge


class PoliteRetry(RetryMiddleware):
    """Scrapy's retries, which wait as long as Retry-After says and hold back the host's other requests meanwhile.

    A wait above OSINT_RETRY_AFTER_LIMIT_SECONDS is not waited for: the answer stands as it is. So does a bot check, which
    does not pass by itself; asking again at once is what it looks for.
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "PoliteRetry":
        middleware = super().from_crawler(crawler)
        middleware.limit_seconds = crawler.settings.getfloat("OSINT_RETRY_AFTER_LIMIT_SECONDS", 120.0)
        return middleware

    limit_seconds: float

    async def process_response(self, request: Request, response: Response) -> Request | Response:  # type: ignore[override]
        wait = retry_after_seconds(response)
        if (wait is not None and wait > self.limit_seconds) or self._is_challenge(request, response):
            return response
        result: Request | Response = super().process_response(request, response)
        if wait and isinstance(result, Request):
            self._hold_back(request, wait)
            await asyncio.sleep(wait)
        return result

    def _is_challenge(self, request: Request, response: Response) -> bool:
        return response.status in self.retry_http_codes and is_challenge(response, head_of(response, request))

    def _hold_back(self, request: Request, wait_seconds: float) -> None:
        slots: dict[str, Any] = self.crawler.engine.downloader.slots
        if slot := slots.get(request.meta.get("download_slot", "")):
            slot.delay = max(slot.delay, 0.001)  # Scrapy looks at lastseen only where there is a delay
            slot.lastseen = max(
                slot.lastseen, time.monotonic() + wait_seconds - slot.delay
            )  # the clock that Scrapy uses there


def is_challenge(response: Response, head: Head) -> bool:
    """Tell whether a refusing answer is a bot check, by its head and the begin of its body."""
    tree = tree_of(body := response.body[:MARKUP_CHARS])
    return (
        judge(body, response.url, text_of(tree), response.status, headers=head, tree=tree).verdict is Verdict.CHALLENGE
    )


def retry_after_seconds(response: Response) -> float | None:
    """Read Retry-After, seconds or an HTTP date (RFC 9110 10.2.3); None where there is none that can be read."""
    value = (response.headers.get("Retry-After") or b"").decode("latin-1").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time()) if value else None
    except ValueError:
        return None
