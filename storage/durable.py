"""Files that are whole or not there at all, and the full disk as an error of its own."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from storage.errors import SpoolFull

TEMPORARY = ".tmp"
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of space, quota or permitted file size."""
    return error.errno in _NO_SPACE


@contextmanager
def space(path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn a write that failed for want of space into SpoolFull."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise SpoolFull(str(path), needed_bytes) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name; at the end it is synced and takes its own name. The folder is not synced."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with space(path), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.rename(path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read: synced, and whole or as it was before. Its folder is synced too."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def cut_log(path: Path, limit_bytes: int) -> None:
    """Begin a log anew that has grown above a limit; what it ended with goes to a file beside it, `.1` behind its name.

    It is copied and cut, not renamed: whoever appends to it goes on in the same file. To be called by one process at a time.
    """
    size = path.stat().st_size
    if size <= limit_bytes:
        return
    kept = os.open(path.with_name(path.name + ".1"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with path.open("rb") as file, os.fdopen(kept, "wb") as old:
        file.seek(size - limit_bytes)
        shutil.copyfileobj(file, old)
    os.truncate(path, 0)
