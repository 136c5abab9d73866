"""Trials of what a store gives back: ranges, metadata, earlier versions."""

from storage.canaries import BODY, LASTING, Canaries, head, md5
from storage.guarantee import Seen, broken, ignored, kept, not_offered
from storage.s3_wire import Kind, Refused

_METADATA = {"canary": "sings"}


def range_bytes(canaries: Canaries) -> Seen:
    """Does a range hold exactly the bytes that were asked for?"""
    answer = canaries.get("plain", Range="bytes=100-109")
    told = answer.get("ContentRange")
    data = canaries.wire.read_body(answer, 0, len(BODY) + 1)
    if data == BODY[100:110]:
        return kept("10 bytes of 10")
    if data == BODY and not told:
        return ignored("gave the whole object")
    return broken(f"gave {len(data)} bytes that are not the range, Content-Range {told!r}")


def range_status(canaries: Canaries) -> Seen:
    """Is a range answered as one: 206 with its Content-Range and its length (RFC 9110 15.3.7)?"""
    answer = canaries.get("plain", Range="bytes=100-109")
    answer["Body"].close()
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    told, length = answer.get("ContentRange"), answer.get("ContentLength")
    if (status, told, length) == (206, f"bytes 100-109/{len(BODY)}", 10):
        return kept("status 206 with Content-Range and Content-Length")
    return broken(f"status {status}, Content-Range {told!r}, Content-Length {length}")


def range_past_end(canaries: Canaries) -> Seen:
    """Is a range beyond the end refused, and one across the end cut there?"""
    across = canaries.read("plain", Range=f"bytes={len(BODY) - 4}-{len(BODY) + 100}")
    if across != BODY[-4:]:
        return broken(f"of 4 bytes up to the end it gave {len(across)}")
    try:
        beyond = canaries.read("plain", Range=f"bytes={len(BODY)}-{len(BODY) + 9}")
    except Refused as refused:
        if refused.kind is not Kind.RANGE:
            raise
        return kept("cut at the end; beyond it refused (416)")
    return ignored(f"cut at the end; beyond it {len(beyond)} bytes with a success")


def metadata(canaries: Canaries) -> Seen:
    """Does an object keep its metadata, also those that an earlier examination put?"""
    canaries.put("metadata", Metadata=_METADATA)
    if not _sings(canaries.head("metadata")):
        return ignored("was dropped")
    lasting = head(canaries.wire, LASTING)
    if lasting is None:
        body = b"put by `osint store doctor`; shows whether metadata lasts\n"
        canaries.wire.call("put_object", Key=LASTING, Body=body, ContentMD5=md5(body), Metadata=_METADATA)
        return kept("came back; whether it lasts shows the next examination")
    if _sings(lasting):
        return kept("came back, that of an earlier examination too")
    return ignored("came back at once, but that of an earlier examination is lost")


def versioning(canaries: Canaries) -> Seen:
    """Can what was first put under a key be read by its version, after a second put and a deletion?"""
    first = canaries.put("versions", b"first").get("VersionId")
    if first in (None, "", "null"):
        return not_offered("puts are answered without a version")
    canaries.put("versions", b"second")
    if canaries.read("versions", VersionId=first) != b"first":
        return broken("the first version's bytes are not those that were put")
    try:
        canaries.delete("versions")
    except Refused as refused:
        if refused.kind is Kind.PASSING:
            raise
        return kept("the first version can be read after a second; deletion was refused")
    if canaries.read("versions", VersionId=first) != b"first":
        return broken("after a deletion the first version's bytes are others")
    return kept("the first version can be read after a second and after a deletion")


def _sings(answer: dict[str, object] | None) -> bool:
    found = (answer or {}).get("Metadata")
    return isinstance(found, dict) and {name.lower(): value for name, value in found.items()} == _METADATA
