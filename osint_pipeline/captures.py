"""The captures of a run: each is wanted, gets an answer or none, is read, and is closed once with what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from osint_pipeline.conditions import Given
from osint_pipeline.known import ArchiveKnown
from osint_pipeline.logs import logger
from osint_pipeline.outcome import by_reading, by_status
from osint_pipeline.posts import ChannelIds, page_batch
from osint_pipeline.recorder import RESPONSES, Recorder
from spiders.page import LayoutChanged, Page, Verdict
from storage.drafts import NOT_MODIFIED_STATUS
from storage.exchange import RecordRef
from storage.ids import new_id
from storage.rows import CaptureKind, CaptureRow
from storage.rows import CaptureState as State
from storage.validators import Validators

log = logger(__name__)
ROBOTS = "robots.txt"
READ_KINDS = ("page", "rendered")


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


class Captures:
    """Keeps them while they are open, and counts what came of them. All methods are called from the thread of the crawl.

    `unread` says of which pages the content was not reached or understood. `hide` takes out of a reason what the archive must not hold.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        source_id: UUID,
        spider: str,
        known: ArchiveKnown | None,
        hide: Callable[[str], str],
    ) -> None:
        self.recorder, self.run, self.source_id, self.spider = recorder, recorder.run, source_id, spider
        self.tally, self.conditions, self.walls = recorder.tally, recorder.conditions, recorder.walls
        self.known, self._hide = known, hide
        self.unread: list[str] = []
        self.channels = ChannelIds()
        # those of robots.txt, which the source is set to obey, and walls that the browser went through
        self.known_refusals = 0
        self._wanted: dict[UUID, Wanted] = {}
        self._walled: dict[str, int] = {}  # how often the wire met a wall, by address

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

    def give_up_the_rest(self, why: str) -> None:
        """Close what is still open as not reached."""
        for wanted in list(self._wanted.values()):
            self._close(wanted, State.FAILED, reason=f"not reached: {why}")

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
        if page.verdict is Verdict.EMPTY and self.spider != "telegram" and wanted.media_type == "text/html":
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
            run_id=self.run,
            source_id=self.source_id,
            url=wanted.url,
            final_url=wanted.final_url,
            kind=CaptureKind(wanted.kind),
            state=state,
            reason=reason and self._hide(reason),
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


def _time_of(wanted: Wanted) -> datetime:
    """Tell when a capture crossed the wire: the start of its final exchange; when it was asked for where nothing did."""
    return datetime.fromisoformat(wanted.refs[-1].date) if wanted.refs else wanted.asked_at


def _payload_bytes(refs: list[RecordRef]) -> int:
    return next((ref.payload_bytes or 0 for ref in reversed(refs) if ref.type in RESPONSES), 0)
