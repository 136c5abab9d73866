"""Makes a capture and its posts again from its records alone, for what was synced and not committed."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from osint_pipeline.decoding import body_of
from osint_pipeline.outcome import by_reading, by_status
from osint_pipeline.posts import page_batch
from osint_pipeline.retrieve import Archive
from spiders import news, telegram, video
from spiders.page import LayoutChanged, Page, Verdict
from spiders.verdict import judge_answer
from storage.drafts import NOT_MODIFIED_STATUS
from storage.exchange import RecordRef, RecordType
from storage.http import split_response
from storage.loading import load_records
from storage.records import payload, read_record
from storage.rows import Batch, CaptureKind, CaptureRow, CaptureState
from storage.schema import records

READ_LIMIT_BYTES = 8 << 20
RESPONSES = (RecordType.RESPONSE, RecordType.REVISIT)
TEXTUAL = ("text/", "application/xhtml", "application/xml", "application/rss", "application/atom", "application/json")


@dataclass(frozen=True, slots=True)
class _Read:
    page: Page | None = None
    trouble: str | None = None


def capture_again(archive: Archive, refs: list[RecordRef], *, id_: UUID, run: UUID, source: UUID, spider: str) -> Batch:
    """Make the rows of one capture from its records, which the catalogue has already, read with today's parsers.

    The state is what the answers say; what only the crawl knew (a refusal by robots.txt, say) has no record.
    """
    last = next((ref for ref in reversed(refs) if ref.type in RESPONSES), None)
    kind = _kind(refs, last)
    known = _by_answer(last)
    unread = kind is CaptureKind.FILE or (known and not _may_say_more(known[0], last, kind))
    read = _Read() if unread else _read(archive, refs, last, spider, kind)
    state, verdict, reason = _outcome(known, read, last)
    row = CaptureRow(
        id=id_,
        run_id=run,
        source_id=source,
        url=refs[0].url,
        final_url=_final_url(refs, last),
        kind=kind,
        state=state,
        reason=reason or "made again from its records",
        verdict=verdict.value if verdict else None,
        status=last.status if last else None,
        media_type=last.media_type if last else None,
        captured_at=datetime.fromisoformat((last or refs[0]).date),
        payload_sha256=last.payload_sha256 if last else None,
        payload_bytes=last.payload_bytes if last else None,
        truncated=last.truncated if last else None,
    )
    if read.page is None or verdict is None or not verdict.readable:
        return Batch(captures=(row,))
    made = page_batch(read.page, capture=id_, source_id=source, seen_at=row.captured_at)
    return Batch(captures=(row,), posts=made.posts, media=made.media)


def read_again(archive: Archive, refs: list[RecordRef], spider: str) -> tuple[Page | None, str | None]:
    """Read a capture with today's parsers: the page, or why it cannot be read."""
    last = next((ref for ref in reversed(refs) if ref.type in RESPONSES), None)
    read = _read(archive, refs, last, spider, _kind(refs, last))
    if read.page is None or not read.page.verdict.readable:
        return None, read.trouble
    return read.page, None


def _final_url(refs: list[RecordRef], last: RecordRef | None) -> str | None:
    """Name the page that the answer is of: what a browser or extractor made says it, whatever they asked for besides."""
    if made := _made(refs):
        return made.url.split(":", 2)[2]
    return last.url if last else None


def _made(refs: list[RecordRef]) -> RecordRef | None:
    return next((ref for ref in reversed(refs) if ref.url.startswith(("urn:dom:", "urn:info:"))), None)


def _kind(refs: list[RecordRef], last: RecordRef | None) -> CaptureKind:
    if any(ref.url.startswith("urn:dom:") for ref in refs):
        return CaptureKind.RENDERED
    if any(ref.url.startswith("urn:info:") for ref in refs):
        return CaptureKind.MEDIA
    textual = last is None or (last.media_type or "text/html").lower().startswith(TEXTUAL)
    return CaptureKind.PAGE if textual else CaptureKind.FILE


def _by_answer(last: RecordRef | None) -> tuple[CaptureState, str] | None:
    """Judge by the final answer as the crawl does; None where what it holds must be read."""
    if last is None:
        return CaptureState.FAILED, "no answer came"
    if last.truncated:
        return CaptureState.TRUNCATED, f"cut: {last.truncated}"
    if last.type is RecordType.REVISIT and last.status == NOT_MODIFIED_STATUS:
        return CaptureState.CAPTURED, "not modified since the archived answer that its record refers to"
    if last.status and 300 <= last.status < 400:
        return CaptureState.FAILED, "not reached: its process ended before the redirect was followed"
    if last.status and (known := by_status(last.status)):
        return known
    return (CaptureState.FAILED, "an empty answer") if last.status == 200 and last.payload_bytes == 0 else None


def _may_say_more(state: CaptureState, last: RecordRef | None, kind: CaptureKind) -> bool:
    """Tell whether the page of a refusing status may say which wall it is, as for the crawl."""
    refused = last is not None and not last.truncated and (last.status or 0) >= 400
    return refused and state is not CaptureState.CAPTURED and kind in (CaptureKind.PAGE, CaptureKind.RENDERED)


def _outcome(
    known: tuple[CaptureState, str] | None, read: _Read, last: RecordRef | None
) -> tuple[CaptureState, Verdict | None, str | None]:
    if read.page is not None:
        return by_reading(read.page, last.status if last else None)
    if known:
        return known[0], None, known[1]
    return (CaptureState.FAILED if read.trouble else CaptureState.CAPTURED), None, read.trouble


def _read(archive: Archive, refs: list[RecordRef], last: RecordRef | None, spider: str, kind: CaptureKind) -> _Read:
    """Read a capture; whatever a parser stumbles over is its trouble, and nobody else's."""
    made = _made(refs)
    chosen = made or last
    if chosen is None or (chosen.payload_bytes or 0) > READ_LIMIT_BYTES:
        return _Read(trouble=None if chosen else "no answer came")
    url = _final_url(refs, chosen) or chosen.url
    try:
        if made:
            body, media_type = payload(read_record(archive.member(made))), "text/html; charset=utf-8"
        else:
            body, media_type = body_of(_block(archive, chosen)), chosen.media_type or ""
        if kind is CaptureKind.MEDIA:
            return _Read(video.parse_info(body, url))
        page = _page(body, url, media_type, spider=spider, status=(last and last.status) or 0)
        answer = _answer(refs, last, url if made else None)
        return _Read(judge_answer(page, answer.status or 0, _head(archive, answer), body) if answer else page)
    except Exception as error:  # noqa: BLE001 - one hostile page must not keep the others from being mended
        return _Read(trouble=f"not readable: {type(error).__name__}: {error}"[:300])


def _page(body: bytes, url: str, media_type: str, *, spider: str, status: int) -> Page:
    """Read a page as the crawl does: one of a refusing status need not be built as its site's pages are."""
    try:
        return telegram.parse(body, url) if spider == "telegram" else news.parse(body, url, media_type)
    except LayoutChanged:
        if status < 400:
            raise
        return Page(url=url, verdict=Verdict.UNDECIDED, reason=f"status {status}, not readable")


def _answer(refs: list[RecordRef], last: RecordRef | None, shown: str | None) -> RecordRef | None:
    """Name the answer whose head stands for a page: the last one, or that of the address which a browser `shown`."""
    if shown is None:
        return last
    plain = shown.partition("#")[0]
    return next((ref for ref in reversed(refs) if ref.type in RESPONSES and ref.url == plain), None)


def _head(archive: Archive, ref: RecordRef) -> list[tuple[str, str]]:
    """The fields of an answer's head as its server sent them."""
    head = split_response(read_record(archive.member(ref)).block)
    lines = head.raw.decode("latin-1").splitlines()[1:] if head else []
    return [(name.strip(), value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon]


def _block(archive: Archive, ref: RecordRef) -> bytes:
    """Give the response that holds a capture's bytes: for a revisit its original's."""
    if ref.type is RecordType.REVISIT:
        with archive.workspace.catalog.begin() as connection:
            (ref,) = load_records(connection, records.c.id == ref.refers_to)
    return read_record(archive.member(ref)).block
