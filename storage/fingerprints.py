"""The perceptual hashes that the catalogue has, small enough to hold in memory."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psycopg

from storage.catalog import Catalog, driver_cursor

_FINGERPRINTS = """
COPY (SELECT id, hash FROM fingerprints WHERE hash IS NOT NULL AND algorithm = %s AND (%s::text IS NULL OR version = %s)
AND id >= %s ORDER BY id) TO STDOUT (FORMAT binary)
"""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """All hashes of one algorithm, oldest first: `hashes` as numpy uint64, `ids` as 16 bytes each."""

    ids: bytes
    hashes: "np.ndarray[Any, np.dtype[np.uint64]]"

    def id(self, place: int) -> UUID:
        """Name the fingerprint at a place of `hashes`."""
        return UUID(bytes=self.ids[16 * place : 16 * place + 16])

    def replaced(self, since: UUID, later: "Fingerprints") -> "Fingerprints":
        """Put others in the place of those from an id on."""
        kept = int(np.frombuffer(self.ids, "S16").searchsorted(np.bytes_(since.bytes)))
        return Fingerprints(
            ids=self.ids[: 16 * kept] + later.ids, hashes=np.concatenate((self.hashes[:kept], later.hashes))
        )


def earlier_fingerprints(
    catalog: Catalog, algorithm: str, version: str | None = None, *, since: UUID | None = None
) -> Fingerprints:
    """Read all hashes of an algorithm (and version), from an id on: 34 bytes each on the way, 24 in memory."""
    with catalog.begin() as connection, driver_cursor(connection) as cursor:
        query = psycopg.ClientCursor(cursor.connection).mogrify(
            _FINGERPRINTS, (algorithm, version, version, since or UUID(int=0))
        )
        with cursor.copy(query.encode()) as copy:
            data = b"".join(copy)
    # header of 19 bytes; per row 2 (number of fields), 4 (length), 16, 4 (length), 8; trailer of 2 (COPY, binary format)
    layout = np.dtype([("fields", ">i2"), ("n1", ">i4"), ("id", "V16"), ("n2", ">i4"), ("hash", ">u8")])
    rows = np.frombuffer(data, layout, count=(len(data) - 21) // layout.itemsize, offset=19)
    return Fingerprints(ids=rows["id"].tobytes(), hashes=rows["hash"].astype(np.uint64))
