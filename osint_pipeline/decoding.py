"""Undoes transfer and content coding to look into an archived answer; the archive itself keeps the bytes as they came."""

import zlib

import brotli

from storage.http import BadChunks, dechunk, split_response

LIMIT_BYTES = 256 << 20


class NotDecoded(ValueError):
    """A body whose coding is unknown, broken, or larger than we unpack."""


def body_of(block: bytes, *, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Give the body of an HTTP response as a reader sees it. Raises NotDecoded."""
    head = split_response(block)
    if head is None:
        return block
    body = block[len(head.raw) :]
    if head.chunked:
        try:
            body = b"".join(dechunk((body,)))
        except BadChunks as error:
            raise NotDecoded(str(error)) from error
    codings = b",".join(head.values("Content-Encoding")).decode("latin-1").lower().split(",")
    for coding in reversed([one.strip() for one in codings if one.strip()]):
        body = _decode(body, coding, limit_bytes)
    return body


def _decode(body: bytes, coding: str, limit_bytes: int) -> bytes:
    try:
        if coding in ("gzip", "x-gzip", "deflate"):
            return _inflate(body, coding, limit_bytes)
        if coding == "br":
            return _unbrotli(body, limit_bytes)
    except (zlib.error, brotli.error) as error:
        raise NotDecoded(f"{coding}: {error}") from error
    if coding == "identity":
        return body
    raise NotDecoded(f"unknown coding {coding}")


def _inflate(body: bytes, coding: str, limit_bytes: int) -> bytes:
    raw = coding == "deflate" and (len(body) < 2 or int.from_bytes(body[:2], "big") % 31 != 0)
    machine = zlib.decompressobj(-15 if raw else 47)
    out = machine.decompress(body, limit_bytes)
    if machine.unconsumed_tail:
        raise NotDecoded(f"more than {limit_bytes} bytes")
    return out


def _unbrotli(body: bytes, limit_bytes: int) -> bytes:
    machine = brotli.Decompressor()
    out = machine.process(body, output_buffer_limit=limit_bytes)
    if not machine.is_finished():
        raise NotDecoded(f"cut, or more than {limit_bytes} bytes")
    return bytes(out)
