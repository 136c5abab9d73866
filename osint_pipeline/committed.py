"""Checks what a manifest says beyond its WARC's records: whose run it is, which manifest it follows, what the catalogue knows."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from sqlalchemy import func, select

from osint_pipeline.claims import Claim, Result, compared
from osint_pipeline.contradictions import contradictions
from osint_pipeline.preserve import cdxj_path, manifest_path
from osint_pipeline.workspace import Workspace
from storage.chapters import runs_of
from storage.digest import file_sha256
from storage.errors import DamagedWarc
from storage.exchange import RecordRef
from storage.loading import stream_records
from storage.manifest import Manifest, read_manifest
from storage.names import before, series_of
from storage.rows import WarcRow, WarcState
from storage.schema import records, warc_runs

CHAIN, CATALOGUE = "design.md, in the bucket", "design.md promise 6"
_KEPT = (
    "record_id",
    "type",
    "url",
    "date",
    "offset_bytes",
    "length_bytes",
    "record_sha256",
    "block_sha256",
    "payload_sha256",
    "status",
    "concurrent_to",
    "refers_to",
)


def manifest_claims(warc: Path, known: Mapping[str, str]) -> Iterator[Claim]:
    """Check the manifest beside a WARC against its warcinfo records and the manifest before it in its series.

    `known` are the digests of manifests that the catalogue knows, by the names of their WARCs.
    """
    try:
        manifest = read_manifest(manifest_path(warc))
    except (DamagedWarc, OSError):
        return  # named by the check of the WARC itself
    with suppress(DamagedWarc, OSError):
        why = "; ".join(contradictions(warc, manifest))
        yield compared("manifest-facts", manifest.path.name, why, CHAIN)
    yield from _chained(warc, manifest, known)


def _chained(warc: Path, manifest: Manifest, known: Mapping[str, str]) -> Iterator[Claim]:
    subject, earlier = manifest.path.name, before(warc.name)
    wanted = manifest.extra.get("previous_manifest_sha256")
    if wanted is not None and not isinstance(wanted, str):
        yield compared("manifest-chained", subject, "what it names as the manifest before it is no digest", CHAIN)
        return
    if earlier is None:
        if wanted is not None and series_of(warc.name):
            why = f"it names {wanted} as the manifest before it, and is the first of its series"
            yield compared("manifest-chained", subject, why, CHAIN)
        return
    beside = manifest_path(warc.with_name(earlier))
    found = {file_sha256(beside)} if beside.is_file() else set[str]()
    found |= {known[earlier]} if earlier in known else set()
    if wanted is not None and found:
        others = found - {wanted}
        why = f"it names {wanted} as the manifest before it, that of {earlier} has {min(others)}" if others else ""
        yield compared("manifest-chained", subject, why, CHAIN)
        return
    if wanted is None and not manifest.extra.get("recovered"):
        why = f"it does not name the manifest of {earlier}, which stands before it in its series"
        yield compared("manifest-chained", subject, why, CHAIN)
        return
    why = (
        f"the manifest of {earlier} is not at hand"
        if wanted
        else "it was made by a recovery, without the one before it"
    )
    yield Claim(claim="manifest-chained", subject=subject, result=Result.UNVERIFIABLE, why=why, clause=CHAIN)


def catalogue_claims(workspace: Workspace, warc: WarcRow, path: Path) -> Iterator[Claim]:
    """Compare what stands beside a WARC on this machine with what the catalogue knows of it."""
    for claim, beside in (("manifest-there", manifest_path(path)), ("index-there", cdxj_path(path))):
        if not beside.is_file():
            yield compared(
                claim, beside.name, "it is not beside its sealed WARC; `osint recover` makes it again", CHAIN
            )
    manifest = manifest_path(path)
    if not manifest.is_file():
        return
    if warc.manifest_sha256:
        got = file_sha256(manifest)
        why = "" if got == warc.manifest_sha256 else f"the catalogue says {warc.manifest_sha256}, the file has {got}"
        yield compared("catalogue-manifest", manifest.name, why, CATALOGUE)
    yield from record_claims(workspace, warc.name, manifest)
    if warc.state != WarcState.OPEN:  # or it is about to be told of them
        yield from run_claims(workspace, warc.name, manifest)


def run_claims(workspace: Workspace, warc: str, manifest: Path) -> Iterator[Claim]:
    """Compare the runs that the catalogue has of a WARC, and where their records stand in it, with its manifest."""
    try:
        there = read_manifest(manifest)
    except (DamagedWarc, OSError):
        return  # named by the check of the WARC itself
    wanted = {one.run: one.offset_bytes for one in runs_of(there.extra)}
    if not wanted:
        return  # of 0.1.0, or named as no list of runs
    of_run = select(records.c.run_id, func.min(records.c.offset_bytes), func.max(records.c.offset_bytes))
    listed = select(warc_runs.c.run_id, warc_runs.c.offset_bytes).where(warc_runs.c.warc == warc)
    with workspace.catalog.begin() as connection:
        ours = {row.run_id: row.offset_bytes for row in connection.execute(listed)}
        found = connection.execute(of_run.where(records.c.warc == warc).group_by(records.c.run_id)).all()
    faults = [
        f"run {run} wrote into it from byte {wanted.get(run)} as the manifest says, from {ours.get(run)} in the catalogue"
        for run in {**wanted, **ours}
        if wanted.get(run) != ours.get(run)
    ]
    spans = dict(zip(wanted, pairwise([*wanted.values(), there.size_bytes]), strict=True))
    for run, first, last in found:
        begin, end = spans.get(run, (0, 0))
        if not begin <= first <= last < end:
            faults.append(f"records of run {run} stand at bytes {first} to {last}, the manifest's at {begin} to {end}")
    yield compared("catalogue-runs", warc, "; ".join(faults), CATALOGUE)


def record_claims(workspace: Workspace, warc: str, manifest: Path) -> Iterator[Claim]:
    """Compare the catalogue's records of a WARC with those of its manifest, both read in the order of the file."""
    count = faults = 0
    try:
        theirs = read_manifest(manifest).records()
        with workspace.catalog.begin() as connection:
            query = select(records).where(records.c.warc == warc).order_by(records.c.offset_bytes)
            for ref in stream_records(connection, query):
                count += 1
                there = next((one for one in theirs if one.offset_bytes >= ref.offset_bytes), None)
                if why := _differs(ref, there):
                    faults += 1
                    subject = f"{warc} at byte {ref.offset_bytes}, record {ref.record_id}"
                    yield compared("catalogue-record", subject, why, CATALOGUE)
                    if there is None or there.offset_bytes != ref.offset_bytes:
                        return  # what stands behind cannot be matched any more
    except (DamagedWarc, OSError):
        return  # named by the check of the WARC itself
    if count and not faults:
        yield compared("catalogue-records", warc, "", CATALOGUE)


def _differs(ref: RecordRef, there: RecordRef | None) -> str:
    if there is None or there.offset_bytes != ref.offset_bytes:
        return "the catalogue has a record here that the manifest has not"
    for name in _KEPT:
        mine, theirs = getattr(ref, name), getattr(there, name)
        if mine != theirs:
            return f"its {name.removesuffix('_bytes')} is {mine} in the catalogue, {theirs} in the manifest"
    return ""
