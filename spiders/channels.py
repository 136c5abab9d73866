"""Telegram's public previews as a Scrapy spider."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from scrapy import Request

from spiders import telegram
from spiders.known import Slice
from spiders.page import LinkKind, Page
from spiders.site import SiteSpider, Walk
from spiders.span import Span, inside, looked_at, merged


class TelegramSpider(SiteSpider):
    """Reads a channel's preview back in time, page by page, or one post.

    One way at a time: the newest page and what is new below it, then what earlier visits left open.
    """

    name = "telegram"
    follows = frozenset({LinkKind.OLDER, LinkKind.LANDING})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._looked: tuple[Span, ...] = ()
        self._slices: deque[Slice] | None = None

    def read(self, body: bytes, url: str, content_type: str | None) -> Page:
        return telegram.parse(body, url)

    def address(self, url: str) -> str:
        return telegram.wanted_url(url)

    def open_ends(self) -> Iterator[Request]:
        """What is missing of a channel is asked for by slices of its history."""
        return iter(())

    def links_to_follow(self, page: Page, walk: Walk) -> Iterator[Request]:
        """Follow a refusal to the page that explains it; go on back in time, or to the next slice."""
        for link in page.links:
            if link.kind is LinkKind.LANDING and (request := self.ask(link.url)):
                yield request
        span = looked_at(page)
        if span is None:
            return
        self._looked = merged((*self._looked, span))
        onward = walk.after(ground=walk.open and self.known.ground(page), overlap_pages=self.known.overlap_pages)
        older = next((link for link in page.links if link.kind is LinkKind.OLDER and self.wants(link, page)), None)
        request = self.ask(older.url, walk=onward) if older and onward else None
        yield from [request] if request else self.next_slice(page.url, page.channel)

    def unchanged(self, url: str) -> Iterator[Request]:
        """A newest page that has not changed leads to what is open all the same."""
        return self.next_slice(url, telegram.wanted(url).name)

    def next_slice(self, url: str, channel: str | None) -> Iterator[Request]:
        """Ask for the next piece of history that this visit has not looked at."""
        if channel is None or self.asked >= self.limit:
            return
        if self._slices is None:
            self._slices = deque(self.known.slices(channel, self._looked))
        while self._slices:
            piece = self._slices.popleft()
            if inside(Span(piece.before - 1, piece.before - 1), self._looked):
                continue
            address = self.address(telegram.history_url(url, channel, piece.before))
            left = None if piece.pages is None else piece.pages - 1
            if request := self.ask(address, walk=Walk(left=left, main=False, aside=piece.aside)):
                yield request
                return
