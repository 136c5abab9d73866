"""Trials of write once, read many: default retention, whether it can be shortened, legal hold.

The canaries of these trials stay in a bucket with a default retention until it ends: three small objects each time.
"""

from datetime import UTC, datetime, timedelta

from storage.canaries import BODY, Canaries, by_server, sha256
from storage.guarantee import Seen, broken, ignored, kept, not_offered
from storage.s3_wire import Kind, Refused

_NO_LOCK = "objects that are put here are under no default retention"
_NO_VERSION = "a retention is told, but puts are answered without a version that it could keep"


def object_lock(canaries: Canaries) -> Seen:
    """Is what is put here under a default retention, and does it keep a version from being deleted?"""
    version, mode, _ = _locked(canaries, "locked")
    if not mode:
        return not_offered(_NO_LOCK)
    if version is None:
        return not_offered(_NO_VERSION)
    if why := _refusal(canaries, "delete_object", Key=canaries.key("locked"), VersionId=version):
        return kept(f"a version under default retention ({mode}) could not be deleted ({why})")
    return broken(f"a version under default retention ({mode}) was deleted")


def retention_stays(canaries: Canaries) -> Seen:
    """Can our key shorten a retention, or delete in spite of it? In mode COMPLIANCE nobody may."""
    version, mode, until = _locked(canaries, "locked-long")
    if not mode or not until:
        return not_offered(_NO_LOCK)
    if version is None:
        return not_offered(_NO_VERSION)
    shorter = {"Mode": mode, "RetainUntilDate": datetime.now(UTC) + timedelta(hours=1)}
    where = {"Key": canaries.key("locked-long"), "VersionId": version}
    bypass = {"BypassGovernanceRetention": True}
    if why := _refusal(canaries, "put_object_retention", **where, Retention=shorter, **bypass):
        if not _refusal(canaries, "delete_object", **where, **bypass):
            if mode == "COMPLIANCE":
                return broken("a version under retention in mode COMPLIANCE was deleted")
            return ignored(f"our key may delete a version under retention ({mode})")
        return kept(f"our key could not shorten a retention ({mode}, {why})")
    now = (canaries.head("locked-long") or {}).get("ObjectLockRetainUntilDate")
    if now and now >= until:
        return kept(f"an order to shorten a retention ({mode}) was taken without effect")
    if mode == "COMPLIANCE":
        return broken("a retention in mode COMPLIANCE was shortened")
    return ignored(f"our key may shorten a retention ({mode})")


def legal_hold(canaries: Canaries) -> Seen:
    """Does a legal hold keep a version from being deleted?"""
    answer = canaries.put("held", ObjectLockLegalHoldStatus="ON", ChecksumSHA256=sha256(BODY))
    where = {"Key": canaries.key("held"), "VersionId": answer.get("VersionId")}
    if not where["VersionId"]:
        return not_offered("the order to hold was taken by a bucket without versions")
    hold = canaries.wire.call("get_object_legal_hold", **where).get("LegalHold", {})
    if hold.get("Status") != "ON":
        return ignored("the order to hold was taken, and no hold is there")
    mode = (canaries.head("held") or {}).get("ObjectLockMode")
    why = _refusal(canaries, "delete_object", **where, **({"BypassGovernanceRetention": True} if mode else {}))
    if not why:
        return broken("a version under legal hold was deleted")
    _refusal(canaries, "put_object_legal_hold", **where, LegalHold={"Status": "OFF"})  # so that it may be cleared
    beside = " (its retention forbids it too)" if mode == "COMPLIANCE" else ""
    return kept(f"a version under legal hold could not be deleted ({why}){beside}")


def _locked(canaries: Canaries, name: str) -> tuple[str | None, str | None, datetime | None]:
    """Put a canary; its version, and the mode and end of the retention that it got without our asking."""
    version = canaries.put(name, ChecksumSHA256=sha256(BODY)).get("VersionId")
    found = canaries.head(name) or {}
    return (
        None if version in (None, "", "null") else str(version),
        found.get("ObjectLockMode"),
        found.get("ObjectLockRetainUntilDate"),
    )


def _refusal(canaries: Canaries, operation: str, **arguments: object) -> str:
    """Do it; the code with which it was refused, empty if it was not."""
    try:
        canaries.wire.call(operation, **arguments)
    except Refused as refused:
        if refused.kind is Kind.MISSING or not by_server(refused):
            raise
        return refused.code
    return ""
