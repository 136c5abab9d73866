"""Objects as the store describes them and as they were read back, and what can be wrong with one of them."""

from dataclasses import dataclass
from datetime import datetime

from storage.errors import StorageError


class ObjectMissing(StorageError):
    """There is no such object in the store."""

    def __init__(self, key: str, version_id: str | None = None) -> None:
        super().__init__(f"the store has no {key}" + (f" of version {version_id}" if version_id else ""))
        self.key, self.version_id = key, version_id


class RangeShort(StorageError):
    """The object ends before the range that was asked for."""

    def __init__(self, key: str, offset_bytes: int, wanted_bytes: int, got_bytes: int) -> None:
        super().__init__(f"{key}: wanted {wanted_bytes} bytes from byte {offset_bytes}, the store has {got_bytes}")
        self.key, self.offset_bytes, self.wanted_bytes, self.got_bytes = key, offset_bytes, wanted_bytes, got_bytes


class FileDiffers(StorageError):
    """The local file is not what its caller says it is; nothing was sent."""

    def __init__(self, path: str, wanted_sha256: str, got_sha256: str) -> None:
        super().__init__(f"{path}: wanted sha256 {wanted_sha256}, the file has {got_sha256}")
        self.path, self.wanted_sha256, self.got_sha256 = path, wanted_sha256, got_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object whose bytes were read back from the store and have this SHA-256 (hex).

    `was_there`: the key held these bytes before we sent any. `version_id` is None where the store keeps no versions.
    """

    key: str
    size_bytes: int
    sha256: str
    version_id: str | None
    etag: str
    was_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object as the store describes it; listings tell no version."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime
    version_id: str | None = None
