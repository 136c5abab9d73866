"""The payloads that the archive has: those asked for, or all of them, small enough to hold in memory."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sqlalchemy import text

from storage.catalog import Catalog, driver_cursor
from storage.exchange import Original

_ORIGINALS = """
SELECT DISTINCT ON (payload_sha256) id, url, date, payload_sha256 FROM records
WHERE payload_sha256 = ANY(%s) AND type = 'response' AND truncated IS NULL ORDER BY payload_sha256, date, id
"""
_PREFIXES = """COPY (SELECT DISTINCT substr(payload_sha256, 1, 8) FROM records
 WHERE type = 'response' AND truncated IS NULL AND payload_sha256 IS NOT NULL) TO STDOUT (FORMAT BINARY)"""
_ROW = np.dtype([("fields", ">i2"), ("length", ">i4"), ("prefix", ">u8")])
_FRAME_BYTES = 21  # header of 19, trailer of 2 (PostgreSQL: COPY, binary format)
_ABOUT = text("SELECT pg_relation_size('records') / 400")  # what a row takes, about


def find_originals(catalog: Catalog, payload_sha256s: Iterable[str]) -> dict[str, Original]:
    """Find for each payload the earliest whole response that held it; payloads never seen are left out."""
    wanted = [bytes.fromhex(one) for one in set(payload_sha256s)]
    if not wanted:
        return {}
    with catalog.begin() as connection, driver_cursor(connection) as cursor:
        found = cursor.execute(_ORIGINALS, (wanted,)).fetchall()
    return {
        digest.hex(): Original(record_id=key, url=url, date=date, payload_sha256=digest.hex())
        for key, url, date, digest in found
    }


def records_about(catalog: Catalog) -> int:
    """Estimate how many records the catalogue has, by the size of their table; takes as long however many they are."""
    with catalog.begin() as connection:
        return int(connection.scalar(_ABOUT) or 0)


def payload_prefixes(catalog: Catalog) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """Read the first 64 bits of each whole response's payload digest, sorted: 8 bytes a payload in memory."""
    with catalog.begin() as connection, driver_cursor(connection) as cursor, cursor.copy(_PREFIXES) as copy:
        data = b"".join(copy)
    rows = np.frombuffer(data, _ROW, count=(len(data) - _FRAME_BYTES) // _ROW.itemsize, offset=_FRAME_BYTES - 2)
    return np.sort(rows["prefix"].astype(np.uint64))
