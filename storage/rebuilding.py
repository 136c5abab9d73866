"""Whether the catalogue is whole, or is being made again from the store."""

from datetime import datetime

from sqlalchemy import func, select, text

from storage.catalog import Catalog
from storage.schema import metadata, rebuilding, runs, warc_files, watches


def rebuilding_since(catalog: Catalog) -> datetime | None:
    """Tell since when this catalogue is being made again from the store; None where it is whole."""
    with catalog.begin() as connection:
        return connection.scalar(select(rebuilding.c.since))


def begin_rebuilding(catalog: Catalog) -> None:
    """Mark the catalogue as being made again; what an earlier attempt left is thrown away."""
    with catalog.begin() as connection:
        if connection.scalar(select(rebuilding.c.since)) is not None:
            names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
            connection.execute(text(f"TRUNCATE {names}"))
        connection.execute(rebuilding.insert().values(since=func.now()))


def end_rebuilding(catalog: Catalog) -> None:
    """Say that the catalogue is whole."""
    with catalog.begin() as connection:
        connection.execute(rebuilding.delete())


def is_empty(catalog: Catalog) -> bool:
    """Tell whether the catalogue knows of no run, no WARC and no watched source."""
    known = (runs.c.id, warc_files.c.name, watches.c.source_id)
    with catalog.begin() as connection:
        return not any(connection.execute(select(one).limit(1)).first() for one in known)
