"""In what a manifest contradicts the warcinfo records and the journal of its WARC: whose runs it is, what they were made with."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from osint_pipeline.technical import digest_of
from storage.chapters import Chapter, chapters
from storage.exchange import RecordRef, RecordType
from storage.journal import EntryKind, NoEntry, decode, is_journal, told_by
from storage.manifest import Manifest
from storage.names import shared_host
from storage.records import read_record

_OF_RUN = {"run": "run", "source": "isPartOf"}  # as the manifest and the warcinfo record call it
_OF_FILE = {"collector": "operator"}
_NAMED_SOFTWARE = ("osint-pipeline", "scrapy", "python")


def _infos(manifest: Manifest) -> Iterator[RecordRef]:
    """Yield the warcinfo records: the first of one run's WARC, all of one that is shared."""
    if _is_shared(manifest):
        return (ref for ref in manifest.records() if ref.type is RecordType.WARCINFO)
    return islice(manifest.records(), 1)


def _is_shared(manifest: Manifest) -> bool:
    return "runs" in manifest.extra or shared_host(manifest.name) is not None


def contradictions(warc: Path, manifest: Manifest) -> Iterator[str]:
    """Yield each, in words. Raises DamagedWarc, OSError."""
    told = chapters(warc, _infos(manifest))
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
        if said.get("offset") != one.offset_bytes:
            yield f"run {number} begins at byte {one.offset_bytes}, it says {said.get('offset')!r}"
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
    runs = listed if isinstance(listed, list) else []
    said = next((one for one in runs if isinstance(one, dict) and one.get("run") == run), {})
    if (wanted := said.get("configuration_sha256")) is None:
        return ""
    with warc.open("rb") as file:
        file.seek(ref.offset_bytes)
        entry = decode(read_record(file.read(ref.length_bytes)).block)
    got = digest_of(entry.run_row.detail) if entry.run_row else "none"
    return "" if got == wanted else f"configuration_sha256 of run {run} is {wanted!r}, its journal entry's {got}"
