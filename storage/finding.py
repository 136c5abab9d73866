"""The catalogue, for reading: find posts, articles, pages and media, show one of them, name the records that prove it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import literal, or_, select

from storage import events
from storage.catalog import Catalog
from storage.exchange import RecordRef, RecordType
from storage.found import Found, RunSummary
from storage.loading import RUN, VERSION, load, load_records, load_runs, records_by_capture, what_is
from storage.replays import last_replay
from storage.rows import BrokenChain, EventRow, SourceRow
from storage.schema import events as events_table
from storage.schema import post_versions, records, runs, sources
from storage.search import Wanted, any_query, search, words_query


def find(
    catalog: Catalog,
    words: str | None = None,
    *,
    url: str | None = None,
    source: str | None = None,
    kind: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    any_of: Sequence[str] | None = None,
) -> list[Found]:
    """Find what fits all that is given, newest first.

    `words`: each must begin a word of the newest version's title or text, whatever its case. `url` is whole, or ends in `*`.
    `source` is a slug. `kind` is post, article, page or media; without it media of posts are left to their posts.
    `since` (inclusive) and `until` (exclusive) hold for the time of publication, else for the time first seen.
    A capture that no post was read from is a `page`; it has no words. `records` are those of `capture`.
    `any_of`: at least one of these must stand there too: a word, a beginning (`затрым*`), or several words in a row.
    """
    with catalog.begin() as connection:
        query = words_query(connection, words) if words is not None else None
        if words is not None and query is None:
            return []
        if any_of is not None:
            if (one := any_query(connection, any_of)) is None:
                return []
            query = f"({query}) & ({one})" if query else one
        wanted = Wanted(words=query, url=url, source=source, kind=kind, since=since, until=until)
        found = load(connection, search(connection, wanted, limit))
        proofs = records_by_capture(connection, [one.capture for one in found if one.capture])
    return [replace(one, records=tuple(proofs.get(one.capture, ()))) for one in found]


def show(catalog: Catalog, any_id: UUID) -> Found | RunSummary | None:
    """Find a post, a post's version, a capture, a media or a run by its id, with the records of all its captures."""
    with catalog.begin() as connection:
        what = what_is(connection, any_id)
        if what is None:
            return None
        if what[0] == RUN:
            return load_runs(connection, runs.c.id == any_id, 1)[0]
        found = next(iter(load(connection, [what])), None)
    checked = last_replay(catalog, [found.capture]) if found and found.capture else None
    told = checked.to_json() if checked else None
    return found and replace(found, records=tuple(records_of(catalog, any_id)), replay=told)


def records_of(catalog: Catalog, any_id: UUID) -> list[RecordRef]:
    """Name the records that prove a capture, post, version, media or run, in the order of their making.

    The original of each revisit is among them, since the revisit alone holds no bytes. A media's are those of its file and
    of the page that names it.
    """
    with catalog.begin() as connection:
        what = what_is(connection, any_id)
        if what is None:
            return []
        if what[0] == RUN:
            refs = load_records(connection, records.c.run_id == any_id)
        else:
            wanted = [capture for found in load(connection, [what]) for capture in found.captures]
            refs = load_records(connection, records.c.capture_id.in_(wanted))
        known = {ref.record_id for ref in refs}
        missing = {ref.refers_to for ref in refs if ref.type is RecordType.REVISIT and ref.refers_to} - known
        originals = load_records(connection, or_(records.c.id.in_(missing), records.c.concurrent_to.in_(missing)))
    return sorted([*refs, *originals], key=lambda ref: (ref.date, ref.warc, ref.offset_bytes))


def list_runs(catalog: Catalog, limit: int = 100, *, source: str | None = None) -> list[RunSummary]:
    """List runs, newest first."""
    condition = sources.c.slug == source if source else literal(True)
    with catalog.begin() as connection:
        return load_runs(connection, condition, limit)


def one_run(catalog: Catalog, run_id: UUID) -> RunSummary | None:
    """Find a run."""
    with catalog.begin() as connection:
        return next(iter(load_runs(connection, runs.c.id == run_id, 1)), None)


def list_sources(catalog: Catalog) -> list[SourceRow]:
    """List all sources by slug."""
    with catalog.begin() as connection:
        return [SourceRow(**row._mapping) for row in connection.execute(select(sources).order_by(sources.c.slug))]


def versions_of(catalog: Catalog, post_id: UUID) -> list[Found]:
    """Show every version of a post, oldest first."""
    with catalog.begin() as connection:
        versions = connection.scalars(
            select(post_versions.c.id).where(post_versions.c.post_id == post_id).order_by(post_versions.c.version)
        ).all()
        return load(connection, [(VERSION, one) for one in versions])


def list_events(catalog: Catalog, *, subject: str | None = None, after: int = 0, limit: int = 1000) -> list[EventRow]:
    """List events in their order, those of one subject or all."""
    wanted = select(events_table).where(events_table.c.id > after).order_by(events_table.c.id).limit(limit)
    if subject is not None:
        wanted = wanted.where(events_table.c.subject == subject)
    with catalog.begin() as connection:
        return [EventRow(**row._mapping) for row in connection.execute(wanted)]


def check_events(catalog: Catalog) -> BrokenChain | None:
    """Compute the chain of events again; None if it holds."""
    with catalog.begin() as connection:
        return events.check(connection)
