"""Video platforms as a Scrapy spider."""

from collections.abc import Iterator

from scrapy import Request

from spiders import video
from spiders.page import Page
from spiders.site import SiteSpider, Walk


class VideoSpider(SiteSpider):
    """Hands each page to the media fetcher, which finds and keeps the file."""

    name = "video"
    fetch = "media"

    def read(self, body: bytes, url: str, content_type: str | None) -> Page:
        return video.parse_info(body, url)

    def next_requests(self, page: Page, walk: Walk) -> Iterator[Request]:
        """The media fetcher has the file already."""
        return iter(())
