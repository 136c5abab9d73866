"""The runs as the catalogue keeps them: how each began, and how it ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from storage.catalog import Catalog
from storage.copying import storable_values
from storage.journal import RunEnd
from storage.rows import Counters, Outcome, RunRow, SourceRow
from storage.schema import runs, sources


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedRun:
    """A run that nobody has ended."""

    id: UUID
    source_id: UUID
    started_at: datetime
    attempt: int
    process: str | None


def begin_run(catalog: Catalog, row: RunRow) -> None:
    """Write a run before its first request."""
    with catalog.begin() as connection:
        connection.execute(runs.insert().values(storable_values(asdict(row))))


def end_run(
    catalog: Catalog,
    run_id: UUID,
    end: RunEnd,
    *,
    attempt: int | None = None,
    detail: Mapping[str, Any] | None = None,
) -> bool:
    """End a run; False if it has been ended already, or its attempt is another than the one given."""
    ended = update(runs).where(runs.c.id == run_id, runs.c.ended_at.is_(None)).values(end_values(end, detail))
    if attempt is not None:
        ended = ended.where(runs.c.attempt == attempt)
    with catalog.begin() as connection:
        return connection.execute(ended).rowcount == 1


def end_values(end: RunEnd, detail: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Give the columns of a run that ended so; `detail` stays as it is where none is given."""
    values = {**asdict(end.counters), "outcome": end.outcome, "ended_at": end.ended_at, "reason": end.reason}
    values |= {"process": None} | ({} if detail is None else {"detail": dict(detail)})
    return storable_values(values)


def unfinished_runs(catalog: Catalog) -> list[UnfinishedRun]:
    """List the runs that nobody has ended, oldest first: at work, or killed."""
    wanted = (runs.c.id, runs.c.source_id, runs.c.started_at, runs.c.attempt, runs.c.process)
    with catalog.begin() as connection:
        found = connection.execute(select(*wanted).where(runs.c.ended_at.is_(None)).order_by(runs.c.started_at))
        return [UnfinishedRun(**row._mapping) for row in found]


def begun_run(catalog: Catalog, run_id: UUID) -> tuple[RunRow, SourceRow] | None:
    """Read a run as it began, and its source."""
    columns = [runs.c[one.name] for one in fields(RunRow)]
    with catalog.begin() as connection:
        row = connection.execute(select(*columns).where(runs.c.id == run_id)).one_or_none()
        if row is None:
            return None
        source = connection.execute(select(sources).where(sources.c.id == row.source_id)).one()
    return RunRow(**row._mapping), SourceRow(**source._mapping)


def run_end(catalog: Catalog, run_id: UUID) -> RunEnd | None:
    """Read how a run ended; None while nobody has ended it."""
    names = [one.name for one in fields(Counters)]
    with catalog.begin() as connection:
        row = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
    if row is None or row.ended_at is None:
        return None
    counters = Counters(**{name: row._mapping[name] for name in names})
    return RunEnd(outcome=Outcome(row.outcome), ended_at=row.ended_at, counters=counters, reason=row.reason)
