"""The object store: put once, read back before it is believed, read by range.

Nothing here overwrites or deletes. The client of any S3 server; storage/doctor.py finds out what a server guarantees.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.errors import StoreDiffers, StoreUnavailable
from storage.s3_wire import S3, Kind, Refused, Wire
from storage.stored import FileDiffers, Found, ObjectMissing, RangeShort, Stored
from storage.upload import Part, Plan, Slice, Upload, abandon, plan_stream

__all__ = ["S3", "FileDiffers", "Found", "ObjectMissing", "ObjectStore", "RangeShort", "Stored"]

_READ_BYTES = 8 << 20
_READINGS, _SAME_READINGS = 5, 3
_OCTETS = "application/octet-stream"


class _OtherSize(Exception):
    """The object has not the size that it should have."""


class ObjectStore:
    """One bucket; may be shared between threads. Every method may raise StoreUnavailable."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._conditional = True  # until the server says that it does not know If-None-Match

    @classmethod
    def open(cls, config: S3) -> Self:
        """Make a store of its address; nothing is asked yet."""
        return cls(Wire(config))

    @property
    def preserves_durably(self) -> bool:
        """Whether the only copy may be this one."""
        return self.wire.config.durable

    def ensure_bucket(self) -> None:
        """Make the bucket if it is not there."""
        with self._facing():
            try:
                self.wire.ask("head_bucket")
            except Refused as refused:
                if refused.kind is not Kind.MISSING:
                    raise
                self._create_bucket()

    def put_once(self, path: Path, key: str, sha256: str, *, media_type: str = _OCTETS) -> Stored:
        """Put a file under a key that nobody uses, read it back, and only then return.

        May be called again after any failure: it goes on where it stopped (`<path>.upload`). A key that holds the same
        bytes is fine. Raises StoreDiffers if it holds others (they stay), FileDiffers if the file is not as said.
        """

        def send() -> tuple[dict[str, Any], bool]:
            with path.open("rb") as stream:
                plan = plan_stream(stream, self.wire.config.part_bytes)
            if plan.sha256 != sha256:
                raise FileDiffers(str(path), sha256, plan.sha256)
            if len(plan.parts) > 1:
                return self._once(lambda: Upload(self.wire, path, key, plan, media_type).send(self._condition()), key)
            return self._send_whole(
                key, plan, lambda: Slice(path, plan.parts[0], self.wire.go_on_or_refuse), media_type
            )

        return self._put(key, sha256, path.stat().st_size, send, path)

    def put_bytes_once(self, data: bytes, key: str, *, sha256: str | None = None, media_type: str = _OCTETS) -> Stored:
        """Put a small object as put_once does a file."""
        plan = plan_stream(io.BytesIO(data), max(1, len(data) + 1))
        if sha256 not in (None, plan.sha256):
            raise FileDiffers(f"data for {key}", str(sha256), plan.sha256)

        def send() -> tuple[dict[str, Any], bool]:
            return self._send_whole(key, plan, lambda: io.BytesIO(data), media_type)

        return self._put(key, plan.sha256, len(data), send)

    def head(self, key: str) -> Found | None:
        """Describe an object; None if there is none."""
        with self._facing():
            try:
                return _found(key, self.wire.ask("head_object", Key=key))
            except Refused as refused:
                if refused.kind is Kind.MISSING:
                    return None
                raise

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Describe the objects whose keys begin so, in the order of their keys."""
        more: dict[str, str] = {}
        while True:
            with self._facing():
                page = self.wire.ask("list_objects_v2", Prefix=prefix, **more)
            for one in page.get("Contents", ()):
                yield Found(
                    key=one["Key"],
                    size_bytes=one["Size"],
                    etag=one["ETag"].strip('"'),
                    modified_at=one["LastModified"],
                )
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def read_range(self, key: str, offset_bytes: int, length_bytes: int, version_id: str | None = None) -> bytes:
        """Read exactly this many bytes; raises RangeShort if there are fewer, ObjectMissing if there is no object."""
        if length_bytes <= 0:
            return b""
        with self._facing(key, version_id):
            try:
                return self.wire.patiently(lambda: self._range_once(key, offset_bytes, length_bytes, version_id))
            except Refused as refused:
                if refused.kind is Kind.RANGE:
                    raise RangeShort(key, offset_bytes, length_bytes, 0) from refused
                raise

    def read(self, key: str, version_id: str | None = None) -> Iterator[bytes]:
        """Read an object piece by piece, 8 MiB at most in memory; raises ObjectMissing."""
        with self._facing(key, version_id):
            size = self._size(key, version_id)
        for offset in range(0, size, _READ_BYTES):
            yield self.read_range(key, offset, min(_READ_BYTES, size - offset), version_id)

    def sha256_of(self, key: str, version_id: str | None = None) -> str:
        """Read the whole object and give the SHA-256 of its bytes in hex; raises ObjectMissing."""
        return self._digest(key, version_id)[0]

    def close(self) -> None:
        """Close the connections; the store may be used again."""
        self.wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _put(
        self,
        key: str,
        sha256: str,
        size_bytes: int,
        send: Callable[[], tuple[dict[str, Any], bool]],
        path: Path | None = None,
    ) -> Stored:
        with self._facing(key):
            there = self._head_answer(key)
            answer, was_there = (there, True) if there else send()
            if path:
                abandon(self.wire, path)  # where somebody else was first; before the bytes are read back
            return self._proved(key, sha256, size_bytes, answer, was_there)

    def _send_whole(
        self, key: str, plan: Plan, body: Callable[[], AbstractContextManager[Any]], media_type: str
    ) -> tuple[dict[str, Any], bool]:
        part: Part = plan.parts[0]
        lost = False

        def attempt() -> dict[str, Any]:
            nonlocal lost
            if lost and (there := self._head_once(key)):  # the store took it and we did not hear
                return there
            lost = True
            with body() as data:
                return self.wire.call(
                    "put_object", Key=key, Body=data, ContentType=media_type, **part.digests(), **self._condition()
                )

        return self._once(lambda: self.wire.patiently(attempt), key)

    def _once(self, send: Callable[[], dict[str, Any]], key: str) -> tuple[dict[str, Any], bool]:
        """Send; (answer, whether the key was taken meanwhile)."""
        try:
            return send(), False
        except Refused as refused:
            if refused.kind is Kind.EXISTS and (there := self._head_answer(key)):
                return there, True
            if refused.kind is not Kind.UNSUPPORTED or not self._conditional:
                raise
            self._conditional = False
            return send(), False

    def _condition(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self._conditional else {}

    def _proved(self, key: str, sha256: str, size_bytes: int, answer: dict[str, Any], was_there: bool) -> Stored:
        version_id = _version_of(answer)
        try:
            size = self._same(key, version_id, sha256, size_bytes)
        except ObjectMissing as missing:
            raise StoreDiffers(key, sha256, "(no object)") from missing
        etag = str(answer.get("ETag", "")).strip('"')
        return Stored(key=key, size_bytes=size, sha256=sha256, version_id=version_id, etag=etag, was_there=was_there)

    def _same(self, key: str, version_id: str | None, sha256: str, size_bytes: int) -> int:
        """Read an object until its bytes are ours; its length.

        Raises StoreDiffers where it gives the same other bytes three times, StoreUnavailable where it gives others each
        time: they change on their way to us.
        """
        seen: list[str] = []
        for _ in range(_READINGS):
            got, size = self._digest(key, version_id, 0 if seen else size_bytes)
            if got == sha256:
                return size
            seen.append(got)
            if seen.count(got) == _SAME_READINGS:
                raise StoreDiffers(key, sha256, got)
        raise StoreUnavailable(self.wire.config.endpoint, f"gives other bytes of {key} at each reading")

    def _digest(self, key: str, version_id: str | None, likely_bytes: int = 0) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        for data in self._whole(key, version_id, likely_bytes):
            digest.update(data)
            size += len(data)
        return digest.hexdigest(), size

    def _whole(self, key: str, version_id: str | None, likely_bytes: int) -> Iterator[bytes]:
        """Read an object as `read` does; where it has the likely size, its size is not asked for."""
        first = self._first_of(key, version_id, likely_bytes) if likely_bytes else None
        if first is None:
            yield from self.read(key, version_id)
            return
        yield first
        for offset in range(len(first), likely_bytes, _READ_BYTES):
            yield self.read_range(key, offset, min(_READ_BYTES, likely_bytes - offset), version_id)

    def _first_of(self, key: str, version_id: str | None, size_bytes: int) -> bytes | None:
        """Read an object's first piece; None if it is not of this size, or does not say so."""
        length = min(_READ_BYTES, size_bytes)
        with self._facing(key, version_id):
            try:
                return self.wire.patiently(lambda: self._range_once(key, 0, length, version_id, size_bytes))
            except (_OtherSize, RangeShort):
                return None
            except Refused as refused:
                if refused.kind is Kind.RANGE:
                    return None
                raise

    def _range_once(
        self, key: str, offset: int, length: int, version_id: str | None, whole_bytes: int | None = None
    ) -> bytes:
        asked = f"bytes={offset}-{offset + length - 1}"
        answer = self.wire.call("get_object", Key=key, Range=asked, **_version(version_id))
        told = str(answer.get("ContentRange", ""))
        if told and not told.startswith(f"bytes {offset}-"):
            answer["Body"].close()
            raise Refused(Kind.FINAL, "Range", f"gave {told!r} when asked for {asked!r} of {key}")
        if whole_bytes is not None and _whole_bytes(answer) != whole_bytes:
            answer["Body"].close()
            raise _OtherSize
        data = self.wire.read_body(answer, 0 if told else offset, length)  # without Content-Range it is the whole
        if len(data) != length:
            raise RangeShort(key, offset, length, len(data))
        return data

    def _size(self, key: str, version_id: str | None) -> int:
        try:
            return int(self.wire.ask("head_object", Key=key, **_version(version_id))["ContentLength"])
        except Refused as refused:
            if refused.kind is Kind.MISSING:  # HEAD cannot tell a missing bucket from a missing object, GET can
                self.wire.ask("get_object", Key=key, **_version(version_id))["Body"].close()
            raise

    def _head_answer(self, key: str) -> dict[str, Any] | None:
        return self.wire.patiently(lambda: self._head_once(key))

    def _head_once(self, key: str) -> dict[str, Any] | None:
        try:
            return self.wire.call("head_object", Key=key)
        except Refused as refused:
            if refused.kind is Kind.MISSING:
                return None
            raise

    def _create_bucket(self) -> None:
        region = self.wire.config.region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self.wire.call("create_bucket", **where)
        except Refused:  # somebody else made it meanwhile, or we may not: what counts is whether it is there
            if not self._has_bucket():
                raise

    def _has_bucket(self) -> bool:
        try:
            self.wire.ask("head_bucket")
        except Refused as refused:
            if refused.kind is Kind.MISSING:
                return False
            raise
        return True

    @contextmanager
    def _facing(self, key: str | None = None, version_id: str | None = None) -> Iterator[None]:
        """Turn what the store refused into what callers know."""
        try:
            yield
        except Refused as refused:
            if refused.kind is Kind.MISSING and key is not None and refused.code != "NoSuchBucket":
                raise ObjectMissing(key, version_id) from refused
            raise self.wire.unavailable(refused) from refused


def _found(key: str, answer: dict[str, Any]) -> Found:
    return Found(
        key=key,
        size_bytes=answer["ContentLength"],
        etag=str(answer.get("ETag", "")).strip('"'),
        modified_at=answer["LastModified"],
        version_id=_version_of(answer),
    )


def _whole_bytes(answer: dict[str, Any]) -> int:
    """How large the object is that a range was taken from; -1 where the answer does not say it."""
    if told := str(answer.get("ContentRange", "")):
        size = told.rpartition("/")[2]
        return int(size) if size.isdecimal() else -1
    return int(answer.get("ContentLength", -1))


def _version_of(answer: dict[str, Any]) -> str | None:
    version = answer.get("VersionId")
    return None if version in (None, "", "null") else str(version)


def _version(version_id: str | None) -> dict[str, str]:
    return {"VersionId": version_id} if version_id else {}
