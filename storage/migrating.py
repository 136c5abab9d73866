"""Brings the catalogue's tables to the newest migration."""

from pathlib import Path

from sqlalchemy import Connection, func, inspect, select, text

from storage.errors import DatabaseUnavailable, SchemaTooNew

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 7421001  # the advisory lock that lets one process migrate at a time
_OLDEST_SERVER = 150000


def known() -> list[str]:
    """List the revisions that this program knows, oldest first."""
    return sorted(path.name.split("_")[0] for path in (FOLDER / "versions").glob("[0-9]*_*.py"))


def migrate(connection: Connection, where: str) -> None:
    """Migrate inside the caller's transaction; raises SchemaTooNew, and DatabaseUnavailable if the server will not do."""
    revisions = known()
    if _revision(connection) == revisions[-1]:
        return
    connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    found = _revision(connection)  # another process may have been first
    if found is not None and found not in revisions:
        raise SchemaTooNew(found, revisions[-1])
    if found != revisions[-1]:
        _check_server(connection, where)
        _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(text("SELECT max(version_num) FROM alembic_version"))


def _check_server(connection: Connection, where: str) -> None:
    facts = "CAST(current_setting('server_version_num') AS int), current_setting('server_encoding'), lower('Ў')"
    version, encoding, lowered = connection.execute(text(f"SELECT {facts}")).one()
    if version < _OLDEST_SERVER:
        raise DatabaseUnavailable(where, f"is PostgreSQL {version // 10000}; 15 or newer is needed")
    if encoding != "UTF8" or lowered != "ў":
        raise DatabaseUnavailable(where, "must be created with ENCODING 'UTF8' and a locale such as C.UTF-8")


def _upgrade(connection: Connection) -> None:
    # imported here: 0.2 s that a process pays only where there is something to migrate
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
