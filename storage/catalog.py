"""The catalogue, for writing: what was captured, where its bytes stand, what was read from it. Any PostgreSQL >= 15."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from itertools import chain, count
from typing import Any, Self
from uuid import UUID

import numpy as np
import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from storage import events, scratch
from storage.copying import copy_batch, storable_json
from storage.errors import DatabaseUnavailable
from storage.exchange import Original, RecordRef
from storage.ids import new_id
from storage.journal import Entry, EntryKind, RunEnd
from storage.migrating import migrate
from storage.rows import (
    Batch,
    Committed,
    Counters,
    EventRow,
    MediaResult,
    MediaState,
    Outcome,
    RunRow,
    SourceRow,
    StoredMedia,
    WarcRow,
    WarcState,
    WrittenBy,
)
from storage.schema import (
    captures,
    journal,
    media,
    metadata,
    rebuilding,
    records,
    runs,
    sources,
    warc_files,
    warc_runs,
    watches,
)
from storage.versions import write_posts

_ORIGINALS = """
SELECT DISTINCT ON (payload_sha256) id, url, date, payload_sha256 FROM records
WHERE payload_sha256 = ANY(%s) AND type = 'response' AND truncated IS NULL ORDER BY payload_sha256, date, id
"""
_NEXT_PLACE = """
SELECT setval('journal_place', greatest(nextval('journal_place'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
"""
_FINGERPRINTS = """
COPY (SELECT id, hash FROM fingerprints WHERE hash IS NOT NULL AND algorithm = %s AND (%s::text IS NULL OR version = %s)
AND id >= %s ORDER BY id) TO STDOUT (FORMAT binary)
"""
_CONNECTED = text(
    "SELECT application_name, min(backend_start) AS since FROM pg_stat_activity "
    "WHERE datname = current_database() AND starts_with(application_name, :prefix) GROUP BY application_name"
)
# A connection whose machine vanished is gone within 15 seconds. Told after connecting: poolers refuse it in the startup packet.
QUICKLY_MISSED = """
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 15000
"""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """All hashes of one algorithm, oldest first: `hashes` as numpy uint64, `ids` as 16 bytes each."""

    ids: bytes
    hashes: "np.ndarray[Any, np.dtype[np.uint64]]"

    def id(self, place: int) -> UUID:
        """Name the fingerprint at a place of `hashes`."""
        return UUID(bytes=self.ids[16 * place : 16 * place + 16])

    def replaced(self, since: UUID, later: "Fingerprints") -> "Fingerprints":
        """Put others in the place of those from an id on."""
        kept = int(np.frombuffer(self.ids, "S16").searchsorted(np.bytes_(since.bytes)))
        return Fingerprints(
            ids=self.ids[: 16 * kept] + later.ids, hashes=np.concatenate((self.hashes[:kept], later.hashes))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedRun:
    """A run that nobody has ended."""

    id: UUID
    source_id: UUID
    started_at: datetime
    attempt: int
    process: str | None


class Catalog:
    """Open with Catalog.open(url). May be used from several threads; every method is one transaction.

    Every method raises DatabaseUnavailable where the server cannot be reached; nothing of its work is kept then,
    unless the connection broke while it was being committed.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(
        cls, url: str, *, schema: str | None = None, connect_seconds: int = 10, name: str = "osint-pipeline"
    ) -> Self:
        """Connect, and bring the tables (of a schema, if one is named) to the newest migration, one process at a time.

        `name` stands in the server's list of connections. Raises DatabaseUnavailable, and SchemaTooNew if a newer program
        has been here.
        """
        more = {"options": f"-csearch_path={schema}"} if schema else {}
        engine = create_engine(
            _driver_url(url),
            pool_size=2,
            pool_pre_ping=True,
            connect_args={"connect_timeout": connect_seconds, "application_name": name, **more},
        )
        event.listen(engine, "connect", _to_be_missed)
        catalog = cls(engine)
        try:
            with catalog.begin() as connection:
                migrate(connection, catalog.where)
        except BaseException:
            engine.dispose()
            raise
        return catalog

    def connected(self, prefix: str) -> list[tuple[str, datetime | None]]:
        """List connections to this database whose names begin so, by name: since when (None: another role's, not told)."""
        with self.begin() as connection:
            found = connection.execute(_CONNECTED, {"prefix": prefix})
            return [(row.application_name, row.since) for row in found]

    @property
    def where(self) -> str:
        """The database's address without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction: committed at the end, rolled back by an error."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(self.where, _why(error)) from error
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.OperationalError) or error.connection_invalidated:
                raise DatabaseUnavailable(self.where, _why(error.orig)) from error
            raise

    def commit(self, batch: Batch) -> Committed:
        """Write a batch, as a whole or not at all. To be called once for a batch, after its records are synced."""
        with self.begin() as connection:
            return _commit(connection, batch)

    def next_place(self) -> int:
        """Give the place of the next journal entry: greater than all given before, to whatever process.

        It is the server's clock in microseconds where that is ahead of the last place, so that a catalogue begun anew goes on
        behind the places of the one that was lost.
        """
        with self.begin() as connection:
            return int(connection.scalar(text(_NEXT_PLACE)) or 0)

    def tell(self, entry: Entry, record_id: UUID, *, place: int | None = None) -> Committed | None:
        """Write what a journal entry tells, once: None where the catalogue has been told this record before.

        To be called after the entry and the records that it refers to are synced. `place` is another than the entry's
        where it is told later than its place says.
        """
        told = {"record_id": record_id, "run_id": entry.run, "kind": entry.kind}
        told |= {"place": entry.place if place is None else place}
        with self.begin() as connection:
            first = insert(journal).values(told).on_conflict_do_nothing().returning(journal.c.record_id)
            if connection.execute(first).first() is None:
                return None
            if entry.run_row and entry.source:
                _ensure_run(connection, entry.run_row, entry.source)
            committed = _commit(connection, _of_its_source(connection, entry)) if entry.batch else Committed()
            if entry.end:
                _end(connection, entry)
        return committed

    def skip_places(self, place: int) -> None:
        """Let the next place be greater than this one."""
        with self.begin() as connection:
            connection.execute(select(func.setval("journal_place", place)))

    def rebuilding_since(self) -> datetime | None:
        """Tell since when this catalogue is being made again from the store; None where it is whole."""
        with self.begin() as connection:
            return connection.scalar(select(rebuilding.c.since))

    def begin_rebuilding(self) -> None:
        """Mark the catalogue as being made again; what an earlier attempt left is thrown away."""
        with self.begin() as connection:
            if connection.scalar(select(rebuilding.c.since)) is not None:
                names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
                connection.execute(text(f"TRUNCATE {names}"))
            connection.execute(rebuilding.insert().values(since=func.now()))

    def end_rebuilding(self) -> None:
        """Say that the catalogue is whole."""
        with self.begin() as connection:
            connection.execute(rebuilding.delete())

    def is_empty(self) -> bool:
        """Tell whether the catalogue knows of no run, no WARC and no watched source."""
        known = (runs.c.id, warc_files.c.name, watches.c.source_id)
        with self.begin() as connection:
            return not any(connection.execute(select(one).limit(1)).first() for one in known)

    @contextmanager
    def scratch(self) -> Iterator["Catalog"]:
        """Open an empty catalogue beside this one, in a schema of the same database that is dropped at the end."""
        name = f"{scratch.PREFIX}{new_id().hex}"
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as holder:
            scratch.hold(holder, name)
            with self.begin() as connection:
                connection.execute(text(f"CREATE SCHEMA {name}"))
            try:
                url = self.engine.url.render_as_string(hide_password=False)
                with Catalog.open(url, schema=name) as opened:
                    yield opened
            finally:
                with self.begin() as connection:
                    connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
                scratch.let_go(holder, name)

    def sweep_scratch(self) -> list[str]:
        """Drop the schemas that killed processes left beside this catalogue; which."""
        with self.begin() as connection:
            return scratch.sweep(connection)

    def stored_media(self, batch: Batch) -> Committed:
        """Find the rows of a batch's files that were written by their own ids; those of posts seen before are left out."""
        wanted = [one.id for post in batch.posts for one in post.media]
        with self.begin() as connection:
            found = connection.execute(
                select(media.c.id, media.c.state, media.c.file_capture_id).where(media.c.id.in_(wanted))
            )
            rows = {
                row.id: StoredMedia(id=row.id, state=MediaState(row.state), file_capture_id=row.file_capture_id)
                for row in found
            }
        return Committed(media=rows)

    def told(self, run_id: UUID) -> set[UUID]:
        """List the journal entries of a run that this catalogue has been told, by their record ids."""
        with self.begin() as connection:
            return set(connection.scalars(select(journal.c.record_id).where(journal.c.run_id == run_id)))

    def end_is_told(self, run_id: UUID) -> bool:
        """Tell whether the journal knows how a run ended."""
        known = select(journal.c.place).where(journal.c.run_id == run_id, journal.c.kind == EntryKind.END)
        with self.begin() as connection:
            return connection.execute(known.limit(1)).first() is not None

    def ends_untold(self) -> list[UUID]:
        """List the runs with a journal that have ended and whose end it does not know."""
        begun = select(journal.c.run_id).where(journal.c.run_id == runs.c.id)
        wanted = select(runs.c.id).where(
            runs.c.ended_at.is_not(None), begun.exists(), ~begun.where(journal.c.kind == EntryKind.END).exists()
        )
        with self.begin() as connection:
            return list(connection.scalars(wanted.order_by(runs.c.started_at)))

    def unclosed_captures(self, run_id: UUID) -> list[UUID]:
        """List the captures of a run that records name and no row tells of: their process ended before they did."""
        named = select(records.c.capture_id).where(records.c.run_id == run_id, records.c.capture_id.is_not(None))
        closed = select(captures.c.id).where(captures.c.run_id == run_id)
        with self.begin() as connection:
            return sorted(one for (one,) in connection.execute(named.except_(closed)))

    def missing_records(self, refs: Sequence[RecordRef]) -> list[RecordRef]:
        """Leave out the records that are known already."""
        wanted = [ref.record_id for ref in refs]
        with self.begin() as connection:
            known = set(connection.scalars(select(records.c.id).where(records.c.id.in_(wanted))))
        return [ref for ref in refs if ref.record_id not in known]

    @contextmanager
    def alone(self, what: int) -> Iterator[None]:
        """Keep every other process that asks for the same out until the end; waits for one that is at it."""
        with self.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(what)))
            yield

    def begun_run(self, run_id: UUID) -> tuple[RunRow, SourceRow] | None:
        """Read a run as it began, and its source."""
        columns = [runs.c[one.name] for one in fields(RunRow)]
        with self.begin() as connection:
            row = connection.execute(select(*columns).where(runs.c.id == run_id)).one_or_none()
            if row is None:
                return None
            source = connection.execute(select(sources).where(sources.c.id == row.source_id)).one()
        return RunRow(**row._mapping), SourceRow(**source._mapping)

    def run_end(self, run_id: UUID) -> RunEnd | None:
        """Read how a run ended; None while nobody has ended it."""
        names = [one.name for one in fields(Counters)]
        with self.begin() as connection:
            row = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
        if row is None or row.ended_at is None:
            return None
        counters = Counters(**{name: row._mapping[name] for name in names})
        return RunEnd(outcome=Outcome(row.outcome), ended_at=row.ended_at, counters=counters, reason=row.reason)

    def ensure_source(self, row: SourceRow) -> SourceRow:
        """Find the source of this spider and URL as it is stored, else store it; a slug in use gets a number."""
        with self.begin() as connection:
            return ensure_sources(connection, [row])[0]

    def change_source(self, source_id: UUID, **values: str | None) -> None:
        """Change how a source is read: render, robots, robots_reason, proxy."""
        with self.begin() as connection:
            connection.execute(update(sources).where(sources.c.id == source_id).values(values))

    def put_source(self, row: SourceRow) -> None:
        """Write a source, or give the one of its id these values."""
        values = asdict(row)
        changed = insert(sources).values(values).on_conflict_do_update(index_elements=["id"], set_=values)
        with self.begin() as connection:
            connection.execute(changed)

    def begin_run(self, row: RunRow) -> None:
        """Write a run before its first request."""
        with self.begin() as connection:
            connection.execute(runs.insert().values(_storable(asdict(row))))

    def end_run(
        self,
        run_id: UUID,
        outcome: Outcome,
        counters: Counters,
        *,
        ended_at: datetime,
        attempt: int | None = None,
        reason: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> bool:
        """End a run; False if it has been ended already, or its attempt is another than the one given."""
        values = {**asdict(counters), "outcome": outcome, "ended_at": ended_at, "reason": reason, "process": None}
        if detail is not None:
            values["detail"] = dict(detail)
        ended = update(runs).where(runs.c.id == run_id, runs.c.ended_at.is_(None)).values(_storable(values))
        if attempt is not None:
            ended = ended.where(runs.c.attempt == attempt)
        with self.begin() as connection:
            return connection.execute(ended).rowcount == 1

    def unfinished_runs(self) -> list[UnfinishedRun]:
        """List the runs that nobody has ended, oldest first: at work, or killed."""
        wanted = (runs.c.id, runs.c.source_id, runs.c.started_at, runs.c.attempt, runs.c.process)
        with self.begin() as connection:
            found = connection.execute(select(*wanted).where(runs.c.ended_at.is_(None)).order_by(runs.c.started_at))
            return [UnfinishedRun(**row._mapping) for row in found]

    def originals(self, payload_sha256s: Iterable[str]) -> dict[str, Original]:
        """Find for each payload the earliest whole response that held it; payloads never seen are left out."""
        wanted = [bytes.fromhex(one) for one in set(payload_sha256s)]
        if not wanted:
            return {}
        with self.begin() as connection, _cursor(connection) as cursor:
            found = cursor.execute(_ORIGINALS, (wanted,)).fetchall()
        return {
            digest.hex(): Original(record_id=key, url=url, date=date, payload_sha256=digest.hex())
            for key, url, date, digest in found
        }

    def earlier_fingerprints(
        self, algorithm: str, version: str | None = None, *, since: UUID | None = None
    ) -> Fingerprints:
        """Read all hashes of an algorithm (and version), from an id on: 34 bytes each on the way, 24 in memory."""
        with self.begin() as connection, _cursor(connection) as cursor:
            query = psycopg.ClientCursor(cursor.connection).mogrify(
                _FINGERPRINTS, (algorithm, version, version, since or UUID(int=0))
            )
            with cursor.copy(query.encode()) as copy:
                data = b"".join(copy)
        # header of 19 bytes; per row 2 (number of fields), 4 (length), 16, 4 (length), 8; trailer of 2 (COPY, binary format)
        layout = np.dtype([("fields", ">i2"), ("n1", ">i4"), ("id", "V16"), ("n2", ">i4"), ("hash", ">u8")])
        rows = np.frombuffer(data, layout, count=(len(data) - 21) // layout.itemsize, offset=19)
        return Fingerprints(ids=rows["id"].tobytes(), hashes=rows["hash"].astype(np.uint64))

    def warc_opened(
        self, name: str, run_id: UUID, path: str, offset_bytes: int = 0, machine: str | None = None
    ) -> None:
        """Write that a run writes into a WARC that is not sealed yet, from an offset; may be repeated, and for other runs."""
        values = {"name": name, "run_id": run_id, "path": path, "state": WarcState.OPEN}
        with self.begin() as connection:
            connection.execute(insert(warc_files).values(values).on_conflict_do_nothing())
            _written_by(connection, name, (WrittenBy(run_id, offset_bytes),), machine)

    def warc_sealed(
        self,
        name: str,
        *,
        run_id: UUID,
        path: str,
        size_bytes: int,
        sha256: str,
        records: int,
        sealed_at: datetime,
        state: WarcState = WarcState.SEALED,
        manifest_sha256: str | None = None,
        runs: Sequence[WrittenBy] = (),
        machine: str | None = None,
    ) -> None:
        """Write that a WARC is whole and closed (or torn: closed by another than its writer); may be repeated.

        `runs` are all that wrote into it where there are several; `run_id` is the first. `machine`: in whose spool it lies.
        """
        values = {"run_id": run_id, "path": path, "size_bytes": size_bytes, "sha256": sha256, "records": records}
        values |= {"sealed_at": sealed_at, "state": state, "manifest_sha256": manifest_sha256}
        sealed = insert(warc_files).values(name=name, **values)
        early = warc_files.c.state.in_((WarcState.OPEN, WarcState.SEALED, WarcState.TORN))
        with self.begin() as connection:
            connection.execute(sealed.on_conflict_do_update(index_elements=["name"], set_=values, where=early))
            _written_by(connection, name, runs or (WrittenBy(run_id),), machine)

    def warc_found(self, row: WarcRow, runs: Sequence[WrittenBy] = ()) -> None:
        """Write a WARC as the store has it, and the runs that wrote into it; nothing if it is known."""
        with self.begin() as connection:
            connection.execute(insert(warc_files).values(asdict(row)).on_conflict_do_nothing())
            _written_by(connection, row.name, runs or (WrittenBy(row.run_id),))

    def warc_uploaded(
        self, name: str, *, key: str, version_id: str | None = None, manifest_sha256: str | None = None
    ) -> None:
        """Write that the store took a WARC, which proves nothing yet. Does not take back `preserved`."""
        values = {"key": key, "version_id": version_id, "manifest_sha256": manifest_sha256}
        with self.begin() as connection:
            connection.execute(
                update(warc_files)
                .where(warc_files.c.name == name, warc_files.c.state != WarcState.PRESERVED)
                .values(**values, state=WarcState.UPLOADED)
            )

    def warc_preserved(self, name: str, *, at: datetime, **changed: str | None) -> None:
        """Write that the store's bytes were read back and are equal.

        `changed` may name key, version_id and manifest_sha256 anew, and path=None once the local copy is gone.
        """
        with self.begin() as connection:
            connection.execute(
                update(warc_files)
                .where(warc_files.c.name == name)
                .values(state=WarcState.PRESERVED, preserved_at=at, **changed)
            )

    def warcs(
        self, *, state: WarcState | None = None, run_id: UUID | None = None, names: Sequence[str] | None = None
    ) -> list[WarcRow]:
        """List WARC files by name: those in a state, that a run wrote into, of these names, or all."""
        wanted = select(warc_files).order_by(warc_files.c.name)
        if state is not None:
            wanted = wanted.where(warc_files.c.state == state)
        if run_id is not None:
            wanted = wanted.where(warc_files.c.name.in_(select(warc_runs.c.warc).where(warc_runs.c.run_id == run_id)))
        if names is not None:
            wanted = wanted.where(warc_files.c.name.in_(names))
        with self.begin() as connection:
            rows = [dict(row._mapping) for row in connection.execute(wanted)]
        return [WarcRow(**{**row, "state": WarcState(row["state"])}) for row in rows]

    def warcinfo_offsets(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Tell for each WARC where the warcinfo records of its runs stand, in the order of the file."""
        wanted = select(warc_runs.c.warc, warc_runs.c.offset_bytes).where(warc_runs.c.warc.in_(names))
        found: dict[str, list[int]] = {}
        with self.begin() as connection:
            for row in connection.execute(wanted.order_by(warc_runs.c.warc, warc_runs.c.offset_bytes)):
                found.setdefault(row.warc, []).append(row.offset_bytes)
        return found

    def elsewhere(self, machine: str) -> dict[str, str]:
        """Name the WARCs that are not preserved and were written in another machine's spool, with that machine."""
        there = warc_runs.c.machine != machine
        query = select(warc_runs.c.warc, warc_runs.c.machine).join(warc_files, warc_files.c.name == warc_runs.c.warc)
        with self.begin() as connection:
            found = connection.execute(query.where(there, warc_files.c.state != WarcState.PRESERVED))
            return {row.warc: row.machine for row in found}

    def add_event(
        self, kind: str, subject: str, sha256: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> EventRow:
        """Append to the chain of events; `detail` may hold no floats (they do not come back as they went)."""
        with self.begin() as connection:
            return events.append(connection, kind, subject, sha256, detail or {})


def ensure_sources(connection: Connection, rows: Sequence[SourceRow]) -> list[SourceRow]:
    """Do what Catalog.ensure_source does for each, within a transaction: nobody else makes a source until it ends."""
    connection.execute(text("LOCK TABLE sources IN SHARE ROW EXCLUSIVE MODE"))
    same = select(sources).where(sources.c.url.in_([row.url for row in rows]))
    there = {(row.url, row.spider): SourceRow(**row._mapping) for row in connection.execute(same)}
    made, stored = list[SourceRow](), list[SourceRow]()
    taken: set[str] = set()
    if any((row.url, row.spider) not in there for row in rows):
        taken.update(connection.scalars(select(sources.c.slug)))
    for row in rows:
        if (row.url, row.spider) not in there:
            made.append(replace(row, slug=_free(row.slug, taken)))
            there[row.url, row.spider] = made[-1]
            taken.add(made[-1].slug)
        stored.append(there[row.url, row.spider])
    if made:
        connection.execute(sources.insert(), [asdict(row) for row in made])
    return stored


def _written_by(connection: Connection, warc: str, runs: Sequence[WrittenBy], machine: str | None = None) -> None:
    values = [{"warc": warc, "run_id": one.run, "offset_bytes": one.offset_bytes, "machine": machine} for one in runs]
    connection.execute(insert(warc_runs).values(values).on_conflict_do_nothing())


def _commit(connection: Connection, batch: Batch) -> Committed:
    with _cursor(connection) as cursor:
        copy_batch(cursor, batch)
        committed = write_posts(cursor, batch.posts)  # last: it locks the channels until the end
        _write_results(connection, batch.media_results)
    return committed


def _ensure_run(connection: Connection, run: RunRow, source: SourceRow) -> None:
    """Write a run and its source where the catalogue has lost them; what it has stays."""
    if connection.execute(select(runs.c.id).where(runs.c.id == run.id)).first():
        return
    same = select(sources.c.id).where(sources.c.url == source.url, sources.c.spider == source.spider)
    there = connection.scalar(same)
    if there is None:
        slug = _free_slug(connection, source.slug)
        connection.execute(sources.insert().values(_storable({**asdict(source), "slug": slug})))
    connection.execute(runs.insert().values(_storable({**asdict(run), "source_id": there or source.id})))


def _of_its_source(connection: Connection, entry: Entry) -> Batch:
    """Give an entry's batch with the source that its run has here: another id where its source was lost and made anew."""
    assert entry.batch
    batch, source = entry.batch, connection.scalar(select(runs.c.source_id).where(runs.c.id == entry.run))
    named = {row.source_id for rows in (batch.captures, batch.posts, batch.gaps) for row in rows}
    if source is None or named <= {source}:
        return batch
    return replace(
        batch,
        captures=tuple(replace(one, source_id=source) for one in batch.captures),
        posts=tuple(replace(one, source_id=source) for one in batch.posts),
        gaps=tuple(replace(one, source_id=source) for one in batch.gaps),
    )


def _free_slug(connection: Connection, slug: str) -> str:
    return _free(slug, set(connection.scalars(select(sources.c.slug).where(sources.c.slug.startswith(slug)))))


def _free(slug: str, taken: Set[str]) -> str:
    names = chain([slug], (f"{slug}-{n}" for n in count(2)))
    return next(name for name in names if name not in taken)


def _end(connection: Connection, entry: Entry) -> None:
    assert entry.end and entry.run_row
    values = {**asdict(entry.end.counters), "outcome": entry.end.outcome, "ended_at": entry.end.ended_at}
    values |= {"reason": entry.end.reason, "detail": dict(entry.run_row.detail), "process": None}
    connection.execute(update(runs).where(runs.c.id == entry.run).values(_storable(values)))


def _storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make texts and JSON what PostgreSQL can keep, as COPY's rows are made."""
    return {
        key: storable_json(value) if isinstance(value, (Mapping, list, tuple, str)) else value
        for key, value in values.items()
    }


def _write_results(connection: Connection, results: Iterable[MediaResult]) -> None:
    for one in sorted(results, key=_media_id):
        wanted = update(media).where(media.c.id == one.media_id, media.c.state != MediaState.CAPTURED)
        values = {key: value for key, value in asdict(one).items() if key != "media_id"}
        connection.execute(wanted.values(_storable(values)))


def _media_id(result: MediaResult) -> UUID:
    return result.media_id


@contextmanager
def _cursor(connection: Connection) -> Iterator[psycopg.Cursor[Any]]:
    """Reach the driver's cursor inside SQLAlchemy's transaction, for COPY."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with driver.cursor() as cursor:
        yield cursor


def _to_be_missed(connection: psycopg.Connection, _: object) -> None:
    """Tell the server, outside of any transaction, that it is to notice soon when we are gone."""
    connection.autocommit = True
    connection.execute(QUICKLY_MISSED)
    connection.autocommit = False


def _driver_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseUnavailable("OSINT_DATABASE_URL", "cannot be read as a URL") from error
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise DatabaseUnavailable(parsed.render_as_string(hide_password=True), "is no address of a PostgreSQL")
    return parsed.set(drivername="postgresql+psycopg")


def _why(error: BaseException | None) -> str:
    return " ".join(str(error).split())
