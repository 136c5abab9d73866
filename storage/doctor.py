"""What an object store guarantees, found out by trying it: servers answer 200 to headers that they ignore.

Canaries lie under v1/doctor/<id>/ and are deleted again where the key may delete; v1/doctor/lasting stays.
"""

from collections.abc import Callable

from storage.canaries import Canaries
from storage.guarantee import Guarantee, Seen, Verdict, not_offered
from storage.objects import ObjectStore
from storage.s3_wire import Kind, Refused
from storage.trials import access, locking, reading, writing

__all__ = ["Guarantee", "Verdict", "examine", "server_name"]


def examine(store: ObjectStore) -> tuple[Guarantee, ...]:
    """Try every guarantee that we would like to rely on.

    Raises StoreUnavailable if the store cannot be used, or fails in a way that may pass: half a table is none.
    """
    store.ensure_bucket()
    canaries = Canaries(store.wire)
    try:
        canaries.put("plain")
        found = []
        for name, trial, what_we_do in _TRIALS:
            seen = _seen(trial, canaries)
            found.append(Guarantee(name=name, verdict=seen.verdict, detail=seen.detail, what_we_do=what_we_do))
    except Refused as refused:
        raise store.wire.unavailable(refused) from refused
    finally:
        canaries.clear()
    return tuple(found)


def server_name(store: ObjectStore) -> str:
    """Give what the store calls itself in its answers; raises StoreUnavailable."""
    answer = store.wire.ask("head_bucket")
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("server", "a store that does not name itself"))


def _seen(trial: "Trial", canaries: Canaries) -> Seen:
    try:
        return trial(canaries)
    except Refused as refused:
        if refused.kind is Kind.PASSING:
            raise
        return not_offered(refused.why)


Trial = Callable[[Canaries], Seen]
_TRIALS: tuple[tuple[str, Trial, str], ...] = (
    ("content_md5", writing.content_md5, "send it always; read each object back"),
    ("checksum_sha256", writing.checksum_sha256, "send it always; read each object back"),
    ("signed_payload", writing.signed_payload, "sign all bytes; read each object back"),
    ("put_if_absent", writing.put_if_absent, "ask for it; look for the key first"),
    ("complete_if_absent", writing.complete_if_absent, "ask for it; look for the key again before completing"),
    ("multipart_listing", writing.multipart_listing, "send again what is not listed with an equal MD5"),
    ("multipart_abort", writing.multipart_abort, "abort our own when starting anew"),
    ("range", reading.range_bytes, "enforce the exact length, then check the record's digest"),
    ("range_status", reading.range_status, "believe the bytes and Content-Range, not the status"),
    ("range_past_end", reading.range_past_end, "treat too few bytes as an error"),
    ("metadata", reading.metadata, "rely on it for nothing: digests stand in keys and manifests"),
    ("versioning", reading.versioning, "record the version that was read back, read by it"),
    ("object_lock", locking.object_lock, "nothing: set a default retention on the bucket"),
    ("retention_stays", locking.retention_stays, "nothing: choose mode COMPLIANCE"),
    ("legal_hold", locking.legal_hold, "nothing: a person sets it where a court asks"),
    ("unsigned_refused", access.unsigned_refused, "nothing: make the bucket private if this is broken"),
    ("wrong_secret_refused", access.wrong_secret_refused, "nothing: do not use a store where this is broken"),
    ("wrong_key_refused", access.wrong_key_refused, "nothing: do not use a store where this is broken"),
    ("clock_skew_refused", access.clock_skew_refused, "use HTTPS, so that nobody can record a request"),
    ("presigned_expiry", access.presigned_expiry, "hand out no such addresses"),
    ("deletion_refused", access.deletion_refused, "never delete; give us a key that cannot"),
    ("version_deletion_refused", access.version_deletion_refused, "never delete; give us a key that cannot"),
    ("first_bytes_stay", access.first_bytes_stay, "never overwrite; switch versioning on against others"),
)
