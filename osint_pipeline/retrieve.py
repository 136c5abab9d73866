"""Gives back what is archived: bytes of a record from the spool or the store, proven before they are used."""

from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from storage.errors import DamagedWarc
from storage.exchange import RecordRef
from storage.extract import copy_records
from storage.finding import records_of
from storage.loading import load_records
from storage.rows import WarcRow, WarcState
from storage.schema import records
from storage.warc_files import list_warcs, warcinfo_offsets


class Archive:
    """Reads members of WARCs wherever they are: the local copy first, sealed or still open, else the store by range."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._rows: dict[str, WarcRow] = {}

    def member(self, ref: RecordRef) -> bytes:
        """Give a record's gzip member as archived; raises DamagedWarc unless its SHA-256 is the catalogue's."""
        data = self.read(ref.warc, ref.offset_bytes, ref.length_bytes)
        if sha256(data).hexdigest() != ref.record_sha256:
            raise DamagedWarc(ref.warc, ref.offset_bytes, f"record {ref.record_id} does not have its digest any more")
        return data

    def read(self, warc: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Give bytes of a WARC, unproven; fewer at the end of the file."""
        if file := opened(self.workspace, warc):
            with file:
                file.seek(offset_bytes)
                return file.read(length_bytes)
        row = self._row(warc)
        length_bytes = min(length_bytes, (row.size_bytes or 0) - offset_bytes)
        return self.workspace.store.read_range(row.key or "", offset_bytes, length_bytes, row.version_id)

    def _row(self, warc: str) -> WarcRow:
        if warc not in self._rows:
            rows = list_warcs(self.workspace.catalog, names=[warc])
            if rows and rows[0].state is WarcState.OPEN:
                what = f"{warc} is not in this machine's spool, and was not sealed yet"
                raise UserError(what, "wait until its worker has brought it to the store", Exit.FAILED)
            if not rows or not rows[0].key:
                what = f"{warc} is neither in the spool nor in the store"
                raise UserError(what, "run `osint verify --all`", Exit.FAILED)
            self._rows[warc] = rows[0]
        return self._rows[warc]


def stands(workspace: Workspace, record_id: UUID) -> bool:
    """Tell whether a record can be relied on: its bytes here have their digest, or its WARC is preserved in the store."""
    with workspace.catalog.begin() as connection:
        refs = load_records(connection, records.c.id == record_id)
    if not refs:
        return False
    ref = refs[0]
    file = opened(workspace, ref.warc)
    if file is None:
        return any(warc.state == WarcState.PRESERVED for warc in list_warcs(workspace.catalog, names=[ref.warc]))
    digest, left = sha256(), ref.length_bytes
    with file:
        file.seek(ref.offset_bytes)
        while left and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest() == ref.record_sha256


def opened(workspace: Workspace, warc: str) -> BinaryIO | None:
    """Open a WARC on this machine, sealed or not; None where it is not here. It may be sealed or released in this very moment."""
    for find in (workspace.local_copy, workspace.open_copy, workspace.local_copy):
        with suppress(FileNotFoundError):
            if path := find(warc):
                return path.open("rb")
    return None


def pull(workspace: Workspace, id_: UUID, folder: Path) -> tuple[Path, int]:
    """Write the records of a post, capture, media or run as one WARC, byte for byte as archived.

    Returns its path and how many records it holds. Raises UserError if the file exists or nothing has the id.
    """
    refs = _unique(records_of(workspace.catalog, id_))
    if not refs:
        raise UserError(f"nothing in the catalogue has the id {id_}", "`osint find` and `osint runs` list ids")
    path = folder / f"{id_}.warc.gz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        infos = warcinfo_offsets(workspace.catalog, list({ref.warc for ref in refs}))
        copy_records(refs, Archive(workspace).read, path, infos)
    except FileExistsError as error:
        raise UserError(f"{path} exists", "name another folder with --out, or move it away") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "name a folder that can be written to") from error
    return path, len(refs)


def _unique(refs: Iterable[RecordRef]) -> list[RecordRef]:
    return list({ref.record_id: ref for ref in refs}.values())
