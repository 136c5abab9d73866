"""Finds captured pictures that look like a given one, turned or mirrored too. Leads for a person, never proofs."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select

from osint_pipeline.decoding import body_of
from osint_pipeline.errors import UserError
from osint_pipeline.fingerprint import Fingerprints, neighbours
from osint_pipeline.retrieve import Archive
from osint_pipeline.workspace import Workspace
from storage.exchange import RecordType
from storage.finding import records_of
from storage.fingerprints import earlier_fingerprints
from storage.records import read_record
from storage.schema import captures, fingerprints, media, records


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookalike:
    """A captured picture near the one asked for; `turned` where it is so only when mirrored or rotated.

    `id` is that of its media where a post names it, else of its capture.
    """

    id: UUID
    capture: UUID | None
    url: str
    distance: int
    turned: bool
    captured_at: datetime | None
    width: int | None
    height: int | None
    payload_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {
            name: str(value) if isinstance(value, UUID | datetime) else value for name, value in asdict(self).items()
        }


def similar_to(workspace: Workspace, what: str, radius_bits: int | None = None) -> list[Lookalike]:
    """List pictures within the radius of a file or a captured picture, nearest first, itself left out.

    Raises UserError if it is no picture that can be hashed.
    """
    body, own = _picture(workspace, what)
    service = workspace.service
    with Fingerprints(limit_pixels=service.image_limit_pixels) as hasher:
        values = hasher.variants(body)
    if not values:
        raise UserError(f"{what} is no picture that can be hashed", "flat, damaged and huge pictures have no hash")
    earlier = earlier_fingerprints(workspace.catalog, "phash")
    nearest: dict[int, tuple[int, bool]] = {}
    for turn, value in enumerate(values):
        places, distances = neighbours(value, earlier.hashes, _radius(service.phash_radius_bits, radius_bits))
        for place, distance in zip(places, distances, strict=True):
            known = nearest.get(int(place))
            if known is None or int(distance) < known[0]:
                nearest[int(place)] = (int(distance), turn > 0)
    found = [_lookalike(workspace, earlier.id(place), *near) for place, near in nearest.items()]
    return sorted((one for one in found if one.payload_sha256 != own), key=lambda one: (one.distance, str(one.id)))


def _radius(default: int, asked: int | None) -> int:
    return default if asked is None else asked


def _picture(workspace: Workspace, what: str) -> tuple[bytes, str | None]:
    path = Path(what)
    if path.is_file():
        return path.read_bytes(), None
    try:
        id_ = UUID(what)
    except ValueError as error:
        raise UserError(f"{what} is neither a file nor an id", "`osint find --kind media` lists ids") from error
    archive = Archive(workspace)
    for ref in reversed(records_of(workspace.catalog, id_)):
        if ref.type is RecordType.RESPONSE and (ref.media_type or "").startswith("image/"):
            return body_of(read_record(archive.member(ref)).block), ref.payload_sha256
    raise UserError(f"{what} has no captured picture", "`osint find --kind media` lists ids")


def _lookalike(workspace: Workspace, fingerprint: UUID, distance: int, turned: bool) -> Lookalike:
    query = (
        select(
            fingerprints,
            captures.c.captured_at,
            captures.c.url,
            records.c.url.label("record_url"),
            media.c.id.label("media_id"),
        )
        .outerjoin(captures, captures.c.id == fingerprints.c.capture_id)
        .outerjoin(records, records.c.id == fingerprints.c.record_id)
        .outerjoin(media, media.c.file_capture_id == fingerprints.c.capture_id)
        .where(fingerprints.c.id == fingerprint)
        .limit(1)
    )
    with workspace.catalog.begin() as connection:
        row = connection.execute(query).one()
    return Lookalike(
        id=row.media_id or row.capture_id or row.id,
        capture=row.capture_id,
        url=row.record_url or row.url or "",
        distance=distance,
        turned=turned,
        captured_at=row.captured_at,
        width=row.width,
        height=row.height,
        payload_sha256=row.payload_sha256,
    )
