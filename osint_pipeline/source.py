"""What we watch: a URL, the site module that reads it, and how it is visited."""

import re
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from spiders import telegram, video
from storage.watched import Watched

SPIDERS = ("telegram", "news", "page", "video")
FEED_SHAPE = re.compile(r"(/feed/?$|/rss|\.rss$|/atom|sitemap[^/]*\.(xml|txt)|\.xml(\.gz)?$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`slug` is ASCII and stands in the archive's keys; `robots` is "obey" or "ignore:<reason>".

    Limits of None are those of the settings. `backfill_pages`: how many pages of older history a visit may add.
    `identity` names a login for its pages in the browser.
    `new`: ask only for what the archive does not have. `attempt` counts the processes that began this visit; `continues`
    are the runs of those that did not end it: what they captured is not asked for again.
    """

    url: str
    slug: str
    spider: str
    render: str = "auto"
    robots: str = "obey"
    proxy: str | None = None
    pages: tuple[str, ...] = ()
    limit_pages: int | None = None
    limit_bytes: int | None = None
    limit_seconds: int | None = None
    backfill_pages: int | None = None
    identity: str | None = None
    attempt: int = 1
    new: bool = False
    continues: tuple[UUID, ...] = ()


class UnusableUrl(ValueError):
    """What was given is no URL that can be visited."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url!r}: {why}")
        self.url, self.why = url, why


def guess_spider(url: str) -> str:
    """Pick the site module by the URL alone: Telegram, a video platform, an outlet's front page or feed, else one page."""
    if telegram.matches(url):
        return "telegram"
    if video.matches(url):
        return "video"
    path = urlsplit(url).path
    return "news" if path in ("", "/") or FEED_SHAPE.search(path) else "page"


def slug_of(url: str) -> str:
    """Make a short ASCII name for a URL that differs for different URLs."""
    parts = urlsplit(url)
    readable = re.sub(r"[^a-z0-9]+", "-", f"{parts.hostname or ''}{parts.path}".lower()).strip("-")[:40].strip("-")
    return f"{readable or 'source'}-{sha256(url.encode()).hexdigest()[:8]}"


def make_sources(
    urls: list[str], *, spider: str | None, render: str, robots: str, proxy: str | None, new: bool = False
) -> list[Source]:
    """Group URLs into sources: one for each channel, outlet or video; one for each host's list of single pages.

    Raises UnusableUrl for the first URL that cannot be visited; nothing has been fetched then.
    """
    sources: dict[tuple[str, str], Source] = {}
    for url in urls:
        if "://" in url:
            _check(url)
        name = spider or guess_spider(url)
        address = telegram.wanted_url(url) if name == "telegram" else url
        parts = _check(address)
        key = f"{parts.scheme}://{parts.netloc}/" if name == "page" else address
        known = sources.get((name, key))
        pages = (*(known.pages if known else ()), address)
        sources[name, key] = Source(
            url=key, slug=slug_of(key), spider=name, render=render, robots=robots, proxy=proxy, pages=pages, new=new
        )
    return list(sources.values())


def host_of(url: str) -> str:
    """Name the host that a source is on: what is asked of it goes through one process at a time, on all machines."""
    return (urlsplit(url).hostname or "").lower()


def watched_address(url: str, spider: str | None) -> tuple[str, str]:
    """Turn what a person typed into the address that is watched and the spider that reads it. Raises UnusableUrl."""
    text = url.strip()
    if "://" in text and not text.startswith("tg://"):
        _check(text)
    name = spider or guess_spider(text)
    parts = _check(telegram.wanted_url(text) if name == "telegram" else text)
    if telegram.matches(text) and telegram.is_private(parts.geturl()):
        raise UnusableUrl(text, "an invite or a private chat: only what is public is watched")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    usual = {"http": 80, "https": 443}[parts.scheme]
    netloc = host if parts.port in (None, usual) else f"{host}:{parts.port}"
    return parts._replace(netloc=netloc, path=parts.path or "/", fragment="").geturl(), name


def same_source(url: str, spider: str) -> tuple[str, str]:
    """Give what is equal for two spellings of one source: Telegram tells no capitals apart."""
    return (url.lower() if spider == "telegram" else url), spider


def watched_source(watched: Watched, *, robots: str, proxy: str | None) -> Source:
    """Make the source of a visit out of what is written of it; `robots` and `proxy` hold where it names none."""
    row, watch = watched.source, watched.watch
    reason = f":{row.robots_reason}" if row.robots_reason else ""
    return Source(
        url=row.url,
        slug=row.slug,
        spider=row.spider,
        render=row.render or "auto",
        robots=f"{row.robots}{reason}" if row.robots else robots,
        proxy=row.proxy or proxy,
        pages=(row.url,),
        limit_pages=watch.limit_pages,
        limit_bytes=watch.limit_bytes,
        limit_seconds=watch.limit_seconds,
        backfill_pages=watch.backfill_pages,
        identity=watch.identity,
        new=True,
    )


def _check(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UnusableUrl(url, str(error)) from error
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        raise UnusableUrl(url, "a blank or control character in the address; write a blank as %20")
    if parts.username is not None or parts.password is not None:
        raise UnusableUrl(f"{parts.scheme}://…@{parts.hostname}", "a name or password in the address would be archived")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnusableUrl(url, "not an http or https address")
    return parts
