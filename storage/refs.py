"""From records read back to the references that the writer gave."""

from uuid import UUID

from storage.digest import labelled
from storage.drafts import CAPTURE_FIELD, LENGTH_FIELD
from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType, Truncated
from storage.http import PayloadDigest, measure_parts
from storage.records import Header, StreamedRecord, uuid_of


def ref_of(streamed: StreamedRecord, warc: str) -> tuple[RecordRef, str | None]:
    """Read a record to its end and describe it as the writer did; with the media type in the case it was served.

    Raises DamagedWarc if the record is none that this program writes.
    """
    kind = _kind(streamed, warc)
    return describe(streamed, measure_parts(streamed.pieces(), response=kind is not RecordType.REQUEST), warc)


def describe(streamed: StreamedRecord, measured: PayloadDigest, warc: str) -> tuple[RecordRef, str | None]:
    """Describe a record that was read to its end and measured (SHA-256), as ref_of does."""
    header = streamed.header
    kind = _kind(streamed, warc)
    if (record_id := header.record_id) is None:
        raise DamagedWarc(warc, streamed.offset_bytes, "a record without a UUID")
    has_payload = header.get("WARC-Payload-Digest") is not None
    served = _served_type(header, kind, measured)
    ref = RecordRef(
        record_id=record_id,
        type=kind,
        url=header.url,
        date=header.date,
        warc=warc,
        offset_bytes=streamed.offset_bytes,
        length_bytes=streamed.length_bytes,
        record_sha256=streamed.sha256 or "",
        block_sha256=measured.block_sha256,
        payload_sha256=_payload_sha256(header, kind, measured) if has_payload else None,
        payload_bytes=_payload_bytes(header, kind, measured) if has_payload else None,
        status=measured.head.status if measured.head and header.is_http else None,
        media_type=served.lower() if served is not None else None,
        truncated=_truncated(header, kind),
        concurrent_to=uuid_of(header.get("WARC-Concurrent-To")),
        refers_to=uuid_of(header.get("WARC-Refers-To")),
        capture=_capture(header.get(CAPTURE_FIELD)),
    )
    return ref, served


def _capture(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:  # not ours: another program may use the name
        return None


def _kind(streamed: StreamedRecord, warc: str) -> RecordType:
    try:
        return RecordType(streamed.header.type)
    except ValueError as error:
        raise DamagedWarc(warc, streamed.offset_bytes, f"record of type {streamed.header.type!r}") from error


def _served_type(header: Header, kind: RecordType, measured: PayloadDigest) -> str | None:
    if kind in (RecordType.RESPONSE, RecordType.REVISIT):
        return measured.head.served_type if measured.head else None
    if kind in (RecordType.RESOURCE, RecordType.METADATA, RecordType.WARCINFO):
        media_type = header.get("Content-Type")
        return media_type.replace(";", " ").split()[0] if media_type else None
    return None


def _payload_sha256(header: Header, kind: RecordType, measured: PayloadDigest) -> str | None:
    if kind is not RecordType.REVISIT:
        return measured.block_sha256 if kind is RecordType.RESOURCE else measured.sha256
    declared = header.get("WARC-Payload-Digest") or ""
    return declared.partition(":")[2] if declared == labelled(declared.partition(":")[2]) else None


def _payload_bytes(header: Header, kind: RecordType, measured: PayloadDigest) -> int | None:
    if kind is RecordType.REVISIT:
        told = header.get(LENGTH_FIELD) or ""
        return int(told) if told.isdecimal() and len(told) <= 18 else None
    return measured.block_bytes if kind is RecordType.RESOURCE else measured.size_bytes


def _truncated(header: Header, kind: RecordType) -> Truncated | None:
    reason = header.get("WARC-Truncated")
    if reason is None or (kind is RecordType.REVISIT and reason == Truncated.LENGTH):
        return None
    return Truncated(reason) if reason in tuple(Truncated) else Truncated.UNSPECIFIED
