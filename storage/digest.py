"""SHA-256 of blocks and files, and the way digests are written in WARC fields."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from storage.exchange import Block

PIECE_BYTES = 1 << 20


def pieces(block: Block) -> Iterator[bytes]:
    """Yield a block's bytes in pieces of at most 1 MiB where it is stored, in one where it is in memory."""
    if isinstance(block, bytes):
        yield block
        return
    with block.path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def length_of(block: Block) -> int:
    """Count a block's bytes without reading it."""
    return len(block) if isinstance(block, bytes) else block.length_bytes


def sha256_of(parts: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Hash parts one after the other; answer the digest in hex and their size in bytes."""
    digest, size = hashlib.sha256(), 0
    for part in parts:
        digest.update(part)
        size += len(part)
    return digest.hexdigest(), size


def file_sha256(path: Path) -> str:
    """Hash a file in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def labelled(sha256: str) -> str:
    """Write a digest as a WARC field does (ISO 28500:2017 5.8). Hex: warcio and FastWARC verify it as they do base32."""
    return f"sha256:{sha256}"


def read_label(text: str) -> tuple[str, bytes]:
    """Read a labelled digest in hex, base32 or base64, padded or not; ValueError if it is none."""
    algorithm, colon, value = text.partition(":")
    algorithm = algorithm.strip().lower().replace("-", "")
    if not colon or algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        raise ValueError(f"{text!r} is no labelled digest of a known algorithm")
    size = hashlib.new(algorithm).digest_size
    value = value.strip().rstrip("=")
    try:
        if len(value) == 2 * size:
            return algorithm, bytes.fromhex(value)
        if len(value) == -(-size * 8 // 5):
            return algorithm, base64.b32decode(value.upper() + "=" * (-len(value) % 8))
        if len(value) == -(-size * 8 // 6):
            return algorithm, base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=False)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"{text!r} cannot be decoded") from error
    raise ValueError(f"{text!r} has not the length of a {algorithm} digest")
