"""Writes the pictures of captured pages: the bytes of their records, proven by their digests, to new files only."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.retrieve import Archive
from osint_pipeline.workspace import Workspace
from storage.durable import space
from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType
from storage.finding import records_of
from storage.records import payload, read_record

ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A written picture; `kind` is the word in its record's address, `payload_sha256` that of the file too."""

    path: Path
    kind: str
    url: str
    capture: UUID | None
    size_bytes: int
    payload_sha256: str
    record: UUID

    def to_json(self) -> dict[str, Any]:
        """Make the object that --json prints."""
        plain = asdict(self) | {"path": str(self.path), "record": str(self.record)}
        return plain | {"capture": str(self.capture) if self.capture else None}


def write_shots(workspace: Workspace, id_: UUID, folder: Path) -> list[Shot]:
    """Write every picture of a page that the records of a capture, post, media or run hold.

    Raises UserError where there is none, where a file stands already (it stays, and nothing is written over), and DamagedWarc
    where bytes do not have their digest: then no file is made of them.
    """
    refs = records_of(workspace.catalog, id_)
    if not refs:
        raise UserError(f"nothing in the catalogue has the id {id_}", "`osint find` and `osint runs` list ids")
    pictures = list(_named(refs, folder))
    if not pictures:
        what = f"{id_} has no picture of the page: it was not captured by the browser, or its picture was omitted"
        raise UserError(what, "`osint show` lists its records; --render always captures by the browser", Exit.FAILED)
    for _, _, path in pictures:
        if path.exists():
            raise UserError(
                f"{path} exists, and is not written over", "name another folder with --out, or move it away"
            )
    archive = Archive(workspace)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(archive, ref, kind, path) for ref, kind, path in pictures]
    except FileExistsError as error:
        raise UserError(
            f"{error.filename} exists, and is not written over", "name another folder with --out"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}", "name a folder that can be written to"
        ) from error


def _named(refs: list[RecordRef], folder: Path) -> Iterator[tuple[RecordRef, str, Path]]:
    taken: set[str] = set()
    for ref in refs:
        if ref.type is not RecordType.RESOURCE or not ref.url.startswith("urn:") or ref.media_type not in ENDINGS:
            continue
        kind = ref.url.split(":", 2)[1]
        word = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in kind)[:40]
        name = f"{ref.capture or ref.record_id}-{word}"
        if name in taken:  # another picture of the same kind
            name = f"{name}-{ref.record_id}"
        taken.add(name)
        yield ref, kind, folder / (name + ENDINGS[ref.media_type])


def _write(archive: Archive, ref: RecordRef, kind: str, path: Path) -> Shot:
    body = payload(read_record(archive.member(ref)))
    digest = sha256(body).hexdigest()
    if digest != ref.payload_sha256:
        raise DamagedWarc(ref.warc, ref.offset_bytes, f"the picture has sha256 {digest}, not {ref.payload_sha256}")
    with space(path), path.open("xb") as out:
        try:
            out.write(body)
        except BaseException:
            path.unlink()
            raise
    return Shot(
        path=path,
        kind=kind,
        url=ref.url.split(":", 2)[2],
        capture=ref.capture,
        size_bytes=len(body),
        payload_sha256=digest,
        record=ref.record_id,
    )
