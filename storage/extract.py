"""Records taken out of WARCs, byte for byte, into a WARC of their own."""

import hashlib
import os
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from storage.durable import space
from storage.errors import DamagedWarc
from storage.exchange import RecordRef
from storage.member import split_member

OpenBytes = Callable[[str, int, int], bytes]  # (WARC's file name, offset, length) -> bytes, fewer at the file's end
_RANGE_BYTES = 8 << 20
_FIRST_BYTES = 64 << 10


def copy_records(
    refs: Iterable[RecordRef], open_bytes: OpenBytes, out_path: Path, infos: Mapping[str, Sequence[int]] | None = None
) -> int:
    """Write the members of `refs` and of their concurrent records as they were archived; answers the bytes written.

    Before the first record of each run in a source WARC stands that run's warcinfo: `infos` says at which offsets they are
    where a WARC does not hold one alone, at its beginning. A record asked for twice is written once.
    `out_path` must not exist (FileExistsError). Raises DamagedWarc, and leaves nothing, if a member's digest differs.
    """
    with space(out_path), out_path.open("xb") as out:
        try:
            done: set[UUID] = set()
            begun: set[tuple[str, int]] = set()
            for ref in _flat(refs):
                place = ref.warc, _info_before(ref, (infos or {}).get(ref.warc, ()))
                if place not in begun:
                    begun.add(place)
                    out.write(_member_at(*place, open_bytes))
                if ref.record_id not in done and ref.offset_bytes:
                    done.add(ref.record_id)
                    _copy(ref, open_bytes, out)
            out.flush()
            os.fsync(out.fileno())
            return out.tell()
        except BaseException:
            out_path.unlink()
            raise


def _flat(refs: Iterable[RecordRef]) -> Iterator[RecordRef]:
    for ref in refs:
        yield ref
        yield from ref.concurrent


def _copy(ref: RecordRef, open_bytes: OpenBytes, out: BinaryIO) -> None:
    digest, at, end = hashlib.sha256(), ref.offset_bytes, ref.offset_bytes + ref.length_bytes
    while at < end:
        if not (piece := open_bytes(ref.warc, at, min(_RANGE_BYTES, end - at))):
            raise DamagedWarc(ref.warc, at, "the file ends inside the record")
        digest.update(piece)
        out.write(piece)
        at += len(piece)
    if digest.hexdigest() != ref.record_sha256:
        raise DamagedWarc(
            ref.warc, ref.offset_bytes, f"record has sha256 {digest.hexdigest()}, not {ref.record_sha256}"
        )


def _info_before(ref: RecordRef, offsets: Sequence[int]) -> int:
    return offsets[place - 1] if (place := bisect_right(offsets, ref.offset_bytes)) else 0


def _member_at(warc: str, offset: int, open_bytes: OpenBytes) -> bytes:
    size = _FIRST_BYTES
    while True:
        data = open_bytes(warc, offset, size)
        try:
            if length := split_member(data):
                return data[:length]
        except zlib.error as error:
            raise DamagedWarc(warc, offset, f"the warcinfo record is corrupt: {error}") from error
        if len(data) < size or size > 64 << 20:
            raise DamagedWarc(warc, offset, "the warcinfo record does not end")
        size *= 4
