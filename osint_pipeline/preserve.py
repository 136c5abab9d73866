"""Brings sealed WARCs to the object store: checked, put once, read back, then said so; the manifest last."""

import fcntl
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import select

from osint_pipeline.state import note_state, store_state
from osint_pipeline.uploads import note_upload
from osint_pipeline.workspace import Workspace
from storage.check import Result, check_warc
from storage.digest import file_sha256
from storage.errors import StorageError, StoreDiffers
from storage.events import add_event
from storage.finding import list_events
from storage.names import series_of, shared_host
from storage.objects import FileDiffers, ObjectStore, Stored
from storage.rows import WarcRow, WarcState
from storage.schema import runs, sources
from storage.warc_files import list_warcs, warc_preserved, warcs_elsewhere

Progress = Callable[[str, int, int], None]
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preserved:
    """What became of one sealed WARC; `why` is None where its store's bytes were read back and are equal.

    `quarantined` is the key of our bytes where the WARC's own key holds others.
    """

    name: str
    run: UUID
    key: str
    size_bytes: int
    why: str | None = None
    quarantined: str | None = None


def key_of(warc: WarcRow, source_slug: str) -> str:
    """Give the WARC's place in the bucket: v1/warc/{source}/{yyyy}/{mm}/{dd}/{run}/{name}.warc.gz (docs/design.md).

    Where several runs share it, host and series stand for source and run.
    """
    assert warc.sealed_at is not None
    if host := shared_host(warc.name):
        return f"v1/warc/{host}/{warc.sealed_at:%Y/%m/%d}/{series_of(warc.name)}/{warc.name}"
    return f"v1/warc/{source_slug}/{warc.sealed_at:%Y/%m/%d}/{warc.run_id}/{warc.name}"


def quarantine_key_of(warc: WarcRow, file: str, sha256: str) -> str:
    """Give the place of a file of ours whose own key holds other bytes: nothing else can ever lie there.

    v1/quarantine/{yyyy-mm-dd, when it was sealed}/{WARC}/{sha256 in hex}{.warc.gz, .cdxj or .manifest.json}
    """
    assert warc.sealed_at is not None
    suffix = file.removeprefix(warc.name.removesuffix(".warc.gz"))
    return f"v1/quarantine/{warc.sealed_at:%Y-%m-%d}/{warc.name}/{sha256}{suffix}"


def upload(workspace: Workspace, *, progress: Progress | None = None) -> Generator[Preserved]:
    """Drain this machine's spool, oldest first, several WARCs at once; each is told of as it is done.

    Raises StoreUnavailable at the first sign that the store is away, after what was under way has ended. Safe to call
    again, from several processes too: what is in the store already is only read back.
    """
    try:
        yield from _upload(workspace, progress)
    except StorageError as error:
        note_upload(workspace.folder, error)
        raise
    note_upload(workspace.folder, None)


def _upload(workspace: Workspace, progress: Progress | None) -> Iterator[Preserved]:
    others = warcs_elsewhere(workspace.catalog, workspace.service.machine)
    sealed = [
        one
        for one in list_warcs(workspace.catalog, state=WarcState.SEALED)
        if one.name not in others or workspace.local_copy(one.name)
    ]
    waiting = sorted(sealed, key=lambda one: (one.sealed_at or _NEVER, one.name))
    note_state(workspace)
    store_state(workspace)
    if not waiting:
        return
    at_once = workspace.service.upload_threads
    _ = workspace.store, workspace.spool  # opened here, once: threads only use them
    with _threads(at_once, workspace.store) as pool:
        running: set[Future[Preserved]] = set()
        for begun, warc in enumerate(waiting):
            while len(running) >= at_once:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                yield from _ended(ended, running)
            if progress:
                progress(warc.name, begun, len(waiting))
            running.add(pool.submit(preserve, workspace, warc))
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from _ended(ended, running)


def preserve(workspace: Workspace, warc: WarcRow) -> Preserved:
    """Check one sealed WARC, put it with its index and, last, its manifest; write the event before the state.

    Where the store gives back other bytes than ours, ours go into quarantine; the WARC stays sealed, its local copy
    stays, and a person decides.
    """
    key = key_of(warc, _slug(workspace, warc))
    with _mine(workspace, warc) as path:
        (warc,) = list_warcs(workspace.catalog, names=[warc.name])
        if warc.state is WarcState.PRESERVED:  # another upload did it meanwhile
            return Preserved(name=warc.name, run=warc.run_id, key=warc.key or key, size_bytes=warc.size_bytes or 0)
        if path is None:
            return _held_back(workspace, warc, key, "its file is not in the spool")
        return _preserve(workspace, warc, path, key)


@contextmanager
def _mine(workspace: Workspace, warc: WarcRow) -> Iterator[Path | None]:
    """Hold the lock of a WARC's file, so that one upload or clean-up at a time has it; None where there is no file."""
    path = workspace.local_copy(warc.name)
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else -1
    except FileNotFoundError:
        number = -1
    if number < 0:
        yield None
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield path if path and path.exists() else None
    finally:
        os.close(number)


def _preserve(workspace: Workspace, warc: WarcRow, path: Path, key: str) -> Preserved:
    manifest = manifest_path(path)
    if warc.manifest_sha256 and (not manifest.exists() or file_sha256(manifest) != warc.manifest_sha256):
        return _held_back(workspace, warc, key, "its manifest is not the one that it was sealed with")
    bad = [finding for finding in check_warc(path, manifest, sha256=warc.sha256) if finding.result is Result.FAIL]
    if bad:
        return _held_back(
            workspace, warc, key, f"it does not pass its own check: {bad[0].rule} at byte {bad[0].offset}"
        )
    files = (
        (path, key, warc.sha256 or file_sha256(path), "application/warc"),
        (cdxj_path(path), str(cdxj_path(Path(key))), file_sha256(cdxj_path(path)), "text/plain; charset=utf-8"),
        (manifest, str(manifest_path(Path(key))), file_sha256(manifest), "application/json"),
    )
    try:
        stored = [workspace.store.put_once(file, at, sha256, media_type=kind) for file, at, sha256, kind in files]
    except FileDiffers as error:  # this one waits for a person; the others go on
        return _held_back(workspace, warc, key, str(error))
    except StoreDiffers as error:
        return _quarantine(workspace, warc, {at: file for file, at, _, _ in files}[error.key], error)
    return _preserved(workspace, warc, key, stored[0], files[2][2])


def manifest_path(warc: Path) -> Path:
    """Name the manifest beside a WARC."""
    return warc.with_name(warc.name.removesuffix(".warc.gz") + ".manifest.json")


def cdxj_path(warc: Path) -> Path:
    """Name the index beside a WARC."""
    return warc.with_name(warc.name.removesuffix(".warc.gz") + ".cdxj")


@contextmanager
def _threads(count: int, store: ObjectStore) -> Iterator[ThreadPoolExecutor]:
    """Run threads that end with the block: at once where it is left for anything but a fault of the store."""
    pool = ThreadPoolExecutor(count, "preserve")
    try:
        yield pool
    except StorageError:
        raise
    except BaseException:  # Ctrl-C, a reader that went away: nobody waits for a gigabyte on its way
        store.wire.halt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        store.wire.go_on()


def _ended(ended: set[Future[Preserved]], running: set[Future[Preserved]]) -> Iterator[Preserved]:
    """Tell of what has ended; where one failed, of all that was under way, and then raise its error."""
    failed = any(one.exception() for one in ended)
    errors = []
    for one in [*ended, *running] if failed else list(ended):
        error = one.exception()  # waits for those that run
        if error is None:
            yield one.result()
        else:
            errors.append(error)
    if errors:
        raise errors[0]


def _preserved(workspace: Workspace, warc: WarcRow, key: str, stored: Stored, manifest_sha256: str) -> Preserved:
    detail = {"key": key, "version": stored.version_id, "durable": workspace.store.preserves_durably}
    if path := workspace.local_copy(warc.name):
        detail["linked"] = workspace.share(path, key)
    add_event(workspace.catalog, "preserved", warc.name, warc.sha256, detail)
    warc_preserved(
        workspace.catalog,
        warc.name,
        at=datetime.now(UTC),
        key=key,
        version_id=stored.version_id,
        manifest_sha256=manifest_sha256,
    )
    return Preserved(name=warc.name, run=warc.run_id, key=key, size_bytes=stored.size_bytes)


def _quarantine(workspace: Workspace, warc: WarcRow, file: Path, differs: StoreDiffers) -> Preserved:
    ours = differs.wanted_sha256
    aside = quarantine_key_of(warc, file.name, ours)
    try:
        stored = workspace.store.put_once(file, aside, ours)
    except StoreDiffers as error:  # a store that changes what it is given: no key helps
        return _held_back(workspace, warc, differs.key, str(error))
    why = f"{differs}; ours lies under {aside}, nothing local was deleted"
    detail = {
        "key": differs.key,
        "ours_sha256": ours,
        "found_sha256": differs.got_sha256,
        "quarantine": aside,
        "version": stored.version_id,
    }
    _tell_once(workspace, "quarantined", warc, ours, detail)
    return Preserved(
        name=warc.name, run=warc.run_id, key=differs.key, size_bytes=warc.size_bytes or 0, why=why, quarantined=aside
    )


def _slug(workspace: Workspace, warc: WarcRow) -> str:
    query = select(sources.c.slug).join(runs, runs.c.source_id == sources.c.id).where(runs.c.id == warc.run_id)
    with workspace.catalog.begin() as connection:
        return connection.scalar(query) or "unknown"


def _held_back(workspace: Workspace, warc: WarcRow, key: str, why: str) -> Preserved:
    _tell_once(workspace, "held back", warc, warc.sha256, {"why": why})
    return Preserved(name=warc.name, run=warc.run_id, key=key, size_bytes=warc.size_bytes or 0, why=why)


def _tell_once(
    workspace: Workspace, kind: str, warc: WarcRow, sha256: str | None, detail: dict[str, str | None]
) -> None:
    """Write an event, unless the last one of this WARC says the same: each `osint upload` finds it again."""
    told = list_events(workspace.catalog, subject=warc.name)
    if not told or (told[-1].kind, told[-1].sha256, dict(told[-1].detail)) != (kind, sha256, detail):
        add_event(workspace.catalog, kind, warc.name, sha256, detail)
