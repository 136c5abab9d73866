"""Brings sealed WARCs to the object store: checked, put once, read back, then said so; the manifest last."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import select

from osint_pipeline.workspace import Workspace
from storage.check import Result, check_warc
from storage.digest import file_sha256
from storage.errors import StoreDiffers
from storage.objects import FileDiffers
from storage.rows import WarcRow, WarcState
from storage.schema import runs, sources

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preserved:
    """What became of one sealed WARC; `why` is None where its store's bytes were read back and are equal."""

    name: str
    run: UUID
    key: str
    size_bytes: int
    why: str | None = None


def key_of(warc: WarcRow, source_slug: str) -> str:
    """Give the WARC's place in the bucket: v1/warc/{source}/{yyyy}/{mm}/{dd}/{run}/{name}.warc.gz (docs/design.md)."""
    assert warc.sealed_at is not None
    return f"v1/warc/{source_slug}/{warc.sealed_at:%Y/%m/%d}/{warc.run_id}/{warc.name}"


def upload(workspace: Workspace, *, progress: Progress | None = None) -> Iterator[Preserved]:
    """Drain the spool, oldest first. Raises StoreUnavailable at the first sign that the store is away.

    Safe to call again, from several processes too: what is in the store already is only read back.
    """
    waiting = workspace.catalog.warcs(state=WarcState.SEALED)
    for done, warc in enumerate(waiting):
        if progress:
            progress(warc.name, done, len(waiting))
        try:
            yield preserve(workspace, warc)
        except (StoreDiffers, FileDiffers) as error:  # this one waits for a person; the others go on
            yield _held_back(workspace, warc, key_of(warc, _slug(workspace, warc)), str(error))


def preserve(workspace: Workspace, warc: WarcRow) -> Preserved:
    """Check one sealed WARC, put it with its index and, last, its manifest; write the event before the state."""
    path = workspace.local_copy(warc.name)
    key = key_of(warc, _slug(workspace, warc))
    if path is None:
        return _held_back(workspace, warc, key, "its file is not in the spool")
    manifest = manifest_path(path)
    bad = [finding for finding in check_warc(path, manifest) if finding.result is Result.FAIL]
    if bad:
        return _held_back(
            workspace, warc, key, f"it does not pass its own check: {bad[0].rule} at byte {bad[0].offset}"
        )
    stored = workspace.store.put_once(path, key, warc.sha256 or file_sha256(path), media_type="application/warc")
    for beside, name, kind in (
        (cdxj_path(path), cdxj_path(Path(key)), "text/plain; charset=utf-8"),
        (manifest, manifest_path(Path(key)), "application/json"),
    ):
        workspace.store.put_once(beside, str(name), file_sha256(beside), media_type=kind)
    detail = {"key": key, "version": stored.version_id, "durable": workspace.store.preserves_durably}
    workspace.catalog.add_event("preserved", warc.name, warc.sha256, detail)
    workspace.catalog.warc_preserved(
        warc.name,
        at=datetime.now(UTC),
        key=key,
        version_id=stored.version_id,
        manifest_sha256=file_sha256(manifest),
    )
    return Preserved(name=warc.name, run=warc.run_id, key=key, size_bytes=stored.size_bytes)


def manifest_path(warc: Path) -> Path:
    """Name the manifest beside a WARC."""
    return warc.with_name(warc.name.removesuffix(".warc.gz") + ".manifest.json")


def cdxj_path(warc: Path) -> Path:
    """Name the index beside a WARC."""
    return warc.with_name(warc.name.removesuffix(".warc.gz") + ".cdxj")


def _slug(workspace: Workspace, warc: WarcRow) -> str:
    query = select(sources.c.slug).join(runs, runs.c.source_id == sources.c.id).where(runs.c.id == warc.run_id)
    with workspace.catalog.begin() as connection:
        return connection.scalar(query) or "unknown"


def _held_back(workspace: Workspace, warc: WarcRow, key: str, why: str) -> Preserved:
    workspace.catalog.add_event("held back", warc.name, warc.sha256, {"why": why})
    return Preserved(name=warc.name, run=warc.run_id, key=key, size_bytes=warc.size_bytes or 0, why=why)
