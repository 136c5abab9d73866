"""One process at a time for a host, on all machines: an advisory lock of the database, held as long as its connection."""

from types import TracebackType
from typing import Self

import psycopg

from storage.catalog import Catalog
from storage.errors import DatabaseUnavailable

_HOSTS = 7421005  # what the hash of a host begins with: 64 bits of it are the lock's number
_QUICKLY_MISSING = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3, "tcp_user_timeout": 15000}
_QUICKLY_MISSED = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}  # the server lets go of the lock within 15 seconds of a machine that vanished


class HostLock:
    """A host that this process has; in a with statement it is let go at the end. Gone with the process, however that ends."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.held = True

    @classmethod
    def take(cls, catalog: Catalog, host: str) -> Self | None:
        """Take a host; None where another process has it. Raises DatabaseUnavailable."""
        url = catalog.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        options = " ".join(f"-c {name}={value}" for name, value in _QUICKLY_MISSED.items())
        try:
            connection = psycopg.connect(
                url,
                autocommit=True,
                options=options,
                application_name="osint-pipeline host lock",
                connect_timeout=10,
                **_QUICKLY_MISSING,  # type: ignore[arg-type]
            )
            row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, %s))", (host, _HOSTS)).fetchone()
        except psycopg.Error as error:
            raise DatabaseUnavailable(catalog.where, str(error).strip()) from error
        if row and row[0]:
            return cls(connection)
        connection.close()
        return None

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
