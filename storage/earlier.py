"""What earlier runs of a source brought, for a run that asks only for what is not there yet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, any_, bindparam, false, func, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, distinct_on

from storage.catalog import Catalog
from storage.copying import storable
from storage.rows import CaptureKind, CaptureRow, CaptureState, MediaState, WarcState
from storage.schema import (
    captures,
    gaps,
    media,
    post_versions,
    posts,
    records,
    runs,
    version_captures,
    warc_files,
)

PAGES = (CaptureKind.PAGE, CaptureKind.RENDERED)
FILES = (CaptureKind.FILE, CaptureKind.MEDIA)
_INDEXED = 400  # letters of an address that the index holds
_WELL = ("content", "partial", "gone")
_CAPTURED = captures.c.state == CaptureState.CAPTURED
_FEED_TYPES = ("%xml", "%feed+json")
_FEEDS = 50
_ALBUM = 20  # ids; Telegram's albums have ten items


@dataclass(frozen=True, slots=True)
class SeenPage:
    """A page that was captured well, or said not to have changed."""

    url: str
    final_url: str | None
    captured_at: datetime


@dataclass(frozen=True, slots=True)
class PostFile:
    """A file of a version of a post, and the capture that it was asked for with."""

    post_id: str
    kind: str
    item_id: str | None
    url: str | None
    captured: bool
    file_capture_id: UUID | None


@dataclass(frozen=True, slots=True)
class SeenGap:
    """Ids of a channel that a run looked for and did not see."""

    run_id: UUID
    channel: str | None
    first: int
    last: int


def pages_captured(
    catalog: Catalog, source_id: UUID, *, since: datetime | None, runs_of: Sequence[UUID] = (), machine: str = ""
) -> Iterator[SeenPage]:
    """Read the pages captured well since a time (None: none), and those of some runs whenever that was.

    What robots.txt refused is among them: it need not be asked about any sooner. Of those runs, pages are left out whose
    files nobody came to fetch, and those whose records only another machine than `machine` has yet.
    """
    whose: list[ColumnElement[bool]] = []
    if runs_of:
        whose.append(captures.c.run_id.in_(runs_of) & ~_with_open_files() & ~_elsewhere(machine))
    if since is not None:
        whose.append((captures.c.source_id == source_id) & (captures.c.captured_at >= since))
    if not whose:
        return
    well = _CAPTURED & (captures.c.verdict.in_(_WELL) | (captures.c.status == 304))
    forbidden = (captures.c.state == CaptureState.REFUSED) & (captures.c.reason == "robots.txt")
    wanted = select(captures.c.url, captures.c.final_url, captures.c.captured_at).where(
        or_(*whose), captures.c.kind.in_(PAGES), well | forbidden
    )
    with catalog.begin() as connection, connection.execution_options(yield_per=2000).execute(wanted) as rows:
        for row in rows:
            yield SeenPage(row.url, row.final_url, row.captured_at)


def feeds_captured(catalog: Catalog, source_id: UUID, *, since: datetime) -> list[str]:
    """List the addresses that gave a feed or sitemap of a source, the newest first."""
    like = or_(*(captures.c.media_type.like(kind) for kind in _FEED_TYPES))
    wanted = (
        select(captures.c.url)
        .where(captures.c.source_id == source_id, captures.c.captured_at >= since)
        .where(captures.c.kind == CaptureKind.PAGE, _CAPTURED, captures.c.verdict == "content", like)
        .group_by(captures.c.url)
        .order_by(func.max(captures.c.captured_at).desc(), captures.c.url)
        .limit(_FEEDS)
    )
    with catalog.begin() as connection:
        return list(connection.scalars(wanted))


def files_captured(
    catalog: Catalog,
    source_id: UUID,
    urls: Sequence[str],
    *,
    since: datetime | None,
    runs_of: Sequence[UUID] = (),
    machine: str = "",
) -> dict[str, CaptureRow]:
    """Find the newest good capture of each file, by its address: since a time (None: none), or by some runs."""
    late = captures.c.captured_at >= since if since is not None else false()
    wanted = select(captures).where(
        func.left(captures.c.url, _INDEXED) == any_(_texts([url[:_INDEXED] for url in urls])),
        captures.c.url == any_(_texts(urls)),
        captures.c.source_id == source_id,
        late | (captures.c.run_id.in_(runs_of) & ~_elsewhere(machine)),
        captures.c.kind.in_(FILES),
        _whole_file(),
    )
    found = _rows(catalog, wanted.order_by(captures.c.captured_at)) if urls else []
    return {row.url: row for row in found}


def capture_rows(catalog: Catalog, ids: Sequence[UUID]) -> dict[UUID, CaptureRow]:
    """Read captures of files that are good, by their ids."""
    if not ids:
        return {}
    return {row.id: row for row in _rows(catalog, select(captures).where(captures.c.id.in_(ids), _whole_file()))}


def post_files(catalog: Catalog, platform: str, channel_keys: Sequence[str], post_ids: Sequence[str]) -> list[PostFile]:
    """List the files of posts, of all their versions, that were asked for."""
    wanted = (
        select(posts.c.post_id, media.c.kind, media.c.item_id, media.c.url, media.c.state, media.c.file_capture_id)
        .join_from(posts, post_versions, post_versions.c.post_id == posts.c.id)
        .join(media, media.c.post_version_id == post_versions.c.id)
        .where(*_of_channel(platform, channel_keys), posts.c.post_id == any_(_texts(post_ids)))
        .where(media.c.file_capture_id.is_not(None))
    )
    with catalog.begin() as connection:
        return [
            PostFile(row.post_id, row.kind, row.item_id, row.url, row.state == MediaState.CAPTURED, row.file_capture_id)
            for row in connection.execute(wanted)
        ]


def tries_of_files(catalog: Catalog, source_id: UUID, paths: Sequence[str]) -> dict[str, int]:
    """Count the runs that asked for files in vain, by their addresses without the query."""
    path = func.split_part(captures.c.url, "?", 1)
    wanted = (
        select(path.label("path"), func.count(captures.c.run_id.distinct()).label("tries"))
        .where(captures.c.source_id == source_id, captures.c.kind.in_(FILES), path == any_(_texts(paths)))
        .where(captures.c.state.in_((CaptureState.FAILED, CaptureState.TRUNCATED, CaptureState.REFUSED)))
        .where(captures.c.reason.is_(None) | ~captures.c.reason.startswith("not reached"))
        .group_by(path)
    )
    with catalog.begin() as connection:
        return {row.path: row.tries for row in connection.execute(wanted)} if paths else {}


def posts_seen(
    catalog: Catalog, platform: str, channel_keys: Sequence[str], post_ids: Sequence[str], *, before: datetime
) -> dict[str, tuple[str, ...]]:
    """Find which posts were seen before a time, with all the ids of their newest version (an album has several)."""
    newest = (
        select(posts.c.post_id, post_versions.c.post_ids)
        .ext(distinct_on(posts.c.id))
        .join_from(posts, post_versions, post_versions.c.post_id == posts.c.id)
        .where(*_of_channel(platform, channel_keys), posts.c.post_id == any_(_texts(post_ids)))
        .where(posts.c.first_seen < before)
        .order_by(posts.c.id, post_versions.c.version.desc())
    )
    with catalog.begin() as connection:
        return {row.post_id: tuple(row.post_ids) for row in connection.execute(newest)}


def ids_seen(catalog: Catalog, source_id: UUID, channel: str, first: int, last: int) -> set[int]:
    """List the ids of a channel's posts, those within albums too, in a range."""
    in_range = text("(CASE WHEN posts.post_id ~ '^[0-9]{1,15}$' THEN posts.post_id::bigint END) BETWEEN :low AND :high")
    wanted = (
        select(posts.c.post_id, post_versions.c.post_ids)
        .join_from(posts, post_versions, post_versions.c.post_id == posts.c.id)
        .where(posts.c.source_id == source_id, func.lower(posts.c.channel) == channel.lower(), in_range)
    )
    span = {"low": max(0, first - _ALBUM), "high": last}  # an album that begins before may reach into it
    with catalog.begin() as connection:
        found = connection.execute(wanted, span)
        return {int(one) for row in found for one in (row.post_id, *row.post_ids) if str(one).isdecimal()}


def details_of_runs(catalog: Catalog, source_id: UUID, key: str, limit: int = 1) -> list[Mapping[str, Any]]:
    """Read the details of the newest ended runs of a source that have a key, newest first."""
    wanted = (
        select(runs.c.detail)
        .where(runs.c.source_id == source_id, runs.c.ended_at.is_not(None), runs.c.detail.has_key(key))
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
        .limit(limit)
    )
    with catalog.begin() as connection:
        return list(connection.scalars(wanted))


def pages_read(catalog: Catalog, run_ids: Sequence[UUID]) -> list[tuple[str, str, list[int]]]:
    """List the pages that runs read posts from and fetched the files of: final address, channel, ids."""
    wanted = (
        select(captures.c.id, captures.c.final_url, captures.c.url, posts.c.channel, post_versions.c.post_ids)
        .add_columns(posts.c.post_id)
        .join_from(captures, version_captures, version_captures.c.capture_id == captures.c.id)
        .join(post_versions, post_versions.c.id == version_captures.c.version_id)
        .join(posts, posts.c.id == post_versions.c.post_id)
        .where(captures.c.run_id.in_(run_ids), captures.c.kind.in_(PAGES), _CAPTURED, ~_with_open_files())
    )
    found: dict[UUID, tuple[str, str, list[int]]] = {}
    with catalog.begin() as connection:
        for row in connection.execute(wanted):
            page = found.setdefault(row.id, (row.final_url or row.url, row.channel or "", []))
            page[2].extend(int(one) for one in (row.post_id, *row.post_ids) if str(one).isdecimal())
    return list(found.values())


def media_of_captures(catalog: Catalog, ids: Sequence[UUID]) -> list[UUID]:
    """Name the rows of files that were asked for in vain with captures."""
    wanted = select(media.c.id).where(media.c.file_capture_id.in_(ids), media.c.state == MediaState.FAILED)
    with catalog.begin() as connection:
        return list(connection.scalars(wanted.order_by(media.c.id)))


def gaps_seen(catalog: Catalog, source_id: UUID) -> list[SeenGap]:
    """List the gaps that runs of a source saw."""
    wanted = select(gaps.c.run_id, gaps.c.channel, gaps.c.first, gaps.c.last).where(gaps.c.source_id == source_id)
    with catalog.begin() as connection:
        return [SeenGap(*row) for row in connection.execute(wanted)]


def failed_post_files(catalog: Catalog, source_id: UUID, platform: str, limit: int) -> list[tuple[str, str, str]]:
    """List (channel, post id, address) of files of newest versions that were asked for in vain, newest posts first."""
    newest = (
        select(func.max(post_versions.c.version))
        .where(post_versions.c.post_id == posts.c.id)
        .correlate(posts)
        .scalar_subquery()
    )
    wanted = (
        select(posts.c.channel, posts.c.post_id, media.c.url)
        .join_from(media, post_versions, media.c.post_version_id == post_versions.c.id)
        .join(posts, posts.c.id == post_versions.c.post_id)
        .where(posts.c.source_id == source_id, posts.c.platform == platform, media.c.state == MediaState.FAILED)
        .where(post_versions.c.version == newest, posts.c.channel.is_not(None))
        .order_by(posts.c.first_seen.desc(), posts.c.id.desc())
        .limit(limit)
    )
    with catalog.begin() as connection:
        return [(row.channel, row.post_id, row.url) for row in connection.execute(wanted)]


def _of_channel(platform: str, channel_keys: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return posts.c.platform == platform, posts.c.channel_key == any_(_texts(channel_keys))


def _with_open_files() -> ColumnElement[bool]:
    """Whether a page, or a post that was read from it, names files that nobody came to fetch."""
    offered = select(media.c.id).where(media.c.state == MediaState.OFFERED)
    of_posts = offered.join(version_captures, version_captures.c.version_id == media.c.post_version_id)
    return or_(
        of_posts.where(version_captures.c.capture_id == captures.c.id).correlate(captures).exists(),
        offered.where(media.c.capture_id == captures.c.id).correlate(captures).exists(),
    )


def _whole_file() -> ColumnElement[bool]:
    return and_(_CAPTURED, captures.c.truncated.is_(None), captures.c.status.is_(None) | (captures.c.status < 400))


def _texts(values: Sequence[str]) -> Any:
    return bindparam(None, [storable(value) for value in values], ARRAY(TEXT), unique=True)


def _rows(catalog: Catalog, wanted: Select[Any]) -> list[CaptureRow]:
    names = [one.name for one in fields(CaptureRow)]
    with catalog.begin() as connection:
        found = [{name: row._mapping[name] for name in names} for row in connection.execute(wanted)]
    return [
        CaptureRow(**{**one, "state": CaptureState(one["state"]), "kind": CaptureKind(one["kind"])}) for one in found
    ]


def _elsewhere(machine: str) -> ColumnElement[bool]:
    """Whether a capture of a run that nobody has ended has a record in another machine's spool alone: it may never come back."""
    kept = select(warc_files.c.name).where(
        warc_files.c.name == records.c.warc, warc_files.c.state == WarcState.PRESERVED
    )
    of_another = runs.c.process.is_not(None) & (func.split_part(runs.c.process, ":", 1) != machine)
    lost = (
        select(records.c.id)
        .join(runs, runs.c.id == records.c.run_id)
        .where(records.c.capture_id == captures.c.id, of_another, ~kept.exists())
    )
    return lost.exists()
