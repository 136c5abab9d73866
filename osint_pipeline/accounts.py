"""Checks the catalogue's list of WARCs against its own events and records, and against the spool: none may be left out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlalchemy import func, select

from osint_pipeline.claims import Claim, Result, compared
from osint_pipeline.workspace import Workspace
from storage.finding import list_events
from storage.manifest import WARC_SUFFIX
from storage.rows import EventRow, WarcRow, WarcState
from storage.schema import events, records, runs, warc_files

EVENTS = "design.md promise 2"
_PRESERVED, _QUARANTINED = "preserved", "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The last events of a WARC: that the store was read back and holds it, that it was put into quarantine."""

    preserved: EventRow | None = None
    quarantined: EventRow | None = None


def told_of(workspace: Workspace, warc: str) -> Told:
    """Read what the events say of a WARC; a quarantine that ended with its preservation is none any more."""
    found = list_events(workspace.catalog, subject=warc)
    preserved = next((one for one in reversed(found) if one.kind == _PRESERVED), None)
    quarantined = next((one for one in reversed(found) if one.kind == _QUARANTINED), None)
    ended = preserved and quarantined and preserved.id > quarantined.id
    return Told(preserved=preserved, quarantined=None if ended else quarantined)


def as_told(warc: WarcRow, told: Told) -> WarcRow:
    """Give the row to check the store by: where it names no key, the key that the last event of preservation names."""
    if warc.state == WarcState.PRESERVED and warc.key:
        return warc
    detail = told.preserved.detail if told.preserved else {}
    return replace(warc, key=detail.get("key"), version_id=detail.get("version"))


def told_otherwise(warc: WarcRow, told: Told) -> Iterator[Claim]:
    """Claim that a WARC's row says what its events say."""
    if event := told.preserved:
        yield compared("catalogue-warc", warc.name, "; ".join(_contradictions(warc, event)), EVENTS)
    elif warc.state == WarcState.PRESERVED and not warc.key:
        yield compared("catalogue-warc", warc.name, "its row says that it is preserved, and names no key", EVENTS)
    if event := told.quarantined:
        found, ours = event.detail.get("found_sha256"), event.detail.get("quarantine")
        why = f"the store holds other bytes (sha256 {found}) than ours, which lie under {ours}: a person decides"
        yield compared("store-sha256", str(event.detail.get("key")), why, EVENTS)


def unaccounted(workspace: Workspace) -> Iterator[Claim]:
    """Claim of each WARC that events, records or the spool name, and the catalogue's list does not, that it is missing."""
    sealed = sorted(path.name for path in workspace.spool.sealed_folder.glob(f"*{WARC_SUFFIX}"))
    listed = select(warc_files.c.name)
    with workspace.catalog.begin() as connection:
        is_sealed = warc_files.c.state != WarcState.OPEN
        known = set(connection.scalars(listed.where(warc_files.c.name.in_(sealed), is_sealed)))
        told = connection.scalars(
            select(events.c.subject)
            .where(events.c.kind == _PRESERVED, events.c.subject.not_in(listed))
            .distinct()
            .order_by(events.c.subject)
        ).all()
        left = connection.execute(
            select(records.c.warc, func.count(), func.bool_or(runs.c.ended_at.is_(None)))
            .join(runs, runs.c.id == records.c.run_id, isouter=True)
            .where(records.c.warc.not_in(listed))
            .group_by(records.c.warc)
            .order_by(records.c.warc)
        ).all()
    for name in told:
        why = "an event says that it is preserved, and the catalogue has no such WARC; see `osint rebuild`"
        yield compared("catalogue-warc", name, why, EVENTS)
    for name, count, running in left:
        if workspace.local_copy(name):
            continue  # said below
        why = f"{count} records of the catalogue lie in it, and the catalogue has no such WARC"
        if workspace.open_copy(name) or running:
            why = f"{why}; its run has not ended"
            yield Claim(claim="in-the-catalogue", subject=name, result=Result.UNVERIFIABLE, why=why, clause=EVENTS)
        else:
            yield compared("catalogue-warc", name, f"{why}; see `osint rebuild`", EVENTS)
    for name in sealed:
        if name not in known:
            why = "it lies in the spool, and the catalogue has no such sealed WARC; `osint recover` brings it in"
            yield Claim(claim="in-the-catalogue", subject=name, result=Result.UNVERIFIABLE, why=why, clause=EVENTS)


def _contradictions(warc: WarcRow, event: EventRow) -> Iterator[str]:
    key = event.detail.get("key")
    if warc.state != WarcState.PRESERVED:
        yield f"an event says that it is preserved as {key}, its row says {warc.state}"
    elif warc.key != key:
        yield f"an event says that it is preserved as {key}, its row says {warc.key}"
    if event.sha256 != warc.sha256:
        yield f"an event says sha256 {event.sha256}, its row {warc.sha256}"
    if warc.state == WarcState.PRESERVED and warc.version_id != event.detail.get("version"):
        yield f"an event says version {event.detail.get('version')}, its row {warc.version_id}"
