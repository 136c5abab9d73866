"""What each machine's worker last said of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.copying import storable_json
from storage.schema import captures, machines


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """A machine: its worker (machine:pid:start), since when that works, when it was last heard of, what it measured."""

    name: str
    worker: str
    started_at: datetime
    seen_at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)


def put_machine(catalog: Catalog, row: MachineRow) -> None:
    """Write what a machine says of itself; the newest holds."""
    values = {**asdict(row), "detail": storable_json(dict(row.detail))}
    said = insert(machines).values(values).on_conflict_do_update(index_elements=["name"], set_=values)
    with catalog.begin() as connection:
        connection.execute(said)


def list_machines(catalog: Catalog) -> list[MachineRow]:
    """List the machines by name, those that are gone too."""
    with catalog.begin() as connection:
        return [MachineRow(**row._mapping) for row in connection.execute(select(machines).order_by(machines.c.name))]


def forget_machine(catalog: Catalog, name: str) -> None:
    """Take a machine off the list; if it works on, it is back at once."""
    with catalog.begin() as connection:
        connection.execute(machines.delete().where(machines.c.name == name))


def last_capture(catalog: Catalog, runs: Sequence[UUID]) -> datetime | None:
    """Tell when the newest capture of some runs was made; None where they have none."""
    newest = select(func.max(captures.c.captured_at)).where(captures.c.run_id.in_(runs))
    with catalog.begin() as connection:
        return connection.scalar(newest)
