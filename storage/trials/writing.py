"""Trials of what a store does with what is written to it: digests, conditions, uploads in parts."""

import hashlib
from base64 import b64encode
from typing import Any

from storage import signing
from storage.canaries import BODY, Canaries, sha256
from storage.guarantee import Seen, broken, ignored, kept, not_offered
from storage.s3_wire import Kind, Refused

_WRONG_DIGEST = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}


def content_md5(canaries: Canaries) -> Seen:
    """Is an object refused whose Content-MD5 is wrong (RFC 1864)?"""
    return _digest(canaries, "md5", {}, {"ContentMD5": b64encode(bytes(16)).decode()})


def checksum_sha256(canaries: Canaries) -> Seen:
    """Is an object refused whose x-amz-checksum-sha256 is wrong?"""
    right, wrong = sha256(BODY), b64encode(bytes(32)).decode()
    return _digest(canaries, "sha256", {"ChecksumSHA256": right}, {"ChecksumSHA256": wrong})


def signed_payload(canaries: Canaries) -> Seen:
    """Is an object refused whose bytes are not those that the request was signed for?"""
    signed = hashlib.sha256(BODY).hexdigest()
    right = signing.put(canaries.config, canaries.key("payload-right"), BODY, signed_sha256=signed)
    if right.status >= 300:
        return not_offered(f"a request signed by hand was refused ({right.code})")
    wrong = signing.put(canaries.config, canaries.key("payload-wrong"), BODY[::-1], signed_sha256=signed)
    if wrong.status < 300:
        return ignored("bytes other than those that were signed for were stored")
    if canaries.head("payload-wrong"):
        return broken(f"bytes that were not signed for were refused ({wrong.code}), but the object is there")
    return kept(f"bytes other than those that were signed for were refused ({wrong.code})")


def put_if_absent(canaries: Canaries) -> Seen:
    """Does If-None-Match: * keep a second put from replacing the first?"""
    canaries.put("once", b"first", IfNoneMatch="*")
    try:
        canaries.put("once", b"second", IfNoneMatch="*")
    except Refused as refused:
        if refused.kind is not Kind.EXISTS:
            raise
        if canaries.read("once") == b"first":
            return kept("a second put under the same key was refused")
        return broken("a second put was refused, but its bytes are there")
    return ignored("a second put under the same key replaced the first")


def complete_if_absent(canaries: Canaries) -> Seen:
    """Does If-None-Match: * keep the completion of an upload in parts from replacing an object?"""
    canaries.put("once-in-parts", b"first")
    upload_id = canaries.begin("once-in-parts")
    parts = [canaries.part("once-in-parts", upload_id, b"second")]
    try:
        canaries.complete("once-in-parts", upload_id, parts, IfNoneMatch="*")
    except Refused as refused:
        _abort(canaries, "once-in-parts", upload_id)
        if refused.kind is not Kind.EXISTS:
            raise
        if canaries.read("once-in-parts") == b"first":
            return kept("the completion under a key that was taken was refused")
        return broken("the completion was refused, but its bytes are there")
    if canaries.read("once-in-parts") == b"first":
        return broken("the completion was answered with a success, and the first bytes are there")
    return ignored("the completion replaced the object that was there")


def multipart_listing(canaries: Canaries) -> Seen:
    """Is an upload in parts listed with the digests of its parts, so that it can go on after a crash?"""
    upload_id = canaries.begin("in-parts")
    try:
        etag = canaries.part("in-parts", upload_id, BODY)["ETag"].strip('"')
        parts = canaries.parts("in-parts", upload_id)
        if [(one["Size"], one["ETag"].strip('"')) for one in parts] != [(len(BODY), etag)]:
            return broken(f"of one part that was sent {len(parts)} were listed, or not as it was sent")
        if etag != hashlib.md5(BODY, usedforsecurity=False).hexdigest():
            return ignored("parts are listed, but not by their MD5")
        page = canaries.wire.call("list_multipart_uploads", Prefix=canaries.key("in-parts"))
        if upload_id not in [one["UploadId"] for one in page.get("Uploads", ())]:
            return broken("parts are listed, but the upload is not")
        return kept("the upload and its part are listed, the part by its MD5")
    finally:
        _abort(canaries, "in-parts", upload_id)


def multipart_abort(canaries: Canaries) -> Seen:
    """Is an upload gone once it was aborted?"""
    upload_id = canaries.begin("aborted")
    canaries.part("aborted", upload_id, BODY)
    canaries.abort("aborted", upload_id)
    try:
        left = canaries.parts("aborted", upload_id)
    except Refused as refused:
        if refused.kind not in (Kind.NO_UPLOAD, Kind.MISSING):  # Ceph says NoSuchKey
            raise
        return kept("an aborted upload is not known any more")
    return ignored(f"an aborted upload is still known, with {len(left)} parts")


def _digest(canaries: Canaries, name: str, right: dict[str, Any], wrong: dict[str, Any]) -> Seen:
    canaries.put(f"{name}-right", **right)
    try:
        canaries.put(f"{name}-wrong", **wrong)
    except Refused as refused:
        if refused.kind is Kind.PASSING and refused.code not in _WRONG_DIGEST:
            raise
        if refused.kind is Kind.UNSUPPORTED:
            return not_offered(refused.why)
        if canaries.head(f"{name}-wrong"):
            return broken(f"a wrong digest was refused ({refused.code}), but the object is there")
        return kept(f"a wrong digest was refused ({refused.code})")
    return ignored("an object with a wrong digest was stored")


def _abort(canaries: Canaries, name: str, upload_id: str) -> None:
    try:
        canaries.abort(name, upload_id)
    except Refused:
        pass  # one small part stays behind
