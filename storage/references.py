"""Whether what a record names by identifier stands in the same WARC, and is what a revisit says of it."""

import os
import secrets
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from typing import BinaryIO, NamedTuple

from storage.errors import DamagedWarc
from storage.records import HEADER_LIMIT_BYTES, Header, WarcReader, uuid_of

_CLAUSES = (("WARC-Concurrent-To", "5.7"), ("WARC-Warcinfo-ID", "5.16"), ("WARC-Refers-To", "5.11"))
_USUAL_BYTES = 4 << 10
_ORIGINALS = 16  # held at a time: many revisits may refer to one record, and its header may be long
_TARGETS = 10  # of one revisit, which may name but one


class _Told(NamedTuple):
    """What a record says that a revisit of it says again."""

    type: str
    date: str
    url: str
    payload_digest: str | None


class References:
    """The identifiers of a WARC and where their records begin; headers are read again where they are wanted."""

    def __init__(self, file: BinaryIO, warc: str) -> None:
        self._file, self._warc = file, warc
        self._offsets: dict[int, int] = {}
        self._salt = secrets.token_bytes(16)  # so that nobody can make two identifiers that are one here
        self._told_at = lru_cache(_ORIGINALS)(self._told)

    def add(self, header: Header, offset: int) -> bool:
        """Take a record; False if an earlier one has its identifier."""
        own = self._key(header.get("WARC-Record-ID") or "")
        return self._offsets.setdefault(own, offset) == offset

    def missing(self, header: Header) -> list[tuple[str, str, str]]:
        """List (field, identifier, clause) of what a record names and no record taken so far has."""
        return [
            (name, target, clause)
            for name, clause in _CLAUSES
            for target in dict.fromkeys(header.all(name))
            if self._key(target) not in self._offsets
        ]

    def differences(self, header: Header) -> Iterator[tuple[str, str]]:
        """Yield (why, clause) where a revisit says otherwise than the record it refers to (ISO 28500:2017 6.7.2)."""
        if header.type != "revisit":
            return
        for target in islice(dict.fromkeys(header.all("WARC-Refers-To")), _TARGETS):
            if (offset := self._offsets.get(self._key(target))) is not None:
                yield from _differ(header, self._told_at(offset))

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

    def _told(self, offset: int) -> _Told:
        header = self.header_at(offset)
        return _Told(header.type, header.date, header.url, header.get("WARC-Payload-Digest"))

    def _key(self, identifier: str) -> int:
        """Give 128 bits for an identifier: a UUID's own, for others (which may be long) those of a digest."""
        if known := uuid_of(identifier):
            return known.int
        return int.from_bytes(blake2b(identifier.encode("utf-8"), digest_size=16, key=self._salt).digest())


def _differ(header: Header, original: _Told) -> Iterator[tuple[str, str]]:
    if original.type not in ("response", "resource"):
        yield f"it refers to a {original.type} record, which has no payload of a capture", "6.7.2"
    if (date := header.get("WARC-Refers-To-Date")) and date != original.date:
        yield f"the original's date is {original.date}, not {date}", "5.13"
    if (url := header.get("WARC-Refers-To-Target-URI")) and url != original.url:
        yield f"the original's URI is {original.url}, not {url}", "5.12"
    mine, theirs = header.get("WARC-Payload-Digest"), original.payload_digest
    if mine and theirs and mine != theirs:
        yield f"the original's payload digest is {theirs}, not {mine}", "6.7.2"
