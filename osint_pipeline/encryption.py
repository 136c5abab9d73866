"""Tells whether a folder lies on an encrypted file system: that is the operating system's work, ours is to look (docs/encryption.md)."""

import array
import fcntl
import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_BLOCKS = Path("/sys/dev/block")
_STACKED = ("fuse.gocryptfs", "fuse.cryfs", "fuse.encfs", "fuse.securefs", "ecryptfs")
_FS_IOC_GETFLAGS, _FS_ENCRYPT_FL = 0x80086601, 0x00000800  # linux/fs.h


def how_encrypted(folder: Path) -> str | None:
    """Name what encrypts a folder, or the nearest one above it that exists: "dm-crypt", "fscrypt", "gocryptfs", ...; None if nothing that we know."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    kind, device = _mount(folder)
    if kind in _STACKED:
        return kind.removeprefix("fuse.")
    if kind != "tmpfs" and _is_crypt(device):
        return "dm-crypt"
    return "fscrypt" if _has_policy(folder) else None


def _mount(folder: Path) -> tuple[str, str]:
    """Give type and device (major:minor) of the file system that a folder lies on (proc(5), mountinfo)."""
    wanted, best = os.fspath(folder.resolve()), ("", "", "")
    for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        device, _, point = left.split(" ")[2:5]
        point = point.encode("latin-1", "surrogateescape").decode("unicode_escape")
        under = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if under and len(point) >= len(best[2]):
            best = (right.split(" ")[0], device, point)
    return best[0], best[1]


def _is_crypt(device: str) -> bool:
    """Follow a block device down to all that it lies on: is each of them a dm-crypt mapping?"""
    block = _BLOCKS / device
    try:
        if (block / "dm" / "uuid").read_text("ascii").startswith("CRYPT-"):
            return True
    except OSError:
        pass  # no device of the device mapper
    try:
        below = [(one / "dev").read_text("ascii").strip() for one in (block / "slaves").iterdir()]
    except OSError:
        return False
    return bool(below) and all(_is_crypt(one) for one in below)


def _has_policy(folder: Path) -> bool:
    flags = array.array("L", [0])
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(number, _FS_IOC_GETFLAGS, flags)
    except OSError:
        return False  # a file system without flags
    finally:
        os.close(number)
    return bool(flags[0] & _FS_ENCRYPT_FL)
