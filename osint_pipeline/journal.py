"""Writes what a run tells the catalogue into its WARC first, synced, and then tells the catalogue the same."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from storage.catalog import Catalog
from storage.ids import new_id
from storage.journal import Entry, EntryKind, RunEnd, encode
from storage.rows import Batch, Committed, RunRow, SourceRow
from storage.spool import WarcSeries


class Journal:
    """The journal of one run. Not safe to use from several threads at once.

    What is written and could not be told (the database went away) waits, and is told first the next time.
    """

    def __init__(self, series: WarcSeries, catalog: Catalog, run: RunRow, source: SourceRow) -> None:
        self.series, self.catalog = series, catalog
        self.run, self.source = replace(run, process=None), source
        self._waiting: list[tuple[Entry, UUID]] = []

    def begin(self) -> None:
        """Write the run and its source."""
        self._write(EntryKind.BEGIN, run_row=self.run, source=self.source)
        self.tell()

    def write(self, batch: Batch) -> None:
        """Write a batch and sync it with all that was appended before; tell() comes next."""
        self._write(EntryKind.BATCH, batch=batch)

    def replay(self, entry: Entry, record_id: UUID) -> Committed | None:
        """Tell the catalogue an entry of this run that was synced and never told, and write first that it is told now."""
        self._write(EntryKind.REPLAY, replays=record_id)
        place = self._waiting[-1][0].place
        self.tell()
        return self.catalog.tell(entry, record_id, place=place)

    def reread(self, batch: Batch) -> Committed | None:
        """Write and tell a batch of posts read again."""
        self._write(EntryKind.REREAD, batch=batch)
        return self.tell()

    def end(self, end: RunEnd, detail: dict[str, Any]) -> None:
        """Write how the run ended; tell() comes after its WARCs are sealed."""
        self._write(EntryKind.END, end=end, run_row=replace(self.run, detail=detail), source=self.source)

    def drop(self) -> None:
        """Leave untold what waits: it turned out not to be so."""
        self._waiting.clear()

    @property
    def waits(self) -> bool:
        """Whether something is written and not told yet."""
        return bool(self._waiting)

    def tell(self) -> Committed | None:
        """Tell the catalogue what waits; what the last of it came to, None where it was told before."""
        committed: Committed | None = None
        while self._waiting:
            committed = self.catalog.tell(*self._waiting[0])
            del self._waiting[0]
        return committed

    def _write(self, kind: EntryKind, **told: Any) -> None:
        entry = Entry(kind=kind, run=self.run.id, place=self.catalog.next_place(), **told)
        record_id = new_id()
        self.series.append_journal(encode(entry), entry.url, record_id)
        self.series.sync()
        self._waiting.append((entry, record_id))
