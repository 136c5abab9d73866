"""Makes a catalogue many times as large, row by row as it is, within PostgreSQL: each copy is a day older than the one before.

The copies have ids, addresses, payloads and hashes of their own, and no WARC: nothing may be read back or verified afterwards.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, DateTime, Table, Text, Uuid, text

from storage import schema
from storage.catalog import Catalog
from storage.schema import Sha256

TABLES = (
    schema.runs, schema.captures, schema.records, schema.posts, schema.post_versions, schema.version_captures, schema.media,
    schema.fingerprints, schema.journal, schema.warc_files, schema.warc_runs,
)  # fmt: skip
NAMES = ("url", "final_url", "post_id", "warc", "name", "key")  # texts that are another's in each copy
OLDER = """
CREATE FUNCTION pg_temp.older(id uuid, days int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint - days * 86400000::bigint), 12, '0')
        || right(replace(id::text, '-', ''), 20))::uuid $$
"""


def multiply(catalog: Catalog, copies: int) -> Iterator[int]:
    """Add so many copies of all that is there; tells of each that is made. The tables are vacuumed at the end."""
    with catalog.begin() as connection:
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        connection.execute(text(OLDER))
        for table in TABLES:
            connection.execute(
                text(f"CREATE TEMP TABLE base_{table.name} ON COMMIT DROP AS SELECT * FROM {table.name}")
            )
        for number in range(1, copies + 1):
            for table in TABLES:
                _copy(connection, table, number)
            yield number
    with catalog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone:
        alone.execute(text("VACUUM ANALYZE"))


def _copy(connection: Connection, table: Table, number: int) -> None:
    columns = [column for column in table.columns if column.computed is None]
    names = ", ".join(f'"{column.name}"' for column in columns)
    values = ", ".join(_value(column, number) for column in columns)
    connection.execute(text(f"INSERT INTO {table.name} ({names}) SELECT {values} FROM base_{table.name}"))


def _value(column: Column[Any], number: int) -> str:
    name = f'"{column.name}"'
    if isinstance(column.type, Uuid):
        return name if column.name == "source_id" else f"pg_temp.older({name}, {number})"
    if isinstance(column.type, DateTime):
        return f"{name} - interval '{number} days'"
    if isinstance(column.type, Sha256) and column.name == "payload_sha256":
        return f"sha256({name} || '{number}'::bytea)"
    if isinstance(column.type, Text) and column.name in NAMES:
        return f"{name} || '?{number}'"
    if column.name == "hash":
        return f"{name} # hashint8extended({name}, {number})"
    if isinstance(column.type, BigInteger) and column.name == "place":  # microseconds
        return f"{name} - {number} * 86400000000"
    return name
