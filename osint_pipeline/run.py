"""One visit of one source: what it wanted, what came of it, and how it ended."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from osint_pipeline.conditions import Conditions, Given
from osint_pipeline.credentials import Words
from osint_pipeline.dedup import KnownPayloads, PictureLinks
from osint_pipeline.errors import for_the_archive
from osint_pipeline.fetch.redacting import Redacting
from osint_pipeline.fetch.sink import Sink
from osint_pipeline.guarantees import last
from osint_pipeline.history import COVERED, History, as_detail
from osint_pipeline.identities import Identity, open_identity
from osint_pipeline.identity_names import name_digest
from osint_pipeline.journal import Journal
from osint_pipeline.known import ArchiveKnown
from osint_pipeline.logs import logger
from osint_pipeline.outcome import Summary, Tally, by_reading, by_status, decide
from osint_pipeline.posts import ChannelIds, gap_rows, page_batch
from osint_pipeline.recorder import RESPONSES, Recorder
from osint_pipeline.registering import OwnWarcs, RunWarcs
from osint_pipeline.retrieve import stands
from osint_pipeline.shared import SharedPart, SharedWarcs
from osint_pipeline.source import Source
from osint_pipeline.technical import configuration, digest_of, software, warc_info
from osint_pipeline.walls import Walls
from osint_pipeline.way import noted, way_of
from osint_pipeline.workspace import Workspace
from spiders.page import LayoutChanged, Page, Verdict
from spiders.span import minus
from storage.drafts import NOT_MODIFIED_STATUS
from storage.errors import StorageError
from storage.exchange import RecordRef
from storage.ids import new_id
from storage.journal import RunEnd
from storage.rows import Batch, CaptureKind, CaptureRow, RunRow, SourceRow
from storage.rows import CaptureState as State
from storage.runs import begin_run, end_run
from storage.series import WarcSeries
from storage.sources import ensure_source
from storage.validators import Validators

log = logger(__name__)
ROBOTS = "robots.txt"
READ_KINDS = ("page", "rendered")
VISIT_PAYLOADS = 50  # that a visit which asks only for what is new brings, about


@dataclass(slots=True)
class Wanted:
    """A capture that has been asked for and is not closed yet."""

    id: UUID
    url: str
    kind: str
    asked_at: datetime
    parent: UUID | None = None
    final_url: str | None = None
    status: int | None = None
    media_type: str | None = None
    given: Given | None = None
    refs: list[RecordRef] = field(default_factory=list)


class Run:
    """Holds the run's parts together. All methods but flush() are called from the thread of the crawl.

    With `warcs` it appends to WARCs that it shares with the runs before and after it, and leaves them open at its end.
    """

    def __init__(
        self, workspace: Workspace, source: Source, *, warcs: SharedWarcs | None = None, attempt: int = 1
    ) -> None:
        self.workspace, self.source = workspace, source
        self.id, self.started_at = new_id(), datetime.now(UTC)
        self.tally = Tally()
        self.unread: list[str] = []
        self.way = way_of(workspace.service, source.proxy)
        self.detail: dict[str, Any] = {
            "robots": source.robots,
            "render": source.render,
            "pages": list(source.pages),
            "identity": name_digest(source.identity) if source.identity else None,
            "configuration": configuration(workspace.service),
            **noted(workspace, self.way, self.id),
        }
        self.known_refusals = (
            0  # those of robots.txt, which the source is set to obey, and walls that the browser went through
        )
        self._walled: dict[str, int] = {}  # how often the wire met a wall, by address
        self.broken: str | None = None
        self.error: Exception | None = None
        self.channels = ChannelIds()
        self._wanted: dict[UUID, Wanted] = {}
        stored = ensure_source(workspace.catalog, _source_row(source, self.started_at))
        self.source_id = stored.id
        self.known, self.conditions = self._what_is_known()
        self.walls = self._make_walls()
        row = RunRow(
            id=self.id,
            source_id=self.source_id,
            started_at=self.started_at,
            attempt=attempt,
            versions=software(),
            detail=self.detail,
            process=this_process(workspace.service.machine),
        )
        self.warcs: RunWarcs = self._join(warcs) if warcs else self._open_warcs(attempt)
        self.series = self.warcs.series
        self.journal = Journal(self.series, workspace.catalog, row, stored)
        self._begin(row)
        self.recorder = self._make_recorder()

    def _what_is_known(self) -> tuple[ArchiveKnown | None, Conditions]:
        """Look at what the archive has of the source, where the run asks only for what it has not."""
        workspace, source, service = self.workspace, self.source, self.workspace.service
        asks = source.new and not source.continues and service.validator_hours > 0
        hours = service.validator_hours, min(service.again_hours, service.validator_hours)
        since, lists_since = (self.started_at - timedelta(hours=one) if asks else None for one in hours)
        conditions = Conditions(
            workspace.catalog,
            self.source_id,
            since=since,
            lists_since=lists_since,
            stands=partial(stands, workspace),
        )
        self.detail |= {"new": source.new, "continues": [str(one) for one in source.continues]}
        if not source.new and not source.continues:
            return None, conditions
        known = ArchiveKnown(
            workspace.catalog,
            service,
            self.source_id,
            started_at=self.started_at,
            new=source.new,
            continues=source.continues,
            backfill_pages=source.backfill_pages or 0,
        )
        return known, conditions

    def _make_walls(self) -> Walls:
        exit = self.way.exit and (self.way.exit.name or "proxy")
        hours = self.workspace.service.wall_hours
        return Walls(
            self.workspace.catalog,
            self.source_id,
            exit=exit or "direct",
            now=self.started_at,
            hours=hours,
            identity=self.detail["identity"],
        )

    def _begin(self, row: RunRow) -> None:
        try:
            begin_run(self.workspace.catalog, row)
            self.journal.begin()
        except BaseException:
            with self._noting():
                self.warcs.leave(settled=False)  # or no other run could follow in WARCs that are shared
            raise

    def _open_warcs(self, attempt: int) -> OwnWarcs:
        service, source = self.workspace.service, self.source
        series = WarcSeries(
            self.workspace.spool,
            f"{source.slug}-{self.started_at:%Y%m%dT%H%M%SZ}-{self.id.hex[-12:]}",
            attempt,
            warc_info(service, self.id, source, self.way.declared),
            service.warc_limit_bytes,
            {
                **self._facts(),
                "collector": service.collector,
                "software": software(),
                "store": store.compact() if (store := last(self.workspace)) else None,
            },
        )
        return OwnWarcs(self.workspace, series, self.id)

    def _join(self, warcs: SharedWarcs) -> SharedPart:
        return warcs.begin(
            self.id, warc_info(self.workspace.service, self.id, self.source, self.way.declared), self._facts()
        )

    def _facts(self) -> dict[str, object]:
        """Say what a manifest tells of this run alone."""
        return {
            "run": str(self.id),
            "source": self.source.slug,
            "configuration_sha256": digest_of(self.detail),
        }

    def _make_recorder(self) -> Recorder:
        catalog, service = self.workspace.catalog, self.workspace.service
        expected = VISIT_PAYLOADS if self.source.new else self.source.limit_pages or service.limit
        return Recorder(
            run=self.id,
            series=self.series,
            journal=self.journal,
            known=KnownPayloads(catalog, partial(stands, self.workspace), expected=expected),
            pictures=PictureLinks(self.workspace.pictures, radius_bits=service.phash_radius_bits, tally=self.tally),
            tally=self.tally,
            conditions=self.conditions,
            walls=self.walls,
        )

    def want(self, url: str, kind: str, parent: UUID | None = None) -> UUID:
        """Count a capture as wanted and open it."""
        wanted = Wanted(id=new_id(), url=url, kind=kind, asked_at=datetime.now(UTC), parent=parent)
        self._wanted[wanted.id] = wanted
        self.tally.wanted += 1
        self.recorder.open(wanted.id)
        if self.known and kind in ("file", "media"):
            self.recorder.expect_file(url, self.known.waiting_media(url))
        return wanted.id

    def unwant(self, capture: UUID) -> None:
        """Forget a capture that was asked for twice in this run; the other one stands."""
        if self._wanted.pop(capture, None):
            self.tally.wanted -= 1
            self.recorder.forget(capture)

    def answered(
        self,
        capture: UUID,
        *,
        url: str,
        status: int,
        media_type: str | None,
        refs: list[RecordRef],
        unread: bool = False,
        given: Given | None = None,
    ) -> None:
        """Take the final answer. A page stays open until it is read; anything else is closed here.

        `unread`: the answer is recorded, but was too large to be handed to a reader. `given`: what it is known by.
        """
        wanted = self._wanted.get(capture)
        if wanted is None:
            return  # the run has ended meanwhile, and counted it as not reached
        wanted.final_url, wanted.status, wanted.media_type, wanted.refs = url, status, media_type, refs
        wanted.given = given
        if status == NOT_MODIFIED_STATUS:
            stands, reason = self.conditions.answered_304(capture, url, refs)
            self._close(wanted, State.CAPTURED if stands else State.FAILED, reason=reason)
        elif any(ref.truncated for ref in refs[-1:]):
            self._close(wanted, State.TRUNCATED, reason=f"cut: {refs[-1].truncated}")
        elif (known := by_status(status)) and self._says_all(wanted, known[0], unread):
            state, reason = known
            self._close(wanted, state, verdict=Verdict.GONE if state is State.CAPTURED else None, reason=reason)
        elif wanted.kind != "media" and not _payload_bytes(refs) and status == 200:
            self._close(wanted, State.FAILED, reason="an empty answer")
        elif unread and wanted.kind != "file":
            self.unread.append(f"{wanted.url} is too large to be read; it is recorded")
            self._close(wanted, State.CAPTURED, reason="recorded, and too large to be read (OSINT_MEMORY_BODY_BYTES)")
        elif wanted.kind == "file":
            self._close(wanted, State.CAPTURED)

    def _says_all(self, wanted: Wanted, state: State, unread: bool) -> bool:
        """Tell whether nobody will read more than the status; the page of a refusal may say which wall it is."""
        return unread or state is State.CAPTURED or wanted.kind not in READ_KINDS

    def gave_up(self, capture: UUID, state: State, reason: str, refs: list[RecordRef] | None = None) -> None:
        """Close a capture that got no usable answer."""
        if wanted := self._wanted.get(capture):
            self.known_refusals += reason == ROBOTS
            wanted.refs = refs or wanted.refs
            self._close(wanted, state, reason=reason)

    def read(
        self,
        capture: UUID,
        page: Page | None,
        trouble: LayoutChanged | None,
        *,
        will_render: bool = False,
        aside: bool = False,
    ) -> None:
        """Take what a parser read from a capture, and close the capture; `aside` as in spiders.known.Slice."""
        wanted = self._wanted.get(capture)
        if wanted is None:
            return  # closed by its answer
        if page is None:
            self.unread.append(str(trouble))
            self._close(wanted, State.FAILED, reason=f"layout changed: {trouble}")
            return
        state, verdict, reason = by_reading(page, wanted.status)
        self._close(wanted, state, verdict=verdict, reason=reason)
        self._note_wall(wanted, state, verdict)
        if page.verdict is Verdict.EMPTY and self.source.spider != "telegram" and wanted.media_type == "text/html":
            self.unread.append(f"{wanted.url} holds nothing to read")
        if page.verdict is Verdict.SHELL and not will_render:
            self.unread.append(f"{wanted.url} shows its content only with scripts")
        if page.verdict is Verdict.PARTIAL:
            self.unread.append(f"{wanted.url} shows a part: {page.reason}")
        if verdict and verdict.readable:
            self._keep_posts(wanted, page, aside)

    def _note_wall(self, wanted: Wanted, state: State, verdict: Verdict | None) -> None:
        """A wall on the wire that the browser went through is no refusal that makes a run partial."""
        if wanted.kind == "page" and state is State.REFUSED:
            self._walled[wanted.url] = self._walled.get(wanted.url, 0) + 1
        elif wanted.kind == "rendered" and state is State.CAPTURED and verdict is not Verdict.SHELL:
            self.known_refusals += self._walled.pop(wanted.url, 0)

    @cached_property
    def identity(self) -> Identity | None:
        """The login that the operator set for the source, None where there is none. Raises UserError where it cannot be had."""
        return open_identity(self.workspace, self.source.identity) if self.source.identity else None

    @cached_property
    def browser_sink(self) -> Sink:
        """What the browser gives its records to: nothing of the source's identity passes. Raises UserError as `identity`."""
        return Redacting(self.recorder, Words(self.identity.secrets)) if self.identity else self.recorder

    @property
    def identity_used(self) -> bool:
        """Whether the browser has asked for something with the source's identity."""
        sink = self.__dict__.get("browser_sink")  # to ask for it would open the identity
        return isinstance(sink, Redacting) and sink.used

    def flush(self) -> None:
        """Sync and commit; see Recorder.flush."""
        self.recorder.flush()

    @property
    def scratch(self) -> Path:
        """Where blocks too large for memory belong while the run goes on."""
        return self.series.scratch

    def end(self, *, reason: str | None = None, held_back: int = 0, limit: str | None = None) -> Summary:
        """Close what is still open, seal (but for WARCs that are shared), and write down how the run ended.

        `limit` says which limit ended it, other than that of pages.

        Where something can no longer be kept the WARCs stay in the spool for `osint recover`, and the summary says why.
        """
        for wanted in list(self._wanted.values()):
            self._close(wanted, State.FAILED, reason=f"not reached: {reason or limit or 'the crawl ended first'}")
        self._commit_the_rest()
        if held_back and limit is None:
            limit = f"stopped at the limit of pages; {held_back} more were known"
        ended = self._how_it_ended(reason, limit)
        whole = told = False
        with self._noting():
            self.journal.end(ended, self._detail_at_end())
            whole = self.recorder.settled
        with self._noting():
            self.warcs.seal(whole)
        with self._noting():
            self._tell_the_end(ended)
            told = True
        with self._noting():
            self.warcs.leave(settled=whole and told)
        return Summary(
            run=self.id,
            outcome=ended.outcome,
            tally=self.tally,
            warc_files=len(self.series.warcs),
            reason=str(self.error) if self.error else ended.reason,
            source=self.source.url,
            spider=self.source.spider,
            error=self.error,
        )

    def break_off(self, error: Exception) -> None:
        """Note that the run can no longer keep what it captures; the first reason stands."""
        if self.error is None:
            self.error, self.broken = error, for_the_archive(error)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (StorageError, OSError, SQLAlchemyError, psycopg.Error) as error:
            self.break_off(error)

    def _how_it_ended(self, reason: str | None, limit: str | None) -> RunEnd:
        broken = self.broken or reason
        outcome = decide(self.tally, broken=broken, unread=len(self.unread), known_refusals=self.known_refusals)
        why = broken or (self.unread[0] if self.unread else None) or limit
        why = why and self._without_our_paths(why)
        return RunEnd(outcome=outcome, ended_at=datetime.now(UTC), counters=self.tally.counters(), reason=why)

    def _without_our_paths(self, text: str) -> str:
        """Take this machine's folders out of what is written into the archive: they may name a person."""
        service = self.workspace.service
        for folder in sorted({str(service.spool), str(service.home), str(Path.home())}, key=len, reverse=True):
            text = text.replace(folder, "...") if len(folder) > 1 else text
        return text

    def _tell_the_end(self, ended: RunEnd) -> None:
        """End the run in the catalogue: by the journal's entry, or without one where nothing can be written any more."""
        if self.journal.waits:
            self.journal.tell()
        detail = self._detail_at_end()
        end_run(
            self.workspace.catalog,
            self.id,
            ended.outcome,
            ended.counters,
            ended_at=ended.ended_at,
            reason=ended.reason,
            detail=detail,
        )

    def _detail_at_end(self) -> dict[str, Any]:
        told = {**self.detail, "edited": self.tally.edited}
        return told | ({"identity_used": self.identity_used} if self.source.identity else {})

    def _commit_the_rest(self) -> None:
        """Commit the last captures; what fails is noted."""
        with self._noting():
            self.recorder.pictures.close()
            self._note_history()
            while self.recorder.flush():
                pass

    def _note_history(self) -> None:
        """Keep which ids of channels were looked at, and the gaps among them that enough runs have not confirmed yet."""
        history = History(self.workspace.catalog, self.workspace.service, self.source_id)
        for channel, spans in self.channels.gaps().items():
            self.tally.gaps += sum(span.last - span.first + 1 for span in spans)
            open_still = minus(spans, history.confirmed_gaps(channel))
            self.recorder.add(Batch(gaps=gap_rows(self.id, self.source_id, channel, open_still)))
        if looked := self.channels.looked:
            names = history.before.keys() | looked.keys()
            self.detail[COVERED] = {
                name: as_detail((*history.before.get(name, ()), *looked.get(name, ()))) for name in sorted(names)
            }

    def _keep_posts(self, wanted: Wanted, page: Page, aside: bool) -> None:
        self.channels.saw(page, self.known.history.covered(page.channel) if self.known and aside else None)
        batch = page_batch(page, capture=wanted.id, source_id=self.source_id, seen_at=_time_of(wanted))
        media = [*(one for post in batch.posts for one in post.media), *(one.media for one in batch.media)]
        self.tally.posts += len(batch.posts)
        self.tally.media += len(media)
        self.tally.not_offered += sum(one.url is None for one in media)
        self.recorder.name_files(media)
        for url, row in (self.known.captured_files(page) if self.known else {}).items():
            self.recorder.end_file(url, row)
        self.recorder.add(batch)

    def _close(
        self, wanted: Wanted, state: State, *, verdict: Verdict | None = None, reason: str | None = None
    ) -> None:
        del self._wanted[wanted.id]
        self.tally.count(state)
        last = next((ref for ref in reversed(wanted.refs) if ref.type in RESPONSES), None)
        row = CaptureRow(
            id=wanted.id,
            run_id=self.id,
            source_id=self.source_id,
            url=wanted.url,
            final_url=wanted.final_url,
            kind=CaptureKind(wanted.kind),
            state=state,
            reason=reason and self._without_our_paths(reason),
            verdict=verdict.value if verdict else None,
            status=wanted.status,
            media_type=wanted.media_type,
            captured_at=_time_of(wanted),
            payload_sha256=last.payload_sha256 if last else None,
            payload_bytes=last.payload_bytes if last else None,
            parent=wanted.parent,
            truncated=last.truncated if last else None,
        )
        if wanted.given and last and state is State.CAPTURED and (verdict is Verdict.CONTENT or wanted.kind == "file"):
            self._note_validators(wanted, wanted.given, last)
        _log_close(row)
        self.walls.closed(row)
        self.recorder.close(row)
        if wanted.kind != "page":
            self.recorder.end_file(wanted.url, row)

    def _note_validators(self, wanted: Wanted, given: Given, ref: RecordRef) -> None:
        """Keep what a whole answer is known by; that there is nothing is news only where something was sent."""
        if wanted.status != 200 or ref.truncated or wanted.final_url is None:
            return
        if given != Given() or self.conditions.sent(wanted.id, wanted.final_url):
            validators = Validators(
                url=wanted.final_url,
                ref=ref,
                seen_at=_time_of(wanted),
                etag=given.etag,
                last_modified=given.last_modified,
            )
            self.conditions.note(wanted.id, validators)


def _log_close(row: CaptureRow) -> None:
    tell = log.debug if row.state is State.CAPTURED else log.info
    tell(row.state.value, url=row.url, capture=str(row.id), status=row.status, reason=row.reason)


def this_process(machine: str) -> str:
    """Name this process among all of all machines, for `osint recover`."""
    return f"{machine}:{os.getpid()}:{process_start(os.getpid())}"


def process_start(pid: int) -> str:
    """Tell when a process of this machine started, in clock ticks since boot, which no step of the clock changes.

    Empty where there is no such process (proc(5), field 22 of stat).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _source_row(source: Source, at: datetime) -> SourceRow:
    robots, _, reason = source.robots.partition(":")
    return SourceRow(
        slug=source.slug,
        url=source.url,
        spider=source.spider,
        render=source.render,
        robots=robots,
        robots_reason=reason or None,
        created_at=at,
    )


def _time_of(wanted: Wanted) -> datetime:
    """Tell when a capture crossed the wire: the start of its final exchange; when it was asked for where nothing did."""
    return datetime.fromisoformat(wanted.refs[-1].date) if wanted.refs else wanted.asked_at


def _payload_bytes(refs: list[RecordRef]) -> int:
    return next((ref.payload_bytes or 0 for ref in reversed(refs) if ref.type in RESPONSES), 0)
