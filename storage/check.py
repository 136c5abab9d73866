"""Checks a WARC against ISO 28500:2017 and against its manifest; each answer is PASS, FAIL or UNVERIFIABLE."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from storage.agreement import Agreement
from storage.digest import read_label
from storage.errors import DamagedWarc
from storage.http import PayloadDigest, measure_parts
from storage.records import Header, StreamedRecord, WarcReader
from storage.rules import PROFILES, violations

MANIFEST_CLAUSE = "manifest"  # where the rule is ours and no clause of the standard's


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


class _Target(NamedTuple):
    url: str
    date: str
    payload_digest: str | None


class _Wanted(NamedTuple):
    """A reference that must resolve, checked at the end of the file."""

    offset: int
    record_id: str
    field: str
    clause: str
    target: str
    header: Header | None  # of a revisit, to compare with its target


def check_warc(path: Path, manifest: Path | None = None) -> Iterator[Finding]:
    """Check a WARC, gzip member per record or uncompressed, in bounded memory for blocks of any size.

    A record without fault gets one PASS finding. Damage is a finding, never an exception, except OSError.
    """
    with path.open("rb", buffering=0) as file:
        yield from _Check(path.name, WarcReader(file, path.name), manifest).run()


class _Check:
    def __init__(self, warc: str, reader: WarcReader, manifest: Path | None) -> None:
        self._warc, self._reader = warc, reader
        self._targets: dict[str, _Target] = {}
        self._wanted: list[_Wanted] = []
        self._count, self._damaged = 0, False
        self._agreement = Agreement(manifest, warc) if manifest else None

    def run(self) -> Iterator[Finding]:
        while True:
            try:
                if (streamed := self._reader.next()) is None:
                    break
                findings = list(self._record(streamed))
            except DamagedWarc as error:
                yield from self._damage(error)
                if not self._reader.skip():
                    break
                continue
            yield from findings
            if not any(one.result is Result.FAIL for one in findings):
                yield self._say(streamed, Result.PASS, "record", "fields, framing and digests hold", "4")
        yield from self._references()
        yield from self._whole()

    def _record(self, streamed: StreamedRecord) -> Iterator[Finding]:
        header = streamed.header
        self._count += 1
        own = header.get("WARC-Record-ID") or ""
        for one in violations(header):
            yield self._say(streamed, Result.FAIL, one.rule, one.why, one.clause)
        if header.type == "revisit" and (profile := header.get("WARC-Profile")) not in PROFILES:
            why = f"profile {profile} is not known here, so its block cannot be interpreted"
            yield self._say(streamed, Result.UNVERIFIABLE, "revisit-profile", why, "6.7.1")
        if own in self._targets:
            yield self._say(streamed, Result.FAIL, "duplicate-id", "an earlier record has this identifier", "5.2")
        yield from self._digests(streamed)
        self._targets[own] = _Target(header.url, header.date, header.get("WARC-Payload-Digest"))
        self._want(streamed, own)
        if self._agreement:
            for rule, why in self._agreement.compare(streamed):
                yield self._say(streamed, Result.FAIL, rule, why, MANIFEST_CLAUSE)

    def _digests(self, streamed: StreamedRecord) -> Iterator[Finding]:
        header = streamed.header
        block, payload = _label(header, "WARC-Block-Digest"), _label(header, "WARC-Payload-Digest")
        digest = hashlib.new(block[0]) if block else None
        parts = _hashing(streamed.pieces(), digest)
        measured = measure_parts(
            parts, response=header.type != "request", algorithm=payload[0] if payload else "sha256"
        )
        if digest and block and digest.digest() != block[1]:
            yield self._say(streamed, Result.FAIL, "block-digest", f"the block has {digest.hexdigest()}", "5.8")
        is_message = header.is_http and header.type in ("response", "request") and header.get("Content-Length") != "0"
        if is_message and measured.head is None:
            yield self._say(streamed, Result.FAIL, "http-head", "the block does not begin with an HTTP head", "6.3.2")
        if payload and header.type != "revisit" and not header.get("WARC-Segment-Number"):
            yield from self._payload_digest(streamed, measured, payload[1].hex())

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

    def _want(self, streamed: StreamedRecord, own: str) -> None:
        header = streamed.header
        for name, clause in (("WARC-Concurrent-To", "5.7"), ("WARC-Warcinfo-ID", "5.16"), ("WARC-Refers-To", "5.11")):
            for target in header.all(name):
                compared = header if name == "WARC-Refers-To" and header.type == "revisit" else None
                known = self._targets.get(target)
                if known and not compared:
                    continue
                self._wanted.append(_Wanted(streamed.offset_bytes, own, name, clause, target, compared))

    def _references(self) -> Iterator[Finding]:
        for one in self._wanted:
            known = self._targets.get(one.target)
            if known is None:
                why = f"{one.field} names {one.target}, which is not in this file"
                yield self._file(Result.UNVERIFIABLE, "reference", why, one.clause, one.offset, one.record_id)
            elif one.header:
                for why, clause in _revisit_differs(one.header, known):
                    yield self._file(Result.FAIL, "revisit-target", why, clause, one.offset, one.record_id)

    def _damage(self, error: DamagedWarc) -> Iterator[Finding]:
        self._damaged = True
        known = self._agreement.at(error.offset) if self._agreement else None
        yield self._file(Result.FAIL, "framing", error.why, "4", error.offset, known)

    def _whole(self) -> Iterator[Finding]:
        end = self._reader.source.offset
        if not self._count:
            yield self._file(Result.FAIL, "empty", "no whole record", "4", 0)
        if not self._agreement:
            yield self._file(
                Result.UNVERIFIABLE, "whole-file", "there is no manifest to compare with", MANIFEST_CLAUSE, end
            )
            return
        for offset, record_id, why in self._agreement.rest():
            yield self._file(Result.FAIL, "manifest-record", why, MANIFEST_CLAUSE, offset, record_id)
        while more := len(self._reader.source.peek()):  # behind damage: hashed, not read as records
            self._reader.source.take(more)
        size, sha256 = self._reader.source.offset, self._reader.source.sha256.hexdigest()
        faults = list(self._agreement.whole(self._count, size, sha256))
        for rule, why in faults:
            yield self._file(Result.FAIL, rule, why, MANIFEST_CLAUSE, size)
        if not faults:
            yield self._file(Result.PASS, "whole-file", f"sha256 {sha256}, {size} bytes", MANIFEST_CLAUSE, size)

    def _say(self, streamed: StreamedRecord, result: Result, rule: str, why: str, clause: str) -> Finding:
        record_id = streamed.header.get("WARC-Record-ID")
        return self._file(result, rule, why, clause, streamed.offset_bytes, record_id)

    def _file(
        self, result: Result, rule: str, why: str, clause: str, offset: int, record_id: str | None = None
    ) -> Finding:
        return Finding(
            result=result, warc=self._warc, offset=offset, record_id=record_id, rule=rule, why=why, clause=clause
        )


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


def _revisit_differs(header: Header, known: _Target) -> Iterator[tuple[str, str]]:
    """Compare a revisit with the record it refers to (ISO 28500:2017 6.7.2)."""
    if (date := header.get("WARC-Refers-To-Date")) and date != known.date:
        yield f"the original's date is {known.date}, not {date}", "5.13"
    if (url := header.get("WARC-Refers-To-Target-URI")) and url != known.url:
        yield f"the original's URI is {known.url}, not {url}", "5.12"
    mine = header.get("WARC-Payload-Digest")
    if mine and known.payload_digest and mine != known.payload_digest:
        yield f"the original's payload digest is {known.payload_digest}, not {mine}", "6.7.2"
