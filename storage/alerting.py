"""The table of alerts: each trouble from its beginning to its end; one of a rule and subject at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, and_, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from storage.ids import new_id
from storage.schema import alerts

TOLD_WITHIN = timedelta(days=1)  # the end of one that ended before is not told any more
_LOOKED_BACK = timedelta(days=60)
_LOCK = 7421007  # the advisory lock that lets one process look at a time
_MOST = 500


class Severity(StrEnum):
    """How soon a person is needed."""

    CRITICAL = "critical"  # captures are lost or at risk
    WARNING = "warning"  # something is not captured, or will not be soon


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """A trouble. `said` names no secret and nothing that a page says; `detail` has `quiet_since` while it is not found."""

    rule: str
    subject: str
    severity: Severity
    said: str
    began_at: datetime
    told_at: datetime | None = None
    ended_at: datetime | None = None
    end_told_at: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=new_id)


def alone(connection: Connection) -> bool:
    """Keep other lookers out until the transaction ends; False where one is at it."""
    return bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}))


def open_alerts(connection: Connection) -> list[AlertRow]:
    """List those that have not ended, oldest first."""
    return _rows(connection, select(alerts).where(alerts.c.ended_at.is_(None)).order_by(alerts.c.began_at))


def all_alerts(connection: Connection, *, most: int = _MOST) -> list[AlertRow]:
    """List the last ones, ended or not, newest first."""
    return _rows(connection, select(alerts).order_by(alerts.c.began_at.desc()).limit(most))


def untold(connection: Connection, now: datetime) -> list[AlertRow]:
    """List those whose beginning or end is still to be told, oldest first."""
    ended = and_(
        alerts.c.began_at > now - _LOOKED_BACK, alerts.c.ended_at > now - TOLD_WITHIN, alerts.c.end_told_at.is_(None)
    )
    begun = and_(alerts.c.ended_at.is_(None), alerts.c.told_at.is_(None))
    return _rows(connection, select(alerts).where(or_(begun, ended)).order_by(alerts.c.began_at).limit(_MOST))


def begin(connection: Connection, row: AlertRow) -> bool:
    """Write that a trouble began; False where it is open already."""
    values = {name: getattr(row, name) for name in AlertRow.__slots__}
    fresh = (
        insert(alerts)
        .values(values)
        .on_conflict_do_nothing(index_elements=["rule", "subject"], index_where=alerts.c.ended_at.is_(None))
    )
    return connection.execute(fresh.returning(alerts.c.id)).first() is not None


def keep(connection: Connection, alert: UUID, **values: Any) -> None:
    """Change what is written of one."""
    connection.execute(update(alerts).where(alerts.c.id == alert).values(values))


def told(connection: Connection, rows: Iterable[AlertRow], now: datetime) -> None:
    """Write that the beginning of these was told, and the end of those that have ended."""
    for row in rows:
        values = {"told_at": row.told_at or now, "end_told_at": now if row.ended_at else None}
        connection.execute(update(alerts).where(alerts.c.id == row.id).values(values))


def _rows(connection: Connection, query: Select[Any]) -> list[AlertRow]:
    found = [dict(row._mapping) for row in connection.execute(query)]
    return [AlertRow(**{**row, "severity": Severity(row["severity"])}) for row in found]
