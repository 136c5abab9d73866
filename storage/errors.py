"""What can go wrong with bytes at rest; each error carries its facts as fields."""


class StorageError(Exception):
    """Base of every error this package raises on purpose."""


class SpoolFull(StorageError):
    """A write could not be finished for want of space; nothing of it is counted as captured."""

    def __init__(self, path: str, needed_bytes: int) -> None:
        super().__init__(f"no space left to write {needed_bytes} bytes to {path}")
        self.path, self.needed_bytes = path, needed_bytes


class SpoolNotOurs(StorageError):
    """The spool's folder is another archive's or another machine's, or it is not what it was."""

    def __init__(self, folder: str, why: str, advice: str) -> None:
        super().__init__(f"the spool {folder} cannot be used: {why}")
        self.folder, self.why, self.advice = folder, why, advice


class SpoolHeld(StorageError):
    """The spool holds as much as it may, and nothing of it went to the store for as long as we wait."""

    def __init__(self, folder: str, why: str) -> None:
        super().__init__(f"the spool {folder} takes no more: {why}")
        self.folder, self.why = folder, why


class DamagedWarc(StorageError):
    """Bytes of a WARC are not what a WARC may hold; offset in bytes from the start of the file."""

    def __init__(self, warc: str, offset: int, why: str) -> None:
        super().__init__(f"{warc} at byte {offset}: {why}")
        self.warc, self.offset, self.why = warc, offset, why


class StoreUnavailable(StorageError):
    """The object store cannot be reached or refuses us; the spool keeps everything."""

    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(f"object store {endpoint}: {why}")
        self.endpoint, self.why = endpoint, why


class StoreDiffers(StorageError):
    """What the store gave back is not what was put there."""

    def __init__(self, key: str, wanted_sha256: str, got_sha256: str) -> None:
        super().__init__(f"{key}: wanted sha256 {wanted_sha256}, the store gave {got_sha256}")
        self.key, self.wanted_sha256, self.got_sha256 = key, wanted_sha256, got_sha256


class DatabaseUnavailable(StorageError):
    """The catalogue's PostgreSQL cannot be started or reached."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"database {where}: {why}")
        self.where, self.why = where, why


class DumpImpossible(StorageError):
    """A database cannot be dumped or restored here, or a dump is not what it should be."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(why)
        self.why, self.advice = why, advice


class SchemaTooNew(StorageError):
    """The catalogue was written by a newer program than this one."""

    def __init__(self, found: str, known: str) -> None:
        super().__init__(f"the catalogue has schema {found}, this program knows up to {known}")
        self.found, self.known = found, known
