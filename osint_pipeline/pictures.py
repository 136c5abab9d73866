"""What a process keeps of the archive's pictures from run to run: their hashes, and the child that makes new ones."""

import threading
import time

from osint_pipeline.fingerprint import Fingerprints as Hasher
from storage.catalog import Catalog
from storage.fingerprints import Fingerprints, earlier_fingerprints
from storage.ids import first_id

OVERLAP_SECONDS = (
    300.0  # between a hash and its commit, at most; what comes later (`osint recover`) the next process knows
)


class KnownPictures:
    """Made once in a process: all hashes are read at its first picture, and then those that came since.

    Memory: 24 bytes a picture. Safe to use from several threads. To be closed: the child stays between runs.
    """

    def __init__(self, catalog: Catalog, limit_pixels: int) -> None:
        self.catalog, self.hasher = catalog, Hasher(limit_pixels=limit_pixels)
        self._found: Fingerprints | None = None
        self._read_at = 0.0
        self._lock = threading.Lock()

    def archived(self) -> Fingerprints:
        """Give the hashes that the catalogue has by now."""
        with self._lock:
            now, since = time.time(), first_id(max(0.0, self._read_at - OVERLAP_SECONDS))
            fresh = earlier_fingerprints(self.catalog, "phash", since=since)
            self._found = self._found.replaced(since, fresh) if self._found else fresh
            self._read_at = now
            return self._found

    def close(self) -> None:
        """End the child. May be called twice."""
        self.hasher.close()
