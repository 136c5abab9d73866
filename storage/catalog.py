"""The catalogue: a PostgreSQL >= 15 with the tables of storage/schema, and the transactions that all reads and writes of it are."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from storage.errors import DatabaseUnavailable
from storage.migrating import migrate

_CONNECTED = text(
    "SELECT application_name, min(backend_start) AS since FROM pg_stat_activity "
    "WHERE datname = current_database() AND starts_with(application_name, :prefix) GROUP BY application_name"
)
# A connection whose machine vanished is gone within 15 seconds. Told after connecting: poolers refuse it in the startup packet.
QUICKLY_MISSED = """
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 15000
"""


class Catalog:
    """Open with Catalog.open(url). May be used from several threads.

    What reads and writes it are functions that take it (storage/runs.py, storage/warc_files.py and so on); each is one
    transaction and raises DatabaseUnavailable where the server cannot be reached; nothing of its work is kept then,
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

    @contextmanager
    def alone(self, what: int) -> Iterator[None]:
        """Keep every other process that asks for the same out until the end; waits for one that is at it."""
        with self.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(what)))
            yield


@contextmanager
def driver_cursor(connection: Connection) -> Iterator[psycopg.Cursor[Any]]:
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
