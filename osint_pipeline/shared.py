"""WARCs that the runs of one process share, one run after the other: those of the due sources of one host."""

import re
import threading
from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from osint_pipeline.guarantees import last
from osint_pipeline.registering import register_here
from osint_pipeline.technical import software
from osint_pipeline.workspace import Workspace
from storage.ids import new_id
from storage.manifest import SealedWarc
from storage.series import Section, SharedSeries
from storage.warc_files import warc_opened


class SharedWarcs:
    """Safe to use from several threads, but for one run at a time. Close it before its WARCs are to be uploaded.

    The catalogue is told of a WARC when it has been told all that all of its runs wrote. The WARCs of a run that could
    not tell everything are left to `osint recover`; a file that cannot be sealed as well, and others follow it.
    """

    def __init__(self, workspace: Workspace, host: str) -> None:
        self.workspace, self.host = workspace, host
        self._lock = threading.RLock()
        self._series = self._new_series()
        self._waiting: list[SealedWarc] = []  # which the catalogue has not been told of
        self._sealed: list[SealedWarc] = []
        self._unsettled: set[UUID] = set()  # runs of which the catalogue may lack something

    @classmethod
    def open(cls, workspace: Workspace, host: str) -> "SharedWarcs":
        """Begin a series; its first file is made at the first record."""
        return cls(workspace, host)

    def _new_series(self) -> SharedSeries:
        service = self.workspace.service
        host = re.sub(r"[^a-z0-9]+", "-", self.host.lower()).strip("-")[:40].strip("-") or "host"
        store = last(self.workspace)
        return SharedSeries(
            self.workspace.spool,
            f"{host}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{new_id().hex[-12:]}",
            service.warc_limit_bytes,
            {
                "host": self.host,
                "collector": service.collector,
                "software": software(),
                "store": store.compact() if store else None,
            },
        )

    @property
    def age_seconds(self) -> float:
        """How long ago the open file was begun; 0 where none is open."""
        return self._series.age_seconds

    @property
    def waiting_bytes(self) -> int:
        """What is sealed, and the catalogue was not told of."""
        with self._lock:
            return sum(one.size_bytes for one in self._waiting)

    def begin(self, run: UUID, info: dict[str, str], facts: dict[str, object]) -> "SharedPart":
        """Let a run write: `info` are the fields of its warcinfo records, `facts` what manifests say of it.

        Raises BrokenWarc while another run writes, and after close().
        """
        with self._lock:
            if self._series.broken:
                self.gather()
                self._series = self._new_series()
            part = SharedPart(self, self._series.begin(info, facts), run)
            self._unsettled.add(run)
            return part

    def turn(self) -> None:
        """Seal what is open, and tell the catalogue of what it has all of; the next record begins a new file."""
        with self._lock:
            self.seal_open()
            self.gather()
            self.register()

    def seal_open(self) -> None:
        """Seal what is open, and tell nobody yet."""
        with self._lock:
            if not self._series.broken:
                self._series.turn()

    def close(self) -> list[SealedWarc]:
        """Seal what is open, tell the catalogue; list all WARCs. A run that goes on takes no more. May be called twice."""
        with self._lock:
            if not self._series.broken:
                self._series.close()
            self.gather()
            self.register()
            return list(self._sealed)

    def gather(self) -> None:
        """Note what is sealed by now."""
        with self._lock:
            fresh = self._series.take_sealed()
            self._waiting += fresh
            self._sealed += fresh

    def register(self, run: UUID | None = None, held: Collection[str] = ()) -> None:
        """Tell the catalogue of the gathered WARCs whose runs are settled; `run` counts as settled but for `held`."""
        with self._lock:
            for warc in list(self._waiting):
                others = {one.run for one in warc.runs} - {run}
                if not self._unsettled.isdisjoint(others) or warc.path.name in held:
                    continue
                register_here(self.workspace, warc, warc.runs[0].run)
                self._waiting.remove(warc)

    def tell_open(self, run: UUID, section: Section) -> None:
        """Tell the catalogue that a run wrote into the open file; all that it wrote there must be synced."""
        with self._lock:
            current = self._series.current
            if current and current.file_name in section.warcs:
                name, machine = current.file_name, self.workspace.service.machine
                warc_opened(self.workspace.catalog, name, run, str(current.path), section.warcs[name], machine)

    def settled(self, run: UUID) -> None:
        """Note that the catalogue has been told all of a run."""
        with self._lock:
            self._unsettled.discard(run)


class SharedPart:
    """One run's part in shared WARCs (see RunWarcs)."""

    def __init__(self, shared: SharedWarcs, series: Section, run: UUID) -> None:
        self.shared, self.series, self.run = shared, series, run

    @property
    def waiting_bytes(self) -> int:
        return self.shared.waiting_bytes

    def gather(self) -> None:
        self.shared.gather()

    def turn(self) -> None:
        """Seal what is open; the catalogue is told of it later."""
        self.shared.seal_open()

    def register(self, held: Collection[str] = ()) -> None:
        self.shared.register(self.run, held)

    def seal(self, whole: bool) -> None:
        """Seal nothing: the file stays open for the next run. The catalogue is told that this one is in it."""
        if whole:
            self.shared.tell_open(self.run, self.series)

    def leave(self, settled: bool) -> None:
        """End the run's part. What it could not tell must not hold up the runs after it: their file is another."""
        self.series.end()
        if settled:
            self.shared.settled(self.run)
        else:
            self.shared.seal_open()
        self.shared.gather()
        self.shared.register()
