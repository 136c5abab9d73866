"""Mends what a crash left: torn WARCs are cut and sealed, the catalogue learns of them, dead runs are ended."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import psutil
from sqlalchemy import func, select

from osint_pipeline.retrieve import Archive
from osint_pipeline.run import register_sealed
from osint_pipeline.workspace import Workspace
from storage.catalog import UnfinishedRun
from storage.exchange import RecordRef
from storage.manifest import SealedWarc
from storage.records import open_warc
from storage.refs import ref_of
from storage.rows import Batch, CaptureState, Counters, Outcome, RecordRow, RunRow, SourceRow
from storage.schema import captures, media, records, runs, sources, version_captures
from storage.spool import Recovered

NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """One thing that was put right: a WARC, a run, or a leftover file; `sentence` says what was done."""

    name: str
    sentence: str
    kept_records: int = 0
    cut_bytes: int = 0


@dataclass(slots=True)
class _Lost:
    """Records of a WARC that the catalogue does not have: those of captures, and others."""

    captures: dict[UUID, list[RecordRef]] = field(default_factory=dict)
    others: list[RecordRef] = field(default_factory=list)


def recover(workspace: Workspace) -> Iterator[Mended]:
    """Mend the spool and the catalogue after any crash. May run at any time: what a living run writes is left alone."""
    unfinished = workspace.catalog.unfinished_runs()
    living = {run.id for run in unfinished if _alive(run)}
    for found in workspace.spool.recover():
        if found.sealed:
            _register(workspace, found.sealed, living)
        yield Mended(
            name=found.name, sentence=_sentence(found), kept_records=found.kept_records, cut_bytes=found.cut_bytes
        )
    known = {warc.name for warc in workspace.catalog.warcs() if warc.state != "open"}
    for sealed in workspace.spool.sealed():
        if sealed.path.name not in known and _register(workspace, sealed, living):
            yield Mended(name=sealed.name, sentence="was sealed, and is in the catalogue now")
    for run in unfinished:
        if run.id not in living:
            _end(workspace, run.id)
            yield Mended(name=f"run {run.id}", sentence="its process is gone; ended with what it had captured")


def _register(workspace: Workspace, warc: SealedWarc, living: set[UUID]) -> bool:
    """Tell the catalogue of a sealed WARC, and of what in it was synced but not committed; not of a living run's."""
    info = _info(warc)
    run_id = UUID(info["run"]) if "run" in info else NOBODY
    if run_id in living:
        return False
    spider, source_id = _run(workspace, run_id, info)
    archive, lost = Archive(workspace), _lost(workspace, warc)
    if lost.captures:
        from osint_pipeline.rereading import capture_again

        for capture, refs in lost.captures.items():
            batch = capture_again(archive, refs, id_=capture, run=run_id, source=source_id, spider=spider)
            workspace.catalog.commit(batch)
    rows = tuple(RecordRow(ref=ref, run_id=run_id, capture_id=None) for ref in lost.others)
    workspace.catalog.commit(Batch(records=rows))
    register_sealed(workspace.catalog, warc, run_id)
    return True


def _lost(workspace: Workspace, warc: SealedWarc) -> _Lost:
    name, lost = warc.path.name, _Lost()
    with workspace.catalog.begin() as connection:
        there = set(connection.scalars(select(records.c.id).where(records.c.warc == name)))
    with open_warc(warc.path) as reader:
        while streamed := reader.next():
            capture = streamed.header.get("OSINT-Capture")
            ref, _ = ref_of(streamed, name)
            if ref.record_id in there:
                continue
            if capture:
                lost.captures.setdefault(UUID(capture), []).append(ref)
            else:
                lost.others.append(ref)
    return lost


def _info(warc: SealedWarc) -> dict[str, str]:
    """Read the fields of a WARC's first record."""
    with open_warc(warc.path) as reader:
        streamed = reader.next()
        block = b"".join(streamed.pieces()).decode("utf-8", "replace") if streamed else ""
    return dict(line.partition(": ")[::2] for line in block.splitlines())


def _run(workspace: Workspace, run_id: UUID, info: dict[str, str]) -> tuple[str, UUID]:
    """Find the spider and source of a run; where the catalogue has lost it, write it anew from the warcinfo."""
    query = select(sources.c.spider, sources.c.id).join(runs, runs.c.source_id == sources.c.id)
    with workspace.catalog.begin() as connection:
        if known := connection.execute(query.where(runs.c.id == run_id)).one_or_none():
            return known.spider, known.id
    said = re.search(r" of (\S+) by (\w+)$", info.get("description", ""))
    url, spider = (said[1], said[2]) if said else ("unknown", "page")
    now = datetime.now(UTC)
    row = SourceRow(slug=info.get("isPartOf", "unknown"), url=url, spider=spider, created_at=now)
    source = workspace.catalog.ensure_source(row)
    made_again = {"made_again": "from its WARC; the catalogue had lost it"}
    workspace.catalog.begin_run(RunRow(id=run_id, source_id=source.id, started_at=now, detail=made_again))
    _end(workspace, run_id)
    return spider, source.id


def _alive(run: UnfinishedRun) -> bool:
    host, _, pid = (run.process or "").rpartition(":")
    if host != socket.gethostname():
        return True  # another machine's: its own recover decides
    try:
        return datetime.fromtimestamp(psutil.Process(int(pid)).create_time(), UTC) <= run.started_at
    except (psutil.NoSuchProcess, ValueError):
        return False


def _end(workspace: Workspace, run_id: UUID) -> None:
    """End a dead run with what the catalogue has of it."""
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
    reason = "its process ended before the run did; what it had not reached is not counted"
    workspace.catalog.end_run(run_id, outcome, counters, ended_at=datetime.now(UTC), reason=reason)


def _sentence(found: Recovered) -> str:
    return f"{found.reason}; kept {found.kept_records} records, cut {found.cut_bytes} bytes"
