"""The one place where a Page becomes Scrapy requests and items."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

from scrapy import Request, Spider
from scrapy.http import Response

from spiders.known import Known, Missing, Nothing
from spiders.page import LayoutChanged, Link, LinkKind, Media, MediaKind, Page, Verdict
from spiders.second_look import SecondLook
from spiders.verdict import judge_answer

RENDER = ("never", "auto", "always")
FILE_SUFFIXES = {".mp4", ".webm", ".m4v", ".mov", ".ogg", ".ogv", ".oga", ".mp3", ".m4a", ".jpg", ".png", ".webp"}
MEDIA_PRIORITY = 10  # media addresses expire within hours: fetch them before more pages
WITHOUT_FILE = {MediaKind.AVATAR}
NOT_MODIFIED = 304
HEAD = "osint_head"  # in a request's meta: the head that the browser saw, which is not this response's own
STANDS = (Verdict.CONTENT, Verdict.PARTIAL, Verdict.EMPTY, Verdict.GONE)  # the page itself, not what stands before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An item: what was read from one capture; `page` is None where the page could not be read, `trouble` says why.

    `will_render` where the browser was asked for the page that the wire saw as a shell or a wall; `aside` as in Slice.
    """

    capture: UUID
    page: Page | None
    trouble: LayoutChanged | None = None
    will_render: bool = False
    aside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How far a way back in time goes on: so many pages (`left`), or until known ground where that is None.

    The main one goes on a little behind known ground, where recent posts may have been edited. `aside`: see Slice.
    """

    left: int | None = None
    main: bool = True
    aside: bool = False

    @property
    def open(self) -> bool:
        """Whether it ends at known ground."""
        return self.left is None

    def after(self, *, ground: bool, overlap_pages: int) -> "Walk | None":
        """Say how the way goes on behind a page; None where it ends."""
        left = (overlap_pages if self.main else 0) if self.left is None and ground else self.left
        if left is None:
            return self
        return Walk(left=left - 1, main=self.main) if left > 0 else None


class SiteSpider(Spider):
    """Asks for pages, reads them with the site's parser, asks for their media and for what they lead to.

    Arguments (`scrapy crawl NAME -a url=...`): url (one or several, separated by blanks), limit (pages read at most),
    since (ISO date: older posts and articles are not asked for), render (never, auto, always).
    """

    follows: ClassVar[frozenset[LinkKind]] = frozenset()
    fetch: ClassVar[str] = "wire"

    def __init__(
        self, url: str | tuple[str, ...] = "", limit: Any = None, since: Any = None, render: str = "auto", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.seeds = tuple(url.split()) if isinstance(url, str) else url
        self.limit = int(limit) if limit else 1000
        self.since = _aware(since)
        if render not in RENDER:
            raise ValueError(f"render={render!r} is none of {', '.join(RENDER)}")
        self.render = render
        self.asked = 0
        self.known: Known = Nothing()  # what the archive has; the trunk gives one that knows more
        self.second_look = SecondLook()
        self._seen: set[str] = set()
        self.held_back = 0

    def read(self, body: bytes, url: str, content_type: str | None) -> Page:
        """Read one page. The only thing a site must give; raises LayoutChanged."""
        raise NotImplementedError

    def address(self, url: str) -> str:
        """Turn what a person typed into the URL to fetch."""
        return url

    async def start(self) -> AsyncIterator[Request]:
        for url in self.seeds:
            if request := self.ask(self.address(url)):
                yield request
        for request in self.open_ends():
            yield request

    def open_ends(self) -> Iterator[Request]:
        """Ask for the feeds that earlier visits found, and for what they did not get."""
        for url in self.known.feeds():
            if LinkKind.FEED in self.follows and (request := self.ask(url)):
                yield request
        for one in self.known.missing():
            if again := self.ask_again(one):
                yield again

    def ask_again(self, one: Missing) -> Request | None:
        """Make the request for what an earlier visit did not get."""
        if one.kind in ("file", "media"):
            fetch = "media" if one.kind == "media" else "wire"
            meta = {"osint_kind": one.kind, "osint_fetch": fetch, "osint_leaf": True}
            return Request(one.url, callback=self.keep, errback=self.lose, meta=meta)
        rendered = one.kind == "rendered"
        if rendered and (self.render == "never" or self.second_look.walls.in_vain(one.url)):
            return None
        return self.ask(one.url, rendered=rendered and self.render == "auto")

    def ask(self, url: str, *, rendered: bool = False, walk: Walk | None = None, leaf: bool = False) -> Request | None:
        """Make the request for a page; None where it was asked for before, or the limit of pages is reached.

        `leaf`: it is asked for its own sake, not for its links. `rendered`: the browser is asked, once.
        """
        if self.second_look.asked(url) if rendered else url in self._seen:
            return None
        if self.asked >= self.limit:
            self.held_back += 1
            return None
        self.asked += 1
        self._seen.add(url)
        if rendered:
            self.second_look.note(url)
        fetch = "browser" if rendered or (self.render == "always" and self.fetch == "wire") else self.fetch
        kind = "rendered" if fetch == "browser" else "page"
        return Request(
            url,
            callback=self.parse,
            errback=self.lose,
            meta={"osint_kind": kind, "osint_fetch": fetch, "osint_walk": walk or Walk(), "osint_leaf": leaf},
            dont_filter=rendered,
        )

    def ask_file(self, media: Media) -> Request:
        """Make the request for a media file; a player's page goes to the media fetcher."""
        assert media.url is not None
        suffix = PurePosixPath(urlsplit(media.url).path).suffix.lower()
        player = media.kind is MediaKind.VIDEO and suffix not in FILE_SUFFIXES
        meta: dict[str, Any] = {"osint_kind": "media" if player else "file", "osint_leaf": True}
        meta["osint_fetch"] = "media" if player else "wire"
        return Request(media.url, callback=self.keep, errback=self.lose, priority=MEDIA_PRIORITY, meta=meta)

    def keep(self, response: Response) -> None:
        """A file needs no reading: its capture is all there is."""

    def lose(self, failure: Any) -> Iterator[Request]:
        """A request that came to nothing is accounted for by the run."""
        if failure.request.meta.get("osint_fetch") == "browser":
            yield from self.look_again(self.second_look.failed(failure.request.url))

    def parse(self, response: Response) -> Iterator[Reading | Request]:
        capture: UUID = response.meta["osint_capture"]
        if response.status == NOT_MODIFIED:
            yield from self.unchanged(response.url)
            return
        try:
            page = self.read(response.body, response.url, _content_type(response))
        except LayoutChanged as error:
            if response.status < 400:
                yield Reading(capture=capture, page=None, trouble=error)
                yield from self.look_again(self.second_look.failed(asked_for(response)))
                return
            page = Page(url=response.url, verdict=Verdict.UNDECIDED, reason=f"status {response.status}, not readable")
        page = judge_answer(page, response.status, head_of(response, response.request), response.body)
        walk: Walk = response.meta.get("osint_walk") or Walk()
        again = list(self.second_requests(response, page))
        will_render = response.meta["osint_fetch"] == "wire" and self.second_look.asked(asked_for(response))
        yield Reading(capture=capture, page=page, will_render=will_render, aside=walk.aside)
        yield from again
        if not will_render:
            yield from self.next_requests(page, walk)

    def second_requests(self, response: Response, page: Page) -> Iterator[Request]:
        """Ask the browser for a page that the wire saw as a shell or a wall, or for those that waited for this one."""
        url, fetch = asked_for(response), response.meta["osint_fetch"]
        if fetch == "browser":
            yield from self.look_again(self.second_look.came(url, well=page.verdict in STANDS))
        elif (
            fetch == "wire"
            and self.render == "auto"
            and self.second_look.helps(page)
            and self.second_look.wanted(url, page)
        ):
            yield from self.look_again([url])

    def look_again(self, urls: list[str]) -> Iterator[Request]:
        """Ask the browser for pages."""
        for url in urls:
            if request := self.ask(url, rendered=True):
                yield request

    def unchanged(self, url: str) -> Iterator[Request]:
        """A page that has not changed leads nowhere that an earlier visit did not go."""
        return iter(())

    def next_requests(self, page: Page, walk: Walk) -> Iterator[Request]:
        """List the requests that a page leads to: its media, then the links that this site follows."""
        have = self.known.files(page)
        for media in (*page.media, *(media for post in page.posts for media in post.media)):
            offered = media.url is not None and media.url.startswith(("http://", "https://"))
            if offered and media.kind not in WITHOUT_FILE and media.url not in have:
                yield self.ask_file(media)
        yield from self.links_to_follow(page, walk)

    def links_to_follow(self, page: Page, walk: Walk) -> Iterator[Request]:
        """Follow links to articles that are not known, and to older pages while there are any, or none are named."""
        wanted = [link for link in page.links if link.kind in self.follows and self.wants(link, page)]
        articles = {link.url for link in wanted if link.kind is LinkKind.ARTICLE}
        known = {link.url for link in wanted if self._is_known(link)}
        older = not articles or bool(articles - known) or self.known.onward(page)
        for link in wanted:
            if link.url in known or (link.kind is LinkKind.OLDER and not older):
                continue
            if request := self.ask(link.url, leaf=link.kind is LinkKind.ARTICLE):
                yield request

    def _is_known(self, link: Link) -> bool:
        """An article is known by its address; of a sitemap only the one that says when it changed."""
        if link.kind is LinkKind.SITEMAP and link.updated_at is None:
            return False
        return link.kind in (LinkKind.ARTICLE, LinkKind.SITEMAP) and self.known.page(link.url, link.updated_at)

    def wants(self, link: Link, page: Page) -> bool:
        """Tell whether a link still lies within --since."""
        if self.since is None:
            return True
        if link.kind is LinkKind.OLDER:
            told = [post.published_at for post in page.posts] + [other.published_at for other in page.links]
            dates = [one for one in told if one]
            return not dates or max(dates) >= self.since
        return link.published_at is None or link.published_at >= self.since


def _aware(since: Any) -> datetime | None:
    if since is None or isinstance(since, datetime):
        return since
    value = datetime.fromisoformat(str(since))
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _content_type(response: Response) -> str | None:
    value = response.headers.get("Content-Type")
    return value.decode("latin-1") if value else None


def head_of(response: Response, request: Request | None) -> list[tuple[str, str]]:
    """The fields of an answer's head as its server sent them."""
    if request is not None and HEAD in request.meta:
        return list(request.meta[HEAD])
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in response.headers.items()
        for value in values
    ]


def asked_for(response: Response) -> str:
    """The address before any redirect: what stands before a page often has one of its own."""
    assert response.request is not None
    return next(iter(response.meta.get("redirect_urls", ())), response.request.url)
