"""Keeps what a run's fetchers hand over: appends it, finds what is equal or similar, syncs and commits in groups."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from uuid import UUID

from osint_pipeline.conditions import Conditions
from osint_pipeline.dedup import KnownPayloads, PictureLinks
from osint_pipeline.files import MediaFiles
from osint_pipeline.journal import Journal
from osint_pipeline.outcome import Tally
from osint_pipeline.walls import Walls
from storage.exchange import Exchange, Original, RecordRef, RecordType, Resource
from storage.http import PayloadDigest, payload_of
from storage.rows import Batch, CaptureRow, MediaRow, RecordRow
from storage.series import Section


@dataclass(slots=True)
class _Ready:
    """What may go into the catalogue once the bytes behind it are synced."""

    captures: list[CaptureRow] = field(default_factory=list)
    records: list[RecordRow] = field(default_factory=list)
    rest: list[Batch] = field(default_factory=list)


class Recorder:
    """The Sink of one run. Safe to call from any thread.

    The order is the promise: a record is appended before its page is parsed, synced before the catalogue names it.
    """

    def __init__(
        self,
        *,
        run: UUID,
        series: Section,
        journal: Journal,
        known: KnownPayloads,
        pictures: PictureLinks,
        tally: Tally,
        conditions: Conditions,
        walls: Walls,
    ) -> None:
        self.conditions, self.walls = conditions, walls
        self.run, self.series, self.journal = run, series, journal
        self.known, self.pictures, self.tally = known, pictures, tally
        self.files = MediaFiles()
        self._open: dict[UUID, list[RecordRef]] = {}
        self._ready = _Ready()
        self._written: Batch | None = None  # in the WARC, and not told to the catalogue yet
        self._lock = threading.Lock()
        self._flushing = threading.Lock()

    def open(self, capture: UUID) -> None:
        """Begin a capture; its records wait for `close`."""
        self._open[capture] = []

    def exchange(self, exchange: Exchange, capture: UUID | None) -> RecordRef:
        """Append a request and its response; a payload that the archive has, and a 304, become revisit records."""
        exchange = replace(exchange, capture=capture)
        payload = payload_of(exchange) if exchange.response is not None else None
        original = self._original(exchange, payload)
        ref = self.series.append(exchange, original=original, payload=payload)
        self._keep(ref, capture)
        if original is not None:
            self.tally.revisits += 1
        self.known.add(ref)
        self.pictures.offer(ref, exchange, capture)
        return ref

    def resource(self, resource: Resource, capture: UUID | None) -> RecordRef:
        """Append bytes that we made or read beside the wire."""
        ref = self.series.append_resource(replace(resource, capture=capture))
        self._keep(ref, capture)
        return ref

    def close(self, row: CaptureRow) -> None:
        """End a capture: the next flush commits it with its records."""
        with self._lock:
            self._ready.captures.append(row)
            self._ready.records += self._rows(self._open.pop(row.id, ()), row.id)

    def add(self, batch: Batch) -> None:
        """Give rows (posts, media) that refer to captures closed before; committed with or after them."""
        with self._lock:
            self._ready.rest.append(batch)

    def name_files(self, rows: Iterable[MediaRow]) -> None:
        """Note the files that a page names."""
        with self._lock:
            self.files.named(rows)

    def expect_file(self, url: str, media: Iterable[UUID]) -> None:
        """Note rows of the catalogue that wait for a file which is asked for again."""
        with self._lock:
            self.files.expect(url, media)

    def end_file(self, url: str, row: CaptureRow) -> None:
        """Note the end of the capture of a file asked for at `url`."""
        with self._lock:
            self.files.captured(url, row)

    def forget(self, capture: UUID) -> None:
        """Drop a capture that was opened twice; it has no records."""
        self._open.pop(capture, None)

    def untold_warcs(self) -> set[str]:
        """Name the WARCs with records that the catalogue has not been told: of captures not closed, or not flushed yet."""
        with self._lock:
            written = self._written.records if self._written else ()
            closed = {row.ref.warc for row in (*self._ready.records, *written)}
            return closed | {ref.warc for refs in list(self._open.values()) for ref in refs}

    @property
    def settled(self) -> bool:
        """Whether the catalogue has been told all that was closed or added."""
        with self._lock:
            return self._written is None and _joined(self._ready) == Batch()

    def flush(self) -> bool:
        """Sync what was appended, then commit what it proves; tell whether there was anything. One at a time."""
        with self._flushing:
            if self._written is not None:
                with self.journal.in_order(self._written):
                    self._tell(self._written)
            with self._lock:
                ready, self._ready = self._ready, _Ready()
                ready.rest += self.pictures.take(self._open.keys())
                ready.rest.append(Batch(media_results=self.files.results()))
            batch = _joined(ready)
            if batch == Batch():
                return False
            try:
                with self.journal.in_order(batch):
                    self.journal.write(batch)
                    self._tell(batch)
            except BaseException:
                if self._written is not batch:
                    self._take_back(ready)
                raise
            return True

    def _take_back(self, ready: _Ready) -> None:
        """Let what could not be written wait for the next flush, before what came since."""
        with self._lock:
            later, self._ready = self._ready, ready
            ready.captures += later.captures
            ready.records += later.records
            ready.rest += later.rest

    def _tell(self, batch: Batch) -> None:
        """Tell the catalogue a batch that is written; where it cannot be told, the next flush begins with it."""
        self._written = batch
        committed = self.journal.tell() or self.journal.told_before(batch)
        self._written = None
        self.known.settle(row.ref for row in batch.records)
        with self._lock:
            self.files.committed(batch, committed)
            self.tally.edited += committed.edited
        self.conditions.committed(batch.captures)
        self.walls.committed(batch.captures)

    def _original(self, exchange: Exchange, payload: PayloadDigest | None) -> Original | None:
        if payload is None or exchange.truncated:
            return None
        if payload.size_bytes == 0:
            return self.conditions.original(exchange.capture, exchange.url, payload.head)
        return self.known.find(payload.sha256)

    def _keep(self, ref: RecordRef, capture: UUID | None) -> None:
        with self._lock:
            self.tally.bytes += ref.length_bytes + sum(one.length_bytes for one in ref.concurrent)
            if capture in self._open:
                self._open[capture].append(ref)
            else:
                self._ready.records += self._rows((ref,), capture)

    def _rows(self, refs: Iterable[RecordRef], capture: UUID | None) -> list[RecordRow]:
        return [RecordRow(ref=ref, capture_id=capture, run_id=self.run) for ref in refs]


def _joined(ready: _Ready) -> Batch:
    rest = ready.rest
    return Batch(
        captures=tuple(ready.captures),
        records=tuple(ready.records),
        posts=tuple(post for batch in rest for post in batch.posts),
        media=tuple(media for batch in rest for media in batch.media),
        media_results=tuple(one for batch in rest for one in batch.media_results),
        fingerprints=tuple(one for batch in rest for one in batch.fingerprints),
        similar=tuple(one for batch in rest for one in batch.similar),
        gaps=tuple(one for batch in rest for one in batch.gaps),
    )


RESPONSES = (RecordType.RESPONSE, RecordType.REVISIT)
