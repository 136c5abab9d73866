"""News outlets and single pages as Scrapy spiders."""

from spiders import news
from spiders.page import LinkKind, Page
from spiders.site import SiteSpider


class NewsSpider(SiteSpider):
    """Discovers an outlet's articles by feed, sitemap and listing, and reads each."""

    name = "news"
    follows = frozenset({LinkKind.ARTICLE, LinkKind.OLDER, LinkKind.LISTING, LinkKind.FEED, LinkKind.SITEMAP})

    def read(self, body: bytes, url: str, content_type: str | None) -> Page:
        return news.parse(body, url, content_type)


class PageSpider(SiteSpider):
    """Reads the given pages and follows nothing."""

    name = "page"

    def read(self, body: bytes, url: str, content_type: str | None) -> Page:
        return news.parse(body, url, content_type)
