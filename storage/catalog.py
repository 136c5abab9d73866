"""The catalogue, for writing: what was captured, where its bytes stand, what was read from it. Any PostgreSQL >= 15."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import numpy as np
import psycopg
from sqlalchemy import Connection, Engine, create_engine, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from storage import events
from storage.copying import copy_batch
from storage.errors import DatabaseUnavailable
from storage.exchange import Original
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
    WarcRow,
    WarcState,
)
from storage.schema import media, runs, sources, warc_files
from storage.versions import write_posts

_ORIGINALS = """
SELECT DISTINCT ON (payload_sha256) id, url, date, payload_sha256 FROM records
WHERE payload_sha256 = ANY(%s) AND type = 'response' AND truncated IS NULL ORDER BY payload_sha256, date, id
"""
_FINGERPRINTS = """
COPY (SELECT id, hash FROM fingerprints WHERE hash IS NOT NULL AND algorithm = %s AND (%s::text IS NULL OR version = %s)
ORDER BY id) TO STDOUT (FORMAT binary)
"""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """All hashes of one algorithm, oldest first: `hashes` as numpy uint64, `ids` as 16 bytes each."""

    ids: bytes
    hashes: "np.ndarray[Any, np.dtype[np.uint64]]"

    def id(self, place: int) -> UUID:
        """Name the fingerprint at a place of `hashes`."""
        return UUID(bytes=self.ids[16 * place : 16 * place + 16])


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
    def open(cls, url: str) -> Self:
        """Connect, and bring the tables to the newest migration (one process at a time).

        Raises DatabaseUnavailable, and SchemaTooNew if a newer program has been here.
        """
        engine = create_engine(
            _driver_url(url),
            pool_size=2,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "application_name": "osint-pipeline"},
        )
        catalog = cls(engine)
        try:
            with catalog.begin() as connection:
                migrate(connection, catalog.where)
        except BaseException:
            engine.dispose()
            raise
        return catalog

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
        with self.begin() as connection, _cursor(connection) as cursor:
            copy_batch(cursor, batch)
            committed = write_posts(cursor, batch.posts)  # last: it locks the channels until the end
            _write_results(connection, batch.media_results)
        return committed

    def ensure_source(self, row: SourceRow) -> SourceRow:
        """Find the source of this spider and URL as it is stored, else store it; a slug in use gets a number."""
        with self.begin() as connection:
            connection.execute(text("LOCK TABLE sources IN SHARE ROW EXCLUSIVE MODE"))
            found = connection.execute(
                select(sources).where(sources.c.url == row.url, sources.c.spider == row.spider)
            ).one_or_none()
            if found:
                return SourceRow(**found._mapping)
            taken = set(connection.scalars(select(sources.c.slug).where(sources.c.slug.startswith(row.slug))))
            names = [row.slug, *(f"{row.slug}-{n}" for n in range(2, len(taken) + 3))]
            values = {**asdict(row), "slug": next(name for name in names if name not in taken)}
            connection.execute(sources.insert().values(values))
            return SourceRow(**values)

    def change_source(self, source_id: UUID, **values: str | None) -> None:
        """Change how a source is read: render, robots, robots_reason, proxy."""
        with self.begin() as connection:
            connection.execute(update(sources).where(sources.c.id == source_id).values(values))

    def begin_run(self, row: RunRow) -> None:
        """Write a run before its first request."""
        with self.begin() as connection:
            connection.execute(runs.insert().values(asdict(row)))

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
        values = {**asdict(counters), "outcome": outcome, "ended_at": ended_at, "reason": reason}
        if detail is not None:
            values["detail"] = dict(detail)
        ended = update(runs).where(runs.c.id == run_id, runs.c.ended_at.is_(None)).values(values)
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

    def earlier_fingerprints(self, algorithm: str, version: str | None = None) -> Fingerprints:
        """Read all hashes of an algorithm (and version): 34 bytes each on the way, 24 in memory."""
        with self.begin() as connection, _cursor(connection) as cursor:
            query = psycopg.ClientCursor(cursor.connection).mogrify(_FINGERPRINTS, (algorithm, version, version))
            with cursor.copy(query.encode()) as copy:
                data = b"".join(copy)
        # header of 19 bytes; per row 2 (number of fields), 4 (length), 16, 4 (length), 8; trailer of 2 (COPY, binary format)
        layout = np.dtype([("fields", ">i2"), ("n1", ">i4"), ("id", "V16"), ("n2", ">i4"), ("hash", ">u8")])
        rows = np.frombuffer(data, layout, count=(len(data) - 21) // layout.itemsize, offset=19)
        return Fingerprints(ids=rows["id"].tobytes(), hashes=rows["hash"].astype(np.uint64))

    def warc_opened(self, name: str, run_id: UUID, path: str) -> None:
        """Write that a WARC was begun; may be repeated."""
        values = {"name": name, "run_id": run_id, "path": path, "state": WarcState.OPEN}
        with self.begin() as connection:
            connection.execute(insert(warc_files).values(values).on_conflict_do_nothing())

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
    ) -> None:
        """Write that a WARC is whole and closed (or torn: closed by another than its writer); may be repeated."""
        values = {"run_id": run_id, "path": path, "size_bytes": size_bytes, "sha256": sha256, "records": records}
        values |= {"sealed_at": sealed_at, "state": state}
        sealed = insert(warc_files).values(name=name, **values)
        early = warc_files.c.state.in_((WarcState.OPEN, WarcState.SEALED, WarcState.TORN))
        with self.begin() as connection:
            connection.execute(sealed.on_conflict_do_update(index_elements=["name"], set_=values, where=early))

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
        """List WARC files by name: those in a state, of a run, of these names, or all."""
        wanted = select(warc_files).order_by(warc_files.c.name)
        if state is not None:
            wanted = wanted.where(warc_files.c.state == state)
        if run_id is not None:
            wanted = wanted.where(warc_files.c.run_id == run_id)
        if names is not None:
            wanted = wanted.where(warc_files.c.name.in_(names))
        with self.begin() as connection:
            rows = [dict(row._mapping) for row in connection.execute(wanted)]
        return [WarcRow(**{**row, "state": WarcState(row["state"])}) for row in rows]

    def add_event(
        self, kind: str, subject: str, sha256: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> EventRow:
        """Append to the chain of events; `detail` may hold no floats (they do not come back as they went)."""
        with self.begin() as connection:
            return events.append(connection, kind, subject, sha256, detail or {})


def _write_results(connection: Connection, results: Iterable[MediaResult]) -> None:
    for one in sorted(results, key=_media_id):
        wanted = update(media).where(media.c.id == one.media_id, media.c.state != MediaState.CAPTURED)
        values = {key: value for key, value in asdict(one).items() if key != "media_id"}
        connection.execute(wanted.values(values))


def _media_id(result: MediaResult) -> UUID:
    return result.media_id


@contextmanager
def _cursor(connection: Connection) -> Iterator[psycopg.Cursor[Any]]:
    """Reach the driver's cursor inside SQLAlchemy's transaction, for COPY."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with driver.cursor() as cursor:
        yield cursor


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
