"""The spool: WARCs on this machine, from being written until they may go, and what a killed writer leaves."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from storage.chapters import Chapter, chapters, told_runs
from storage.digest import file_sha256
from storage.durable import TEMPORARY, space, sync_folder, whole_file
from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType
from storage.manifest import (
    CDXJ_SUFFIX,
    MANIFEST_SUFFIX,
    WARC_SUFFIX,
    IndexWriter,
    SealedWarc,
    sealed_from,
    to_row,
    write_cdxj,
)
from storage.names import before, shared_host
from storage.records import WarcReader
from storage.refs import ref_of
from storage.warc import OPEN_SUFFIX, holds

TORN_SUFFIX = ".torn"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was found of a writer that ended without sealing, and what became of it.

    `sealed` is None where nothing could be sealed (no whole record, damage in a sealed file, leftovers removed).
    Bytes that were cut off stand in <name>.warc.gz.torn beside the open files.
    """

    name: str
    kept_records: int
    cut_bytes: int
    reason: str
    sealed: SealedWarc | None


class Spool:
    """Folders open/, sealed/ and scratch/ that several processes share.

    Each WARC and each scratch folder is locked (flock) by its living owner; recover leaves these alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open_folder, self.sealed_folder = folder / "open", folder / "sealed"
        self.scratch_folder = folder / "scratch"

    @classmethod
    def open(cls, folder: Path) -> "Spool":
        """Make the folders where they are missing, for their owner alone."""
        spool = cls(folder)
        with space(folder):
            for one in (folder, spool.open_folder, spool.sealed_folder, spool.scratch_folder):
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
        return spool

    def sealed(self) -> Iterator[SealedWarc]:
        """Yield the sealed WARCs that have a manifest, by name. Raises DamagedWarc."""
        for warc in self.sealed_paths():
            yield sealed_from(warc)

    def sealed_paths(self) -> Iterator[Path]:
        """Yield the files of the sealed WARCs that have a manifest, by name; nothing of them is read."""
        for path in sorted(self.sealed_folder.glob("*" + MANIFEST_SUFFIX)):
            warc = path.with_name(path.name.removesuffix(MANIFEST_SUFFIX) + WARC_SUFFIX)
            if warc.exists():
                yield warc

    def torn(self) -> list[Path]:
        """List what was cut off files whose writers were killed; nobody but a person deletes these."""
        return sorted(self.open_folder.glob("*" + TORN_SUFFIX))

    def free_bytes(self) -> tuple[int, int]:
        """Tell how many bytes the spool's disk has left for us, and how large it is."""
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def unsealed_bytes(self) -> int:
        """Add up what stands in WARCs that are not sealed, of all runs."""
        return sum(_size(path) for path in self.open_folder.glob("*" + OPEN_SUFFIX))

    @contextmanager
    def alone_with(self, warc: str) -> Iterator[bool]:
        """Lock a sealed WARC for the while; False where another process has it locked, or it is gone."""
        with _locked(self.sealed_folder / warc) as free:
            yield bool(free)

    def release(self, warc: str) -> None:
        """Delete the local copy of a WARC and its index; its manifest stays. May be called again after a kill.

        Only for what is proven to be elsewhere, and after the event that says so.
        """
        path = self.sealed_folder / warc
        path.unlink(missing_ok=True)
        sync_folder(self.sealed_folder)
        _beside(path, CDXJ_SUFFIX).unlink(missing_ok=True)

    def recover(self, extra: Mapping[str, object] | None = None) -> list[Recovered]:
        """Seal what writers left that were killed; `extra` goes into the manifests written now.

        May be killed and run again at any moment, and run by several processes at once. Raises SpoolFull.
        """
        extra = {**(extra or {}), "recovered": True}
        found: list[Recovered | None] = []
        for path in sorted(self.open_folder.glob("*" + OPEN_SUFFIX)):
            with _locked(path) as free:
                found.append(self._recover_open(path, extra) if free else None)
        for path in sorted(self.sealed_folder.glob("*" + WARC_SUFFIX)):
            if not all(_beside(path, suffix).exists() for suffix in (MANIFEST_SUFFIX, CDXJ_SUFFIX)):
                with _locked(path) as free:
                    found.append(_index_again(path, extra) if free else None)
        found += self._sweep_temporary()
        found += self._sweep_scratch()
        return [one for one in found if one]

    def _recover_open(self, path: Path, extra: Mapping[str, object]) -> Recovered:
        sealed_path = self.sealed_folder / path.name.removesuffix(OPEN_SUFFIX)
        name = sealed_path.name.removesuffix(WARC_SUFFIX)
        torn = path.with_name(sealed_path.name + TORN_SUFFIX)
        if sealed_path.exists():
            return _told(name, "a sealed file has this name already; both are left as they are")
        size = path.stat().st_size
        with IndexWriter(sealed_path) as index:
            scan = _scan(path, index)
            if not scan.records:
                path.rename(torn)
                sync_folder(self.open_folder)
                return Recovered(name=name, kept_records=0, cut_bytes=size, reason=scan.reason, sealed=None)
            _cut(path, scan.end_bytes, torn)
            path.rename(sealed_path)
            sync_folder(self.sealed_folder)
            sync_folder(self.open_folder)
            sealed = index.commit(scan.sha256, scan.end_bytes, scan.warcinfo_id, _facts(sealed_path, scan, extra))
        return Recovered(
            name=name,
            kept_records=scan.records,
            cut_bytes=size - scan.end_bytes,
            reason=scan.reason,
            sealed=sealed,
        )

    def _sweep_temporary(self) -> Iterator[Recovered]:
        for folder in (self.open_folder, self.sealed_folder):
            for path in sorted(folder.glob("*" + TEMPORARY)):
                name = path.name
                for suffix in (TEMPORARY, TORN_SUFFIX, WARC_SUFFIX, MANIFEST_SUFFIX, CDXJ_SUFFIX):
                    name = name.removesuffix(suffix)
                sealed, left = self.sealed_folder / (name + WARC_SUFFIX), self.open_folder / (name + WARC_SUFFIX)
                with _locked(sealed) as first, _locked(left.with_name(left.name + OPEN_SUFFIX)) as second:
                    if first is not False and second is not False and path.exists():
                        size = path.stat().st_size
                        path.unlink()
                        yield _told(path.name, "half-written file of a process that ended, removed", size)

    def _sweep_scratch(self) -> Iterator[Recovered]:
        for path in sorted(self.scratch_folder.iterdir()):
            if not path.is_dir():
                continue
            with _locked(path) as free:
                if free:
                    size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
                    shutil.rmtree(path)
                    yield _told(f"scratch/{path.name}", "scratch of a process that ended, removed", size)


class Scratch:
    """A folder for blocks that are too large for memory; gone when closed, or by recover once its owner ended."""

    def __init__(self, spool: Spool, owner: str) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{owner}-", dir=spool.scratch_folder))
            try:
                self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            fcntl.flock(self._folder, fcntl.LOCK_EX)
            if holds(self._folder, self.path):
                return
            os.close(self._folder)  # a recovery removed it in between

    def close(self) -> None:
        """Remove the folder with all that is in it. May be called twice."""
        if self._folder >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._folder)
            self._folder = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    records: int
    end_bytes: int
    sha256: str
    warcinfo_id: UUID | None
    chapters: tuple[Chapter, ...]
    reason: str


def _scan(path: Path, index: IndexWriter) -> _Scan:
    """Read whole records, one after the other in flat memory, until the end or the first damage."""
    warc = path.name.removesuffix(OPEN_SUFFIX)
    records, reason = 0, "whole; its writer ended before sealing"
    first: UUID | None = None
    infos: list[RecordRef] = []
    with path.open("rb", buffering=0) as file:
        reader = WarcReader(file, warc)
        digest = reader.source.sha256.copy()
        try:
            while streamed := reader.next():
                ref, served_type = ref_of(streamed, warc)
                index.add(to_row(ref, served_type))
                records, digest = records + 1, reader.source.sha256.copy()
                first = first or ref.record_id
                infos += [ref] if ref.type is RecordType.WARCINFO else []
        except DamagedWarc as error:
            reason = f"cut at byte {reader.end_bytes}: {error.why}"
        return _Scan(
            records=records,
            end_bytes=reader.end_bytes,
            sha256=digest.hexdigest(),
            warcinfo_id=first,
            chapters=chapters(path, infos),
            reason=reason if path.stat().st_size else "empty; its writer ended before the first record",
        )


def _facts(warc: Path, scan: _Scan, extra: Mapping[str, object]) -> dict[str, object]:
    """Say in a manifest written late what its writer would have said: whose runs it is, and the manifest before it."""
    said = {"run": "run", "isPartOf": "source"}
    told = [{ours: one.info[theirs] for theirs, ours in said.items() if theirs in one.info} for one in scan.chapters]
    facts: dict[str, object] = dict(told[0]) if told else {}
    if shared_host(warc.name) is not None:
        runs = [
            {**facts, "warcinfo": str(one.warcinfo), "offset": one.offset_bytes}
            for facts, one in zip(told, scan.chapters, strict=True)
        ]
        facts = told_runs(runs) if runs else {}
    if scan.chapters and "operator" in scan.chapters[0].info:
        facts["collector"] = scan.chapters[0].info["operator"]
    if earlier := before(warc.name):
        manifest = _beside(warc.with_name(earlier), MANIFEST_SUFFIX)
        if manifest.exists():
            facts["previous_manifest_sha256"] = file_sha256(manifest)
    return {**facts, **extra}


def _cut(path: Path, end_bytes: int, torn: Path) -> None:
    """Keep what stands behind the last whole record in a file of its own, then cut it off."""
    with path.open("r+b") as file:
        file.seek(end_bytes)
        if piece := file.read(_PIECE_BYTES):
            with whole_file(torn) as copy:
                while piece:
                    copy.write(piece)
                    piece = file.read(_PIECE_BYTES)
            sync_folder(torn.parent)
            file.truncate(end_bytes)
        os.fsync(file.fileno())


def _index_again(path: Path, extra: Mapping[str, object]) -> Recovered | None:
    """Give a sealed WARC the index and manifest that its writer, or an earlier recovery, did not come to write."""
    name = path.name.removesuffix(WARC_SUFFIX)
    if _beside(path, MANIFEST_SUFFIX).exists():
        if _beside(path, CDXJ_SUFFIX).exists():
            return None  # another process did it meanwhile
        sealed = sealed_from(path)
        write_cdxj(sealed)
        return Recovered(
            name=name, kept_records=sealed.record_count, cut_bytes=0, reason="index missing", sealed=sealed
        )
    with IndexWriter(path) as index:
        scan = _scan(path, index)
        if (left := path.stat().st_size - scan.end_bytes) or not scan.records:
            return _told(name, f"a sealed file is damaged and was left as it is: {scan.reason}", left)
        sealed = index.commit(scan.sha256, scan.end_bytes, scan.warcinfo_id, _facts(path, scan, extra))
    return Recovered(name=name, kept_records=scan.records, cut_bytes=0, reason="manifest missing", sealed=sealed)


def _told(name: str, reason: str, cut_bytes: int = 0) -> Recovered:
    return Recovered(name=name, kept_records=0, cut_bytes=cut_bytes, reason=reason, sealed=None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # sealed in this moment
        return 0


def _beside(warc: Path, suffix: str) -> Path:
    return warc.with_name(warc.name.removesuffix(WARC_SUFFIX) + suffix)


@contextmanager
def _locked(path: Path) -> Iterator[bool | None]:
    """Lock a file or folder for the while: True if it is ours, False if another holds it, None if it is gone."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True if holds(number, path) else None
    finally:
        os.close(number)
