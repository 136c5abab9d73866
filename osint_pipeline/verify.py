"""Checks what is archived against its digests; each answer is PASS, FAIL or UNVERIFIABLE, with the rule behind it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from osint_pipeline.accounts import as_told, told_of, told_otherwise, unaccounted
from osint_pipeline.claims import Claim, Result, compared
from osint_pipeline.committed import catalogue_claims, manifest_claims
from osint_pipeline.errors import UserError
from osint_pipeline.preserve import manifest_path
from osint_pipeline.retrieve import Archive
from osint_pipeline.stored import store_claims
from osint_pipeline.workspace import Workspace
from storage.check import Result as Finding
from storage.check import check_warc
from storage.errors import DamagedWarc, StorageError
from storage.exchange import RecordRef, RecordType
from storage.finding import check_events, records_of
from storage.http import measure_parts
from storage.loading import load_records
from storage.names import before
from storage.records import WarcReader, uuid_of
from storage.rows import WarcRow
from storage.schema import records
from storage.warc_files import list_warcs, warcs_elsewhere

__all__ = ["Claim", "Result", "verify_all", "verify_file", "verify_records", "verify_warc"]

Progress = Callable[[str, int], None]
"""Told the name of a WARC and up to which of its bytes it is checked."""
_PIECE_BYTES = 1 << 20
_SILENT = frozenset({"record", "whole-file", "index"})  # said once, as warc-valid


def verify_all(workspace: Workspace, progress: Progress | None = None) -> Iterator[Claim]:
    """Check every WARC of the catalogue: its file, its records, the store's copy; whether the catalogue lacks one; then
    the chain of events.
    """
    for warc in list_warcs(workspace.catalog):
        yield from verify_warc(workspace, warc, progress)
    yield from unaccounted(workspace)
    broken = check_events(workspace.catalog)
    why = f"event {broken.id} {broken.why}" if broken else ""
    yield compared("events-chained", "events", why, "design.md promise 2")


def verify_warc(workspace: Workspace, warc: WarcRow, progress: Progress | None = None) -> Iterator[Claim]:
    """Check one WARC of the catalogue: its local copy, what the catalogue says of it, the originals of its revisits,
    and its copy in the store.
    """
    path = workspace.local_copy(warc.name)
    revisits, troubles = _originals(workspace, warc.name)
    if path is not None:
        yield from verify_file(
            path,
            wanted_sha256=warc.sha256,
            resolved=revisits,
            margin_seconds=workspace.service.clock_margin_seconds,
            known=_manifest_before(workspace, warc.name),
            progress=progress,
        )
        yield from catalogue_claims(workspace, warc, path)
    yield from troubles
    if revisits and not troubles:
        yield compared("revisit-original", warc.name, "", "ISO 28500:2017 6.7")
    told = told_of(workspace, warc.name)
    yield from told_otherwise(warc, told)
    if (stored := as_told(warc, told)).key:
        yield from store_claims(workspace, stored, local=path is not None)
    elif path is None and workspace.open_copy(warc.name):
        why = "a run still writes it"
        yield Claim(claim="exists", subject=warc.name, result=Result.UNVERIFIABLE, why=why)
    elif path is None and (machine := warcs_elsewhere(workspace.catalog, workspace.service.machine).get(warc.name)):
        why = f"it lies in the spool of {machine}, and was not brought to the store yet"
        yield Claim(claim="exists", subject=warc.name, result=Result.UNVERIFIABLE, why=why)
    elif path is None:
        yield compared("exists", warc.name, "neither in the spool nor in the store", "design.md promise 5")
    if progress:
        progress(warc.name, warc.size_bytes or 0)


def verify_file(
    path: Path,
    *,
    wanted_sha256: str | None = None,
    resolved: Collection[UUID] = frozenset(),
    margin_seconds: float = 86400.0,
    known: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Iterator[Claim]:
    """Check a WARC file by itself, and against the manifest and index beside it where they are.

    `resolved` are its revisits whose originals, in other files, are checked by the caller; `known` are digests of other
    WARCs' manifests. A date further ahead of this machine's clock than the margin is a fault.
    """
    manifest = manifest_path(path)
    latest = datetime.now(UTC) + timedelta(seconds=margin_seconds)
    there = manifest if manifest.exists() else None
    failures = 0
    try:
        for finding in check_warc(path, there, sha256=wanted_sha256, latest=latest):
            if progress:
                progress(path.name, finding.offset)
            if (finding.result is Finding.PASS and finding.rule in _SILENT) or (
                finding.rule == "reference" and finding.record_id and uuid_of(finding.record_id) in resolved
            ):
                continue
            whole = finding.rule == "catalogue-sha256"
            failures += finding.result is Finding.FAIL and not whole
            where = path.name if whole else f"{path.name} at byte {finding.offset}"
            subject = f"{where}, record {finding.record_id}" if finding.record_id else where
            result = Result(finding.result.value)
            yield Claim(claim=finding.rule, subject=subject, result=result, why=finding.why, clause=finding.clause)
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
        yield Claim(claim="readable", subject=path.name, result=Result.UNVERIFIABLE, why=why)
        return
    if not failures:
        yield compared("warc-valid", path.name, "", "ISO 28500:2017")
    if there:
        yield from manifest_claims(path, known or {})


def _manifest_before(workspace: Workspace, warc: str) -> dict[str, str]:
    earlier = before(warc)
    rows = list_warcs(workspace.catalog, names=[earlier]) if earlier else []
    return {row.name: row.manifest_sha256 for row in rows if row.manifest_sha256}


def _originals(workspace: Workspace, warc: str) -> tuple[set[UUID], list[Claim]]:
    """Follow a WARC's revisits to their originals: the revisits, and a claim for each whose original is not proven."""
    with workspace.catalog.begin() as connection:
        revisits = load_records(connection, (records.c.warc == warc) & (records.c.type == RecordType.REVISIT))
        named = {one.refers_to for one in revisits}
        originals = {one.record_id: one for one in load_records(connection, records.c.id.in_(named))}
    archive, proven, troubles = Archive(workspace), dict[UUID, Claim](), list[Claim]()
    for one in revisits:
        original = originals.get(one.refers_to) if one.refers_to else None
        result = Result.FAIL
        if original is None:
            why = f"it refers to {one.refers_to}, which no archived record is"
        elif original.payload_sha256 != one.payload_sha256:
            why = f"its payload is not that of {one.refers_to}"
        else:
            if original.record_id not in proven:
                proven[original.record_id] = _record(archive, original)
            result, why = proven[original.record_id].result, proven[original.record_id].why
        if why:
            subject, clause = f"{one.warc} at byte {one.offset_bytes}, record {one.record_id}", "ISO 28500:2017 6.7"
            troubles.append(Claim(claim="revisit-original", subject=subject, result=result, why=why, clause=clause))
    return {one.record_id for one in revisits}, troubles


def verify_records(workspace: Workspace, id_: UUID) -> Iterator[Claim]:
    """Check each record of a post, capture, media or run: its bytes, its block, its payload."""
    refs = records_of(workspace.catalog, id_)
    if not refs:
        raise UserError(f"nothing in the catalogue has the id {id_}", "`osint find` and `osint runs` list ids")
    archive = Archive(workspace)
    for ref in refs:
        yield _record(archive, ref)


class _Window:
    """The bytes of one record, read piece by piece from wherever they are."""

    def __init__(self, archive: Archive, ref: RecordRef) -> None:
        self._archive, self._ref, self._at = archive, ref, 0

    def read(self, size: int = -1, /) -> bytes:
        """Read the next bytes; empty at the record's end, or the file's."""
        left = self._ref.length_bytes - self._at
        wanted = min(left, _PIECE_BYTES if size < 0 else size)
        data = self._archive.read(self._ref.warc, self._ref.offset_bytes + self._at, wanted) if wanted > 0 else b""
        self._at += len(data)
        return data


def _record(archive: Archive, ref: RecordRef) -> Claim:
    subject = f"{ref.warc} at byte {ref.offset_bytes}, record {ref.record_id}"
    try:
        trouble = _trouble(archive, ref)
    except DamagedWarc as error:
        trouble = error.why
    except (StorageError, UserError) as error:
        return Claim(claim="record-digests", subject=subject, result=Result.UNVERIFIABLE, why=str(error))
    return compared("record-digests", subject, trouble, "ISO 28500:2017 5.8, 5.9")


def _trouble(archive: Archive, ref: RecordRef) -> str:
    """Say in what a record differs from what the catalogue knows of it; empty where in nothing."""
    reader = WarcReader(_Window(archive, ref), ref.warc, ref.offset_bytes)
    if (streamed := reader.next()) is None:
        return "the file ends before it"
    measured = measure_parts(streamed.pieces(), response=ref.type is not RecordType.REQUEST)
    header = streamed.header
    if streamed.length_bytes != ref.length_bytes:
        return f"it is {streamed.length_bytes} bytes long, not {ref.length_bytes}"
    if streamed.sha256 != ref.record_sha256:
        return "it does not have its digest any more"
    if header.record_id != ref.record_id or header.date != ref.date or header.url != ref.url:
        return "its header names another record, date or URL than the catalogue"
    if measured.block_sha256 != ref.block_sha256:
        return "its block does not have its digest"
    revisit = ref.type is RecordType.REVISIT  # its payload lies in the record it refers to
    payload = measured.sha256 if header.is_http else measured.block_sha256
    if ref.payload_sha256 and not revisit and payload != ref.payload_sha256:
        return "its payload does not have its digest"
    return ""
