"""Backups of the catalogue's database: written whole, read back, accounted for; older ones go only after that."""

import os
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from storage.digest import file_sha256
from storage.dumping import DumpFacts, dump, find_programs, read_dump, server_major
from storage.dumping import restore as restore_dump
from storage.durable import sync_folder, whole_file
from storage.events import add_event

DIGEST = ".sha256"
_NAME = re.compile(r"osint-catalogue-([0-9a-f]{8})-(\d{8}T\d{6}Z)\.dump")
_FRESH = ".new"
_LEFT_OVER_SECONDS = 86_400.0  # after this a half-written file is a dead process's


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was read back whole; `deleted` names the older ones that went for it."""

    path: Path
    sha256: str
    size_bytes: int
    facts: DumpFacts
    deleted: tuple[str, ...] = ()


def back_up(
    workspace: Workspace,
    *,
    folder: Path | None = None,
    out: Path | None = None,
    keep: int | None = None,
    halt: threading.Event | None = None,
) -> Backup:
    """Write a backup into a folder under a name of its own, or to `out`; keep the newest `keep` of this archive in the folder.

    The folder is by default OSINT_BACKUP_FOLDER, else backups in the data folder. Raises UserError, StorageError.
    """
    path = out or (folder or default_folder(workspace)) / _name(workspace)
    path = path.absolute()
    _refuse_ours(workspace, path)
    if path.exists():
        raise UserError(f"{path} exists", "name another file")
    _make_folder(path.parent)
    made = _write(workspace, path, halt)
    detail = {"size_bytes": made.size_bytes, "server": made.facts.server, "entries": made.facts.entries}
    add_event(workspace.catalog, "backed up", path.name, made.sha256, detail)
    deleted = _delete_older(workspace, path, keep) if keep and out is None else ()
    return Backup(path=path, sha256=made.sha256, size_bytes=made.size_bytes, facts=made.facts, deleted=deleted)


def is_due(workspace: Workspace, folder: Path, hours: float) -> bool:
    """Tell whether the newest backup of this archive in a folder is older than that, or there is none."""
    names = [path.name for path in _ours(workspace, folder)]
    if not names or (match := _NAME.fullmatch(names[-1])) is None:
        return True
    made_at = datetime.strptime(match[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return datetime.now(UTC) - made_at >= timedelta(hours=hours)


def check(path: Path) -> Backup:
    """Read a backup whole and compare it with the digest beside it. Raises UserError, DumpImpossible."""
    try:
        digest, size = file_sha256(path), path.stat().st_size
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "name a file that `osint backup` wrote") from error
    said = _said(path)
    if said != digest:
        what = f"{path} has the SHA-256 {digest}, and {path.name}{DIGEST} says {said}"
        raise UserError(what, "it is not what was written: keep an older one", Exit.FAILED)
    return Backup(path=path, sha256=digest, size_bytes=size, facts=read_dump(path))


def restore(workspace: Workspace, path: Path) -> Backup:
    """Check a backup, and restore it into the empty database that the settings name. Raises UserError, StorageError."""
    found = check(path)
    restore_dump(workspace.database, path)
    detail = {"size_bytes": found.size_bytes, "server": found.facts.server}
    add_event(workspace.catalog, "restored", path.name, found.sha256, detail)
    return found


def default_folder(workspace: Workspace) -> Path:
    """Name the folder that backups go to where none is named."""
    return workspace.service.backup_folder or workspace.folder / "backups"


def _write(workspace: Workspace, path: Path, halt: threading.Event | None) -> Backup:
    programs = find_programs(server_major(workspace.database))
    fresh = path.with_name(f".{path.name}.{os.getpid()}{_FRESH}")
    try:
        dump(workspace.database, fresh, programs, halt=halt)
        facts, digest, size = read_dump(fresh), file_sha256(fresh), fresh.stat().st_size
        beside = path.with_name(path.name + DIGEST)  # first: where a backup stands its digest stands too
        with whole_file(beside) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(f"{digest}  {path.name}\n".encode())
        fresh.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "name another folder", Exit.FAILED) from error
    finally:
        fresh.unlink(missing_ok=True)
    return Backup(path=path, sha256=digest, size_bytes=size, facts=facts)


def _delete_older(workspace: Workspace, newest: Path, keep: int) -> tuple[str, ...]:
    others = [path for path in _ours(workspace, newest.parent) if path.name != newest.name]
    gone = others[: max(0, len(others) - keep + 1)]
    for path in gone:
        path.unlink(missing_ok=True)
        path.with_name(path.name + DIGEST).unlink(missing_ok=True)
    for path in newest.parent.glob(f".osint-catalogue-*{_FRESH}"):
        if time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS:
            path.unlink(missing_ok=True)
    return tuple(path.name for path in gone)


def _ours(workspace: Workspace, folder: Path) -> list[Path]:
    """List this archive's backups in a folder, oldest first."""
    archive = _archive(workspace)
    named = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("*.dump"))
    return sorted(path for path, match in named if match and match[1] == archive)


def _name(workspace: Workspace) -> str:
    return f"osint-catalogue-{_archive(workspace)}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"


def _archive(workspace: Workspace) -> str:
    """Name this archive shortly: several may be backed up to one folder."""
    return sha256(workspace.owner.archive.encode()).hexdigest()[:8]


def _refuse_ours(workspace: Workspace, path: Path) -> None:
    home, there = workspace.folder, path.parent.resolve() / path.name
    for folder in (workspace.service.spool, home / "postgres", home / "store", home / "keys"):
        if there.is_relative_to(folder.resolve()):
            raise UserError(f"{path} lies in {folder}, which is not for backups", "name a folder on another disk")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        advice = "name a folder that is there, on a disk that is mounted"
        raise UserError(f"{folder} cannot be made: {error.strerror}", advice) from error


def _said(path: Path) -> str:
    beside = path.with_name(path.name + DIGEST)
    try:
        return beside.read_text("ascii").split()[0]
    except (OSError, ValueError, IndexError) as error:
        what = f"{beside} cannot be read, so nothing says what {path.name} was"
        raise UserError(what, "bring it with the backup", Exit.FAILED) from error
