"""Whose a spool is: one archive's, on one machine. Said in a file in the spool, so that a missing disk shows too."""

import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.durable import space, sync_folder
from storage.errors import SpoolNotOurs

MARKER = ".osint-spool"
_ADOPT = "if it is to be this archive's, `osint spool adopt` makes it so"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The archive (the identity of its database) and the machine (its host name) that write to a spool."""

    archive: str
    host: str


class Claim:
    """One process's use of a spool. Several processes of one owner use it at once; each holds a shared lock meanwhile.

    `places` is a file of this machine that remembers where spools were made: a folder that it names and that has no
    marker any more is a disk that is not mounted, and not a new spool.
    """

    def __init__(self, folder: Path, places: Path) -> None:
        self.folder, self.marker, self._places = folder, folder / MARKER, places
        self._lock = -1

    def owner(self) -> Owner | None:
        """Read whose the spool is; None where no marker stands. Raises SpoolNotOurs where it cannot be read."""
        try:
            said = json.loads(self.marker.read_text("utf-8"))
            return Owner(archive=str(said["archive"]), host=str(said["host"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise self._not_ours(f"its {MARKER} cannot be read", _ADOPT) from error
        except OSError as error:
            raise self._not_ours(f"{error.strerror}: {self.marker}", "set OSINT_SPOOL to a folder of yours") from error

    def take(self, us: Owner) -> None:
        """Use the spool, made ours if it is nobody's yet; may be called twice. Raises SpoolNotOurs."""
        if self._lock >= 0:
            return
        self._refuse_what_is_no_place()
        if self.owner() is None:
            self._refuse_what_is_not_mounted()
            if _holds_warcs(self.folder):
                raise self._not_ours("it holds WARCs and nothing says whose they are", _ADOPT)
            self._make(us)
        self._lock = os.open(self.marker, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            self._prove(us)
            self._remember()
        except BaseException:
            self.leave()
            raise

    def adopt(self, us: Owner, *, new: bool = False) -> Owner | None:
        """Make the spool ours whoever's it was; answers that.

        Raises SpoolNotOurs while somebody uses it, and where a disk is not mounted, unless a `new` one is wanted there.
        """
        before = None
        self._refuse_what_is_no_place()
        if not new and not self.marker.exists():
            self._refuse_what_is_not_mounted()
        if self.marker.exists():
            lock = os.open(self.marker, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                before = self.owner() if _readable(self) else None
                self.marker.unlink()
            except BlockingIOError as error:
                raise self._not_ours("another command is using it", "wait until that one has ended") from error
            finally:
                os.close(lock)
        self._make(us)
        self.take(us)
        return before

    def leave(self) -> None:
        """Stop using it; may be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _not_ours(self, why: str, advice: str) -> SpoolNotOurs:
        return SpoolNotOurs(str(self.folder), why, advice)

    def _refuse_what_is_no_place(self) -> None:
        if not self.folder.parent.is_dir():
            advice = "mount its disk, make that folder, or set OSINT_SPOOL"
            raise self._not_ours("the folder that it is to lie in does not exist", advice)
        if self.folder.exists() and not self.folder.is_dir():
            raise self._not_ours("it is no folder", "set OSINT_SPOOL to a folder")

    def _refuse_what_is_not_mounted(self) -> None:
        if str(self.folder) in self._remembered() and not _holds_warcs(self.folder):
            advice = "mount it, or set OSINT_SPOOL; only if it is lost for good: `osint spool adopt --new`"
            raise self._not_ours("it is empty and was not: is its disk mounted?", advice)

    def _make(self, us: Owner) -> None:
        with space(self.marker):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            _write_once(self.marker, us)

    def _prove(self, us: Owner) -> None:
        found = self.owner()
        if found is None or found.archive != us.archive:
            why = "it belongs to another archive (another database)"
            raise self._not_ours(why, f"set OSINT_SPOOL to another folder; {_ADOPT}")
        if found.host != us.host:
            advice = f"work there, or set OSINT_SPOOL; {_ADOPT}"
            raise self._not_ours(f"it belongs to the machine {found.host}, and this is {us.host}", advice)

    def _remembered(self) -> list[str]:
        try:
            return self._places.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _remember(self) -> None:
        places = self._remembered()
        if str(self.folder) not in places:
            with space(self._places):
                _replace(self._places, "".join(f"{place}\n" for place in [*places, str(self.folder)]))


def _readable(claim: Claim) -> bool:
    try:
        return claim.owner() is not None
    except SpoolNotOurs:
        return False


def _holds_warcs(folder: Path) -> bool:
    return any(next((folder / name).glob("*.warc.gz*"), None) for name in ("open", "sealed"))


def _write_once(path: Path, owner: Owner) -> None:
    """Write the marker unless another process did so meanwhile."""
    number, fresh = tempfile.mkstemp(prefix=f"{MARKER}-", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(owner)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
        sync_folder(path.parent)
    finally:
        Path(fresh).unlink()


def _replace(path: Path, text: str) -> None:
    number, fresh = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(fresh).replace(path)
    sync_folder(path.parent)
