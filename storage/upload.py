"""One large file into the store in parts: what is sent, what was already sent, how it goes on after a crash."""

import glob
import hashlib
import io
import json
import os
import tempfile
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.durable import is_full, sync_folder
from storage.errors import StoreUnavailable
from storage.s3_wire import Kind, Refused, Wire

_READ_BYTES = 1 << 20
_MOST_UPLOADS = 6  # begun anew for one file before we say that the store forgets them


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of the file, numbered from 1; digests are raw bytes."""

    number: int
    offset_bytes: int
    length_bytes: int
    md5: bytes
    sha256: bytes

    def digests(self) -> dict[str, str]:
        """Name the digests as the store is told of them."""
        return {"ContentMD5": b64encode(self.md5).decode(), "ChecksumSHA256": b64encode(self.sha256).decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A file cut into parts; at least one, which is empty if the file is. `sha256` is of the whole, in hex."""

    sha256: str
    size_bytes: int
    parts: tuple[Part, ...]


def plan_stream(stream: io.BufferedIOBase, part_bytes: int) -> Plan:
    """Read the stream once, to its end, and digest each part and the whole."""
    whole = hashlib.sha256()
    parts: list[Part] = []
    offset = 0
    while True:
        part = _plan_part(stream, len(parts) + 1, offset, part_bytes, whole)
        if part.length_bytes or not parts:
            parts.append(part)
        offset += part.length_bytes
        if part.length_bytes < part_bytes:
            return Plan(sha256=whole.hexdigest(), size_bytes=offset, parts=tuple(parts))


def _plan_part(stream: io.BufferedIOBase, number: int, offset: int, part_bytes: int, whole: Any) -> Part:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    length = 0
    while length < part_bytes and (data := stream.read(min(_READ_BYTES, part_bytes - length))):
        length += len(data)
        for digest in (md5, sha256, whole):
            digest.update(data)
    return Part(number=number, offset_bytes=offset, length_bytes=length, md5=md5.digest(), sha256=sha256.digest())


class Slice(io.RawIOBase):
    """A part of a file, read as if it were a file of its own: nothing of it is held in memory.

    `watch` is called before each piece is read, and may raise to break off.
    """

    def __init__(self, path: Path, part: Part, watch: Callable[[], None]) -> None:
        self._file, self._watch = path.open("rb", buffering=0), watch
        self._start, self._length, self._at = part.offset_bytes, part.length_bytes, 0

    def __len__(self) -> int:
        return self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from where we stand, not past the slice's end."""
        self._watch()
        view = memoryview(buffer)[: max(0, self._length - self._at)]
        count = os.preadv(self._file.fileno(), [view], self._start + self._at) if view else 0
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the slice."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Say where we stand, from the slice's start."""
        return self._at

    def close(self) -> None:
        """Close the file beneath."""
        self._file.close()
        super().close()


class Upload:
    """The sending of one file by S3 multipart upload, kept in `<path>.upload` until its end.

    Parts that the store already has are not sent again, if their MD5 is equal.
    """

    def __init__(self, wire: Wire, path: Path, key: str, plan: Plan, media_type: str) -> None:
        self._wire, self._path, self._key, self._plan, self._media_type = wire, path, key, plan, media_type
        self._kept = resume_file(path)
        self.sent_parts = 0

    def send(self, condition: dict[str, str]) -> dict[str, Any]:
        """Send what is missing and complete; the answer of the completion, or of HEAD if that one was lost.

        Raises Refused(EXISTS) if the key was taken meanwhile, StoreUnavailable otherwise.
        """
        for _ in range(min(self._wire.config.attempts, _MOST_UPLOADS)):
            upload_id = self._resumed() or self._created()
            try:
                answer = self._send_parts(upload_id, condition)
            except Refused as refused:
                if refused.kind not in (Kind.NO_UPLOAD, Kind.EXISTS):
                    raise
                there = self._already_complete()
                abandon(self._wire, self._path)  # after a completion that we did not hear: of an upload that is no more
                if refused.kind is Kind.EXISTS:
                    raise
                if there:
                    return there
                continue
            forget(self._path)
            return answer
        raise StoreUnavailable(self._wire.config.endpoint, "forgets our multipart uploads before they are complete")

    def _send_parts(self, upload_id: str, condition: dict[str, str]) -> dict[str, Any]:
        there = self._parts_there(upload_id)
        missing = [part for part in self._plan.parts if part.number not in there]
        with ThreadPoolExecutor(self._wire.config.threads, "upload") as pool:
            running = {part.number: pool.submit(self._send_part, upload_id, part) for part in missing}
            try:
                there |= {number: one.result() for number, one in running.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        parts = [
            {
                "PartNumber": part.number,
                "ETag": there[part.number],
                "ChecksumSHA256": part.digests()["ChecksumSHA256"],
            }
            for part in self._plan.parts
        ]
        if self._already_complete():  # some stores answer If-None-Match here with a success and overwrite
            raise Refused(Kind.EXISTS, "Taken", f"{self._key} was taken while it was being sent")
        return self._wire.ask(
            "complete_multipart_upload",
            Key=self._key,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
            **condition,
        )

    def _send_part(self, upload_id: str, part: Part) -> str:
        lost = False

        def attempt() -> str:
            nonlocal lost
            if lost and (there := self._parts_there(upload_id).get(part.number)):  # taken, and we did not hear
                return there
            lost = True
            with Slice(self._path, part, self._wire.go_on_or_refuse) as body:
                answer = self._wire.call(
                    "upload_part",
                    Key=self._key,
                    UploadId=upload_id,
                    PartNumber=part.number,
                    Body=body,
                    **part.digests(),
                )
            return str(answer["ETag"])

        etag = self._wire.patiently(attempt)
        self.sent_parts += 1
        return etag

    def _parts_there(self, upload_id: str) -> dict[int, str]:
        wanted = {part.number: part for part in self._plan.parts}
        there: dict[int, str] = {}
        after = 0
        while True:
            try:
                page = self._wire.ask("list_parts", Key=self._key, UploadId=upload_id, PartNumberMarker=after)
            except Refused as refused:
                if refused.kind is Kind.UNSUPPORTED:
                    return {}
                if refused.kind is Kind.MISSING:  # so says Ceph of an upload that it does not know
                    raise Refused(Kind.NO_UPLOAD, refused.code, refused.why) from refused
                raise
            for one in page.get("Parts", ()):
                part = wanted.get(one["PartNumber"])
                if part and one["Size"] == part.length_bytes and one["ETag"].strip('"') == part.md5.hex():
                    there[part.number] = one["ETag"]
            if not page.get("IsTruncated"):
                return there
            after = page["NextPartNumberMarker"]

    def _created(self) -> str:
        abandon(self._wire, self._path)  # one of other bytes or of other part sizes
        answer = self._wire.ask(
            "create_multipart_upload", Key=self._key, ChecksumAlgorithm="SHA256", ContentType=self._media_type
        )
        upload_id = str(answer["UploadId"])
        _write_synced(self._kept, json.dumps(self._identity() | {"upload_id": upload_id}))
        return upload_id

    def _resumed(self) -> str | None:
        try:
            kept = json.loads(self._kept.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(kept, dict) or any(kept.get(name) != value for name, value in self._identity().items()):
            return None
        return str(kept["upload_id"]) if kept.get("upload_id") else None

    def _identity(self) -> dict[str, str | int]:
        config = self._wire.config
        return {
            "bucket": config.bucket,
            "key": self._key,
            "sha256": self._plan.sha256,
            "part_bytes": config.part_bytes,
        }

    def _already_complete(self) -> dict[str, Any] | None:
        try:
            return self._wire.ask("head_object", Key=self._key)
        except Refused as refused:
            if refused.kind is Kind.MISSING:
                return None
            raise


def resume_file(path: Path) -> Path:
    """Name the file that keeps what is needed to go on with the upload of `path`."""
    return path.with_name(path.name + ".upload")


def forget(path: Path) -> None:
    """Drop what was kept of an upload that is over; may be called twice."""
    resume_file(path).unlink(missing_ok=True)


def abandon(wire: Wire, path: Path) -> None:
    """Abort the upload that was kept for `path`, if there is one, so that its parts cost nobody room; then forget it.

    Only an upload whose id we wrote down ourselves is ever aborted. What the store answers changes nothing.
    """
    try:
        kept = json.loads(resume_file(path).read_text("utf-8"))
        if kept["bucket"] == wire.config.bucket:
            wire.call("abort_multipart_upload", Key=str(kept["key"]), UploadId=str(kept["upload_id"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError, Refused):
        pass
    forget(path)


def _write_synced(path: Path, text: str) -> None:
    """Keep it, unless the disk is full: an upload that a kill would begin anew still frees the disk."""
    for left in path.parent.glob(f"{glob.escape(path.name)}-*.new"):  # of a process that was killed right here
        left.unlink(missing_ok=True)
    try:
        number, name = tempfile.mkstemp(prefix=f"{path.name}-", suffix=".new", dir=path.parent)
    except OSError as error:
        if is_full(error):
            return
        raise
    fresh = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        fresh.unlink(missing_ok=True)
        if is_full(error):
            return
        raise
    try:
        fresh.rename(path)
    except FileNotFoundError:  # another upload of the same file took it for a left-over: it keeps its own
        return
    sync_folder(path.parent)
