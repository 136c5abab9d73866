"""Makes a capture and its posts again from its records alone, for what was synced and not committed."""

from datetime import datetime
from uuid import UUID

from osint_pipeline.decoding import NotDecoded, body_of
from osint_pipeline.outcome import CAPTURED_VERDICTS, by_status
from osint_pipeline.posts import page_batch
from osint_pipeline.retrieve import Archive
from spiders import news, telegram, video
from spiders.page import LayoutChanged, Page, Verdict
from storage.exchange import RecordRef, RecordType
from storage.records import payload, read_record
from storage.rows import Batch, CaptureKind, CaptureRow, CaptureState, RecordRow

READ_LIMIT_BYTES = 8 << 20
RESPONSES = (RecordType.RESPONSE, RecordType.REVISIT)


def capture_again(archive: Archive, refs: list[RecordRef], *, id_: UUID, run: UUID, source: UUID, spider: str) -> Batch:
    """Make the rows of one capture from its records, read with today's parsers; its records are among them.

    The state is what the answers say; what only the crawl knew (a refusal by robots.txt, say) has no record.
    """
    last = next((ref for ref in reversed(refs) if ref.type in RESPONSES), None)
    kind = _kind(refs, last)
    page = _read(archive, refs, last, spider) if kind in (CaptureKind.PAGE, CaptureKind.RENDERED) else None
    state, reason = _state(last, page)
    row = CaptureRow(
        id=id_,
        run_id=run,
        source_id=source,
        url=refs[0].url,
        final_url=last.url if last else None,
        kind=kind,
        state=state,
        reason=reason or "made again from its records",
        verdict=page.verdict.value if page else None,
        status=last.status if last else None,
        media_type=last.media_type if last else None,
        captured_at=datetime.fromisoformat((last or refs[0]).date),
        payload_sha256=last.payload_sha256 if last else None,
        payload_bytes=last.payload_bytes if last else None,
        truncated=last.truncated if last else None,
    )
    records = tuple(RecordRow(ref=ref, run_id=run, capture_id=id_) for ref in refs)
    if page is None or page.verdict is not Verdict.CONTENT or state is not CaptureState.CAPTURED:
        return Batch(captures=(row,), records=records)
    read = page_batch(page, capture=id_, source_id=source, seen_at=row.captured_at)
    return Batch(captures=(row,), records=records, posts=read.posts, media=read.media)


def _kind(refs: list[RecordRef], last: RecordRef | None) -> CaptureKind:
    if any(ref.url.startswith("urn:dom:") for ref in refs):
        return CaptureKind.RENDERED
    if any(ref.url.startswith("urn:info:") for ref in refs):
        return CaptureKind.MEDIA
    text = last is None or (last.media_type or "text/html").startswith(("text/", "application/"))
    return CaptureKind.PAGE if text else CaptureKind.FILE


def _state(last: RecordRef | None, page: Page | None) -> tuple[CaptureState, str | None]:
    if last is None:
        return CaptureState.FAILED, "no answer came"
    if last.truncated:
        return CaptureState.TRUNCATED, f"cut: {last.truncated}"
    if last.status and (known := by_status(last.status)):
        return known
    if page is not None and page.verdict not in CAPTURED_VERDICTS:
        return CaptureState.REFUSED, page.reason
    return CaptureState.CAPTURED, None


def _read(archive: Archive, refs: list[RecordRef], last: RecordRef | None, spider: str) -> Page | None:
    dom = next((ref for ref in reversed(refs) if ref.url.startswith("urn:dom:")), None)
    chosen = dom or last
    if chosen is None or chosen.type is RecordType.REVISIT or (chosen.payload_bytes or 0) > READ_LIMIT_BYTES:
        return None  # a revisit's bytes were read when its original was
    record = read_record(archive.member(chosen))
    url, media_type = (last or chosen).url, "text/html; charset=utf-8" if dom else chosen.media_type
    try:
        body = payload(record) if dom else body_of(record.block)
        if spider == "telegram":
            return telegram.parse(body, url)
        return video.parse_info(body, url) if spider == "video" else news.parse(body, url, media_type)
    except (LayoutChanged, NotDecoded):
        return None
