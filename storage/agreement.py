"""Whether a WARC, record by record and as a whole, is the one that its manifest describes."""

from collections.abc import Iterator
from pathlib import Path

from storage.errors import DamagedWarc
from storage.exchange import RecordRef
from storage.fields import urn
from storage.manifest import Manifest, read_manifest
from storage.records import StreamedRecord, uuid_of


class Agreement:
    """Walks the manifest beside the WARC. The records must be compared in the order they stand in the file."""

    def __init__(self, manifest: Path, warc: str) -> None:
        self._warc = warc
        self._unreadable: str | None = None
        self._manifest: Manifest | None = None
        self._refs: Iterator[RecordRef] = iter(())
        self._known: set[int] = set()
        self._passed_over: list[tuple[int, str, str]] = []
        self._next: RecordRef | None = None
        try:
            self._manifest = read_manifest(manifest)
            self._known = {ref.record_id.int for ref in self._manifest.records()}
            self._refs = self._manifest.records()
            self._next = next(self._refs, None)
        except (DamagedWarc, OSError, UnicodeDecodeError) as error:
            self._unreadable = f"the manifest cannot be read: {error}"

    def compare(self, streamed: StreamedRecord) -> Iterator[tuple[str, str]]:
        """Yield (rule, why) for each way a record, read to its end, differs from the manifest."""
        if self._unreadable:
            return
        record_id = uuid_of(streamed.header.get("WARC-Record-ID"))
        if record_id is None or record_id.int not in self._known:
            yield "manifest-record", "the manifest does not know this record"
            return
        while self._next and self._next.record_id != record_id:
            self._pass_over(self._next)
        if self._next is None:
            yield "manifest-record", "the record does not stand where the manifest has it"
            return
        yield from _differences(streamed, self._next)
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

    def _pass_over(self, ref: RecordRef) -> None:
        why = f"the manifest has a {ref.type} record here that the file has not"
        self._passed_over.append((ref.offset_bytes, urn(ref.record_id), why))
        self._forward()

    def _forward(self) -> None:
        try:
            self._next = next(self._refs, None)
        except DamagedWarc as error:
            self._next, self._unreadable = None, f"the manifest cannot be read: {error}"


def _differences(streamed: StreamedRecord, ref: RecordRef) -> Iterator[tuple[str, str]]:
    header = streamed.header
    for rule, what, found, wanted in (
        ("manifest-offset", "offset", streamed.offset_bytes, ref.offset_bytes),
        ("manifest-length", "length", streamed.length_bytes, ref.length_bytes),
        ("record-sha256", "sha256", streamed.sha256, ref.record_sha256),
        ("manifest-field", "WARC-Type", header.type, ref.type.value),
        ("manifest-field", "WARC-Target-URI", header.url, ref.url),
        ("manifest-field", "WARC-Date", header.date, ref.date),
        ("manifest-field", "WARC-Block-Digest", header.get("WARC-Block-Digest"), f"sha256:{ref.block_sha256}"),
    ):
        if found != wanted:
            yield rule, f"the record's {what} is {found}, the manifest's {wanted}"
