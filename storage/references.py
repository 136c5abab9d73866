"""Whether what a record names by identifier stands in the same WARC, and is what a revisit says of it."""

import os
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from storage.errors import DamagedWarc
from storage.records import HEADER_LIMIT_BYTES, Header, WarcReader, uuid_of

_CLAUSES = (("WARC-Concurrent-To", "5.7"), ("WARC-Warcinfo-ID", "5.16"), ("WARC-Refers-To", "5.11"))
_USUAL_BYTES = 4 << 10


class References:
    """The identifiers of a WARC and where their records begin; headers are read again where they are wanted."""

    def __init__(self, file: BinaryIO, warc: str) -> None:
        self._file, self._warc = file, warc
        self._offsets: dict[int | str, int] = {}

    def add(self, header: Header, offset: int) -> bool:
        """Take a record; False if an earlier one has its identifier."""
        own = _key(header.get("WARC-Record-ID") or "")
        return self._offsets.setdefault(own, offset) == offset

    def missing(self, header: Header) -> list[tuple[str, str, str]]:
        """List (field, identifier, clause) of what a record names and no record taken so far has."""
        return [
            (name, target, clause)
            for name, clause in _CLAUSES
            for target in header.all(name)
            if _key(target) not in self._offsets
        ]

    def differences(self, header: Header) -> Iterator[tuple[str, str]]:
        """Yield (why, clause) where a revisit says otherwise than the record it refers to (ISO 28500:2017 6.7.2)."""
        if header.type != "revisit":
            return
        for target in header.all("WARC-Refers-To"):
            if (offset := self._offsets.get(_key(target))) is not None:
                yield from _differ(header, self.header_at(offset))

    def header_at(self, offset: int) -> Header:
        """Read the header of a record that was read before."""
        for size in (_USUAL_BYTES, 4 * HEADER_LIMIT_BYTES):
            start = BytesIO(os.pread(self._file.fileno(), size, offset))
            try:
                if streamed := WarcReader(start, self._warc, hashing=False).next():
                    return streamed.header
            except DamagedWarc:
                continue
        raise DamagedWarc(self._warc, offset, "the file changed while it was read")


def _key(identifier: str) -> int | str:
    known = uuid_of(identifier)
    return known.int if known else identifier


def _differ(header: Header, original: Header) -> Iterator[tuple[str, str]]:
    if original.type not in ("response", "resource"):
        yield f"it refers to a {original.type} record, which has no payload of a capture", "6.7.2"
    if (date := header.get("WARC-Refers-To-Date")) and date != original.date:
        yield f"the original's date is {original.date}, not {date}", "5.13"
    if (url := header.get("WARC-Refers-To-Target-URI")) and url != original.url:
        yield f"the original's URI is {original.url}, not {url}", "5.12"
    mine, theirs = header.get("WARC-Payload-Digest"), original.get("WARC-Payload-Digest")
    if mine and theirs and mine != theirs:
        yield f"the original's payload digest is {theirs}, not {mine}", "6.7.2"
