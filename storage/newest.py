"""What lies under a key now, for those who read by version: another version may stand over ours, or a delete marker."""

from dataclasses import dataclass

from storage.objects import ObjectStore
from storage.s3_wire import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest version under a key; `version_id` is None where the store does not tell it."""

    version_id: str | None
    deleted: bool


def newest(store: ObjectStore, key: str) -> Newest:
    """Say what is given to somebody who asks for the key without a version. Raises StoreUnavailable."""
    if found := store.head(key):
        return Newest(version_id=found.version_id, deleted=False)
    return Newest(version_id=_marker(store, key), deleted=True)


def _marker(store: ObjectStore, key: str) -> str | None:
    """Name the delete marker; None where we may not list versions."""
    try:
        page = store.wire.ask("list_object_versions", Prefix=key, MaxKeys=1000)
    except Refused:
        return None
    for one in page.get("DeleteMarkers", ()):
        if one["Key"] == key and one["IsLatest"]:
            return str(one["VersionId"])
    return None
