"""What one look at a page came to, and the source that is looked at: a watched one, or an address that nobody has written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.options import BadOption, apply_options, read_options
from osint_pipeline.outcome import GONE_STATUS
from osint_pipeline.source import Source, UnusableUrl, slug_of, watched_address, watched_source
from osint_pipeline.sources import find
from osint_pipeline.way import way_of
from osint_pipeline.workspace import Workspace
from settings.service import Service
from spiders.channels import TelegramSpider
from spiders.outlets import NewsSpider, PageSpider
from spiders.page import Link, Media, Page, Post, Verdict
from spiders.site import SiteSpider
from storage.rows import SourceRow
from storage.watched import Watched, WatchRow

SAID_BY_FAILURE = (
    Verdict.CONTENT,
    Verdict.PARTIAL,
    Verdict.EMPTY,
    Verdict.SHELL,
    Verdict.UNDECIDED,
)  # it says more than they
_SITES: dict[str, type[SiteSpider]] = {"telegram": TelegramSpider, "news": NewsSpider}
_CODES = {
    Verdict.CONTENT.value: Exit.COMPLETE,
    Verdict.PARTIAL.value: Exit.PARTIAL,
    Verdict.EMPTY.value: Exit.PARTIAL,
    Verdict.SHELL.value: Exit.PARTIAL,
    Verdict.GONE.value: Exit.FAILED,
    "failed": Exit.FAILED,
}


@dataclass(slots=True)
class Trial:
    """What one look at a page came to. `page` is what was read from it, `failure` why there is none."""

    source: Source
    service: Service
    scratch: Path
    page: Page | None = None
    status: int | None = None
    final_url: str | None = None
    failure: str | None = None
    refused: bool = False
    rendered: bool = False
    cut: bool = False  # not all of the answer was read
    bytes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def site(self) -> SiteSpider:
        """The site module that reads the page; a video's page is read as any page, its file is not looked for."""
        return _SITES.get(self.source.spider, PageSpider)(url=self.source.pages, render=self.source.render)

    def followed(self) -> list[Link]:
        """List the links that a crawl would go on to."""
        site = self.site
        return [link for link in self.page.links if link.kind in site.follows] if self.page else []

    def media(self) -> list[Media]:
        """List the files that the page and its posts name."""
        page = self._readable()
        return [*page.media, *(one for post in page.posts for one in post.media)] if page else []

    def posts(self) -> tuple[Post, ...]:
        """List the posts that a crawl would keep."""
        page = self._readable()
        return page.posts if page else ()

    def _readable(self) -> Page | None:
        """Give the page where there is something to read on it."""
        page = self.page
        return page if page and page.verdict.readable and self.verdict == page.verdict else None

    def unread(self) -> list[str]:
        """Say in sentences what could not be read."""
        posts, media = self.posts(), self.media()
        counts = {
            f"the dates of {{}} of {len(posts)} posts": sum(one.published_at is None for one in posts),
            f"the texts of {{}} of {len(posts)} posts": sum(not one.text and not one.title for one in posts),
            f"{{}} of {len(media)} files, which the platform does not offer": sum(one.url is None for one in media),
        }
        film = ["the film: a trial does not download it"] if self.source.spider == "video" else []
        return [what.format(count) for what, count in counts.items() if count] + film + self.notes

    @property
    def verdict(self) -> str:
        """What the page is, in one word; failed or refused where neither the page nor its status tells more."""
        if self.page is not None and (self.failure is None or self.page.verdict not in SAID_BY_FAILURE):
            return self.page.verdict.value
        return "gone" if self.status in GONE_STATUS else "refused" if self.refused else "failed"

    @property
    def why(self) -> str | None:
        """Why the verdict is what it is."""
        said = self.page.reason if self.page and self.verdict == self.page.verdict else None
        return "; ".join(one for one in (self.failure, said) if one) or None

    @property
    def exit_code(self) -> Exit:
        """0 where there is something to read, 3 where little or nothing, 4 for a refusal or a wall, 1 for a failure."""
        code = _CODES.get(self.verdict, Exit.REFUSED)
        return Exit.PARTIAL if self.cut and code in (Exit.COMPLETE, Exit.FAILED) else code

    def as_json(self) -> dict[str, Any]:
        """Give it under the names of --json."""
        page = self.page
        return {
            "url": self.source.url,
            "spider": self.source.spider,
            "final_url": self.final_url,
            "status": self.status,
            "bytes": self.bytes,
            "rendered": self.rendered,
            "verdict": self.verdict,
            "why": self.why,
            "title": page and page.title,
            "language": page and page.language,
            "posts": [_post_json(one) for one in self.posts()],
            "media": [{"kind": one.kind.value, "url": one.url} for one in self.media()],
            "links": [{"kind": one.kind.value, "url": one.url} for one in self.followed()],
            "unread": self.unread(),
        }


def _post_json(one: Post) -> dict[str, Any]:
    at = one.published_at and one.published_at.astimezone(UTC).isoformat()
    named = {"kind": one.kind.value, "url": one.url, "post_id": one.post_id, "title": one.title, "text": one.text}
    return {**named, "language": one.language, "published_at": at, "published_raw": one.published_raw}


def trial_source(service: Service, name: str, given: Mapping[str, str]) -> Source:
    """Make the source of a trial: of an address without asking the catalogue, else the watched one of this name.

    Raises UserError.
    """
    if any(sign in name for sign in ":/@."):
        try:
            url, spider = watched_address(name, given.get("spider") or None)
            row = SourceRow(slug=slug_of(url), url=url, spider=spider, created_at=datetime.now(UTC))
        except UnusableUrl as error:
            raise UserError(str(error), "write the whole address, as https://t.me/s/name") from error
    else:
        with Workspace(service) as opened:
            row = find(opened.catalog, name, removed=True).source
    at = datetime.now(UTC)
    try:
        values = read_options({name: text for name, text in given.items() if name != "spider"})
        watched = apply_options(Watched(row, WatchRow(source_id=row.id, added_at=at, changed_at=at)), values)
    except BadOption as error:
        raise UserError(str(error), "osint source test --help tells what each option takes") from error
    source = watched_source(watched, robots=service.robots, proxy=service.proxy)
    if (way := way_of(service, source.proxy)).trouble:
        raise UserError(f"there is no exit called {way.trouble.label}", way.trouble.advice)
    return source
