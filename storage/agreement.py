"""Whether a WARC, record by record and as a whole, is the one that its manifest describes."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from uuid import UUID

from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType
from storage.fields import urn
from storage.manifest import Manifest, read_manifest

_PLACES = {"offset_bytes": "manifest-offset", "length_bytes": "manifest-length", "record_sha256": "record-sha256"}
_COMPARED = tuple(one.name for one in fields(RecordRef) if one.name not in ("warc", "concurrent"))
_YOUNGER = frozenset({"capture"})  # rows that were written before it was known do not say it
_LOW = (1 << 64) - 1


class Agreement:
    """Walks the manifest beside the WARC. The records must be compared in the order they stand in the file.

    Of each record that the manifest knows 8 bytes are held.
    """

    def __init__(self, manifest: Path, warc: str) -> None:
        self._warc = warc
        self._unreadable: str | None = None
        self._manifest: Manifest | None = None
        self._refs: Iterator[RecordRef] = iter(())
        self._known = array("Q")
        self._passed_over: list[tuple[int, str, str]] = []
        self._next: RecordRef | None = None
        self._chapter: UUID | None = None  # the last warcinfo record
        try:
            self._manifest = read_manifest(manifest)
            self._known = array("Q", sorted(array("Q", (_low(ref.record_id) for ref in self._manifest.records()))))
            self._refs = self._manifest.records()
            self._next = next(self._refs, None)
        except (DamagedWarc, OSError) as error:
            self._unreadable = f"the manifest cannot be read: {error}"

    def compare(self, ref: RecordRef, warcinfo: UUID | None) -> Iterator[tuple[str, str]]:
        """Yield (rule, why) for each way a record as it was read differs from the manifest.

        `warcinfo` is the one that it names: it must be the last before it, or the record would be another run's.
        """
        if self._unreadable:
            return
        if not self._knows(ref.record_id):
            yield "manifest-record", "the manifest does not know this record"
            return
        named = self._manifest.warcinfo_id if self._manifest else None
        if ref.type is RecordType.WARCINFO and ref.offset_bytes == 0 and named != ref.record_id:
            yield "manifest-warcinfo", f"the file begins with warcinfo {ref.record_id}, the manifest says {named}"
        if ref.type is RecordType.WARCINFO:
            self._chapter = ref.record_id
        elif self._chapter and warcinfo != self._chapter:
            yield "manifest-warcinfo", f"the record names warcinfo {warcinfo}, and stands behind {self._chapter}"
        while self._next and self._next.record_id != ref.record_id:
            self._pass_over(self._next)
        if self._next is None:
            yield "manifest-record", "the record does not stand where the manifest has it"
            return
        yield from _differences(ref, self._next)
        self._forward()

    def at(self, offset: int) -> str | None:
        """Name the record that the manifest has at the offset of a damaged one, and go past it."""
        while self._next and self._next.offset_bytes < offset:
            self._pass_over(self._next)
        if self._next and self._next.offset_bytes == offset:
            name = urn(self._next.record_id)
            self._forward()
            return name
        return None

    @property
    def next_offset(self) -> int | None:
        """Where the next record stands that was not compared yet; None if there is none."""
        return self._next.offset_bytes if self._next else None

    def rest(self) -> Iterator[tuple[int, str, str]]:
        """Yield (offset, record id, why) for the records that the manifest has and the file has not."""
        while self._next:
            self._pass_over(self._next)
        yield from self._passed_over

    def whole(self, count: int, size_bytes: int, sha256: str) -> Iterator[tuple[str, str]]:
        """Yield (rule, why) for each way the whole file differs."""
        if self._unreadable or self._manifest is None:
            yield "manifest", self._unreadable or "no manifest"
            return
        manifest = self._manifest
        for rule, what, found, wanted in (
            ("manifest-name", "name", self._warc, manifest.name),
            ("manifest-count", "number of records", count, manifest.record_count),
            ("whole-file-size", "size", size_bytes, manifest.size_bytes),
            ("whole-file-sha256", "sha256", sha256, manifest.sha256),
        ):
            if found != wanted:
                yield rule, f"the file's {what} is {found}, the manifest's {wanted}"

    def _knows(self, record_id: UUID) -> bool:
        place = bisect_left(self._known, _low(record_id))
        return place < len(self._known) and self._known[place] == _low(record_id)

    def _pass_over(self, ref: RecordRef) -> None:
        why = f"the manifest has a {ref.type} record here that the file has not"
        self._passed_over.append((ref.offset_bytes, urn(ref.record_id), why))
        self._forward()

    def _forward(self) -> None:
        try:
            self._next = next(self._refs, None)
        except (DamagedWarc, OSError) as error:
            self._next, self._unreadable = None, f"the manifest cannot be read: {error}"


def _low(record_id: UUID) -> int:
    return record_id.int & _LOW  # in a UUIDv7 these are the random ones


def _differences(found: RecordRef, wanted: RecordRef) -> Iterator[tuple[str, str]]:
    for name in _COMPARED:
        mine, theirs = getattr(found, name), getattr(wanted, name)
        if mine is None and name == "payload_bytes" and found.type is RecordType.REVISIT:
            continue  # its payload lies in another record
        if mine != theirs and not (theirs is None and name in _YOUNGER):
            what = name.removesuffix("_bytes").replace("_", " ")
            yield _PLACES.get(name, "manifest-field"), f"the record's {what} is {mine}, the manifest's {theirs}"
