"""Mends what a crash left: torn WARCs are cut and sealed, the catalogue is told what they hold, dead runs are ended."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from osint_pipeline.mending import Mending, mending
from osint_pipeline.process_names import process_start
from osint_pipeline.registering import register_here
from osint_pipeline.retrieve import Archive
from osint_pipeline.workspace import Workspace
from osint_pipeline.written import Written, readable
from storage.batches import commit_batch, missing_records, unclosed_captures
from storage.catalog import Catalog
from storage.entries import end_is_told, ends_untold, told_entries
from storage.errors import DamagedWarc
from storage.events import add_event
from storage.exchange import RecordRef, RecordType
from storage.journal import EntryKind, NoEntry, RunEnd, is_journal, told_by
from storage.loading import records_by_capture
from storage.manifest import SealedWarc
from storage.rows import Batch, CaptureState, Counters, Outcome, RecordRow, RunRow, SourceRow, WarcState
from storage.runs import UnfinishedRun, begin_run, begun_run, run_end, unfinished_runs
from storage.schema import captures, media, records, version_captures
from storage.scratch import sweep_scratch
from storage.sources import ensure_source
from storage.spool import Recovered
from storage.warc_files import list_warcs

RECOVERED = "recovered"
ALONE = 7421003  # the advisory lock that lets one recovery work at a time
GONE = "its process ended before the run did; what it had not reached is not counted"
RETIRED = "its machine was retired: "
_ROWS_AT_ONCE, _CAPTURES_AT_ONCE = 2000, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """One thing that was put right: a WARC, a run, or a leftover file; `sentence` says what was done."""

    name: str
    sentence: str
    kept_records: int = 0
    cut_bytes: int = 0


def recover(workspace: Workspace) -> Iterator[Mended]:
    """Mend the spool and the catalogue after any crash. May run at any time: what a living run writes is left alone.

    The chain of events is told at its end how much was mended, where anything was.
    """
    count = 0
    for one in _recover(workspace):
        count += 1
        yield one
    if count:
        add_event(workspace.catalog, RECOVERED, workspace.service.machine, None, {"mended": count})


def _recover(workspace: Workspace) -> Iterator[Mended]:
    for found in workspace.spool.recover():
        if found.sealed and found.reason == "manifest missing":
            _seal_again(workspace, found.sealed)
        yield Mended(
            name=found.name, sentence=_sentence(found), kept_records=found.kept_records, cut_bytes=found.cut_bytes
        )
    if left := workspace.tidy_store():
        yield Mended(name="store", sentence=f"{left} half-written files of uploads that were cut off, removed")
    for name in sweep_scratch(workspace.catalog):
        yield Mended(name=name, sentence="was made beside the catalogue by a process that is gone; dropped")
    with workspace.catalog.alone(ALONE):
        yield from _tell_of_warcs(workspace)
        for run_id in ends_untold(workspace.catalog):
            _write_end_of(workspace, run_id)
        for run in unfinished_runs(workspace.catalog):
            if not _alive(workspace, run) or (_of_another_machine(workspace, run) and _wrote_here(workspace, run.id)):
                _end(workspace, run.id)
                yield Mended(name=f"run {run.id}", sentence="its process is gone; ended with what it had captured")


def _tell_of_warcs(workspace: Workspace) -> Iterator[Mended]:
    """Tell the catalogue of the sealed WARCs that it does not know, and of what each of their runs wrote into them."""
    known = {warc.name for warc in list_warcs(workspace.catalog) if warc.state != WarcState.OPEN}
    found: list[Written] = []
    for path in workspace.spool.sealed_paths():
        if path.name in known:
            continue
        try:
            found.append(Written(path))
        except (DamagedWarc, ValueError, OSError) as error:  # this one waits for a person; the others go on
            yield Mended(name=path.name, sentence=f"was left as it is: {error}")
    living = _living(workspace)  # asked behind the files: who wrote them had begun before
    found = [one for one in found if living.isdisjoint(one.runs)]
    left = {one.warc.name: set(one.runs) for one in found}
    for run_id in dict.fromkeys(run for one in found for run in one.runs):
        mine = [one for one in found if run_id in one.runs]
        for one in mine:
            left[one.warc.name].discard(run_id)
        whole = [one.warc for one in mine if not left[one.warc.name]]
        for trouble in _register(workspace, run_id, mine, whole):
            yield Mended(name=f"run {run_id}", sentence=trouble)
        for sealed in whole:
            yield Mended(name=sealed.name, sentence="is in the catalogue now")


def _seal_again(workspace: Workspace, sealed: SealedWarc) -> None:
    """Tell the catalogue of the manifest that was written anew for a WARC which it knows as sealed."""
    for warc in list_warcs(workspace.catalog, names=[sealed.path.name]):
        if warc.state != WarcState.OPEN:
            register_here(workspace, sealed, warc.run_id)


def _living(workspace: Workspace) -> set[UUID]:
    """Name the runs that may still write to this spool: it is this machine's alone, so those of its living processes."""
    runs = unfinished_runs(workspace.catalog)
    return {run.id for run in runs if _alive(workspace, run) and not _of_another_machine(workspace, run)}


def _register(workspace: Workspace, run_id: UUID, found: list[Written], whole: list[SealedWarc]) -> list[str]:
    """Tell the catalogue of what a dead run synced and did not tell, then of the WARCs of which it has all (`whole`).

    What could not be told is answered.
    """
    run, source = begun_run(workspace.catalog, run_id) or _lost_run(workspace, run_id, found)
    with mending(workspace, run, source) as mended:
        replay(workspace, mended, found)
        for one in found:
            tell_of_records(workspace, run_id, one.records(run_id))
        close_captures(workspace, mended)
        for warc in whole:
            register_here(workspace, warc, run_id)
        ended = run_end(workspace.catalog, run_id)
        if ended and (ended.reason or "").startswith(RETIRED):  # it was counted without what its machine brings now
            _write_end(mended, replace(what_there_is(workspace, run_id, ended.reason or ""), ended_at=ended.ended_at))
        elif ended and (mended.wrote or not end_is_told(workspace.catalog, run_id)):
            _write_end(mended, ended)
        return mended.troubles


def replay(workspace: Workspace, mended: Mending, found: list[Written]) -> None:
    """Tell the catalogue the journal entries of a run that it has not been told; what it has of the run's end stays."""
    run, told = mended.run.id, told_entries(workspace.catalog, mended.run.id)
    ended = run_end(workspace.catalog, run) is not None
    untold = [(ref, one) for one in found for ref in one.entries(run) if ref.record_id not in told]
    for ref, one in sorted(untold, key=_place):
        name = one.warc.path.name
        try:
            entry = one.entry(ref)
        except NoEntry as error:
            mended.troubles.append(f"{ref.record_id} in {name}: {error}")
            continue
        if entry.run != run:
            mended.troubles.append(f"{ref.record_id} in {name} stands among the records of run {run}, and is another's")
            continue
        if ended and entry.kind is EntryKind.END:
            continue
        try:
            mended.journal.replay(entry, ref.record_id)
        except DBAPIError as error:  # what it says cannot be kept: the others must not wait for it
            mended.troubles.append(f"journal entry {ref.record_id} in {name} cannot be told: {_short(error)}")


def tell_of_records(workspace: Workspace, run_id: UUID, refs: Iterator[RecordRef]) -> None:
    """Write the rows of records that the catalogue does not have, some at a time."""
    kept = (ref for ref in refs if ref.type is not RecordType.WARCINFO and not is_journal(ref))
    while some := list(islice(kept, _ROWS_AT_ONCE)):
        missing = missing_records(workspace.catalog, some)
        rows = tuple(RecordRow(ref=ref, run_id=run_id, capture_id=ref.capture) for ref in missing)
        commit_batch(workspace.catalog, Batch(records=rows))


def close_captures(workspace: Workspace, mended: Mending) -> None:
    """Make the captures again whose process ended before they did, from their records alone."""
    from osint_pipeline.rereading import capture_again

    archive, run, source = Archive(workspace), mended.run, mended.source
    unclosed = iter(unclosed_captures(workspace.catalog, run.id))
    while some := list(islice(unclosed, _CAPTURES_AT_ONCE)):
        with workspace.catalog.begin() as connection:
            by_capture = records_by_capture(connection, some)
        made = [
            capture_again(archive, by_capture[one], id_=one, run=run.id, source=source.id, spider=source.spider)
            for one in some
        ]
        mended.journal.write(
            Batch(
                captures=tuple(row for batch in made for row in batch.captures),
                posts=tuple(row for batch in made for row in batch.posts),
                media=tuple(row for batch in made for row in batch.media),
            )
        )
        mended.journal.tell()


def run_of_info(run_id: UUID, info: dict[str, str], started_at: datetime) -> tuple[RunRow, SourceRow]:
    """Make a run and its source out of a warcinfo, where no journal tells of them."""
    said = re.search(r" of (\S+) by (\w+)$", info.get("description", ""))
    url, spider = (said[1], said[2]) if said else ("unknown", "page")
    source = SourceRow(slug=info.get("isPartOf", "unknown"), url=url, spider=spider, created_at=started_at)
    made_again = {"made_again": "from its WARC; the catalogue had lost it"}
    return RunRow(id=run_id, source_id=source.id, started_at=started_at, detail=made_again), source


def _lost_run(workspace: Workspace, run_id: UUID, found: list[Written]) -> tuple[RunRow, SourceRow]:
    """Write a run that the catalogue has lost anew, as its journal or else its warcinfo tells."""
    told = _told_run(found, run_id) or run_of_info(run_id, found[0].info(run_id), datetime.now(UTC))
    return begin_lost_run(workspace.catalog, *told)


def begin_lost_run(catalog: Catalog, run: RunRow, source: SourceRow) -> tuple[RunRow, SourceRow]:
    """Write a run that is told from elsewhere, and its source where the catalogue has none of that spider and URL."""
    stored = ensure_source(catalog, source)
    run = replace(run, source_id=stored.id, process=None)
    begin_run(catalog, run)
    return run, stored


def _told_run(found: list[Written], run_id: UUID) -> tuple[RunRow, SourceRow] | None:
    for one in found:
        for ref in one.entries(run_id):
            entry = one.entry(ref)
            if entry.run_row and entry.source:
                return entry.run_row, entry.source
    return None


def _place(found: tuple[RecordRef, Written]) -> int:
    try:
        return told_by(found[0].url)[2]
    except NoEntry:
        return 0  # told of when it is read


def _alive(workspace: Workspace, run: UnfinishedRun) -> bool:
    if run.process is None:
        return False  # made again from the archive
    host, pid, started = [*run.process.rsplit(":", 2), "", ""][:3]
    if host != workspace.service.machine:
        return True  # another machine's: its own recover decides
    return pid.isdigit() and process_start(int(pid)) == started != ""


def _of_another_machine(workspace: Workspace, run: UnfinishedRun) -> bool:
    return run.process is not None and run.process.rsplit(":", 2)[0] != workspace.service.machine


def _wrote_here(workspace: Workspace, run_id: UUID) -> bool:
    """Tell whether a run wrote to our spool: then its machine had our name before it had another, and the run is over."""
    return any(workspace.local_copy(warc.name) for warc in list_warcs(workspace.catalog, run_id=run_id))


def _end(workspace: Workspace, run_id: UUID) -> None:
    """End a dead run: as its journal says, else with what the catalogue has of it."""
    begun = begun_run(workspace.catalog, run_id)
    assert begun is not None
    paths = [workspace.local_copy(warc.name) for warc in list_warcs(workspace.catalog, run_id=run_id)]
    with mending(workspace, *begun) as mended:
        found = readable(path for path in paths if path)
        replay(workspace, mended, found)
        for one in found:  # those that were sealed while the run went on may hold what it had not come to tell
            tell_of_records(workspace, run_id, one.records(run_id))
        close_captures(workspace, mended)
        if run_end(workspace.catalog, run_id) is None:
            _write_end(mended, what_there_is(workspace, run_id))


def end_retired(workspace: Workspace, run_id: UUID, why: str) -> None:
    """End a run whose machine is gone with what the catalogue has of it; what only that machine could read is left open."""
    begun = begun_run(workspace.catalog, run_id)
    assert begun is not None
    with mending(workspace, *begun) as mended:
        _write_end(mended, what_there_is(workspace, run_id, RETIRED + why))


def _write_end_of(workspace: Workspace, run_id: UUID) -> None:
    """Write the end of a run that the catalogue knows and the archive does not."""
    begun, ended = begun_run(workspace.catalog, run_id), run_end(workspace.catalog, run_id)
    if begun and ended:
        with mending(workspace, *begun) as mended:
            _write_end(mended, ended)


def _short(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", error)).split())[:200]


def _write_end(mended: Mending, ended: RunEnd) -> None:
    begun = begun_run(mended.workspace.catalog, mended.run.id)
    assert begun is not None
    mended.journal.end(ended, dict(begun[0].detail))
    mended.journal.tell()


def what_there_is(workspace: Workspace, run_id: UUID, reason: str = GONE) -> RunEnd:
    """Say how a run ended by what the catalogue has of it."""
    of_run = select(captures.c.id).where(captures.c.run_id == run_id)
    states = select(captures.c.state, func.count()).where(captures.c.run_id == run_id).group_by(captures.c.state)
    posts = select(func.count()).where(version_captures.c.capture_id.in_(of_run))
    files = select(func.count()).select_from(media)
    in_posts = select(version_captures.c.version_id).where(version_captures.c.capture_id.in_(of_run))
    files = files.where(media.c.capture_id.in_(of_run) | media.c.post_version_id.in_(in_posts))
    size = select(func.coalesce(func.sum(records.c.length_bytes), 0)).where(records.c.run_id == run_id)
    revisits = select(func.count()).where(records.c.run_id == run_id, records.c.type == "revisit")
    with workspace.catalog.begin() as connection:
        by_state: dict[str, int] = {row[0]: row[1] for row in connection.execute(states)}
        counters = Counters(
            wanted=sum(by_state.values()),
            **{state.value: by_state.get(state, 0) for state in CaptureState},
            posts=connection.scalar(posts) or 0,
            media=connection.scalar(files) or 0,
            revisits=connection.scalar(revisits) or 0,
            bytes=int(connection.scalar(size) or 0),
        )
    outcome = Outcome.PARTIAL if counters.captured else Outcome.FAILED
    return RunEnd(outcome=outcome, ended_at=datetime.now(UTC), counters=counters, reason=reason)


def _sentence(found: Recovered) -> str:
    return f"{found.reason}; kept {found.kept_records} records, cut {found.cut_bytes} bytes"
