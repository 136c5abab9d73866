"""One visit of one source: the parts that it is made with, and how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from osint_pipeline.captures import Captures
from osint_pipeline.conditions import Conditions
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
from osint_pipeline.outcome import Summary, Tally, decide
from osint_pipeline.posts import gap_rows
from osint_pipeline.process_names import this_process
from osint_pipeline.recorder import Recorder
from osint_pipeline.registering import OwnWarcs, RunWarcs
from osint_pipeline.retrieve import stands
from osint_pipeline.shared import SharedPart, SharedWarcs
from osint_pipeline.source import Source
from osint_pipeline.technical import configuration, digest_of, software, warc_info
from osint_pipeline.walls import Walls
from osint_pipeline.way import noted, way_of
from osint_pipeline.workspace import Workspace
from spiders.span import minus
from storage.errors import StorageError
from storage.ids import new_id
from storage.journal import RunEnd
from storage.rows import Batch, RunRow, SourceRow
from storage.runs import begin_run, end_run
from storage.series import WarcSeries
from storage.sources import ensure_source

VISIT_PAYLOADS = 50  # that a visit which asks only for what is new brings, about


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
        self.way = way_of(workspace.service, source.proxy)
        self.detail: dict[str, Any] = {
            "robots": source.robots,
            "render": source.render,
            "pages": list(source.pages),
            "identity": name_digest(source.identity) if source.identity else None,
            "configuration": configuration(workspace.service),
            **noted(workspace, self.way, self.id),
        }
        self.broken: str | None = None
        self.error: Exception | None = None
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
        self.captures = Captures(
            self.recorder,
            source_id=self.source_id,
            spider=source.spider,
            known=self.known,
            hide=workspace.without_folders,
        )

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
        self.captures.give_up_the_rest(reason or limit or "the crawl ended first")
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
        unread, refusals = self.captures.unread, self.captures.known_refusals
        outcome = decide(self.tally, broken=broken, unread=len(unread), known_refusals=refusals)
        why = broken or (unread[0] if unread else None) or limit
        why = why and self.workspace.without_folders(why)
        return RunEnd(outcome=outcome, ended_at=datetime.now(UTC), counters=self.tally.counters(), reason=why)

    def _tell_the_end(self, ended: RunEnd) -> None:
        """End the run in the catalogue: by the journal's entry, or without one where nothing can be written any more."""
        if self.journal.waits:
            self.journal.tell()
        end_run(self.workspace.catalog, self.id, ended, detail=self._detail_at_end())

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
        for channel, spans in self.captures.channels.gaps().items():
            self.tally.gaps += sum(span.last - span.first + 1 for span in spans)
            open_still = minus(spans, history.confirmed_gaps(channel))
            self.recorder.add(Batch(gaps=gap_rows(self.id, self.source_id, channel, open_still)))
        if looked := self.captures.channels.looked:
            names = history.before.keys() | looked.keys()
            self.detail[COVERED] = {
                name: as_detail((*history.before.get(name, ()), *looked.get(name, ()))) for name in sorted(names)
            }


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
