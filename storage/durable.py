"""Files that are whole or not there at all, and the full disk as an error of its own."""

import errno
import os
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
