"""Writes what a run tells the catalogue into its WARC first, synced, and then tells the catalogue the same."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from storage.batches import stored_media
from storage.catalog import Catalog
from storage.entries import next_place, tell_entry, told_entries
from storage.ids import new_id
from storage.journal import Entry, EntryKind, RunEnd, as_written, encode
from storage.rows import Batch, Committed, RunRow, SourceRow
from storage.series import Section

IN_ORDER = 7421004  # the advisory lock under which entries about posts get their places and are told


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    record_id: UUID
    tried: bool = False


class Journal:
    """The journal of one run. Not safe to use from several threads at once.

    What is written and could not be told (the database went away) waits, and is told first the next time.
    """

    def __init__(self, series: Section, catalog: Catalog, run: RunRow, source: SourceRow) -> None:
        self.series, self.catalog = series, catalog
        self.run, self.source = replace(run, process=None), source
        self._waiting: list[_Waiting] = []

    def begin(self) -> None:
        """Write the run and its source, and tell them."""
        self._write(EntryKind.BEGIN, run_row=self.run, source=self.source)
        self.tell()

    @contextmanager
    def in_order(self, batch: Batch) -> Iterator[None]:
        """Keep others from writing and telling about posts meanwhile: those that two runs see are told as they are placed."""
        with self.catalog.alone(IN_ORDER) if batch.posts or batch.media_results else nullcontext():
            yield

    def write(self, batch: Batch) -> None:
        """Write a batch and sync it with all that was appended before; tell() comes next, inside the same in_order()."""
        self._write(EntryKind.BATCH, batch=batch)

    def replay(self, entry: Entry, record_id: UUID) -> Committed | None:
        """Tell the catalogue an entry of this run that was synced and never told, and write first that it is told now."""
        with self.catalog.alone(IN_ORDER):
            self._write(EntryKind.REPLAY, replays=record_id)
            place = self._waiting[-1].entry.place
            self.tell()
            return tell_entry(self.catalog, entry, record_id, place=place)

    def reread(self, batch: Batch) -> Committed | None:
        """Write and tell a batch of posts read again."""
        with self.in_order(batch):
            self._write(EntryKind.REREAD, batch=batch)
            return self.tell()

    def end(self, end: RunEnd, detail: dict[str, Any]) -> None:
        """Write how the run ended; tell() comes after its WARCs are sealed."""
        self._write(EntryKind.END, end=end, run_row=replace(self.run, detail=detail), source=self.source)

    @property
    def waits(self) -> bool:
        """Whether something is written and not told yet."""
        return bool(self._waiting)

    def tell(self) -> Committed | None:
        """Tell the catalogue what waits; what the last of it came to, None where it was told before.

        What could not be told when it was written gets a new place first, as others may have been told meanwhile.
        """
        committed: Committed | None = None
        while self._waiting:
            first = self._waiting[0]
            place = self._place_again(first) if first.tried and first.entry.batch else None
            first.tried = True
            committed = tell_entry(self.catalog, first.entry, first.record_id, place=place)
            self._waiting.remove(first)
        return committed

    def told_before(self, batch: Batch) -> Committed:
        """Say what a batch came to whose telling took effect while the answer was lost: its files are as they were given."""
        return stored_media(self.catalog, batch)

    def _place_again(self, late: _Waiting) -> int | None:
        """Write that an entry is told now; None where it had been told, and the answer was lost."""
        if late.record_id in told_entries(self.catalog, self.run.id):
            return None
        replayed = Entry(kind=EntryKind.REPLAY, run=self.run.id, place=next_place(self.catalog), replays=late.record_id)
        record_id = new_id()
        self._append(replayed, record_id)
        tell_entry(self.catalog, replayed, record_id)
        return replayed.place

    def _write(self, kind: EntryKind, **told: Any) -> None:
        entry = Entry(kind=kind, run=self.run.id, place=next_place(self.catalog), **told)
        record_id = new_id()
        self._waiting.append(_Waiting(self._append(entry, record_id), record_id))

    def _append(self, entry: Entry, record_id: UUID) -> Entry:
        block = encode(entry)
        self.series.append_journal(block, entry.url, record_id)
        self.series.sync()
        return as_written(entry, block)
