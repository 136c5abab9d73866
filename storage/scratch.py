"""Schemas beside the catalogue that are thrown away: each is locked by its living owner, so that others know which are left over."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, func, select, text

from storage.catalog import Catalog
from storage.ids import new_id

PREFIX = "scratch_"
_LOCKS = 7421006  # the first number of these locks; the second is the schema's hash
_NAMED = text("SELECT nspname FROM pg_namespace WHERE nspname ~ '^scratch_[0-9a-f]{32}$' ORDER BY nspname")


@contextmanager
def open_scratch(catalog: Catalog) -> Iterator[Catalog]:
    """Open an empty catalogue beside this one, in a schema of the same database that is dropped at the end."""
    name = f"{PREFIX}{new_id().hex}"
    with catalog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as holder:
        _hold(holder, name)
        with catalog.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        try:
            url = catalog.engine.url.render_as_string(hide_password=False)
            with Catalog.open(url, schema=name) as opened:
                yield opened
        finally:
            with catalog.begin() as connection:
                connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
            _let_go(holder, name)


def sweep_scratch(catalog: Catalog) -> list[str]:
    """Drop the schemas that killed processes left beside this catalogue; which. In one transaction, so that their tables go together."""
    left = []
    with catalog.begin() as connection:
        for name in connection.scalars(_NAMED).all():
            if connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCKS, func.hashtext(name)))):
                connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
                left.append(name)
    return left


def _hold(connection: Connection, name: str) -> None:
    """Hold a schema until _let_go() or until the connection is gone; to be called before it is made."""
    connection.execute(select(func.pg_advisory_lock(_LOCKS, func.hashtext(name))))


def _let_go(connection: Connection, name: str) -> None:
    connection.execute(select(func.pg_advisory_unlock(_LOCKS, func.hashtext(name))))
