"""Proves a downloaded file by the records of the answers that it was made from."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from osint_pipeline.fetch.media_tee import Kept
from storage.exchange import RecordRef


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """A file that was fetched and, proved by `record`, deleted: its bytes lie in the WARC.

    `record` is the response that holds it, or the first of those that hold its ranges or fragments.
    """

    url: str
    sha256: str
    size_bytes: int
    media_type: str | None
    record: RecordRef


def prove(path: Path, kept: list[Kept]) -> MediaFile | None:
    """Find the records whose payloads make up a file: one, ranges of it, or its fragments in order; None if they do not."""
    records = _proof_of(path, kept) or _proof_of_fragments(path, kept)
    if not records:
        return None
    first = records[0]
    return MediaFile(
        url=first.url, sha256=_sha256(path), size_bytes=path.stat().st_size, media_type=first.media_type, record=first
    )


def _proof_of(path: Path, kept: list[Kept]) -> list[RecordRef]:
    whole = _sha256(path)
    for one in kept:
        if whole in (one.ref.payload_sha256, one.decoded_sha256) and one.start_bytes == 0:
            return [one.ref]
    return _proof_by_ranges(path, kept)


def _proof_by_ranges(path: Path, kept: list[Kept]) -> list[RecordRef]:
    """Cover a file with recorded ranges, and with what came of an answer before it broke off."""
    proof: list[RecordRef] = []
    at, size = 0, path.stat().st_size
    while at < size:
        reach = [
            (one.start_bytes + one.ref.payload_bytes, one.ref)
            for one in kept
            if one.ref.payload_bytes and one.start_bytes <= at < one.start_bytes + one.ref.payload_bytes <= size
            if _range_sha256(path, one.start_bytes, one.ref.payload_bytes) == one.ref.payload_sha256
        ]
        if not reach:
            return []
        at, ref = max(reach, key=lambda pair: pair[0])
        proof.append(ref)
    return proof


def _proof_of_fragments(path: Path, kept: list[Kept]) -> list[RecordRef]:
    """Prove a joined file: each kept fragment is proved, and together, in order, they are the file.

    An encrypted stream is decrypted as it is joined: that file has no proof, though its fragments have.
    """
    parts = sorted(path.parent.glob(f"{path.name}*-Frag*"), key=lambda one: int(one.name.rpartition("-Frag")[2]))
    proofs = [_proof_of(one, kept) for one in parts]
    if not proofs or not all(proofs) or _sha256(*parts) != _sha256(path):
        return []
    return [ref for proof in proofs for ref in proof]


def _sha256(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        for data in _read(path, 0, path.stat().st_size):
            digest.update(data)
    return digest.hexdigest()


def _range_sha256(path: Path, start_bytes: int, length_bytes: int) -> str:
    digest = hashlib.sha256()
    for data in _read(path, start_bytes, length_bytes):
        digest.update(data)
    return digest.hexdigest()


def _read(path: Path, start_bytes: int, length_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start_bytes)
        while length_bytes and (data := file.read(min(length_bytes, 1 << 20))):
            length_bytes -= len(data)
            yield data
