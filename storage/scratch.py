"""Schemas beside the catalogue that are thrown away: each is locked by its living owner, so that others know which are left over."""

from sqlalchemy import Connection, func, select, text

PREFIX = "scratch_"
_LOCKS = 7421006  # the first number of these locks; the second is the schema's hash
_NAMED = text("SELECT nspname FROM pg_namespace WHERE nspname ~ '^scratch_[0-9a-f]{32}$' ORDER BY nspname")


def hold(connection: Connection, name: str) -> None:
    """Hold a schema until let_go() or until the connection is gone; to be called before it is made."""
    connection.execute(select(func.pg_advisory_lock(_LOCKS, func.hashtext(name))))


def let_go(connection: Connection, name: str) -> None:
    """Stop holding a schema."""
    connection.execute(select(func.pg_advisory_unlock(_LOCKS, func.hashtext(name))))


def sweep(connection: Connection) -> list[str]:
    """Drop the schemas whose owners are gone; which. In one transaction, so that their tables go together."""
    left = []
    for name in connection.scalars(_NAMED).all():
        if connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCKS, func.hashtext(name)))):
            connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
            left.append(name)
    return left
