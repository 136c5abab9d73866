"""One process at a time for a host, on all machines: an advisory lock of the database, held as long as its connection."""

import threading
import time
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy import text

from storage.catalog import QUICKLY_MISSED, Catalog
from storage.errors import DatabaseUnavailable

POLL_SECONDS = 0.5
_HOSTS, _WANTED = 7421005, 7421006  # what the hash of a host begins with: 64 bits of it are the number of a lock
_QUICKLY_MISSING = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3, "tcp_user_timeout": 15000}
_TRY, _WANT, _UNWANT = (
    f"SELECT {act}(hashtextextended(%s, %s))"
    for act in ("pg_try_advisory_lock", "pg_advisory_lock_shared", "pg_advisory_unlock_shared")
)
_IS_WANTED = text(
    "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE locktype = 'advisory' "
    "AND d.datname = current_database() AND objsubid = 1 "
    "AND (classid::bigint << 32 | objid::bigint) = hashtextextended(:host, :wanted))"
)


def is_wanted(catalog: Catalog, host: str) -> bool:
    """Tell whether a crawl by hand waits for a host."""
    with catalog.begin() as connection:
        return bool(connection.scalar(_IS_WANTED, {"host": host, "wanted": _WANTED}))


class HostLock:
    """A host that this process has; in a with statement it is let go at the end. Gone with the process, however that ends."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.held = True

    @classmethod
    def take(
        cls,
        catalog: Catalog,
        host: str,
        *,
        seconds: float = 0,
        wants: bool = False,
        stopped: threading.Event | None = None,
    ) -> Self | None:
        """Take a host, waiting so long for the process that has it; None where it keeps it. Raises DatabaseUnavailable.

        `wants`: that process is to make room after the visit under way. `stopped` ends the waiting.
        """
        try:
            connection = _connect(catalog)
            try:
                if _taken(connection, host, time.monotonic() + seconds, wants, stopped or threading.Event()):
                    return cls(connection)
            except BaseException:
                connection.close()
                raise
            connection.close()
            return None
        except psycopg.Error as error:
            raise DatabaseUnavailable(catalog.where, str(error).strip()) from error

    def __enter__(self) -> Self:
        return self

    def still_held(self) -> bool:
        """Ask the server: False once the connection is gone, and with it the lock."""
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self.held = False
        return self.held

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.held = False
        self._connection.close()


def _connect(catalog: Catalog) -> psycopg.Connection:
    connection = psycopg.connect(
        catalog.engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
        application_name="osint-pipeline host lock",
        connect_timeout=10,
        **_QUICKLY_MISSING,  # type: ignore[arg-type]
    )
    connection.execute(QUICKLY_MISSED)
    return connection


def _taken(connection: psycopg.Connection, host: str, until: float, wants: bool, stopped: threading.Event) -> bool:
    wanted = False
    while True:
        row = connection.execute(_TRY, (host, _HOSTS)).fetchone()
        if row and row[0]:
            if wanted:
                connection.execute(_UNWANT, (host, _WANTED))
            return True
        if time.monotonic() > until or stopped.is_set():
            return False
        if wants and not wanted:
            connection.execute(_WANT, (host, _WANTED))
            wanted = True
        stopped.wait(POLL_SECONDS)
