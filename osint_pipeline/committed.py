"""Checks what a manifest says beyond its WARC's records: whose run it is, which manifest it follows, what the catalogue knows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select

from osint_pipeline.claims import Claim, Result, compared
from osint_pipeline.preserve import cdxj_path, manifest_path
from osint_pipeline.technical import digest_of
from osint_pipeline.workspace import Workspace
from storage.chapters import Chapter, chapters, runs_of
from storage.digest import file_sha256
from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType
from storage.journal import EntryKind, NoEntry, decode, is_journal, told_by
from storage.loading import stream_records
from storage.manifest import Manifest, read_manifest
from storage.names import before, series_of, shared_host
from storage.records import read_record
from storage.rows import WarcRow
from storage.schema import records, warc_runs

CHAIN, CATALOGUE = "design.md, in the bucket", "design.md promise 6"
_OF_RUN = {"run": "run", "source": "isPartOf"}  # as the manifest and the warcinfo record call it
_OF_FILE = {"collector": "operator"}
_NAMED_SOFTWARE = ("osint-pipeline", "scrapy", "python")
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
        why = "; ".join(_contradictions(warc, manifest, chapters(warc, _infos(manifest))))
        yield compared("manifest-facts", manifest.path.name, why, CHAIN)
    yield from _chained(warc, manifest, known)


def _infos(manifest: Manifest) -> Iterator[RecordRef]:
    """Yield the warcinfo records: the first of one run's WARC, all of one that is shared."""
    if _is_shared(manifest):
        return (ref for ref in manifest.records() if ref.type is RecordType.WARCINFO)
    return islice(manifest.records(), 1)


def _is_shared(manifest: Manifest) -> bool:
    return "runs" in manifest.extra or shared_host(manifest.name) is not None


def _contradictions(warc: Path, manifest: Manifest, told: Sequence[Chapter]) -> Iterator[str]:
    extra, shared = manifest.extra, _is_shared(manifest)
    for one in told:
        yield from _differing(extra, one.info, _OF_FILE if shared else {**_OF_RUN, **_OF_FILE})
        yield from _other_software(extra.get("software"), one.info)
    if shared:
        yield from _other_runs(extra, told)
    yield from _other_entries(warc, manifest, told)


def _differing(said: Mapping[str, object], info: Mapping[str, str], names: Mapping[str, str]) -> Iterator[str]:
    for name, field in names.items():
        wanted = said.get(name)
        if wanted is not None and not isinstance(wanted, str):
            yield f"{name} is no text"
        elif field in info and wanted is not None and wanted.strip() != info[field]:
            yield f"{name} is {wanted!r}, the warcinfo record's {field} {info[field]!r}"


def _other_software(software: object, info: Mapping[str, str]) -> Iterator[str]:
    said = info.get("software", "").split()
    if not isinstance(software, dict) or not said:
        return
    for name in _NAMED_SOFTWARE:
        if name in software and not isinstance(software[name], str):
            yield f"software {name} is no text"
        elif name in software and f"{name}/{software[name]}" not in said:
            yield f"software {name} is {software[name]!r}, the warcinfo record's software {info['software']!r}"


def _other_runs(extra: Mapping[str, object], told: Sequence[Chapter]) -> Iterator[str]:
    """Yield in what the list of runs differs from the warcinfo records."""
    listed = extra.get("runs")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        yield "it does not list the runs that share its WARC"
        return
    if len(listed) != len(told):
        yield f"it lists {len(listed)} runs, the WARC has {len(told)} warcinfo records"
    for number, (said, one) in enumerate(zip(listed, told, strict=False)):
        if said.get("warcinfo") != str(one.warcinfo):
            yield f"run {number} begins with warcinfo {one.warcinfo}, it says {said.get('warcinfo')!r}"
        missing = [name for name in _OF_RUN if not isinstance(said.get(name), str)]
        yield from (f"run {number}: {name} is no text" for name in missing)
        yield from (f"run {number}: {why}" for why in _differing(said, one.info, _OF_RUN))
    if len(told) == 1:
        yield from _differing(extra, told[0].info, _OF_RUN)


def _other_entries(warc: Path, manifest: Manifest, told: Sequence[Chapter]) -> Iterator[str]:
    """Yield where a journal entry is another run's than its warcinfo record says, or a configuration has another digest."""
    runs = {one.warcinfo: one.info.get("run") for one in told}
    current = told[0].info.get("run") if told else None
    few = manifest.records() if _is_shared(manifest) else islice(manifest.records(), 2)
    for ref in few:
        current = runs.get(ref.record_id, current)
        if not is_journal(ref):
            continue
        try:
            run, kind, _ = told_by(ref.url)
            if current and str(run) != current:
                yield f"the journal entry at byte {ref.offset_bytes} is of run {run}, and stands among those of {current}"
            elif kind is EntryKind.BEGIN and (why := _other_configuration(warc, manifest, ref, str(run))):
                yield why
        except NoEntry as error:
            yield f"the journal entry at byte {ref.offset_bytes}: {error}"


def _other_configuration(warc: Path, manifest: Manifest, ref: RecordRef, run: str) -> str:
    """Compare what the manifest says of a run's configuration with the entry that the run began with. Raises NoEntry."""
    listed = manifest.extra.get("runs", [manifest.extra])
    said = next((one for one in listed if isinstance(one, dict) and one.get("run") == run), {})  # type: ignore[attr-defined]
    if (wanted := said.get("configuration_sha256")) is None:
        return ""
    with warc.open("rb") as file:
        file.seek(ref.offset_bytes)
        entry = decode(read_record(file.read(ref.length_bytes)).block)
    got = digest_of(entry.run_row.detail) if entry.run_row else "none"
    return "" if got == wanted else f"configuration_sha256 of run {run} is {wanted!r}, its journal entry's {got}"


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


def run_claims(workspace: Workspace, warc: str, manifest: Path) -> Iterator[Claim]:
    """Compare the runs that the catalogue has of a WARC, and where their records stand in it, with its manifest."""
    try:
        there = read_manifest(manifest)
        wanted = runs_of(there.extra)
        spans = _spans(there, wanted)
    except (DamagedWarc, OSError):
        return  # named by the check of the WARC itself
    if not wanted:
        return  # of 0.1.0, or named as no list of runs
    of_run = select(records.c.run_id, func.min(records.c.offset_bytes), func.max(records.c.offset_bytes))
    with workspace.catalog.begin() as connection:
        ours = set(connection.scalars(select(warc_runs.c.run_id).where(warc_runs.c.warc == warc)))
        found = connection.execute(of_run.where(records.c.warc == warc).group_by(records.c.run_id)).all()
    faults = [f"the catalogue has not that run {one} wrote into it" for one in wanted if one not in ours]
    faults += [f"the catalogue says that run {one} wrote into it, the manifest does not" for one in ours - set(wanted)]
    for run, first, last in found:
        begin, end = spans.get(run, (0, 0))
        if not begin <= first <= last < end:
            faults.append(f"records of run {run} stand at bytes {first} to {last}, the manifest's at {begin} to {end}")
    yield compared("catalogue-runs", warc, "; ".join(faults), CATALOGUE)


def _spans(manifest: Manifest, runs: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """Tell from which byte to which the records of each run stand."""
    if "runs" not in manifest.extra:
        return dict.fromkeys(runs, (0, manifest.size_bytes))
    starts = [ref.offset_bytes for ref in manifest.records() if ref.type is RecordType.WARCINFO]
    return dict(zip(runs, pairwise([*starts, manifest.size_bytes]), strict=False))


def record_claims(workspace: Workspace, warc: str, manifest: Path) -> Iterator[Claim]:
    """Compare the catalogue's records of a WARC with those of its manifest, both read in the order of the file; its runs."""
    yield from run_claims(workspace, warc, manifest)
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
