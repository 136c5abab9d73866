"""The spool: WARCs on this machine, from being written until they may go, and what a killed writer leaves."""

import fcntl
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from storage.digest import file_sha256
from storage.durable import TEMPORARY, space, sync_folder, whole_file
from storage.errors import DamagedWarc
from storage.exchange import Exchange, Original, RecordRef, Resource
from storage.http import PayloadDigest
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
from storage.records import WarcReader
from storage.refs import ref_of
from storage.warc import OPEN_SUFFIX, BrokenWarc, OpenWarc, holds

TORN_SUFFIX = ".torn"
_PIECE_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}")


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


class WarcSeries:
    """The WARCs of one run and attempt, <prefix>-<attempt>-<serial>.warc.gz, a new one when one has grown enough.

    Safe to use from several threads. The first file is made at the first append. Each manifest names the digest of
    the manifest before it as previous_manifest_sha256 in `extra`. `scratch` is where Stored blocks belong.
    """

    def __init__(
        self,
        spool: Spool,
        prefix: str,
        attempt: int,
        info: Mapping[str, str],
        limit_bytes: int,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        if not _NAME.fullmatch(prefix):
            raise ValueError(f"{prefix!r} cannot begin a file name")
        self._spool, self._prefix, self._info = spool, f"{prefix}-{attempt}", info
        self._limit_bytes, self._extra = limit_bytes, dict(extra or {})
        self._lock = threading.RLock()
        self._serial = 0
        self._current: OpenWarc | None = None
        self._sealed: list[SealedWarc] = []
        self._taken = 0
        self._ended = False
        self._broken: str | None = None  # why what was appended cannot be relied on
        self._scratch = Scratch(spool, self._prefix)
        self.scratch = self._scratch.path

    def append(
        self, exchange: Exchange, original: Original | None = None, payload: PayloadDigest | None = None
    ) -> RecordRef:
        """Append to the current WARC (see OpenWarc.append)."""
        with self._lock:
            return self._warc().append(exchange, original, payload)

    def append_resource(self, resource: Resource) -> RecordRef:
        """Append to the current WARC (see OpenWarc.append_resource)."""
        with self._lock:
            return self._warc().append_resource(resource)

    def append_journal(self, entry: bytes, url: str, record_id: UUID) -> RecordRef:
        """Append a journal entry to the current WARC (see OpenWarc.append_journal)."""
        with self._lock:
            return self._warc().append_journal(entry, url, record_id)

    def sync(self) -> None:
        """Make durable all that was appended before. Those of WARCs sealed meanwhile are so already."""
        with self._lock:
            current = self._current
        try:
            if current:
                current.sync()
        except BrokenWarc:
            with self._lock:
                if current is self._current:
                    raise
        self._check()

    def turn(self) -> None:
        """Seal the current WARC however small it is, so that it can be uploaded; the next append makes a new one."""
        with self._lock:
            self._check()
            if not self._ended:
                self._seal()

    def take_sealed(self) -> list[SealedWarc]:
        """List the WARCs sealed since the last call, so that they can be uploaded while the run goes on."""
        with self._lock:
            fresh, self._taken = self._sealed[self._taken :], len(self._sealed)
            return fresh

    def close(self) -> list[SealedWarc]:
        """Seal the current WARC; list all WARCs of the series. May be called twice."""
        with self._lock:
            try:
                self._seal()
            finally:
                self._ended = True
                self._scratch.close()
            self._check()
            return list(self._sealed)

    def _warc(self) -> OpenWarc:
        self._check()
        if self._ended:
            raise BrokenWarc(self._prefix, "its run has ended")
        if self._current and self._current.size_bytes >= self._limit_bytes:
            self._seal()
        if self._current is None:
            name = f"{self._prefix}-{self._serial:05}"
            sealed = self._spool.sealed_folder
            self._current = OpenWarc.create(self._spool.open_folder, name, self._info, sealed=sealed)
            self._serial += 1
        return self._current

    def _check(self) -> None:
        if self._broken:
            raise BrokenWarc(self._prefix, self._broken)

    def _seal(self) -> None:
        current, self._current = self._current, None
        if current:
            try:
                sealed = current.seal(self._extra)
            except BaseException as error:
                self._broken = f"a file could not be sealed: {error}"
                raise
            self._sealed.append(sealed)
            self._extra["previous_manifest_sha256"] = sealed.manifest_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    records: int
    end_bytes: int
    sha256: str
    warcinfo_id: UUID | None
    info: Mapping[str, str]  # the fields of its warcinfo
    reason: str


def _scan(path: Path, index: IndexWriter) -> _Scan:
    """Read whole records, one after the other in flat memory, until the end or the first damage."""
    warc = path.name.removesuffix(OPEN_SUFFIX)
    records, warcinfo_id, reason = 0, None, "whole; its writer ended before sealing"
    info = warc_info(path)
    with path.open("rb", buffering=0) as file:
        reader = WarcReader(file, warc)
        digest = reader.source.sha256.copy()
        try:
            while streamed := reader.next():
                ref, served_type = ref_of(streamed, warc)
                index.add(to_row(ref, served_type))
                records, digest = records + 1, reader.source.sha256.copy()
                warcinfo_id = warcinfo_id or ref.record_id
        except DamagedWarc as error:
            reason = f"cut at byte {reader.end_bytes}: {error.why}"
        return _Scan(
            records=records,
            end_bytes=reader.end_bytes,
            sha256=digest.hexdigest(),
            warcinfo_id=warcinfo_id,
            info=info,
            reason=reason if path.stat().st_size else "empty; its writer ended before the first record",
        )


def warc_info(path: Path) -> dict[str, str]:
    """Read the fields of the warcinfo record that a WARC begins with; empty where it has none that is whole."""
    try:
        with path.open("rb", buffering=0) as file:
            streamed = WarcReader(file, path.name).next()
            block = b"".join(streamed.pieces()) if streamed and streamed.header.type == "warcinfo" else b""
    except DamagedWarc:
        return {}
    return dict(line.partition(": ")[::2] for line in block.decode("utf-8", "replace").splitlines())


def _facts(warc: Path, scan: _Scan, extra: Mapping[str, object]) -> dict[str, object]:
    """Say in a manifest written late what its writer would have said: whose run it is, and the manifest before it."""
    said = {"run": "run", "isPartOf": "source", "operator": "collector"}
    facts: dict[str, object] = {ours: scan.info[theirs] for theirs, ours in said.items() if theirs in scan.info}
    series, _, serial = warc.name.removesuffix(WARC_SUFFIX).rpartition("-")
    if serial.isdecimal() and int(serial):
        before = warc.with_name(f"{series}-{int(serial) - 1:05}{MANIFEST_SUFFIX}")
        if before.exists():
            facts["previous_manifest_sha256"] = file_sha256(before)
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
