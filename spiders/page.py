"""What a parser reads from a page. Values only; the same for every site."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class LayoutChanged(Exception):
    """The page is not built as its reader expects: somebody must look before its silence is believed."""

    def __init__(self, site: str, url: str, missing: str) -> None:
        super().__init__(f"{site}: {url} has no {missing}; the site may have changed its layout")
        self.site, self.url, self.missing = site, url, missing


class Verdict(StrEnum):
    """What the page turned out to be, whatever its HTTP status."""

    CONTENT = "content"  # it holds what was asked for
    PARTIAL = "partial"  # it holds a part, and says itself that there is more (a teaser before a subscription)
    EMPTY = "empty"  # it is what was asked for and holds nothing (an empty search, the end of a pager)
    SHELL = "shell"  # it shows its content only with scripts
    STUB = "stub"  # something else stands in its place: maintenance, a parked domain, a server's first page
    LOGIN_WALL = "login_wall"
    CHALLENGE = "challenge"  # a bot check
    CONSENT_WALL = "consent_wall"
    BLOCKED = "blocked"  # by region, law or the platform
    GONE = "gone"  # deleted or never there
    NO_PREVIEW = "no_preview"  # exists, but the platform does not show it without an account
    UNDECIDED = "undecided"  # a refusal whose reason this page alone does not tell

    @property
    def readable(self) -> bool:
        """Whether there is something to read: posts are kept of such pages alone."""
        return self in (Verdict.CONTENT, Verdict.PARTIAL)


class PostKind(StrEnum):
    """What a Post is called in the catalogue and in `osint find --kind`."""

    POST = "post"  # a message of a channel or wall
    ARTICLE = "article"  # of an outlet
    PAGE = "page"  # any other page


class MediaKind(StrEnum):
    """What a Media is."""

    PHOTO = "photo"
    VIDEO = "video"
    AUDIO = "audio"
    VOICE = "voice"
    STICKER = "sticker"
    DOCUMENT = "document"
    POSTER = "poster"  # the still picture that stands for a video
    AVATAR = "avatar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A file that belongs to a post. `url` is None where the platform does not offer the file; `why` then says so.

    `post_id` is the item's own id in an album, else its post's.
    """

    kind: MediaKind
    url: str | None
    post_id: str | None = None
    duration_seconds: float | None = None
    title: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whom a post forwards or answers; a hidden sender has a name and no url."""

    name: str | None
    url: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One message, article or page as a person reads it.

    `channel_id` is the platform's own stable number where it shows one. `post_ids` are all ids of an album, `post_id` its first.
    `published_at` is aware UTC, None where unreadable; `published_raw` is the text it was read from.
    `views` is an estimate of `views_raw` ("2.49K"). `service` marks an event ("pinned a message") that is no statement.
    """

    kind: PostKind
    platform: str
    url: str
    channel: str | None = None
    channel_id: str | None = None
    post_id: str
    post_ids: tuple[str, ...] = ()
    author: str | None = None
    title: str | None = None
    text: str = ""
    language: str | None = None
    published_at: datetime | None = None
    published_raw: str | None = None
    edited: bool = False
    views: int | None = None
    views_raw: str | None = None
    forwarded_from: Origin | None = None
    reply_to: Origin | None = None
    links: tuple[str, ...] = ()
    media: tuple[Media, ...] = ()
    service: bool = False
    extra: tuple[tuple[str, str], ...] = ()


class LinkKind(StrEnum):
    """What a link of a page leads to, for the crawl."""

    OLDER = "older"  # the next page back in time
    NEWER = "newer"
    ARTICLE = "article"
    LISTING = "listing"  # a page of links
    FEED = "feed"
    SITEMAP = "sitemap"
    LANDING = "landing"  # a page that tells why this one refuses


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where to go next. `published_at` where the page tells it, so that --since can stop there.

    `updated_at` is when what lies there last changed, where a feed or sitemap tells it.
    """

    kind: LinkKind
    url: str
    title: str | None = None
    published_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Ids that the page skips. Never a proof of deletion."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that was read from one page. A refusal is a Page whose verdict is not readable, without posts.

    `rule` names the rule of data/verdicts.toml that decided, if one did.
    """

    url: str
    verdict: Verdict
    reason: str | None = None
    rule: str | None = None
    title: str | None = None
    text: str | None = None
    language: str | None = None
    channel: str | None = None
    channel_id: str | None = None
    posts: tuple[Post, ...] = ()
    media: tuple[Media, ...] = ()
    links: tuple[Link, ...] = ()
    gaps: tuple[Gap, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
