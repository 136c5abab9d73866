"""How the archive stands, for a person who looks: what is wrong first, then what needs a look, worst first."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

from osint_pipeline.machine import Machine
from osint_pipeline.measures import Measures, SourceHealth, measure, snapshot
from osint_pipeline.rules import is_silent
from osint_pipeline.workspace import Workspace
from settings.service import Service
from storage import alerting
from storage.alerting import AlertRow

_STORE_SECONDS = 2.0  # how long the store's address may take


class Need(IntEnum):
    """Why a source needs a look; the worst is the smallest."""

    SILENT = 1
    PARKED = 2
    NOTHING = 3
    FAILED = 4
    REFUSED = 5
    LATE = 6


WORDS = {
    Need.SILENT: "silent",
    Need.PARKED: "given up",
    Need.NOTHING: "nothing",
    Need.FAILED: "failed",
    Need.REFUSED: "refused",
    Need.LATE: "late",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """A source that needs a look, and why."""

    source: SourceHealth
    need: Need
    late_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All that `osint status` shows."""

    measures: Measures
    store: str  # embedded, reachable or away
    alerts: tuple[AlertRow, ...]
    attention: tuple[Attention, ...]
    living: tuple[Machine, ...]
    troubles: tuple[str, ...]  # sentences: why `--check` says no

    def as_json(self) -> dict[str, Any]:
        """Give it under the names of docs/watching.md."""
        found = self.measures
        plain = asdict(found)
        for name in ("totals", "sources", "alarms", "silent_hours"):
            del plain[name]
        return {
            **plain,
            "machines": [{**_flat(one), "living": one in self.living} for one in found.machines],
            "store": self.store,
            "sources": {"watched": len(found.sources), "paused": sum(not one.active for one in found.sources)},
            "spool": {"warcs": found.spool_warcs, "bytes": found.spool_bytes, "oldest_at": found.spool_oldest_at},
            "attention": [
                {**asdict(one.source), "need": WORDS[one.need], "late_seconds": one.late_seconds}
                for one in self.attention
            ],
            "alerts": [asdict(one) for one in self.alerts],
            "troubles": list(self.troubles),
        }


def status(workspace: Workspace, now: datetime | None = None) -> Status:
    """Look. The store is asked for no more than a connection. Raises DatabaseUnavailable."""
    now, service = now or datetime.now(UTC), workspace.service
    found = measure(workspace.catalog, now, silent_hours=service.alert_silent_hours, wall_hours=service.wall_hours)
    with snapshot(workspace.catalog) as connection:
        open_alerts = tuple(alerting.open_alerts(connection))
    within = timedelta(seconds=service.alert_machine_seconds)
    living = tuple(one for one in found.machines if not one.said.stopped and now - one.seen_at <= within)
    store = store_state(service)
    return Status(
        measures=found,
        store=store,
        alerts=open_alerts,
        attention=tuple(attention(found, service)),
        living=living,
        troubles=tuple(_troubles(found, living, store, open_alerts)),
    )


def attention(found: Measures, service: Service) -> list[Attention]:
    """List the active sources that need a look, worst first, the longest owed first among equals."""
    needs = []
    for one in found.sources:
        late = max(0.0, (found.at - one.owed_since).total_seconds()) if one.owed_since else 0.0
        if one.active and (need := _need(one, found.at, late, service)):
            needs.append(Attention(source=one, need=need, late_seconds=late))
    return sorted(needs, key=lambda one: (one.need, -one.late_seconds, one.source.slug))


def _need(one: SourceHealth, now: datetime, late_seconds: float, service: Service) -> Need | None:
    if is_silent(one, now, service.alert_silent_hours):
        return Need.SILENT
    if one.parked:
        return Need.PARKED
    if one.outcome in ("failed", "refused"):
        return Need.FAILED if one.outcome == "failed" else Need.REFUSED
    if one.run and one.wanted and not one.captured:
        return Need.NOTHING
    return Need.LATE if late_seconds > service.alert_late_seconds else None


def _troubles(
    found: Measures, living: tuple[Machine, ...], store: str, open_alerts: tuple[AlertRow, ...]
) -> Iterator[str]:
    if any(one.active and one.schedule for one in found.sources) and not living:
        yield "no worker runs" if found.machines else "no worker ever ran"
    if store == "away":
        yield "the object store cannot be reached"
    if found.held_back:
        yield f"{found.held_back} WARCs are held back"
    if open_alerts:
        yield "1 alert is open" if len(open_alerts) == 1 else f"{len(open_alerts)} alerts are open"


def store_state(service: Service) -> str:
    """Tell whether the store's address takes connections; the embedded one is there when it is wanted."""
    if not service.s3_endpoint:
        return "embedded"
    parts = urlsplit(service.s3_endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), _STORE_SECONDS).close()
    except OSError:
        return "away"
    return "reachable"


def _flat(machine: Machine) -> Mapping[str, Any]:
    return {
        "name": machine.name,
        "worker": machine.worker,
        "started_at": machine.started_at,
        "seen_at": machine.seen_at,
        **asdict(machine.said),
    }
