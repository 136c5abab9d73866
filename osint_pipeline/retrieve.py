"""Gives back what is archived: bytes of a record from the spool or the store, proven before they are used."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from storage.errors import DamagedWarc
from storage.exchange import RecordRef
from storage.finding import records_of
from storage.records import copy_records


class Archive:
    """Reads members of WARCs wherever they are: the local copy first, else the store by range."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._keys: dict[str, str | None] = {}

    def member(self, ref: RecordRef) -> bytes:
        """Give a record's gzip member as archived; raises DamagedWarc unless its SHA-256 is the catalogue's."""
        data = self.read(ref.warc, ref.offset_bytes, ref.length_bytes)
        if sha256(data).hexdigest() != ref.record_sha256:
            raise DamagedWarc(ref.warc, ref.offset_bytes, f"record {ref.record_id} does not have its digest any more")
        return data

    def read(self, warc: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Give bytes of a WARC, unproven."""
        if path := self.workspace.spool.find(warc):
            with path.open("rb") as file:
                file.seek(offset_bytes)
                return file.read(length_bytes)
        return self.workspace.store.read_range(self._key(warc), offset_bytes, length_bytes)

    def _key(self, warc: str) -> str:
        if warc not in self._keys:
            rows = self.workspace.catalog.warcs(names=[warc])
            self._keys[warc] = rows[0].key if rows else None
        key = self._keys[warc]
        if key is None:
            raise UserError(f"{warc} is neither in the spool nor in the store", "run `osint verify --all`", Exit.FAILED)
        return key


def pull(workspace: Workspace, id_: UUID, folder: Path) -> tuple[Path, int]:
    """Write the records of a post, capture, media or run as one WARC, byte for byte as archived.

    Returns its path and how many records it holds. Raises UserError if the file exists or nothing has the id.
    """
    refs = _unique(records_of(workspace.catalog, id_))
    if not refs:
        raise UserError(f"nothing in the catalogue has the id {id_}", "`osint find` and `osint runs` list ids")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{id_}.warc.gz"
    archive = Archive(workspace)
    try:
        with path.open("xb") as out:
            copy_records(refs, archive, out)
    except FileExistsError as error:
        raise UserError(f"{path} exists", "name another folder with --out, or move it away") from error
    return path, len(refs)


def _unique(refs: Iterable[RecordRef]) -> list[RecordRef]:
    return list({ref.record_id: ref for ref in refs}.values())


def members(workspace: Workspace, refs: Iterable[RecordRef]) -> Iterator[tuple[RecordRef, bytes]]:
    """Give each record with its proven bytes."""
    archive = Archive(workspace)
    for ref in refs:
        yield ref, archive.member(ref)
