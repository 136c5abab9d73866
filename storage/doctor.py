"""What an object store guarantees, found out by trying it: servers answer 200 to headers that they ignore.

Canaries lie under v1/doctor/<id>/ and are deleted again where the key may delete.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from storage.ids import new_id
from storage.objects import ObjectStore
from storage.s3_wire import Kind, Refused, Wire

_BODY = bytes(range(256)) * 4


class Verdict(StrEnum):
    """What became of a guarantee when it was tried."""

    KEPT = "kept"  # tried, and it held
    IGNORED = "ignored"  # accepted with a success, without effect
    BROKEN = "broken"  # the opposite of what was promised happened
    NOT_OFFERED = "not_offered"  # refused or not configured


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One guarantee: what was seen, and what this program does about it."""

    name: str
    verdict: Verdict
    detail: str
    what_we_do: str


Seen = tuple[Verdict, str]


def examine(store: ObjectStore) -> tuple[Guarantee, ...]:
    """Try every guarantee that we would like to rely on; raises StoreUnavailable if the store cannot be used at all."""
    store.ensure_bucket()
    wire = store.wire
    canaries = _Canaries(wire)
    canaries.put("plain")
    out = []
    for name, trial, what_we_do in _TRIALS:
        try:
            verdict, detail = trial(canaries)
        except Refused as refused:
            if refused.kind is Kind.PASSING:
                raise wire.unavailable(refused) from refused
            verdict, detail = Verdict.NOT_OFFERED, refused.why
        out.append(Guarantee(name=name, verdict=verdict, detail=detail, what_we_do=what_we_do))
    if out[-1].verdict is Verdict.IGNORED:
        canaries.clear()
    return tuple(out)


class _Canaries:
    """Small objects of one examination."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._prefix = f"v1/doctor/{new_id()}/"
        self._names: set[str] = set()

    def key(self, name: str) -> str:
        return self._prefix + name

    def put(self, name: str, body: bytes = _BODY, **more: Any) -> dict[str, Any]:
        self._names.add(name)
        digests = {"ContentMD5": _md5(body)} | more
        return self.wire.call("put_object", Key=self.key(name), Body=body, **digests)

    def head(self, name: str) -> dict[str, Any] | None:
        try:
            return self.wire.call("head_object", Key=self.key(name))
        except Refused as refused:
            if refused.kind is Kind.MISSING:
                return None
            raise

    def get(self, name: str, **more: Any) -> dict[str, Any]:
        return self.wire.call("get_object", Key=self.key(name), **more)

    def delete(self, name: str, **more: Any) -> None:
        self.wire.call("delete_object", Key=self.key(name), **more)

    def clear(self) -> None:
        for name in self._names:
            try:
                self.delete(name)
            except Refused:
                return  # what stays is small, and says in its key what it is


def _md5(body: bytes) -> str:
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _wrong_digest(canaries: _Canaries, name: str, **digest: Any) -> Seen:
    try:
        canaries.put(name, **digest)
    except Refused as refused:
        if refused.kind is Kind.UNSUPPORTED:
            return Verdict.NOT_OFFERED, refused.why
        if canaries.head(name):
            return Verdict.BROKEN, f"a wrong digest was refused ({refused.code}), but the object is there"
        return Verdict.KEPT, f"a wrong digest was refused ({refused.code})"
    return Verdict.IGNORED, "an object with a wrong digest was stored"


def _content_md5(canaries: _Canaries) -> Seen:
    return _wrong_digest(canaries, "wrong-md5", ContentMD5=b64encode(bytes(16)).decode())


def _checksum_sha256(canaries: _Canaries) -> Seen:
    return _wrong_digest(canaries, "wrong-sha256", ChecksumSHA256=b64encode(bytes(32)).decode())


def _put_if_absent(canaries: _Canaries) -> Seen:
    canaries.put("once", b"first", IfNoneMatch="*")
    try:
        canaries.put("once", b"second", IfNoneMatch="*")
    except Refused as refused:
        if refused.kind is not Kind.EXISTS:
            raise
        if canaries.wire.read_body(canaries.get("once"), 0, 6) == b"first":
            return Verdict.KEPT, "a second put under the same key was refused"
        return Verdict.BROKEN, "a second put was refused, but its bytes are there"
    return Verdict.IGNORED, "a second put under the same key replaced the first"


def _range(canaries: _Canaries) -> Seen:
    answer = canaries.get("plain", Range="bytes=100-109")
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    told = answer.get("ContentRange")
    data = canaries.wire.read_body(answer, 0, len(_BODY) + 1)
    if data == _BODY[100:110]:
        return Verdict.KEPT, f"10 bytes of 10, status {status}, Content-Range {told!r}"
    if data == _BODY and not told:
        return Verdict.IGNORED, f"gave the whole object, status {status}"
    return Verdict.BROKEN, f"gave {len(data)} bytes that are not the range, status {status}, Content-Range {told!r}"


def _metadata(canaries: _Canaries) -> Seen:
    canaries.put("metadata", Metadata={"canary": "sings"})
    kept = (canaries.head("metadata") or {}).get("Metadata", {})
    if {name.lower(): value for name, value in kept.items()}.get("canary") == "sings":
        return Verdict.KEPT, "came back (whether it survives a restart of the server was not tried)"
    return Verdict.IGNORED, "was dropped"


def _versioning(canaries: _Canaries) -> Seen:
    status = canaries.wire.call("get_bucket_versioning").get("Status")
    if status != "Enabled":
        return Verdict.NOT_OFFERED, f"the bucket's versioning is {status or 'off'}"
    first = canaries.put("versions", b"first").get("VersionId")
    canaries.put("versions", b"second")
    if first and canaries.wire.read_body(canaries.get("versions", VersionId=first), 0, 6) == b"first":
        return Verdict.KEPT, "the first version can be read after a second"
    return Verdict.BROKEN, "versioning is on, but the first version cannot be read"


def _object_lock(canaries: _Canaries) -> Seen:
    answer = canaries.wire.call("get_object_lock_configuration").get("ObjectLockConfiguration", {})
    rule = answer.get("Rule", {}).get("DefaultRetention")
    if answer.get("ObjectLockEnabled") != "Enabled" or not rule:
        return Verdict.NOT_OFFERED, "the bucket has no object lock with a default retention"
    body = b"locked"
    version = canaries.put("locked", body, ChecksumSHA256=b64encode(hashlib.sha256(body).digest()).decode())
    try:
        canaries.delete("locked", VersionId=version.get("VersionId"))
    except Refused as refused:
        return Verdict.KEPT, f"a locked version ({rule.get('Mode')}) could not be deleted ({refused.code})"
    return Verdict.BROKEN, "a version under default retention was deleted"


def _stranger_refused(canaries: _Canaries, stranger: Wire) -> Seen:
    try:
        answer = stranger.call("get_object", Key=canaries.key("plain"))
    except Refused as refused:
        if refused.kind is Kind.PASSING:
            raise
        return Verdict.KEPT, refused.why
    finally:
        stranger.close()
    answer["Body"].close()
    return Verdict.BROKEN, "the object was given out"


def _unsigned(canaries: _Canaries) -> Seen:
    return _stranger_refused(canaries, Wire(canaries.wire.config, signed=False))


def _wrong_secret(canaries: _Canaries) -> Seen:
    return _stranger_refused(canaries, Wire(replace(canaries.wire.config, secret_key="not-the-secret")))


def _deletion(canaries: _Canaries) -> Seen:
    canaries.put("doomed")
    try:
        canaries.delete("doomed")
    except Refused as refused:
        if refused.kind is Kind.PASSING:
            raise
        return Verdict.KEPT, f"our key may not delete ({refused.code})"
    return Verdict.IGNORED, "our key may delete objects" if not canaries.head("doomed") else "deletion had no effect"


Trial = Callable[[_Canaries], Seen]
_TRIALS: tuple[tuple[str, Trial, str], ...] = (
    ("content_md5", _content_md5, "send it with each put and part; read every object back whatever the answer"),
    ("checksum_sha256", _checksum_sha256, "send it with each put and part; read every object back and compare"),
    ("put_if_absent", _put_if_absent, "ask for it with each put; look for the key first; names are never used twice"),
    ("range", _range, "enforce the exact length, then check the record's digest"),
    ("metadata", _metadata, "rely on it for nothing: digests stand in keys and manifests"),
    ("versioning", _versioning, "record the version that was read back and read by it; without it, by key"),
    ("object_lock", _object_lock, "nothing by ourselves: switch it on at the bucket against deletion by its owner"),
    ("unsigned_refused", _unsigned, "nothing: make the bucket private if this is broken"),
    ("wrong_secret_refused", _wrong_secret, "nothing: do not use a store where this is broken"),
    ("deletion_refused", _deletion, "we never delete; give the writer a key that cannot"),
)
