"""Deletes local copies of what the store is proven to have: checked again, written down, and only then deleted."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from osint_pipeline.preserve import cdxj_path, manifest_path
from osint_pipeline.workspace import Workspace
from storage.digest import file_sha256
from storage.events import add_event
from storage.objects import ObjectMissing
from storage.rows import EventRow, WarcRow, WarcState
from storage.schema import events
from storage.warc_files import list_warcs, warc_preserved

RELEASED = "released"  # the event before a local copy is deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What became of one local copy; `why` says what keeps it, and is None where it went (or would go)."""

    name: str
    size_bytes: int
    why: str | None = None

    @property
    def released(self) -> bool:
        """Whether the local copy is gone, or would be."""
        return self.why is None

    @property
    def said(self) -> str:
        """What is said of it on a terminal."""
        return self.why or f"{self.size_bytes} bytes; the store has them"


def clean(workspace: Workspace, *, hours: float | None = None, dry_run: bool = False) -> Iterator[Cleaned]:
    """Delete the local copies that have been preserved for `hours` (OSINT_RETAIN_HOURS) and are proven to be in the store.

    Nothing where neither says how long they stay. May be killed and called again at any moment, and run twice at once.
    """
    hours = workspace.service.retain_hours if hours is None else hours
    if hours is None:
        return
    before = datetime.now(UTC) - timedelta(hours=hours)
    for warc in list_warcs(workspace.catalog, state=WarcState.PRESERVED):
        if warc.path is None or warc.preserved_at is None or warc.preserved_at > before:
            continue
        if workspace.local_copy(warc.name) is None:
            if not dry_run:
                _finish(workspace, warc)
            continue
        with workspace.spool.alone_with(warc.name) as alone:
            if alone and workspace.local_copy(warc.name):
                yield _one(workspace, warc, dry_run=dry_run)


def _one(workspace: Workspace, warc: WarcRow, *, dry_run: bool) -> Cleaned:
    why = _keeps(workspace, warc)
    if why is None and not dry_run:
        if _last_event(workspace, warc, RELEASED) is None:
            detail = {"key": warc.key, "version": warc.version_id, "path": warc.path}
            add_event(workspace.catalog, RELEASED, warc.name, warc.sha256, detail)
        workspace.spool.release(warc.name)
        _forget_path(workspace, warc)
    return Cleaned(name=warc.name, size_bytes=warc.size_bytes or 0, why=why)


def _finish(workspace: Workspace, warc: WarcRow) -> None:
    """Do what a kill between the event and the end of the deletion left undone; without the event, touch nothing."""
    if _last_event(workspace, warc, RELEASED):
        workspace.spool.release(warc.name)
        _forget_path(workspace, warc)


def _forget_path(workspace: Workspace, warc: WarcRow) -> None:
    assert warc.preserved_at is not None
    warc_preserved(workspace.catalog, warc.name, at=warc.preserved_at, path=None)


def _keeps(workspace: Workspace, warc: WarcRow) -> str | None:
    """Say what speaks against deleting a local copy; None where nothing does."""
    if not workspace.store.preserves_durably:
        return "the store does not prove that it keeps what it takes"
    event = _last_event(workspace, warc, "preserved")
    if event is None or event.sha256 != warc.sha256:
        return "no event says that it was preserved"
    if not event.detail.get("durable") or event.detail.get("key") != warc.key:
        return "it was preserved in another store, or in one that proves nothing"
    try:
        return _differs(workspace, warc) or _differs_beside(workspace, warc)
    except ObjectMissing as error:
        return str(error)


def _differs(workspace: Workspace, warc: WarcRow) -> str | None:
    """Look at the store's copy once more: what is there, its size, its version, and its bytes unless read lately."""
    key = warc.key or ""
    found = workspace.store.head(key)
    if found is None:
        raise ObjectMissing(key)
    if found.size_bytes != warc.size_bytes:
        return f"the store's copy has {found.size_bytes} bytes, not {warc.size_bytes}"
    if warc.version_id and found.version_id != warc.version_id:
        return f"the store's newest version is {found.version_id}, not {warc.version_id}"
    age = datetime.now(UTC) - (warc.preserved_at or datetime.min.replace(tzinfo=UTC))
    if age >= timedelta(hours=workspace.service.readback_hours) or age < timedelta():
        got = workspace.store.sha256_of(key, warc.version_id)
        if got != warc.sha256:
            return f"the store gave sha256 {got}, not {warc.sha256}"
    return None


def _differs_beside(workspace: Workspace, warc: WarcRow) -> str | None:
    """Read the store's manifest and index: the one that the catalogue knows, the one that lies beside the local copy."""
    path, key = workspace.spool.sealed_folder / warc.name, Path(warc.key or "")
    try:
        wanted = {
            manifest_path(key): warc.manifest_sha256 or file_sha256(manifest_path(path)),
            cdxj_path(key): file_sha256(cdxj_path(path)),
        }
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is not in the spool; `osint recover` makes it again"
    for beside, sha256 in wanted.items():
        if (got := workspace.store.sha256_of(str(beside))) != sha256:
            return f"the store gave sha256 {got} of {beside.name}, not {sha256}"
    return None


def _last_event(workspace: Workspace, warc: WarcRow, kind: str) -> EventRow | None:
    wanted = select(events).where(events.c.subject == warc.name, events.c.kind == kind)
    with workspace.catalog.begin() as connection:
        row = connection.execute(wanted.order_by(events.c.id.desc()).limit(1)).one_or_none()
    return EventRow(**row._mapping) if row else None
