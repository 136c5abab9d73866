"""Telegram's public previews as a Scrapy spider."""

from spiders import telegram
from spiders.page import LinkKind, Page
from spiders.site import SiteSpider


class TelegramSpider(SiteSpider):
    """Reads a channel's preview back in time, page by page, or one post."""

    name = "telegram"
    follows = frozenset({LinkKind.OLDER, LinkKind.LANDING})

    def read(self, body: bytes, url: str, content_type: str | None) -> Page:
        return telegram.parse(body, url)

    def address(self, url: str) -> str:
        return telegram.wanted_url(url)
