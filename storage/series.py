"""WARCs that follow each other, a new one when one has grown enough: those of one run, or of several one after the other."""

import re
import threading
import time
from collections.abc import Mapping
from uuid import UUID

from storage.chapters import told_runs
from storage.exchange import Exchange, Original, RecordRef, Resource
from storage.http import PayloadDigest
from storage.manifest import SealedWarc
from storage.names import SHARED
from storage.spool import Scratch, Spool
from storage.warc import BrokenWarc, OpenWarc

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}")


class _Files:
    """The files <name>-<serial>.warc.gz of a series. Safe to use from several threads; the first is made at the first append.

    Each manifest names the digest of the manifest before it as previous_manifest_sha256 in `extra`.
    """

    def __init__(self, spool: Spool, name: str, limit_bytes: int, extra: Mapping[str, object]) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot begin a file name")
        self.spool, self.name = spool, name
        self.lock = threading.RLock()
        self.writer: Section | None = None  # the one section that may append
        self._limit_bytes, self._extra = limit_bytes, dict(extra)
        self._serial = 0
        self._current: OpenWarc | None = None
        self._opened_at = 0.0
        self._runs: list[dict[str, object]] = []  # that wrote into the current file and are told in its manifest
        self._sealed: list[SealedWarc] = []
        self._taken = 0
        self._broken: str | None = None  # why what was appended cannot be relied on

    def for_writing(self, section: "Section") -> OpenWarc:
        """Give the file that a section appends to, begun by its warcinfo record; call it with the lock held."""
        self.check()
        if section is not self.writer:
            raise BrokenWarc(self.name, "its run has ended")
        if self._current and self._current.size_bytes >= self._limit_bytes:
            self.seal()
        if self._current is None:
            name, spool = f"{self.name}-{self._serial:05}", self.spool
            self._current = OpenWarc.create(spool.open_folder, name, section.info, sealed=spool.sealed_folder)
            self._serial, self._opened_at = self._serial + 1, time.monotonic()
            self._entered(section, self._current)
        elif self._current.file_name not in section.warcs:
            self._current.begin(section.info)
            self._entered(section, self._current)
        return self._current

    def _entered(self, section: "Section", warc: OpenWarc) -> None:
        section.warcs[warc.file_name] = warc.warcinfo_offset_bytes
        if section.facts is not None:
            place = {"warcinfo": str(warc.warcinfo_id), "offset": warc.warcinfo_offset_bytes}
            self._runs.append({**section.facts, **place})

    def sync(self) -> None:
        with self.lock:
            current = self._current
        try:
            if current:
                current.sync()
        except BrokenWarc:
            with self.lock:
                if current is self._current:
                    raise
        self.check()

    def check(self) -> None:
        if self._broken:
            raise BrokenWarc(self.name, self._broken)

    @property
    def broken(self) -> bool:
        return self._broken is not None

    @property
    def current(self) -> OpenWarc | None:
        return self._current

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._opened_at if self._current else 0.0

    def seal(self) -> None:
        """Seal the current file, if there is one."""
        with self.lock:
            current, self._current = self._current, None
            runs, self._runs = self._runs, []
            if current is None:
                return
            try:
                sealed = current.seal({**self._extra, **(told_runs(runs) if runs else {})})
            except BaseException as error:
                self._broken = f"a file could not be sealed: {error}"
                raise
            self._sealed.append(sealed)
            self._extra["previous_manifest_sha256"] = sealed.manifest_sha256

    def take_sealed(self) -> list[SealedWarc]:
        with self.lock:
            fresh, self._taken = self._sealed[self._taken :], len(self._sealed)
            return fresh

    def all_sealed(self) -> list[SealedWarc]:
        with self.lock:
            return list(self._sealed)


class Section:
    """What one run writes into a series. Safe to use from several threads. `scratch` is where Stored blocks belong.

    `warcs` names the files that it wrote into so far, with the offset of its warcinfo record in each. Behind end() nothing is appended any more.
    """

    def __init__(self, files: _Files, info: Mapping[str, str], facts: Mapping[str, object] | None) -> None:
        self.info, self.facts = info, facts
        self.warcs: dict[str, int] = {}
        self._files = files
        self._scratch = Scratch(files.spool, files.name)
        self.scratch = self._scratch.path
        files.writer = self

    def append(
        self, exchange: Exchange, original: Original | None = None, payload: PayloadDigest | None = None
    ) -> RecordRef:
        """Append to the current WARC (see OpenWarc.append)."""
        with self._files.lock:
            return self._files.for_writing(self).append(exchange, original, payload)

    def append_resource(self, resource: Resource) -> RecordRef:
        """Append to the current WARC (see OpenWarc.append_resource)."""
        with self._files.lock:
            return self._files.for_writing(self).append_resource(resource)

    def append_journal(self, entry: bytes, url: str, record_id: UUID) -> RecordRef:
        """Append a journal entry to the current WARC (see OpenWarc.append_journal)."""
        with self._files.lock:
            return self._files.for_writing(self).append_journal(entry, url, record_id)

    def sync(self) -> None:
        """Make durable all that was appended before. Those of WARCs sealed meanwhile are so already."""
        self._files.sync()

    def end(self) -> None:
        """Let nothing more be appended, and remove the scratch. May be called twice."""
        with self._files.lock:
            if self._files.writer is self:
                self._files.writer = None
        self._scratch.close()


class WarcSeries(Section):
    """The WARCs of one run and attempt, <prefix>-<attempt>-<serial>.warc.gz."""

    def __init__(
        self,
        spool: Spool,
        prefix: str,
        attempt: int,
        info: Mapping[str, str],
        limit_bytes: int,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(_Files(spool, f"{prefix}-{attempt}", limit_bytes, extra or {}), info, None)

    def turn(self) -> None:
        """Seal the current WARC however small it is, so that it can be uploaded; the next append makes a new one."""
        self._files.check()
        self._files.seal()

    def take_sealed(self) -> list[SealedWarc]:
        """List the WARCs sealed since the last call, so that they can be uploaded while the run goes on."""
        return self._files.take_sealed()

    def close(self) -> list[SealedWarc]:
        """Seal the current WARC; list all WARCs of the series. May be called twice."""
        with self._files.lock:
            try:
                self._files.seal()
            finally:
                self.end()
            self._files.check()
            return self._files.all_sealed()


class SharedSeries:
    """WARCs that several runs write, one run after the other, <prefix>-shared-<serial>.warc.gz.

    In each file each run begins with a warcinfo record of its own; the manifest lists them under `runs` in `extra`.
    """

    def __init__(self, spool: Spool, prefix: str, limit_bytes: int, extra: Mapping[str, object]) -> None:
        self._files = _Files(spool, f"{prefix}-{SHARED}", limit_bytes, extra)
        self._ended = False

    def begin(self, info: Mapping[str, str], facts: Mapping[str, object]) -> Section:
        """Begin a run's section: `info` are the fields of its warcinfo, `facts` what the manifest says of it.

        Raises BrokenWarc while another run writes, after close(), and where a file could not be sealed.
        """
        with self._files.lock:
            self._files.check()
            if self._files.writer is not None or self._ended:
                raise BrokenWarc(self._files.name, "it is closed" if self._ended else "another run writes to it")
            return Section(self._files, info, facts)

    @property
    def broken(self) -> bool:
        """Whether it takes nothing more: a file could not be sealed, and is for Spool.recover."""
        return self._files.broken

    @property
    def age_seconds(self) -> float:
        """How long ago the open file was begun; 0 where none is open."""
        return self._files.age_seconds

    @property
    def current(self) -> OpenWarc | None:
        """The open file."""
        return self._files.current

    def turn(self) -> None:
        """Seal the open file however small it is; the next append makes a new one."""
        self._files.check()
        self._files.seal()

    def take_sealed(self) -> list[SealedWarc]:
        """List the WARCs sealed since the last call."""
        return self._files.take_sealed()

    def close(self) -> None:
        """Seal the open file; no run may begin any more. May be called twice."""
        with self._files.lock:
            self._ended = True
            if self._files.writer:
                self._files.writer.end()
            self._files.check()
            self._files.seal()
