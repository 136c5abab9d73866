"""Finds what the archive has already: equal payloads become revisits, similar pictures become links. Removes nothing."""

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from osint_pipeline.decoding import NotDecoded, body_of
from osint_pipeline.fingerprint import Hashed, NotHashed, neighbours
from osint_pipeline.outcome import Tally
from osint_pipeline.pictures import KnownPictures
from storage.catalog import Catalog
from storage.errors import DatabaseUnavailable
from storage.exchange import Exchange, Original, RecordRef, RecordType, Stored
from storage.fingerprints import Fingerprints
from storage.payloads import find_originals, payload_prefixes, records_about
from storage.rows import Batch, FingerprintRow, SimilarRow

QUEUE_PICTURES = 64
FRESH_PREFIXES = 8192
RECORDS_A_QUERY = 300  # that are read in the time that one payload's query takes (benchmarks/README.md)


class KnownPayloads:
    """Tells whether a payload is in the archive: most answers need no query, as a sorted array holds 64-bit prefixes.

    Memory: 8 bytes for each distinct payload of the archive. Where the archive is so large that reading them would take
    longer than a query for each of the `expected` payloads, there is a query for each.
    `stands` says whether a record can be relied on.
    """

    def __init__(self, catalog: Catalog, stands: Callable[[UUID], bool], *, expected: int) -> None:
        self.catalog, self._stands = catalog, stands
        asks = records_about(catalog) > expected * RECORDS_A_QUERY
        self._prefixes = None if asks else payload_prefixes(catalog)
        self._fresh: set[int] = set()  # prefixes of this run's payloads that are in the catalogue by now
        self._this_run: dict[str, Original] = {}  # those that are not there yet, and those asked for again

    def find(self, payload_sha256: str) -> Original | None:
        """Give the earliest whole response with this payload; None too while the catalogue is away: it is stored once more."""
        if known := self._this_run.get(payload_sha256):
            return known
        if not self._may_be_there(int(payload_sha256[:16], 16)):
            return None
        try:
            original = find_originals(self.catalog, [payload_sha256]).get(payload_sha256)
            if original is None or not self._stands(original.record_id):
                return None  # a revisit must not lead to bytes that are damaged or gone
        except DatabaseUnavailable:
            return None
        self._this_run[payload_sha256] = original
        return original

    def _may_be_there(self, prefix: int) -> bool:
        if self._prefixes is None or prefix in self._fresh:
            return True
        wanted = np.uint64(prefix)
        at = int(self._prefixes.searchsorted(wanted))  # the method: np.searchsorted takes three times as long for one
        return at < len(self._prefixes) and bool(self._prefixes[at] == wanted)

    def settle(self, refs: Iterable[RecordRef]) -> None:
        """Keep no more than the prefix of what the catalogue has by now; called after a commit."""
        for ref in refs:
            if ref.payload_sha256 in self._this_run:
                self._this_run.pop(ref.payload_sha256, None)
                if self._prefixes is not None:
                    self._fresh.add(int(ref.payload_sha256[:16], 16))
        if self._prefixes is not None and len(self._fresh) > FRESH_PREFIXES:
            new = np.fromiter(self._fresh, dtype=np.uint64, count=len(self._fresh))
            self._prefixes = np.union1d(self._prefixes, new)
            self._fresh = set()

    def add(self, ref: RecordRef) -> None:
        """Remember a response of this run."""
        if ref.type is RecordType.RESPONSE and ref.payload_sha256 and ref.payload_bytes and not ref.truncated:
            self._this_run.setdefault(
                ref.payload_sha256,
                Original(record_id=ref.record_id, url=ref.url, date=ref.date, payload_sha256=ref.payload_sha256),
            )


@dataclass(frozen=True, slots=True)
class _Picture:
    response: bytes
    ref: RecordRef
    capture: UUID | None


class PictureLinks:
    """Hashes each captured picture beside the crawl and links it to earlier ones within the radius.

    A picture that cannot be hashed is noted with its reason and harms nothing.
    """

    def __init__(self, known: KnownPictures, *, radius_bits: int, tally: Tally) -> None:
        self.known, self.radius_bits, self.tally = known, radius_bits, tally
        self._earlier: Fingerprints | None = None  # read at the first picture
        self._new: list[UUID] = []
        self._new_hashes = np.empty(0, np.uint64)
        self._queue: queue.Queue[_Picture | None] = queue.Queue(QUEUE_PICTURES)
        self._done: list[tuple[UUID | None, Batch]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def offer(self, ref: RecordRef, exchange: Exchange, capture: UUID | None) -> None:
        """Queue a picture's hash; waits when the hasher is behind."""
        if ref.type is not RecordType.RESPONSE or ref.status != 200 or exchange.response is None:
            return  # an equal payload has its hash already
        if not (ref.media_type or "").startswith("image/"):
            return
        if isinstance(exchange.response, Stored) or ref.truncated:
            return
        if self._earlier is None:
            self._earlier = self.known.archived()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pictures", daemon=True)
            self._thread.start()
        self._queue.put(_Picture(exchange.response, ref, capture))

    def take(self, still_open: Collection[UUID]) -> Iterator[Batch]:
        """Give the rows of finished pictures whose captures are closed."""
        with self._lock:
            done, self._done = self._done, []
            held: set[UUID] = set()  # a link must not be written before the picture that it leads to
            for capture, batch in done:
                if capture in still_open or any(one.earlier_id in held for one in batch.similar):
                    held.update(one.id for one in batch.fingerprints)
                    self._done.append((capture, batch))
                else:
                    yield batch

    def close(self) -> None:
        """Finish what is queued."""
        if self._thread:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (picture := self._queue.get()) is not None:
            batch = self._link(picture)
            with self._lock:
                self._done.append((picture.capture, batch))

    def _link(self, picture: _Picture) -> Batch:
        try:
            found = self.known.hasher.hash(body_of(picture.response))
        except NotDecoded as error:
            found = NotHashed(why=str(error))
        row = _row(picture, found)
        if not isinstance(found, Hashed):
            return Batch(fingerprints=(row,))
        value = np.uint64(found.hash & 0xFFFFFFFFFFFFFFFF)
        similar = tuple(
            SimilarRow(fingerprint_id=row.id, earlier_id=earlier, distance=distance)
            for earlier, distance in self._near(value)
        )
        self.tally.similar += bool(similar)
        self._new_hashes = np.append(self._new_hashes, value)
        self._new.append(row.id)
        return Batch(fingerprints=(row,), similar=similar)

    def _near(self, value: np.uint64) -> Iterator[tuple[UUID, int]]:
        """Find the pictures within the radius, the archive's before this run's."""
        assert self._earlier is not None
        for hashes, name in ((self._earlier.hashes, self._earlier.id), (self._new_hashes, self._new.__getitem__)):
            for place, distance in zip(*neighbours(value, hashes, self.radius_bits), strict=True):
                yield name(int(place)), int(distance)


def _row(picture: _Picture, found: object) -> FingerprintRow:
    known = found if isinstance(found, Hashed) else None
    assert picture.ref.payload_sha256
    return FingerprintRow(
        capture_id=picture.capture,
        record_id=picture.ref.record_id,
        payload_sha256=picture.ref.payload_sha256,
        algorithm="phash",
        version=known.version if known else "",
        hash=known.hash & 0xFFFFFFFFFFFFFFFF if known else None,
        failure=None if known else getattr(found, "why", "unknown"),
        width=known.width if known else None,
        height=known.height if known else None,
    )
