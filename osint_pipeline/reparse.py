"""Reads captured pages again with today's parsers. An earlier reading is never changed: what is read otherwise is a version."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select

from osint_pipeline.errors import UserError
from osint_pipeline.mending import Mending, mending
from osint_pipeline.posts import page_batch
from osint_pipeline.process_names import this_process
from osint_pipeline.rereading import read_again
from osint_pipeline.retrieve import Archive
from osint_pipeline.technical import software
from osint_pipeline.workspace import Workspace
from storage.drafts import NOT_MODIFIED_STATUS
from storage.finding import list_sources
from storage.ids import new_id
from storage.journal import RunEnd
from storage.loading import load_records
from storage.rows import Batch, CaptureState, Counters, MediaRow, MediaState, Outcome, PostRow, RunRow, SourceRow
from storage.runs import begin_run
from storage.schema import captures, media, post_versions, posts, records, version_captures
from storage.versions import content_sha256, media_identity

READ = ("page", "rendered", "media")
STATES = (CaptureState.CAPTURED, CaptureState.FAILED)  # what failed for its layout may be read by now
Key = tuple[str, str, str]


@dataclass(slots=True)
class Reread:
    """What came of reading a source's captures again."""

    source: str
    captures: int = 0
    unreadable: int = 0
    changed: int = 0  # posts that are read otherwise from at least one capture
    versions: int = 0


def reparse(workspace: Workspace, slug: str | None = None, *, write: bool = True) -> Iterator[Reread]:
    """Read again all captures of one source, or of each. Raises UserError for a source that is not known."""
    sources = [one for one in list_sources(workspace.catalog) if slug in (None, one.slug)]
    if not sources:
        raise UserError(f"no source is called {slug}", "`osint runs` shows the sources' names")
    for source in sources:
        yield _Rereading(workspace, source).all(write=write)


class _Rereading:
    def __init__(self, workspace: Workspace, source: SourceRow) -> None:
        self.workspace, self.source = workspace, source
        self.archive, self.done = Archive(workspace), Reread(source.slug)

    def all(self, *, write: bool) -> Reread:
        """Find the posts that are read otherwise; then write their readings anew, in the order of their captures."""
        changed: set[Key] = set()
        for capture in self._captures():
            self.done.captures += 1
            changed |= {_key(row) for row in self._read(capture) if self._differs(row)}
        unreadable = self.done.unreadable
        self.done.changed = len(changed)
        if changed:
            self._write(changed, write)
            self.done.unreadable = unreadable  # they were read twice
        return self.done

    def _captures(self) -> list[UUID]:
        mine = (captures.c.source_id == self.source.id) & captures.c.kind.in_(READ) & captures.c.state.in_(STATES)
        mine &= captures.c.status.is_distinct_from(NOT_MODIFIED_STATUS)  # its original is read as itself
        with self.workspace.catalog.begin() as connection:
            found = connection.execute(
                select(captures.c.id).where(mine).order_by(captures.c.captured_at, captures.c.id)
            )
            return [one for (one,) in found]

    def _read(self, capture: UUID) -> tuple[PostRow, ...]:
        with self.workspace.catalog.begin() as connection:
            refs = load_records(connection, records.c.capture_id == capture)
            at = connection.execute(select(captures.c.captured_at).where(captures.c.id == capture)).scalar_one()
        if not refs:
            return ()
        page, trouble = read_again(self.archive, refs, self.source.spider)
        self.done.unreadable += trouble is not None
        return page_batch(page, capture=capture, source_id=self.source.id, seen_at=at).posts if page else ()

    def _differs(self, row: PostRow) -> bool:
        """Tell whether a capture's post is read otherwise than the version that was read from it."""
        versions = select(post_versions.c.content_sha256).join(posts, post_versions.c.post_id == posts.c.id)
        versions = versions.join(version_captures, version_captures.c.version_id == post_versions.c.id)
        mine = (version_captures.c.capture_id == row.capture_id) & (posts.c.post_id == row.post_id)
        with self.workspace.catalog.begin() as connection:
            known = set(connection.scalars(versions.where(mine & (posts.c.platform == row.platform))))
        return content_sha256(row) not in known

    def _write(self, changed: set[Key], write: bool) -> None:
        run = RunRow(
            source_id=self.source.id,
            started_at=datetime.now(UTC),
            versions=software(),
            detail={"act": "reparse"},
            process=this_process(self.workspace.service.machine),
            id=new_id(),
        )
        if not write:
            self.done.versions = sum(len(rows) for rows in self._rows_of(changed))
            return
        begin_run(self.workspace.catalog, run)
        with mending(self.workspace, run, self.source) as mended:
            mended.journal.begin()
            for rows in self._rows_of(changed):
                self._add(mended, rows)
            counters = Counters(posts=self.done.versions)
            end = RunEnd(outcome=Outcome.COMPLETE, ended_at=datetime.now(UTC), counters=counters, reason="read again")
            mended.journal.end(end, dict(run.detail))
            mended.journal.tell()

    def _rows_of(self, changed: set[Key]) -> Iterator[tuple[PostRow, ...]]:
        for capture in self._captures():
            if rows := tuple(row for row in self._read(capture) if _key(row) in changed):
                yield rows

    def _add(self, mended: Mending, rows: tuple[PostRow, ...]) -> None:
        mark = {"read_again": f"osint-pipeline {software()['osint-pipeline']} ({software()['commit']})"}
        marked = tuple(
            replace(row, extra={**row.extra, **mark}, media=tuple(self._known_file(row, one) for one in row.media))
            for row in rows
        )
        committed = mended.journal.reread(Batch(posts=marked))
        self.done.versions += committed.new + committed.edited if committed else 0

    def _known_file(self, row: PostRow, one: MediaRow) -> MediaRow:
        """Keep what an earlier reading of the same capture knows of a post's file: where it was captured."""
        mine = version_captures.c.capture_id == row.capture_id
        query = select(media).join(version_captures, version_captures.c.version_id == media.c.post_version_id)
        with self.workspace.catalog.begin() as connection:
            for known in connection.execute(query.where(mine & (media.c.kind == one.kind))):
                same = MediaRow(kind=known.kind, state=MediaState(known.state), url=known.url, item_id=known.item_id)
                if media_identity(same) == media_identity(one):
                    return replace(
                        one,
                        state=same.state,
                        why=known.why,
                        file_capture_id=known.file_capture_id,
                        payload_sha256=known.payload_sha256,
                    )
        return one


def _key(row: PostRow) -> Key:
    return row.platform, (row.channel_id or row.channel or "").lower(), row.post_id
