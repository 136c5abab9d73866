"""Alerts: looks for troubles, writes when each began and ended, and tells people of both, once."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection

from osint_pipeline.logs import logger
from osint_pipeline.measures import measure, snapshot
from osint_pipeline.rules import RULES, Facts, Trouble, gather, span
from osint_pipeline.telling import Message, tell
from osint_pipeline.workspace import Workspace
from settings.service import Service
from storage import alerting
from storage.alerting import AlertRow, Severity

log = logger(__name__)
TELLING_SECONDS = 60.0  # of one look
GROUPED = 10  # more than so many at once become one message
_LISTED = 30  # lines of such a message
_QUIET = "quiet_since"


class What(StrEnum):
    """What became of an alert."""

    BEGAN = "began"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Change:
    """An alert that began or ended at this look."""

    what: What
    alert: AlertRow


def look(workspace: Workspace, now: datetime | None = None) -> list[Change]:
    """Compare the rules with the open alerts, write what changed, tell what is not told yet.

    To be called every minute, from as many processes as there are: one looks at a time, the others get an empty list at
    once. What could not be told is told at a later look. Raises DatabaseUnavailable.
    """
    now = now or datetime.now(UTC)
    catalog, service = workspace.catalog, workspace.service
    with catalog.begin() as held:
        if not alerting.alone(held):
            return []
        measures = measure(catalog, now, silent_hours=service.alert_silent_hours)
        with snapshot(catalog) as connection:
            facts = gather(connection, measures, service)
        with catalog.begin() as connection:
            changes = list(_compare(connection, facts, service))
        for one in changes:
            log.warning(f"alert {one.what}", rule=one.alert.rule, subject=one.alert.subject, said=one.alert.said)
        with catalog.begin() as connection:
            waiting = alerting.untold(connection, now)
        until = time.monotonic() + TELLING_SECONDS
        for rows, message in _messages(waiting, now) if service.alerts else ():
            if time.monotonic() > until:
                break  # the others at the next look
            if tell(service, message)[0]:
                with catalog.begin() as connection:
                    alerting.told(connection, rows, now)
    return changes


def _compare(connection: Connection, facts: Facts, service: Service) -> Iterable[Change]:
    known = {(one.rule, one.subject): one for one in alerting.open_alerts(connection)}
    for rule in RULES:
        for trouble in rule.find(facts, service):
            before = known.pop((rule.name, trouble.subject), None)
            if before:
                _keep(connection, before, trouble)
                continue
            row = AlertRow(
                rule=rule.name,
                subject=trouble.subject,
                severity=rule.severity,
                said=trouble.said,
                began_at=facts.now,
                detail=trouble.detail,
            )
            if alerting.begin(connection, row):
                yield Change(What.BEGAN, row)
    for gone in known.values():
        if _over(connection, gone, facts.now, service.alert_calm_seconds):
            alerting.keep(connection, gone.id, ended_at=facts.now)
            yield Change(What.ENDED, replace(gone, ended_at=facts.now))


def _keep(connection: Connection, alert: AlertRow, trouble: Trouble) -> None:
    """Write the figures of today; what had become quiet is not."""
    if (alert.said, dict(alert.detail)) != (trouble.said, dict(trouble.detail)):
        alerting.keep(connection, alert.id, said=trouble.said, detail=dict(trouble.detail))


def _over(connection: Connection, alert: AlertRow, now: datetime, calm_seconds: float) -> bool:
    """Tell whether a trouble has been gone for long enough; one that comes and goes is one alert."""
    since = alert.detail.get(_QUIET)
    if since is None:
        alerting.keep(connection, alert.id, detail={**alert.detail, _QUIET: now.isoformat()})
    quiet = now - datetime.fromisoformat(since) if since else timedelta(0)
    return quiet >= timedelta(seconds=calm_seconds)


def _messages(rows: Sequence[AlertRow], now: datetime) -> list[tuple[Sequence[AlertRow], Message]]:
    if len(rows) > GROUPED:
        return [(rows, _together(rows, now))]
    return [((row,), _alone(row, now)) for row in rows]


def _alone(row: AlertRow, now: datetime) -> Message:
    if row.ended_at is None:
        kind = "failure" if row.severity is Severity.CRITICAL else "warning"
        return Message(title=f"{row.severity}: {row.rule}: {row.subject}", body=_began(row), kind=kind)
    return Message(title=f"over: {row.rule}: {row.subject}", body=_ended(row), kind="success")


def _together(rows: Sequence[AlertRow], now: datetime) -> Message:
    begun = [row for row in rows if row.ended_at is None]
    lines = [_began(row) if row.ended_at is None else _ended(row) for row in rows]
    if len(lines) > _LISTED:
        lines = [*lines[:_LISTED], f"and {len(lines) - _LISTED} more: `osint alerts`"]
    worst = any(row.severity is Severity.CRITICAL for row in begun)
    title = f"{len(begun)} alerts began, {len(rows) - len(begun)} ended"
    kind = "failure" if worst else "warning" if begun else "success"
    return Message(title=title, body="\n".join(lines), kind=kind)


def _began(row: AlertRow) -> str:
    return f"{row.severity}: {row.said} ({row.rule}, since {row.began_at:%Y-%m-%d %H:%M}Z)"


def _ended(row: AlertRow) -> str:
    assert row.ended_at
    lasted = span(row.ended_at - row.began_at)
    return f"over after {lasted}: {row.rule}: {row.subject} (it was: {row.said})"


def send_test(service: Service) -> tuple[int, int]:
    """Send one message that says it is a test; how many addresses took it, and how many there are."""
    body = f"This is a test from {service.machine}: alerts of osint-pipeline arrive here."
    return tell(service, Message(title="test: osint-pipeline", body=body, kind="info"))
