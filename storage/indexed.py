"""Whether the CDXJ index beside a WARC has a line for each of its records, that one and no other, in order."""

import hashlib
import json
import secrets
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from storage.exchange import RecordRef
from storage.manifest import cdxj_line

LINE_LIMIT_BYTES = 4 << 20
_NAMED = 100  # findings of one kind; what is beyond is counted


class IndexCheck:
    """Keeps 17 bytes for each line that there must be. Records must be added in the order they stand in the file."""

    def __init__(self, warc: str) -> None:
        self._warc = warc
        self._key = secrets.token_bytes(16)  # so that nobody can make a line with the same short digest
        self._offsets, self._digests = array("Q"), array("Q")

    def add(self, ref: RecordRef, served_type: str | None) -> None:
        """Take a record of the WARC as it was read."""
        if line := cdxj_line(_row(ref, served_type), self._warc):
            self._offsets.append(ref.offset_bytes)
            self._digests.append(self._short(line.encode("utf-8")))

    def compare(self, index: Path) -> Iterator[tuple[int, str, str]]:
        """Yield (offset of the record, rule, why) for each fault of the index. Raises OSError."""
        seen, before, wrong = bytearray(len(self._offsets)), b"", 0
        with index.open("rb") as file:
            number = 0
            while line := file.readline(LINE_LIMIT_BYTES):
                number += 1
                if line <= before:
                    yield 0, "index-order", f"line {number} does not stand behind the line before it in order"
                before = line
                place = self._place(line)
                if place is None:
                    why = (
                        "is of no record" if (offset := _offset(line)) is None else f"is of no record at byte {offset}"
                    )
                    yield _offset(line) or 0, "index-line", f"line {number} {why}"
                elif self._short(line) != self._digests[place] or seen[place]:
                    wrong += 1
                    what = "is there twice" if seen[place] else "is not what the record says"
                    yield self._offsets[place], "index-line", f"line {number} {what}"
                if place is not None:
                    seen[place] = 1
        missing = [place for place, there in enumerate(seen) if not there] if 0 in seen else []
        for place in missing[:_NAMED]:
            yield self._offsets[place], "index-missing", "the index has no line for this record"
        if len(missing) > _NAMED:
            yield 0, "index-missing", f"{len(missing) - _NAMED} more records have no line"

    def _place(self, line: bytes) -> int | None:
        offset = _offset(line)
        if offset is None:
            return None
        place = bisect_left(self._offsets, offset)
        return place if place < len(self._offsets) and self._offsets[place] == offset else None

    def _short(self, line: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(line, digest_size=8, key=self._key).digest(), "little")


def _offset(line: bytes) -> int | None:
    """Read the offset that a line names; None if it is no line of an index."""
    try:
        offset = int(json.loads(line.split(b" ", 2)[2])["offset"])
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return None
    return offset if 0 <= offset < 1 << 63 else None


def _row(ref: RecordRef, served_type: str | None) -> Mapping[str, Any]:
    """Name what of a record goes into the index, as its manifest does."""
    row: dict[str, Any] = {"type": ref.type, "url": ref.url, "date": ref.date}
    row |= {"length": ref.length_bytes, "offset": ref.offset_bytes}
    for name, value in (("media_type", served_type), ("status", ref.status), ("payload_sha256", ref.payload_sha256)):
        if value is not None:
            row[name] = value
    return row
