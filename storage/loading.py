"""Reads whole posts, captures, media and runs out of the catalogue, by their ids."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from storage.exchange import RecordRef, RecordType, Truncated
from storage.found import Found, FoundMedia, RunSummary
from storage.rows import WarcState
from storage.schema import (
    captures,
    media,
    post_versions,
    posts,
    records,
    runs,
    sources,
    version_captures,
    warc_files,
    warc_runs,
)
from storage.search import CAPTURE, MEDIA, POST, RUN, VERSION

_BY_KIND = {POST: posts, VERSION: post_versions, CAPTURE: captures, MEDIA: media, RUN: runs}
_OF_VERSION = (
    "author",
    "title",
    "text",
    "language",
    "published_at",
    "published_raw",
    "edited",
    "views",
    "forwarded_from",
    "reply_to",
)


def what_is(connection: Connection, any_id: UUID) -> tuple[str, UUID] | None:
    """Tell what bears an id; None if nothing does."""
    for what, table in _BY_KIND.items():
        if connection.scalar(select(table.c.id).where(table.c.id == any_id)) is not None:
            return what, any_id
    return None


def load(connection: Connection, places: Sequence[tuple[str, UUID]]) -> list[Found]:
    """Read posts (their newest version), versions, captures and media, in the order given; without their records."""
    found: dict[UUID, Found] = {}
    for what, read in ((POST, _posts), (VERSION, _versions), (CAPTURE, _captures), (MEDIA, _media)):
        wanted = [key for kind, key in places if kind == what]
        if wanted:
            found.update(read(connection, wanted))
    return [found[key] for _, key in places if key in found]


def load_records(connection: Connection, condition: ColumnElement[bool]) -> list[RecordRef]:
    """Read the records that fit, in the order of their making."""
    wanted = select(records).where(condition).order_by(records.c.date, records.c.warc, records.c.offset_bytes)
    return [_ref(row) for row in connection.execute(wanted)]


def stream_records(connection: Connection, wanted: Select[Any]) -> Iterator[RecordRef]:
    """Read rows of records one after the other; a server-side cursor holds back what was not asked for yet."""
    with connection.execution_options(yield_per=1000).execute(wanted) as rows:
        for row in rows:
            yield _ref(row)


def records_by_capture(connection: Connection, wanted: Iterable[UUID]) -> dict[UUID | None, list[RecordRef]]:
    """Read the records of captures."""
    query = select(records).where(records.c.capture_id.in_(set(wanted)))
    found: dict[UUID | None, list[RecordRef]] = {}
    for row in connection.execute(query.order_by(records.c.date, records.c.warc, records.c.offset_bytes)):
        found.setdefault(row.capture_id, []).append(_ref(row))
    return found


def load_runs(connection: Connection, condition: ColumnElement[bool], limit: int) -> list[RunSummary]:
    """Read the runs that fit, newest first."""
    kept = warc_files.c.state == WarcState.PRESERVED
    written = warc_files.join(warc_runs, warc_runs.c.warc == warc_files.c.name)
    files = select(func.count()).select_from(written).where(warc_runs.c.run_id == runs.c.id)
    query = (
        select(
            runs,
            sources.c.slug,
            files.scalar_subquery().label("warc_files"),
            files.where(kept).scalar_subquery().label("preserved"),
        )
        .join(sources, runs.c.source_id == sources.c.id)
        .where(condition)
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
        .limit(limit)
    )
    summaries = []
    for row in connection.execute(query):
        values = row._asdict()
        del values["source_id"]
        summaries.append(RunSummary(run=values.pop("id"), source=values.pop("slug"), **values))
    return summaries


def _posts(connection: Connection, wanted: Sequence[UUID]) -> dict[UUID, Found]:
    newest = (
        select(post_versions.c.post_id, post_versions.c.id)
        .ext(distinct_on(post_versions.c.post_id))
        .where(post_versions.c.post_id.in_(wanted))
        .order_by(post_versions.c.post_id, post_versions.c.version.desc())
    )
    version_of = {row.post_id: row.id for row in connection.execute(newest)}
    versions = _versions(connection, list(version_of.values()))
    return {post: versions[version] for post, version in version_of.items()}


def _versions(connection: Connection, wanted: Sequence[UUID]) -> dict[UUID, Found]:
    columns = [
        posts.c.id,
        posts.c.kind,
        posts.c.url,
        posts.c.post_id,
        sources.c.slug,
        post_versions.c.id.label("version"),
    ]
    query = (
        select(*columns, *(post_versions.c[name] for name in _OF_VERSION))
        .join_from(post_versions, posts, post_versions.c.post_id == posts.c.id)
        .join(sources, posts.c.source_id == sources.c.id)
        .where(post_versions.c.id.in_(wanted))
    )
    rows = connection.execute(query).all()
    read_from = _read_from(connection, [row.id for row in rows])
    files = _files(connection, media.c.post_version_id.in_(wanted))
    return {row.version: _post(row, read_from.get(row.id, []), files.get(row.version, [])) for row in rows}


def _post(row: Row[Any], read_from: Sequence[Row[Any]], files: Sequence[FoundMedia]) -> Found:
    shown = next((one for one in reversed(read_from) if one.version_id == row.version), None)
    return Found(
        id=row.id,
        capture=shown.capture_id if shown else None,
        captures=tuple(dict.fromkeys(one.capture_id for one in read_from)),
        run=shown.run_id if shown else None,
        source=row.slug,
        kind=row.kind,
        url=row.url,
        post_id=row.post_id,
        media=tuple(files),
        captured_at=shown.captured_at if shown else None,
        verdict=shown.verdict if shown else None,
        **{name: row._mapping[name] for name in _OF_VERSION},
    )


def _read_from(connection: Connection, wanted: Sequence[UUID]) -> dict[UUID, list[Row[Any]]]:
    """Read which captures the posts' versions were read from, oldest first."""
    of_capture = (captures.c.run_id, captures.c.captured_at, captures.c.verdict)
    query = (
        select(post_versions.c.post_id, version_captures, *of_capture)
        .join_from(version_captures, post_versions, version_captures.c.version_id == post_versions.c.id)
        .outerjoin(captures, version_captures.c.capture_id == captures.c.id)
        .where(post_versions.c.post_id.in_(wanted))
        .order_by(captures.c.captured_at, version_captures.c.capture_id)
    )
    found: dict[UUID, list[Row[Any]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.post_id, []).append(row)
    return found


def _files(connection: Connection, condition: ColumnElement[bool]) -> dict[UUID, list[FoundMedia]]:
    found: dict[UUID, list[FoundMedia]] = {}
    for row in connection.execute(select(media).where(condition).order_by(media.c.place)):
        found.setdefault(row.post_version_id, []).append(_file(row))
    return found


def _file(row: Row[Any]) -> FoundMedia:
    names = ("id", "kind", "item_id", "url", "state", "why", "payload_sha256", "duration_seconds", "title")
    return FoundMedia(file_capture=row.file_capture_id, **{name: row._mapping[name] for name in names})


def _captures(connection: Connection, wanted: Sequence[UUID]) -> dict[UUID, Found]:
    query = select(captures, sources.c.slug).join(sources, captures.c.source_id == sources.c.id)
    return {
        row.id: Found(
            id=row.id,
            capture=row.id,
            captures=(row.id,),
            run=row.run_id,
            source=row.slug,
            kind="page",
            url=row.url,
            captured_at=row.captured_at,
            verdict=row.verdict,
        )
        for row in connection.execute(query.where(captures.c.id.in_(wanted)))
    }


def _media(connection: Connection, wanted: Sequence[UUID]) -> dict[UUID, Found]:
    shown = func.coalesce(media.c.file_capture_id, media.c.capture_id)
    query = (
        select(media, captures.c.run_id, captures.c.captured_at, captures.c.verdict, sources.c.slug, posts.c.post_id)
        .add_columns(captures.c.url.label("capture_url"), captures.c.id.label("shown"))
        .join_from(media, captures, captures.c.id == shown)
        .join(sources, captures.c.source_id == sources.c.id)
        .outerjoin(post_versions, media.c.post_version_id == post_versions.c.id)
        .outerjoin(posts, post_versions.c.post_id == posts.c.id)
        .where(media.c.id.in_(wanted))
    )
    found = {}
    for row in connection.execute(query):
        both = [one for one in (row.capture_id, row.file_capture_id) if one is not None]
        found[row.id] = Found(
            id=row.id,
            capture=row.shown,
            captures=tuple(dict.fromkeys(both)),
            run=row.run_id,
            source=row.slug,
            kind=MEDIA,
            url=row.url or row.capture_url,
            post_id=row.post_id,
            title=row.title,
            media=(_file(row),),
            captured_at=row.captured_at,
            verdict=row.verdict,
        )
    return found


def _ref(row: Row[Any]) -> RecordRef:
    values = row._asdict()
    del values["run_id"]
    values |= {"record_id": values.pop("id"), "type": RecordType(row.type), "capture": values.pop("capture_id")}
    return RecordRef(**{**values, "truncated": Truncated(row.truncated) if row.truncated else None})
