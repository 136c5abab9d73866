"""Mends what a crash left: torn WARCs are cut and sealed, the catalogue learns of them, dead runs are ended."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select

from osint_pipeline.retrieve import Archive
from osint_pipeline.run import process_start, register_sealed
from osint_pipeline.workspace import Workspace
from storage.catalog import UnfinishedRun
from storage.exchange import RecordRef
from storage.manifest import SealedWarc
from storage.records import open_warc
from storage.refs import ref_of
from storage.rows import Batch, CaptureState, Counters, Outcome, RecordRow, RunRow, SourceRow, WarcState
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
    """What the catalogue does not have of a dead run: its sealed WARCs, records of captures, and other records."""

    warcs: list[SealedWarc] = field(default_factory=list)
    captures: dict[UUID, list[RecordRef]] = field(default_factory=dict)
    others: list[RecordRef] = field(default_factory=list)


def recover(workspace: Workspace) -> Iterator[Mended]:
    """Mend the spool and the catalogue after any crash. May run at any time: what a living run writes is left alone."""
    for found in workspace.spool.recover():
        yield Mended(
            name=found.name, sentence=_sentence(found), kept_records=found.kept_records, cut_bytes=found.cut_bytes
        )
    known = {warc.name for warc in workspace.catalog.warcs() if warc.state != WarcState.OPEN}
    by_run: dict[UUID, list[SealedWarc]] = {}
    for sealed in workspace.spool.sealed():
        if sealed.path.name not in known:
            by_run.setdefault(UUID(_info(sealed).get("run", str(NOBODY))), []).append(sealed)
    for run_id, warcs in by_run.items():
        if run_id not in _living(workspace):  # asked anew for each: a run may have begun meanwhile
            _register(workspace, run_id, warcs)
            for sealed in warcs:
                yield Mended(name=sealed.name, sentence="is in the catalogue now")
    for run in workspace.catalog.unfinished_runs():
        if not _alive(run):
            _end(workspace, run.id)
            yield Mended(name=f"run {run.id}", sentence="its process is gone; ended with what it had captured")


def _living(workspace: Workspace) -> set[UUID]:
    return {run.id for run in workspace.catalog.unfinished_runs() if _alive(run)}


def _register(workspace: Workspace, run_id: UUID, warcs: list[SealedWarc]) -> None:
    """Tell the catalogue of a dead run's sealed WARCs, and of what in them was synced but not committed."""
    from osint_pipeline.rereading import capture_again

    spider, source_id, made_again = _run(workspace, run_id, _info(warcs[0]))
    archive, lost = Archive(workspace), _lost(workspace, warcs)
    with workspace.catalog.begin() as connection:
        there = set(connection.scalars(select(captures.c.id).where(captures.c.run_id == run_id)))
    others = tuple(RecordRow(ref=ref, run_id=run_id, capture_id=None) for ref in lost.others)
    workspace.catalog.commit(Batch(records=others))  # first: a capture's revisit may refer to one of them
    for capture, refs in lost.captures.items():
        if capture in there:
            rows = tuple(RecordRow(ref=ref, run_id=run_id, capture_id=capture) for ref in refs)
            workspace.catalog.commit(Batch(records=rows))
        else:
            batch = capture_again(archive, refs, id_=capture, run=run_id, source=source_id, spider=spider)
            workspace.catalog.commit(batch)
    for warc in warcs:
        register_sealed(workspace.catalog, warc, run_id)
    if made_again:
        _end(workspace, run_id)


def _lost(workspace: Workspace, warcs: list[SealedWarc]) -> _Lost:
    lost = _Lost(warcs=warcs)
    for warc in warcs:
        name = warc.path.name
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


def _run(workspace: Workspace, run_id: UUID, info: dict[str, str]) -> tuple[str, UUID, bool]:
    """Find the spider and source of a run; where the catalogue has lost it, write it anew from the warcinfo (True)."""
    query = select(sources.c.spider, sources.c.id).join(runs, runs.c.source_id == sources.c.id)
    with workspace.catalog.begin() as connection:
        if known := connection.execute(query.where(runs.c.id == run_id)).one_or_none():
            return known.spider, known.id, False
    said = re.search(r" of (\S+) by (\w+)$", info.get("description", ""))
    url, spider = (said[1], said[2]) if said else ("unknown", "page")
    now = datetime.now(UTC)
    row = SourceRow(slug=info.get("isPartOf", "unknown"), url=url, spider=spider, created_at=now)
    source = workspace.catalog.ensure_source(row)
    made_again = {"made_again": "from its WARC; the catalogue had lost it"}
    workspace.catalog.begin_run(RunRow(id=run_id, source_id=source.id, started_at=now, detail=made_again))
    return spider, source.id, True


def _alive(run: UnfinishedRun) -> bool:
    host, pid, started = [*(run.process or "").rsplit(":", 2), "", ""][:3]
    if host != socket.gethostname():
        return True  # another machine's: its own recover decides
    return pid.isdigit() and process_start(int(pid)) == started != ""


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
