"""Checks a WARC against ISO 28500:2017, its manifest and its index; each answer is PASS, FAIL or UNVERIFIABLE."""

import hashlib
from array import array
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from storage.agreement import Agreement
from storage.digest import read_label
from storage.errors import DamagedWarc
from storage.hashing import HashedFile
from storage.http import PayloadDigest, measure_parts
from storage.indexed import IndexCheck
from storage.manifest import CDXJ_SUFFIX, MANIFEST_SUFFIX
from storage.records import Header, StreamedRecord, WarcReader, uuid_of
from storage.references import References
from storage.refs import describe
from storage.rules import PROFILES, gzip_faults, untimely, violations

MANIFEST_CLAUSE = "manifest"  # where the rule is ours and no clause of the standard's
INDEX_CLAUSE = "index"
_NAMED = 100  # faults of one kind of one record: a header of 1 MiB may have 100,000
_WHY_CHARACTERS, _ID_CHARACTERS = 2000, 200  # of a finding: what a header says may be 1 MiB long


class Result(StrEnum):
    """What a check found out."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNVERIFIABLE = "UNVERIFIABLE"  # the claim cannot be checked with what is at hand


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer: about a record where record_id is given, about the file otherwise. clause: of ISO 28500:2017."""

    result: Result
    warc: str
    offset: int
    record_id: str | None
    rule: str
    why: str
    clause: str


def check_warc(
    path: Path, manifest: Path | None = None, *, sha256: str | None = None, latest: datetime | None = None
) -> Iterator[Finding]:
    """Check a WARC, gzip member per record or uncompressed, in memory that blocks of any size do not change.

    With a manifest, the index beside that is checked too. `sha256` is what is known of the file elsewhere; dates behind
    `latest` are faults. A record without fault gets one PASS finding. Damage is a finding, never an exception, except
    OSError. For each record about 200 bytes are held.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb", buffering=0))
        aside = stack.enter_context(path.open("rb", buffering=0))
        hashed = stack.enter_context(HashedFile(file))
        yield from _Check(path.name, hashed, aside, manifest, latest).run(sha256)


class _Check:
    def __init__(
        self, warc: str, hashed: HashedFile, aside: BinaryIO, manifest: Path | None, latest: datetime | None
    ) -> None:
        self._warc, self._hashed, self._aside, self._latest = warc, hashed, aside, latest
        self._reader = WarcReader(hashed, warc, hashing=False)
        self._references = References(aside, warc)
        self._unresolved = array("Q")  # offsets of records that refer to what did not stand before them
        self._count = 0
        self._agreement = Agreement(manifest, warc) if manifest else None
        self._index = _index_of(manifest) if manifest else None
        self._lines = IndexCheck(warc)

    def run(self, sha256: str | None) -> Iterator[Finding]:
        while True:
            try:
                if (streamed := self._reader.next()) is None:
                    break
                findings = list(self._record(streamed))
            except DamagedWarc as error:
                yield from self._damage(error)
                if not self._reader.skip() and not self._go_on():
                    break
                continue
            yield from findings
            if not any(one.result is Result.FAIL for one in findings):
                yield self._say(streamed, Result.PASS, "record", "fields, framing and digests hold", "4")
        for offset in self._unresolved:
            yield from self._late(offset)
        yield from self._whole(sha256)
        yield from self._indexed()

    def _go_on(self) -> bool:
        """Behind damage that no reader gets over: go on where the manifest has the next record."""
        offset = self._agreement.next_offset if self._agreement and self._reader.compressed else None
        if offset is None or offset >= self._aside.seek(0, 2):
            return False
        self._aside.seek(offset)
        self._reader = WarcReader(self._aside, self._warc, offset, hashing=False)
        return self._reader.compressed

    def _record(self, streamed: StreamedRecord) -> Iterator[Finding]:
        header = streamed.header
        self._count += 1
        for rules in (
            violations(header),
            untimely(header, self._latest),
            gzip_faults(streamed.gzip_start, self._latest),
        ):
            for one in islice(rules, _NAMED):
                yield self._say(streamed, Result.FAIL, one.rule, one.why, one.clause)
        if header.type == "revisit" and (profile := header.get("WARC-Profile")) not in PROFILES:
            why = f"profile {profile} is not known here, so its block cannot be interpreted"
            yield self._say(streamed, Result.UNVERIFIABLE, "revisit-profile", why, "6.7.1")
        if not self._references.add(header, streamed.offset_bytes):
            yield self._say(streamed, Result.FAIL, "duplicate-id", "an earlier record has this identifier", "5.2")
        measured, algorithm = yield from self._digests(streamed)
        if self._references.missing(header):
            self._unresolved.append(streamed.offset_bytes)
        else:
            for why, clause in self._references.differences(header):
                yield self._say(streamed, Result.FAIL, "revisit-target", why, clause)
        if self._agreement:
            yield from self._agrees(self._agreement, streamed, measured, algorithm)

    def _agrees(
        self, agreement: Agreement, streamed: StreamedRecord, measured: PayloadDigest, algorithm: str
    ) -> Iterator[Finding]:
        """Compare with the manifest, and keep for the index, a record as this program would describe it."""
        try:
            if algorithm != "sha256":
                raise DamagedWarc(self._warc, streamed.offset_bytes, f"digests of {algorithm} are none of ours")
            ref, served_type = describe(streamed, measured, self._warc)
        except DamagedWarc as error:
            why = f"the manifest does not know this record: {error.why}"
            yield self._say(streamed, Result.FAIL, "manifest-record", why, MANIFEST_CLAUSE)
            return
        self._lines.add(ref, served_type)
        for rule, why in agreement.compare(ref, uuid_of(streamed.header.get("WARC-Warcinfo-ID"))):
            yield self._say(streamed, Result.FAIL, rule, why, MANIFEST_CLAUSE)

    def _digests(self, streamed: StreamedRecord) -> Generator[Finding, None, tuple[PayloadDigest, str]]:
        """Read the block once, and compare its digests; what was measured, and by which algorithm."""
        header = streamed.header
        block, payload = _label(header, "WARC-Block-Digest"), _label(header, "WARC-Payload-Digest")
        algorithm = (payload or block or ("sha256", b""))[0]
        other = hashlib.new(block[0]) if block and block[0] != algorithm else None
        parts = _hashing(streamed.pieces(), other)
        measured = measure_parts(parts, response=header.type != "request", algorithm=algorithm)
        if block and (got := other.hexdigest() if other else measured.block_sha256) != block[1].hex():
            yield self._say(streamed, Result.FAIL, "block-digest", f"the block has {got}", "5.8")
        is_message = header.is_http and header.type in ("response", "request") and header.get("Content-Length") != "0"
        if is_message and measured.head is None:
            yield self._say(streamed, Result.FAIL, "http-head", "the block does not begin with an HTTP head", "6.3.2")
        if payload and header.type != "revisit" and not header.get("WARC-Segment-Number"):
            yield from self._payload_digest(streamed, measured, payload[1].hex())
        return measured, algorithm

    def _payload_digest(self, streamed: StreamedRecord, measured: PayloadDigest, declared: str) -> Iterator[Finding]:
        if not streamed.header.is_http:
            if declared != measured.block_sha256:
                why = f"the payload has {measured.block_sha256}"
                yield self._say(streamed, Result.FAIL, "payload-digest", why, "5.9")
        elif declared != measured.sha256:
            if declared == measured.body_sha256:
                why = "the digest is of the body with its chunk framing, which is not the payload"
                yield self._say(streamed, Result.UNVERIFIABLE, "payload-digest", why, "5.9")
            else:
                yield self._say(streamed, Result.FAIL, "payload-digest", f"the payload has {measured.sha256}", "5.9")

    def _late(self, offset: int) -> Iterator[Finding]:
        """Judge the references of a record once all identifiers are known."""
        try:
            header = self._references.header_at(offset)
            differences = list(self._references.differences(header))
        except DamagedWarc as error:
            yield from self._damage(error)
            return
        own = header.get("WARC-Record-ID")
        for name, target, clause in islice(self._references.missing(header), _NAMED):
            why = f"{name} names {_cut(target, _ID_CHARACTERS)}, which is not in this file"
            yield self._file(Result.UNVERIFIABLE, "reference", why, clause, offset, own)
        for why, clause in differences:
            yield self._file(Result.FAIL, "revisit-target", why, clause, offset, own)

    def _damage(self, error: DamagedWarc) -> Iterator[Finding]:
        known = self._agreement.at(error.offset) if self._agreement else None
        yield self._file(Result.FAIL, "framing", error.why, "4", error.offset, known)

    def _whole(self, sha256: str | None) -> Iterator[Finding]:
        if not self._count:
            yield self._file(Result.FAIL, "empty", "no whole record", "4", 0)
        if not self._agreement:
            end, why = self._reader.source.offset, "there is no manifest to compare with"
            yield self._file(Result.UNVERIFIABLE, "whole-file", why, MANIFEST_CLAUSE, end)
        if not self._agreement and sha256 is None:
            return
        got, size = self._hashed.rest(), self._hashed.size_bytes
        if self._agreement:
            for offset, record_id, why in self._agreement.rest():
                yield self._file(Result.FAIL, "manifest-record", why, MANIFEST_CLAUSE, offset, record_id)
            faults = list(self._agreement.whole(self._count, size, got))
            for rule, why in faults:
                yield self._file(Result.FAIL, rule, why, MANIFEST_CLAUSE, size)
            if not faults:
                yield self._file(Result.PASS, "whole-file", f"sha256 {got}, {size} bytes", MANIFEST_CLAUSE, size)
        if sha256 is not None:
            result = Result.PASS if got == sha256 else Result.FAIL
            why = "" if got == sha256 else f"the catalogue says sha256 {sha256}, the file has {got}"
            yield self._file(result, "catalogue-sha256", why, MANIFEST_CLAUSE, size)

    def _indexed(self) -> Iterator[Finding]:
        """Compare the index beside the manifest, line by line."""
        if not self._index:
            return
        faults = 0
        try:
            for offset, rule, why in self._lines.compare(self._index):
                faults += 1
                yield self._file(Result.FAIL, rule, f"{self._index.name}: {why}", INDEX_CLAUSE, offset)
        except FileNotFoundError:
            why = f"there is no {self._index.name} beside the manifest"
            yield self._file(Result.UNVERIFIABLE, "index", why, INDEX_CLAUSE, 0)
            return
        except OSError as error:
            result = Result.FAIL if isinstance(error, IsADirectoryError) else Result.UNVERIFIABLE
            why = f"{self._index.name} cannot be read: {error.strerror}"
            yield self._file(result, "index", why, INDEX_CLAUSE, 0)
            return
        if not faults:
            yield self._file(Result.PASS, "index", "a line for each record, and no other", INDEX_CLAUSE, 0)

    def _say(self, streamed: StreamedRecord, result: Result, rule: str, why: str, clause: str) -> Finding:
        record_id = streamed.header.get("WARC-Record-ID")
        return self._file(result, rule, why, clause, streamed.offset_bytes, record_id)

    def _file(
        self, result: Result, rule: str, why: str, clause: str, offset: int, record_id: str | None = None
    ) -> Finding:
        return Finding(
            result=result,
            warc=self._warc,
            offset=offset,
            record_id=_cut(record_id, _ID_CHARACTERS) if record_id else record_id,
            rule=rule,
            why=_cut(why, _WHY_CHARACTERS),
            clause=clause,
        )


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}… ({len(text)} characters)"


def _index_of(manifest: Path) -> Path:
    return manifest.with_name(manifest.name.removesuffix(MANIFEST_SUFFIX) + CDXJ_SUFFIX)


def _label(header: Header, name: str) -> tuple[str, bytes] | None:
    try:
        return read_label(header.get(name) or "")
    except ValueError:
        return None  # absent, or named by the rule on digest syntax


def _hashing(parts: Iterator[bytes], digest: "hashlib._Hash | None") -> Iterator[bytes]:
    for part in parts:
        if digest:
            digest.update(part)
        yield part
