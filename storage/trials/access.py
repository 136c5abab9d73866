"""Trials of who may do what: strangers, wrong keys, old signatures; and what our own key may destroy."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from storage import signing
from storage.canaries import BODY, Canaries, by_server
from storage.guarantee import Seen, broken, ignored, kept, not_offered
from storage.s3_wire import Refused, Wire

_HOUR = timedelta(hours=1)


def unsigned_refused(canaries: Canaries) -> Seen:
    """Is somebody without a key refused, for an object and for the list of all?"""
    return _stranger(canaries, Wire(canaries.config, signed=False))


def wrong_secret_refused(canaries: Canaries) -> Seen:
    """Is our key refused with a secret that is not its own?"""
    return _stranger(canaries, Wire(replace(canaries.config, secret_key="not-the-secret")))


def wrong_key_refused(canaries: Canaries) -> Seen:
    """Is a key refused that the store does not know?"""
    return _stranger(canaries, Wire(replace(canaries.config, access_key="NOTAKEYOFTHISSTORE00")))


def clock_skew_refused(canaries: Canaries) -> Seen:
    """Is a request refused that was signed an hour ago? Who recorded one may else send it again."""
    now = datetime.now(UTC)
    control = signing.get(canaries.config, canaries.key("plain"), now)
    if control.body != BODY:
        return not_offered(f"a request signed by hand was refused ({control.code})")
    old = signing.get(canaries.config, canaries.key("plain"), now - _HOUR)
    if old.status >= 300:
        return kept(f"a request signed an hour ago was refused ({old.code})")
    return ignored("a request signed an hour ago was answered")


def presigned_expiry(canaries: Canaries) -> Seen:
    """Is an address refused that was signed for a minute, an hour ago?"""
    now = datetime.now(UTC)
    control = signing.get_presigned(canaries.config, canaries.key("plain"), now, 60)
    if control.body != BODY:
        return not_offered(f"an address signed for a minute was refused ({control.code})")
    old = signing.get_presigned(canaries.config, canaries.key("plain"), now - _HOUR, 60)
    if old.status >= 300:
        return kept(f"an address that had expired was refused ({old.code})")
    return broken("an address that had expired was answered")


def deletion_refused(canaries: Canaries) -> Seen:
    """Is our key refused a deletion?"""
    canaries.put("doomed")
    try:
        canaries.delete("doomed")
    except Refused as refused:
        if not by_server(refused):
            raise
        return kept(f"our key may not delete ({refused.code})")
    return broken("deletion had no effect") if canaries.head("doomed") else ignored("our key may delete objects")


def version_deletion_refused(canaries: Canaries) -> Seen:
    """Is our key refused the deletion of a version, which would be for good?"""
    version = canaries.put("doomed-version").get("VersionId")
    if version in (None, "", "null"):
        return not_offered("there are no versions: a deletion is for good")
    try:
        canaries.delete("doomed-version", VersionId=version)
    except Refused as refused:
        if not by_server(refused):
            raise
        return kept(f"our key may not delete a version ({refused.code})")
    return ignored("our key may delete versions, for good")


def first_bytes_stay(canaries: Canaries) -> Seen:
    """What does a put without a condition do to what is there?"""
    first = canaries.put("overwritten", b"first").get("VersionId")
    try:
        canaries.put("overwritten", b"second")
    except Refused as refused:
        if not by_server(refused):
            raise
        return kept(f"our key may not overwrite ({refused.code})")
    if first not in (None, "", "null") and canaries.read("overwritten", VersionId=first) == b"first":
        return kept("an overwrite made a new version, the first stays")
    return ignored("our key may overwrite objects, for good")


def _stranger(canaries: Canaries, stranger: Wire) -> Seen:
    try:
        why = _refusal(stranger, "get_object", Key=canaries.key("plain"))
        if not why:
            return broken("the object was given out")
        if not _refusal(stranger, "list_objects_v2", MaxKeys=1):
            return broken("the object was refused, but the list of all was given out")
        return kept(f"an object and the list of all were refused ({why})")
    finally:
        stranger.close()


def _refusal(stranger: Wire, operation: str, **arguments: object) -> str:
    try:
        answer = stranger.call(operation, **arguments)
    except Refused as refused:
        if not by_server(refused):
            raise
        return refused.code
    if "Body" in answer:
        answer["Body"].close()
    return ""
