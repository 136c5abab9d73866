"""Checks what is archived against its digests; each answer is PASS, FAIL or UNVERIFIABLE, with the rule behind it."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from osint_pipeline.errors import UserError
from osint_pipeline.preserve import manifest_path
from osint_pipeline.retrieve import Archive
from osint_pipeline.workspace import Workspace
from storage.check import Result as Finding
from storage.check import check_warc
from storage.digest import file_sha256
from storage.errors import DamagedWarc, StorageError
from storage.exchange import RecordRef, RecordType
from storage.finding import check_events, records_of
from storage.loading import load_records
from storage.records import payload, read_record, uuid_of
from storage.rows import WarcRow, WarcState
from storage.schema import records


class Result(StrEnum):
    """What a check came to. "Nothing failed" is not "everything was checked"."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNVERIFIABLE = "UNVERIFIABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim about one subject (a record, a WARC, an object) and whether it holds."""

    claim: str
    subject: str
    result: Result
    why: str = ""
    clause: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give the claim under the names of the contract in docs/design.md."""
        return asdict(self)


def verify_all(workspace: Workspace) -> Iterator[Claim]:
    """Check every WARC of the catalogue: its file, its records, the store's copy; then the chain of events."""
    for warc in workspace.catalog.warcs():
        yield from verify_warc(workspace, warc)
    broken = check_events(workspace.catalog)
    result = Result.PASS if broken is None else Result.FAIL
    yield Claim(
        claim="events-chained",
        subject="events",
        result=result,
        why=f"event {broken.id} {broken.why}" if broken else "",
        clause="design.md promise 2",
    )


def verify_warc(workspace: Workspace, warc: WarcRow) -> Iterator[Claim]:
    """Check one WARC of the catalogue, its local copy and its copy in the store, and the originals of its revisits."""
    path = workspace.local_copy(warc.name)
    revisits, troubles = _originals(workspace, warc.name)
    if path is not None:
        yield from verify_file(path, wanted_sha256=warc.sha256, resolved=revisits)
    for subject, why in troubles:
        yield Claim(claim="revisit-original", subject=subject, result=Result.FAIL, why=why, clause="ISO 28500:2017 6.7")
    if revisits and not troubles:
        yield Claim(claim="revisit-original", subject=warc.name, result=Result.PASS, clause="ISO 28500:2017 6.7")
    if warc.state == WarcState.PRESERVED and warc.key:
        yield _store_copy(workspace, warc)
    elif path is None:
        yield Claim(claim="exists", subject=warc.name, result=Result.FAIL, why="neither in the spool nor in the store")


def verify_file(
    path: Path, *, wanted_sha256: str | None = None, resolved: Collection[UUID] = frozenset()
) -> Iterator[Claim]:
    """Check a WARC file by itself, and against the manifest beside it where there is one.

    `resolved` are its revisits whose originals, in other files, are checked by the caller.
    """
    manifest = manifest_path(path)
    failures = 0
    for finding in check_warc(path, manifest if manifest.exists() else None):
        if finding.result is Finding.PASS or (
            finding.rule == "reference" and finding.record_id and uuid_of(finding.record_id) in resolved
        ):
            continue
        failures += finding.result is Finding.FAIL
        where = f"{path.name} at byte {finding.offset}"
        subject = f"{where}, record {finding.record_id}" if finding.record_id else where
        result = Result(finding.result.value)
        yield Claim(claim=finding.rule, subject=subject, result=result, why=finding.why, clause=finding.clause)
    if not failures:
        yield Claim(claim="warc-valid", subject=path.name, result=Result.PASS, clause="ISO 28500:2017")
    if wanted_sha256 is not None:
        got = file_sha256(path)
        same = Result.PASS if got == wanted_sha256 else Result.FAIL
        why = "" if same is Result.PASS else f"the catalogue says sha256 {wanted_sha256}, the file has {got}"
        yield Claim(claim="catalogue-sha256", subject=path.name, result=same, why=why)


def _originals(workspace: Workspace, warc: str) -> tuple[set[UUID], list[tuple[str, str]]]:
    """Follow a WARC's revisits to their originals: the revisits, and for each that fails (subject, why)."""
    with workspace.catalog.begin() as connection:
        revisits = load_records(connection, (records.c.warc == warc) & (records.c.type == RecordType.REVISIT))
        named = {one.refers_to for one in revisits}
        originals = {one.record_id: one for one in load_records(connection, records.c.id.in_(named))}
    archive, proven, troubles = Archive(workspace), dict[UUID, str](), []
    for one in revisits:
        original = originals.get(one.refers_to) if one.refers_to else None
        if original is None:
            why = f"it refers to {one.refers_to}, which no archived record is"
        elif original.payload_sha256 != one.payload_sha256:
            why = f"its payload is not that of {one.refers_to}"
        else:
            if original.record_id not in proven:
                proven[original.record_id] = _record(archive, original).why
            why = proven[original.record_id]
        if why:
            troubles.append((f"{one.warc} at byte {one.offset_bytes}, record {one.record_id}", why))
    return {one.record_id for one in revisits}, troubles


def verify_records(workspace: Workspace, id_: UUID) -> Iterator[Claim]:
    """Check each record of a post, capture, media or run: its bytes, its block, its payload."""
    refs = records_of(workspace.catalog, id_)
    if not refs:
        raise UserError(f"nothing in the catalogue has the id {id_}", "`osint find` and `osint runs` list ids")
    archive = Archive(workspace)
    for ref in refs:
        yield _record(archive, ref)


def _record(archive: Archive, ref: RecordRef) -> Claim:
    subject = f"{ref.warc} at byte {ref.offset_bytes}, record {ref.record_id}"
    try:
        trouble = _trouble(archive.member(ref), ref)
    except DamagedWarc as error:
        trouble = error.why
    except (StorageError, UserError) as error:
        return Claim(claim="record-digests", subject=subject, result=Result.UNVERIFIABLE, why=str(error))
    if trouble:
        return Claim(
            claim="record-digests", subject=subject, result=Result.FAIL, why=trouble, clause="ISO 28500:2017 5.8"
        )
    return Claim(claim="record-digests", subject=subject, result=Result.PASS, clause="ISO 28500:2017 5.8, 5.9")


def _trouble(member: bytes, ref: RecordRef) -> str:
    """Say in what a record differs from what the catalogue knows of it; empty where in nothing."""
    record = read_record(member)
    if record.header.record_id != ref.record_id or record.header.date != ref.date or record.header.url != ref.url:
        return "its header names another record, date or URL than the catalogue"
    if sha256(record.block).hexdigest() != ref.block_sha256:
        return "its block does not have its digest"
    revisit = ref.type is RecordType.REVISIT  # its payload lies in the record it refers to
    if ref.payload_sha256 and not revisit and sha256(payload(record)).hexdigest() != ref.payload_sha256:
        return "its payload does not have its digest"
    return ""


def _store_copy(workspace: Workspace, warc: WarcRow) -> Claim:
    subject = f"{workspace.service.s3_bucket}/{warc.key}"
    try:
        got = workspace.store.sha256_of(warc.key or "", warc.version_id)
    except StorageError as error:
        missing = "has no" in str(error)
        result = Result.FAIL if missing else Result.UNVERIFIABLE
        return Claim(claim="store-sha256", subject=subject, result=result, why=str(error))
    if got != warc.sha256:
        return Claim(claim="store-sha256", subject=subject, result=Result.FAIL, why=f"wanted {warc.sha256}, got {got}")
    return Claim(claim="store-sha256", subject=subject, result=Result.PASS)
