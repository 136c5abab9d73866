"""Turns what Chromium tells of a request over CDP into the Exchange that is kept. No protocol here, only bytes."""

import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from osint_pipeline.fetch.cdp_head import request_bytes, response_head
from osint_pipeline.fetch.cdp_hop import POSTED_LOST, Flight, Note
from storage.exchange import Block, Exchange, Stored

SUITES = {
    "AES_128_GCM": "TLS_AES_128_GCM_SHA256",
    "AES_256_GCM": "TLS_AES_256_GCM_SHA384",
    "CHACHA20_POLY1305": "TLS_CHACHA20_POLY1305_SHA256",
}  # TLS 1.3 (RFC 8446 B.4); of older suites CDP tells only a part

Addresses = Mapping[tuple[str, int], tuple[str, ...]]  # all at which a (host, port) was dialled

REQUEST_REBUILT: Note = ("OSINT-Alteration", "request head rebuilt from the browser's list, order lost")
HEAD_SHOWN: Note = ("OSINT-Alteration", "response head as the browser shows it: folded lines joined, octets of the status text that are no UTF-8 lost, interim answers and trailers not told")  # fmt: skip
SENT_TWICE: Note = ("OSINT-Omission", "the browser may have sent the request twice: where a kept connection ends without an answer it does, and tells of one")  # fmt: skip
HEAD_LOSSY: Note = ("OSINT-Alteration", "response head as the browser shows it: octets that are no UTF-8 lost")


def exchange_of(flight: Flight, index: int, addresses: Addresses, folder: Path) -> Exchange:
    """Make the exchange of one hop; a body in a scratch file stays in one, behind its head."""
    hop, answer = flight.hops[index], flight.answer(index)
    sent, received = flight.asked(index), flight.heard(index)
    status, body = hop.status, hop.body
    if received.get("statusCode") == 304 and status != 304:
        status, body = 304, None  # the wire said 304, the browser shows its own copy as 200
    length = None if body is None else hop.body_bytes
    head, notes = response_head(hop, status, str(received.get("headersText") or ""), length, received.get("headers"))
    security = answer.get("securityDetails") or {}
    ip, unknown = address_of(hop.url, addresses)
    return Exchange(
        url=hop.url,
        method=hop.method,
        started_at=flight.begun[index] if index < len(flight.begun) else hop.started_at,
        ended_at=hop.ended_at,
        request=request_bytes(hop.url, hop.method, sent.get("headers") or hop.headers, hop.posted),
        response=_block(head, body, folder / f"{hop.record_id}.response"),
        ip=ip,
        protocols=_protocols(str(answer.get("protocol") or ""), str(security.get("protocol") or "")),
        cipher=SUITES.get(str(security.get("cipher"))) if security.get("protocol") == "TLS 1.3" else None,
        truncated=hop.truncated,
        notes=(*hop.notes, *notes, HEAD_SHOWN if received else HEAD_LOSSY, REQUEST_REBUILT, *unknown),
        record_id=hop.record_id,
    )


def failed_exchange(flight: Flight, failure: str, now: datetime, addresses: Addresses) -> Exchange:
    """Make the exchange of a request that got no answer."""
    sent = flight.asked(len(flight.hops)).get("headers") or flight.request_headers
    ip, unknown = address_of(flight.url, addresses)
    lost = [POSTED_LOST] if flight.posts and flight.posted is None else []
    if "ERR_EMPTY_RESPONSE" in failure:
        lost.append(SENT_TWICE)
    return Exchange(
        url=flight.url,
        method=flight.method,
        started_at=flight.begun[-1] if flight.begun else now,
        ended_at=now,
        request=request_bytes(flight.url, flight.method, sent, flight.posted),
        response=None,
        ip=ip,
        failure=failure,
        notes=(REQUEST_REBUILT, *lost, *unknown),
    )


def address_of(url: str, addresses: Addresses) -> tuple[str | None, tuple[Note, ...]]:
    """The address that a URL's host was dialled at. None behind a proxy, where it was not dialled, and where it was dialled
    at several: the browser does not tell which connection a request took."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "wss": 443}.get(parts.scheme, 80)
    at = addresses.get(((parts.hostname or "").lower(), port), ())
    if len(at) > 1:
        return None, (("OSINT-Omission", f"the host was dialled at {', '.join(at)}: which of them this was is not known"),)  # fmt: skip
    return (at[0] if at else None), ()


def _protocols(http: str, tls: str) -> tuple[str, ...]:
    return tuple(name for name in (http, tls.lower().replace("tls ", "tls/")) if name)


def _block(head: bytes, body: bytes | Path | None, path: Path) -> Block:
    if not isinstance(body, Path):
        return head + (body or b"")
    with path.open("xb") as out, body.open("rb") as source:
        out.write(head)
        shutil.copyfileobj(source, out, 1 << 20)
    length = path.stat().st_size
    body.unlink()
    return Stored(path=path, length_bytes=length)
