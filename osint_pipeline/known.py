"""What the archive has of a source, as a visit sees it: frozen when it begins, so that each visit decides for itself once."""

import secrets
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from uuid import UUID

import numpy as np

from osint_pipeline.history import History
from osint_pipeline.reconcile import MissingCapture, missing
from settings.service import Service
from spiders.known import Missing, Slice
from spiders.page import Media, Page, Post
from spiders.span import Span, inside, looked_at
from storage.catalog import Catalog
from storage.earlier import (
    PostFile,
    capture_rows,
    feeds_captured,
    files_captured,
    media_of_captures,
    pages_captured,
    post_files,
    posts_seen,
    tries_of_files,
)
from storage.rows import CaptureRow

UPDATED_SECONDS = 3600  # a page that is always said to be new is asked no more often than this
FEED_DAYS = 90
MISSING_AT_ONCE = 200
PAGES_HELD = 64


class PageTimes:
    """When addresses were captured: 16 bytes for each, found by a digest whose key nobody else knows."""

    def __init__(self, found: Iterable[tuple[str, float]]) -> None:
        self._key = secrets.token_bytes(16)  # so that no address can be made to look like one that is known
        made = ((self._digest(url), at) for url, at in found)
        pairs = np.fromiter(made, dtype=[("key", "<u8"), ("at", "<f8")])
        pairs.sort(order=("key", "at"))
        self._keys, self._times = pairs["key"], pairs["at"]

    def __len__(self) -> int:
        return len(self._keys)

    def last(self, url: str) -> float | None:
        """Tell when an address was last captured, in seconds since 1970."""
        digest = np.uint64(self._digest(url))
        at = int(self._keys.searchsorted(digest, side="right")) - 1
        return float(self._times[at]) if at >= 0 and self._keys[at] == digest else None

    def _digest(self, url: str) -> int:
        return int.from_bytes(blake2b(url.encode("utf-8", "replace"), digest_size=8, key=self._key).digest(), "little")


class ArchiveKnown:
    """Answers a spider's questions out of the catalogue (spiders/known.py).

    `new`: whether what was captured in time need not be asked; otherwise only what the runs in `continues` captured.
    """

    def __init__(
        self,
        catalog: Catalog,
        service: Service,
        source_id: UUID,
        *,
        started_at: datetime,
        new: bool,
        continues: tuple[UUID, ...] = (),
        backfill_pages: int = 0,
    ) -> None:
        self.catalog, self.service, self.source_id = catalog, service, source_id
        self.started_at, self.new, self.continues = started_at, new, continues
        self.since = started_at - timedelta(hours=service.again_hours)
        self.overlap_pages = service.overlap_pages if new and not continues else 0
        self.history = History(catalog, service, source_id, continues=continues, new=new, backfill_pages=backfill_pages)
        self.retried: dict[str, MissingCapture] = {}  # by address: what is asked for again
        self._files: dict[str, tuple[dict[str, CaptureRow], frozenset[str]]] = {}

    @cached_property
    def _pages(self) -> PageTimes:
        seen = pages_captured(
            self.catalog,
            self.source_id,
            since=self.since if self.new else None,
            runs_of=self.continues,
            machine=self.service.machine,
        )
        times = ((url, one.captured_at.timestamp()) for one in seen for url in {one.url, one.final_url} if url)
        return PageTimes(chain(times, ((one.url, one.last_at.timestamp()) for one in self._given_up())))

    @cached_property
    def _missing(self) -> list[MissingCapture]:
        return missing(self.catalog, self.source_id) if self.new else []

    def _given_up(self) -> list[MissingCapture]:
        """What was asked for in vain often enough is left alone for as long as what was captured."""
        most = self.service.missing_tries
        return [one for one in self._missing if one.tries >= most and one.last_at >= self.since]

    def page(self, url: str, updated_at: datetime | None) -> bool:
        """Known is what was captured in time, unless its site says that it changed since."""
        at = self._pages.last(url)
        if at is None:
            return False
        old_enough = self.started_at.timestamp() - at >= UPDATED_SECONDS
        return not (updated_at is not None and updated_at.timestamp() > at and old_enough)

    def files(self, page: Page) -> Set[str]:
        """Files that are captured, and those that were asked for in vain often enough."""
        captured, given_up = self._files_of(page)
        return captured.keys() | given_up

    def captured_files(self, page: Page) -> Mapping[str, CaptureRow]:
        """Give the captures of a page's files that are in the archive, by the addresses that they have on this page."""
        return self._files_of(page)[0]

    def _files_of(self, page: Page) -> tuple[dict[str, CaptureRow], frozenset[str]]:
        """Look a page's files up once: the spider asks, and then the run."""
        if page.url not in self._files:
            if len(self._files) >= PAGES_HELD:
                del self._files[next(iter(self._files))]
            self._files[page.url] = self._look_up(page)
        return self._files[page.url]

    def _look_up(self, page: Page) -> tuple[dict[str, CaptureRow], frozenset[str]]:
        offered = [(post, media) for post in page.posts for media in post.media if media.url]
        urls = [str(media.url) for _, media in offered] + [one.url for one in page.media if one.url]
        since = datetime.min.replace(tzinfo=UTC) if page.channel else self.since
        found = files_captured(
            self.catalog,
            self.source_id,
            urls,
            since=since if self.new else None,
            runs_of=self.continues,
            machine=self.service.machine,
        )
        if not page.channel:
            return found, frozenset(one.url for one in self._given_up())
        found |= self._of_posts(page, offered)
        paths = {url.partition("?")[0]: url for url in urls if url not in found}
        tries = tries_of_files(self.catalog, self.source_id, list(paths))
        given_up = frozenset(url for path, url in paths.items() if tries.get(path, 0) >= self.service.missing_tries)
        return found, given_up

    def _of_posts(self, page: Page, offered: Sequence[tuple[Post, Media]]) -> dict[str, CaptureRow]:
        """Find files whose address changed and whose post did not: by the post, the item and the kind.

        Of a post that was edited the path must be the same too: its picture may be another one.
        """
        earlier = post_files(self.catalog, page.posts[0].platform, _keys(page), [post.post_id for post, _ in offered])
        by_item: dict[tuple[str, str, str | None], list[PostFile]] = {}
        for one in earlier:
            if one.captured:
                by_item.setdefault((one.post_id, one.kind, one.item_id), []).append(one)
        chosen: dict[str, UUID] = {}
        for post, media in offered:
            for one in by_item.get((post.post_id, media.kind.value, media.post_id), ()):
                if one.file_capture_id and (_path(one.url) == _path(media.url) or not post.edited):
                    chosen[str(media.url)] = one.file_capture_id
        rows = capture_rows(self.catalog, list(set(chosen.values())))
        return {url: rows[capture] for url, capture in chosen.items() if capture in rows}

    def ground(self, page: Page) -> bool:
        """Known ground: an earlier visit looked at these ids, and every post of the page was seen before, albums whole."""
        span = looked_at(page)
        if span is None or not inside(span, self.history.covered(page.channel)):
            return False
        if not page.posts:
            return True
        ids = [post.post_id for post in page.posts]
        seen = posts_seen(self.catalog, page.posts[0].platform, _keys(page), ids, before=self.started_at)
        return all(
            post.post_id in seen and set(post.post_ids) <= {*seen[post.post_id], post.post_id} for post in page.posts
        )

    def onward(self, page: Page) -> bool:
        """A visit that takes over another goes on behind what that one had reached."""
        return bool(self.continues)

    def feeds(self) -> Sequence[str]:
        """The feeds and sitemaps of the last months."""
        if not self.new:
            return ()
        return feeds_captured(self.catalog, self.source_id, since=self.started_at - timedelta(days=FEED_DAYS))

    def missing(self) -> Sequence[Missing]:
        """What earlier visits wanted, asked for less often than OSINT_MISSING_TRIES."""
        again = [one for one in self._missing if one.tries < self.service.missing_tries][:MISSING_AT_ONCE]
        self.retried = {one.url: one for one in again}
        return [Missing(url=one.url, kind=one.kind) for one in again]

    def waiting_media(self, url: str) -> list[UUID]:
        """Name the media rows that wait for a file which is asked for again."""
        return media_of_captures(self.catalog, [self.retried[url].capture]) if url in self.retried else []

    def slices(self, channel: str, looked: Sequence[Span]) -> Sequence[Slice]:
        """The pieces of a channel's history that are still open."""
        return self.history.slices(channel, looked)


def _keys(page: Page) -> list[str]:
    return [key for key in (page.channel_id, (page.channel or "").lower()) if key]


def _path(url: str | None) -> str:
    return (url or "").partition("?")[0]
