"""From exchanges and resources to WARC records: which records, which fields (ISO 28500:2017 5 and 6). No files here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from storage.digest import labelled, length_of, pieces, sha256_of
from storage.exchange import Block, Exchange, Original, RecordType, Resource, Truncated
from storage.fields import (
    cut_note,
    safe_address,
    safe_date,
    safe_note,
    safe_url,
    safe_value,
    to_header,
    to_warc_fields,
    urn,
)
from storage.http import PayloadDigest, split
from storage.ids import new_id

IDENTICAL_PAYLOAD = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
NOT_MODIFIED_STATUS = 304
FRAMING_FIELD = "Payload-Framing"  # our extension: why a body called chunked was digested as it came
LENGTH_FIELD = "OSINT-Payload-Bytes"  # our extension: the length of the payload that a revisit leaves out
CAPTURE_FIELD = "OSINT-Capture"  # our extension: the capture that a record belongs to
WARC_FIELDS = "application/warc-fields"
_FORMAT = {"format": "WARC File Format 1.1", "conformsTo": "http://iipc.github.io/warc-specifications/"}


@dataclass(slots=True)
class Draft:
    """A record about to be written: header, block, and what its RecordRef will say besides its place."""

    fields: list[tuple[str, str]]
    block: Block
    facts: dict[str, Any]
    served_type: str | None = None

    def header(self) -> bytes:
        return to_header([*self.fields, ("Content-Length", str(length_of(self.block)))])


def of_exchange(
    exchange: Exchange, payload: PayloadDigest | None, original: Original | None, info: UUID
) -> list[Draft]:
    """Draft an exchange's records, the main one first; `payload` is None exactly where there is no response."""
    drafts = _of_exchange(exchange, payload, original, info)
    for draft in drafts:
        _capture(draft, exchange.capture)
    return drafts


def _of_exchange(
    exchange: Exchange, payload: PayloadDigest | None, original: Original | None, info: UUID
) -> list[Draft]:
    date, url = safe_date(exchange.started_at), exchange.url
    main = exchange.record_id
    if exchange.response is not None and payload is not None:
        drafts = [_response(exchange, exchange.response, payload, original, _start(main, date, url, info))]
        if exchange.request:
            drafts.append(_request(exchange, main, _start(new_id(), date, url, info)))
        return drafts
    if not exchange.request:
        return [_failure(exchange, None, _start(main, date, url, info))]
    return [
        _request(exchange, None, _start(main, date, url, info)),
        _failure(exchange, main, _start(new_id(), date, url, info)),
    ]


def of_resource(resource: Resource, info: UUID) -> Draft:
    """Draft a resource record; reads the body once for its digest."""
    sha256, size = sha256_of(pieces(resource.body))
    media_type = safe_value(resource.media_type) or "application/octet-stream"
    draft = _start(resource.record_id, safe_date(resource.made_at), resource.url, info)
    _type(draft, RecordType.RESOURCE, resource.body, sha256, media_type)
    draft.fields.append(("WARC-Payload-Digest", labelled(sha256)))
    draft.fields += [safe_note(*note) for note in resource.notes]
    draft.served_type = media_type.replace(";", " ").split()[0]
    draft.facts |= {"payload_sha256": sha256, "payload_bytes": size, "media_type": draft.served_type.lower()}
    _concurrent(draft, resource.about)
    _capture(draft, resource.capture)
    return draft


def of_journal(entry: bytes, url: str, record_id: UUID, info: UUID) -> Draft:
    """Draft the record of a journal entry: what the catalogue is told next (storage/journal.py)."""
    draft = _start(record_id, safe_date(datetime.now(UTC)), url, info)
    _type(draft, RecordType.METADATA, entry, hashlib.sha256(entry).hexdigest(), "application/json")
    draft.served_type = draft.facts["media_type"] = "application/json"
    return draft


def of_info(info: Mapping[str, str], record_id: UUID, file_name: str) -> Draft:
    """Draft the warcinfo record that a file, or a run in it, begins with."""
    block = to_warc_fields({**_FORMAT, **info}.items())
    draft = Draft([], block, {"record_id": record_id, "url": "", "date": safe_date(datetime.now(UTC))})
    draft.fields = [("WARC-Record-ID", urn(record_id)), ("WARC-Date", draft.facts["date"])]
    _type(draft, RecordType.WARCINFO, block, hashlib.sha256(block).hexdigest(), WARC_FIELDS)
    draft.fields.append(("WARC-Filename", safe_value(file_name)))
    draft.served_type = draft.facts["media_type"] = WARC_FIELDS
    return draft


def _start(record_id: UUID, date: str, address: str, info: UUID) -> Draft:
    url = safe_url(address)
    fields = [
        ("WARC-Record-ID", urn(record_id)),
        ("WARC-Date", date),
        ("WARC-Target-URI", url),
        _informed(info),
        *cut_note(address),
    ]
    return Draft(fields, b"", {"record_id": record_id, "url": url, "date": date})


@lru_cache(maxsize=16)
def _informed(info: UUID) -> tuple[str, str]:
    return "WARC-Warcinfo-ID", urn(info)


def _type(draft: Draft, kind: RecordType, block: Block, block_sha256: str, media_type: str) -> None:
    draft.fields.insert(0, ("WARC-Type", kind.value))
    draft.fields += [("WARC-Block-Digest", labelled(block_sha256)), ("Content-Type", media_type)]
    draft.block = block
    draft.facts |= {"type": kind, "block_sha256": block_sha256}


def _concurrent(draft: Draft, other: UUID | None) -> None:
    if other is not None:
        draft.fields.append(("WARC-Concurrent-To", urn(other)))
        draft.facts["concurrent_to"] = other


def _capture(draft: Draft, capture: UUID | None) -> None:
    if capture is not None:
        draft.fields.append((CAPTURE_FIELD, str(capture)))
        draft.facts["capture"] = capture


def _connection(exchange: Exchange) -> list[tuple[str, str]]:
    return [*_peer(exchange.ip, exchange.protocols, exchange.cipher)]


@lru_cache(maxsize=1024)
def _peer(ip: str | None, protocols: tuple[str, ...], cipher: str | None) -> tuple[tuple[str, str], ...]:
    fields = [safe_address(ip)] if ip else []
    fields += [("WARC-Protocol", safe_value(protocol)) for protocol in protocols]
    if cipher:
        fields.append(("WARC-Cipher-Suite", safe_value(cipher)))
    return tuple(fields)


def _response(
    exchange: Exchange, block: Block, payload: PayloadDigest, original: Original | None, draft: Draft
) -> Draft:
    head = payload.head
    if original is not None and head is not None and head.status == NOT_MODIFIED_STATUS:
        return _not_modified(exchange, block, payload, original, draft)
    if original is None:
        _type(draft, RecordType.RESPONSE, block, payload.block_sha256, "application/http; msgtype=response")
    else:
        _revisit(draft, original, payload)
    draft.fields.append(("WARC-Payload-Digest", labelled(payload.sha256)))
    draft.fields += _connection(exchange)
    if exchange.truncated or original:
        draft.fields.append(("WARC-Truncated", exchange.truncated or Truncated.LENGTH))
    if payload.framing:
        draft.fields.append((FRAMING_FIELD, safe_value(payload.framing)))
    draft.fields += [safe_note(*note) for note in exchange.notes]
    draft.served_type = head.served_type if head else None
    draft.facts |= {
        "payload_sha256": payload.sha256,
        "payload_bytes": payload.size_bytes,
        "status": head.status if head else None,
        "media_type": draft.served_type.lower() if draft.served_type is not None else None,
        "truncated": exchange.truncated,
    }
    return draft


def _revisit(draft: Draft, original: Original, payload: PayloadDigest) -> None:
    """ISO 28500:2017 6.7.2: the head alone, declared as truncated in length."""
    if original.payload_sha256 != payload.sha256:
        raise ValueError(f"the payload is {payload.sha256}, the original's {original.payload_sha256}: no revisit")
    block = payload.head.raw if payload.head else b""
    block_sha256 = hashlib.sha256(block).hexdigest()
    _type(draft, RecordType.REVISIT, block, block_sha256, "application/http; msgtype=response")
    _refer(draft, IDENTICAL_PAYLOAD, original, payload.size_bytes)


def _not_modified(exchange: Exchange, block: Block, payload: PayloadDigest, original: Original, draft: Draft) -> Draft:
    """ISO 28500:2017 6.7.3: the answer as it came; its payload is the original's, and so is the digest."""
    _type(draft, RecordType.REVISIT, block, payload.block_sha256, "application/http; msgtype=response")
    _refer(draft, NOT_MODIFIED, original, original.payload_bytes)
    draft.fields.append(("WARC-Payload-Digest", labelled(original.payload_sha256)))
    draft.fields += _connection(exchange)
    draft.fields += [safe_note(*note) for note in exchange.notes]
    draft.served_type = payload.head.served_type if payload.head else None
    draft.facts |= {
        "payload_sha256": original.payload_sha256,
        "payload_bytes": original.payload_bytes,
        "status": NOT_MODIFIED_STATUS,
        "media_type": draft.served_type.lower() if draft.served_type is not None else None,
    }
    return draft


def _refer(draft: Draft, profile: str, original: Original, payload_bytes: int | None) -> None:
    draft.fields += [
        ("WARC-Profile", profile),
        ("WARC-Refers-To", urn(original.record_id)),
        ("WARC-Refers-To-Target-URI", safe_url(original.url)),
        ("WARC-Refers-To-Date", safe_value(original.date)),
    ]
    if payload_bytes is not None:
        draft.fields.append((LENGTH_FIELD, str(payload_bytes)))
    draft.facts["refers_to"] = original.record_id


def _request(exchange: Exchange, about: UUID | None, draft: Draft) -> Draft:
    block = exchange.request
    _type(draft, RecordType.REQUEST, block, hashlib.sha256(block).hexdigest(), "application/http; msgtype=request")
    _concurrent(draft, about)
    draft.fields += _connection(exchange)
    if about is None:
        draft.fields += [safe_note(*note) for note in exchange.notes]
    head = split(block)
    if head and (body := block[len(head.raw) :]) and not head.chunked:
        sha256 = hashlib.sha256(body).hexdigest()
        draft.fields.append(("WARC-Payload-Digest", labelled(sha256)))
        draft.facts |= {"payload_sha256": sha256, "payload_bytes": len(body)}
    return draft


def _failure(exchange: Exchange, about: UUID | None, draft: Draft) -> Draft:
    """What is known where no response came; `ended` tells how long it was waited for."""
    fields = [
        ("failure", exchange.failure or "unspecified"),
        ("method", exchange.method),
        ("ended", safe_date(exchange.ended_at)),
    ]
    block = to_warc_fields(fields)
    _type(draft, RecordType.METADATA, block, hashlib.sha256(block).hexdigest(), WARC_FIELDS)
    _concurrent(draft, about)
    if about is None:
        draft.fields += _connection(exchange) + [safe_note(*note) for note in exchange.notes]
    draft.served_type = draft.facts["media_type"] = WARC_FIELDS
    return draft
