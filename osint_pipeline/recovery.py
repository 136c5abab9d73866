"""Mends what a crash left: torn WARCs are cut and sealed, the catalogue learns of them, dead runs are ended."""

import re
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psutil
from sqlalchemy import select

from osint_pipeline.run import register_sealed
from osint_pipeline.workspace import Workspace
from storage.catalog import UnfinishedRun
from storage.manifest import SealedWarc, read_manifest
from storage.records import open_warc
from storage.rows import Batch, CaptureState, Counters, Outcome, RecordRow
from storage.schema import captures, records
from storage.spool import Recovered

RECORDS_PER_COMMIT = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """One thing that was put right: a WARC, a run, or a leftover file; `sentence` says what was done."""

    name: str
    sentence: str
    kept_records: int = 0
    cut_bytes: int = 0


def recover(workspace: Workspace) -> Iterator[Mended]:
    """Mend the spool and the catalogue after any crash. May run at any time: what a living process writes is left alone."""
    for found in workspace.spool.recover():
        if found.sealed:
            _register(workspace, found.sealed)
        yield Mended(
            name=found.name, sentence=_sentence(found), kept_records=found.kept_records, cut_bytes=found.cut_bytes
        )
    known = {warc.name for warc in workspace.catalog.warcs() if warc.state != "open"}
    for sealed in workspace.spool.sealed():
        if sealed.path.name not in known:
            _register(workspace, sealed)
            yield Mended(name=sealed.name, sentence="was sealed, and is in the catalogue now")
    for run in workspace.catalog.unfinished_runs():
        if not _alive(run):
            _end(workspace, run)
            yield Mended(name=f"run {run.id}", sentence="its process is gone; ended with what it had captured")


def _register(workspace: Workspace, warc: SealedWarc) -> None:
    """Tell the catalogue of a sealed WARC and of those of its records that were synced but not committed."""
    catalog = workspace.catalog
    named = catalog.warcs(names=[warc.path.name])
    run_id = named[0].run_id if named else _run_of(warc)
    register_sealed(catalog, warc, run_id)
    with catalog.begin() as connection:
        there = set(connection.scalars(select(records.c.id).where(records.c.warc == warc.path.name)))
    rows: list[RecordRow] = []
    for ref in read_manifest(warc.manifest).records():
        if ref.record_id not in there:
            rows.append(RecordRow(ref=ref, run_id=run_id, capture_id=None))
        if len(rows) >= RECORDS_PER_COMMIT:
            catalog.commit(Batch(records=tuple(rows)))
            rows = []
    catalog.commit(Batch(records=tuple(rows)))


def _run_of(warc: SealedWarc) -> UUID:
    """Read which run a WARC is of from its first record; the zero UUID where it does not say."""
    with open_warc(warc.path) as reader:
        streamed = reader.next()
        block = b"".join(streamed.pieces()).decode("utf-8", "replace") if streamed else ""
    found = re.search(r"^run: ([0-9a-f-]{36})\r?$", block, re.MULTILINE)
    return UUID(found[1]) if found else UUID(int=0)


def _alive(run: UnfinishedRun) -> bool:
    host, _, pid = (run.process or "").rpartition(":")
    if host != socket.gethostname():
        return True  # another machine's: its own recover decides
    try:
        return datetime.fromtimestamp(psutil.Process(int(pid)).create_time(), UTC) <= run.started_at
    except (psutil.NoSuchProcess, ValueError):
        return False


def _end(workspace: Workspace, run: UnfinishedRun) -> None:
    with workspace.catalog.begin() as connection:
        states = Counter(connection.scalars(select(captures.c.state).where(captures.c.run_id == run.id)))
    counters = Counters(wanted=states.total(), **{state.value: states[state.value] for state in CaptureState})
    outcome = Outcome.PARTIAL if counters.captured else Outcome.FAILED
    reason = "its process ended before the run did; what it had not reached is not counted"
    workspace.catalog.end_run(run.id, outcome, counters, ended_at=datetime.now(UTC), reason=reason)


def _sentence(found: Recovered) -> str:
    return f"{found.reason}; kept {found.kept_records} records, cut {found.cut_bytes} bytes"
