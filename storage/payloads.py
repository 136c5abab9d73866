"""The payloads that the archive has, small enough to hold in memory."""

from typing import Any

import numpy as np
import psycopg
from sqlalchemy import text

from storage.catalog import Catalog

_PREFIXES = """COPY (SELECT DISTINCT substr(payload_sha256, 1, 8) FROM records
 WHERE type = 'response' AND truncated IS NULL AND payload_sha256 IS NOT NULL) TO STDOUT (FORMAT BINARY)"""
_ROW = np.dtype([("fields", ">i2"), ("length", ">i4"), ("prefix", ">u8")])
_FRAME_BYTES = 21  # header of 19, trailer of 2 (PostgreSQL: COPY, binary format)
_ABOUT = text("SELECT pg_relation_size('records') / 400")  # what a row takes, about


def records_about(catalog: Catalog) -> int:
    """Estimate how many records the catalogue has, by the size of their table; takes as long however many they are."""
    with catalog.begin() as connection:
        return int(connection.scalar(_ABOUT) or 0)


def payload_prefixes(catalog: Catalog) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """Read the first 64 bits of each whole response's payload digest, sorted: 8 bytes a payload in memory."""
    with catalog.begin() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        with raw.cursor() as cursor, cursor.copy(_PREFIXES) as copy:
            data = b"".join(copy)
    rows = np.frombuffer(data, _ROW, count=(len(data) - _FRAME_BYTES) // _ROW.itemsize, offset=_FRAME_BYTES - 2)
    return np.sort(rows["prefix"].astype(np.uint64))
