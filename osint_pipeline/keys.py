"""The archive's signing key (Ed25519, RFC 8032): made at first use, kept in the data folder, backed up as a printed sheet."""

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from osint_pipeline import sealing
from osint_pipeline.errors import UserError
from storage.durable import sync_folder
from storage.ids import new_id

NAME = "archive-ed25519.pem"
_LINE_BYTES, _LINES = 8, 4
_LINE = re.compile(r"^\s*([1-4])\s*:\s*((?:[0-9a-f]{4}\s*){4})\s+([0-9a-f]{4})\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the archive's key. `public_hex`: the 32 bytes of the public key in hex."""

    _key: Ed25519PrivateKey = field(repr=False)
    public_hex: str

    @classmethod
    def open(cls, folder: Path, passphrase: str | None = None) -> Self:
        """Read the key, or make one where there is none; readable by its owner alone.

        Raises UserError if the passphrase does not open it, or if a file that should be locked is not.
        """
        path = folder / NAME
        if not path.exists():
            _write(path, Ed25519PrivateKey.generate(), passphrase)
        _sweep(path)
        return cls._of(_read(path, passphrase))

    @classmethod
    def known(cls, folder: Path, passphrase: str | None = None) -> set[str]:
        """List the public keys whose private ones lie here; none is made."""
        return {cls.open(folder, passphrase).public_hex} if (folder / NAME).exists() else set()

    @classmethod
    def restore(cls, folder: Path, sheet: str, passphrase: str | None = None) -> Self:
        """Put a key back that was typed from its sheet. Raises UserError: where a line is wrong, or a key is there already."""
        key = Ed25519PrivateKey.from_private_bytes(_typed(sheet))
        path = folder / NAME
        if path.exists():
            raise UserError(f"{path} exists already", "move it away first; nothing was changed")
        _write(path, key, passphrase)
        return cls._of(key)

    @classmethod
    def _of(cls, key: Ed25519PrivateKey) -> Self:
        return cls(key, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex())

    def sign(self, data: bytes) -> str:
        """Sign; the 64 bytes of the signature in hex."""
        return self._key.sign(data).hex()

    def seal(self, data: bytes, about: str) -> str:
        """Encrypt a note for whoever keeps this key; base64."""
        return sealing.seal(self._sealing_key().public_key(), data, about)

    def unseal(self, note: str, about: str) -> bytes:
        """Decrypt a note. Raises sealing.NotOurs."""
        return sealing.unseal(self._sealing_key(), note, about)

    def _sealing_key(self) -> sealing.X25519PrivateKey:
        return sealing.sealing_key(self._key.private_bytes_raw())

    def sheet(self) -> str:
        """Write the key as a page to be printed: four lines, each with a check of its own, so that a slip shows where it is."""
        seed = self._key.private_bytes_raw()
        lines = [_line(number, seed[number * _LINE_BYTES :][:_LINE_BYTES]) for number in range(_LINES)]
        return _SHEET.format(
            public=_groups(self.public_hex, 8), lines="\n".join(lines), day=f"{datetime.now(UTC):%Y-%m-%d}"
        )


def check_signature(public_hex: str, signature_hex: str, data: bytes) -> bool:
    """Tell whether a signature in hex holds. Raises ValueError where key or signature are none."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)).verify(bytes.fromhex(signature_hex), data)
    except InvalidSignature:
        return False
    return True


_SHEET = """\
osint-pipeline: the archive's signing key                                {day}

This page IS the key. Whoever reads it can sign in the archive's name and open
its sealed notes (at which addresses runs came out); no capture is encrypted
with it. Keep it in a safe, apart from the machines; print it, do not store it.
Make two.

Public key (may be published; written into every signed snapshot):

    {public}

Private key:

{lines}

To put it back on a new machine, type the four lines into a file and run

    osint keys restore FILE

Each line ends with a check of its own: a slip is named by its line.
"""


def _line(number: int, part: bytes) -> str:
    return f"    {number + 1}:  {_groups(part.hex(), 4)}   {_check(number, part)}"


def _check(number: int, part: bytes) -> str:
    return sha256(bytes([number]) + part).hexdigest()[:4]


def _groups(text: str, size: int) -> str:
    return " ".join(text[at : at + size] for at in range(0, len(text), size))


def _typed(sheet: str) -> bytes:
    """Read the four lines of a sheet; whatever stands around them is passed over."""
    found = {int(number) - 1: (re.sub(r"\s", "", part), check) for number, part, check in _LINE.findall(sheet)}
    for number in range(_LINES):
        if number not in found:
            raise UserError(
                f"line {number + 1} of the key is missing", "type it as printed: 1:  0123 4567 89ab cdef   0123"
            )
        part, check = found[number]
        if _check(number, bytes.fromhex(part)) != check.lower():
            raise UserError(f"line {number + 1} of the key does not agree with its check", "compare it with the sheet")
    return b"".join(bytes.fromhex(found[number][0]) for number in range(_LINES))


def _read(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase.encode() if passphrase else None)
    except TypeError as error:  # locked and no passphrase, or the other way round
        if passphrase:
            advice = "`osint keys lock` encrypts it with OSINT_KEY_PASSPHRASE"
            raise UserError(f"{path} is not encrypted, though a passphrase is set", advice) from error
        raise UserError(f"{path} is encrypted", "set OSINT_KEY_PASSPHRASE, or OSINT_KEY_PASSPHRASE_FILE") from error
    except ValueError as error:
        raise UserError(f"{path} cannot be opened", "the passphrase is wrong, or the file is damaged") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{path} holds no Ed25519 key", "restore it from its sheet: osint keys restore")
    return key


def lock(folder: Path, passphrase: str) -> None:
    """Encrypt a key that lies open (PKCS 8, PBES2 with scrypt or PBKDF2 and AES-256, as the library chooses)."""
    path = folder / NAME
    key = _read(path, None)
    fresh = _fresh(path, key, passphrase)
    fresh.rename(path)
    sync_folder(folder)
    _sweep(path)


def _write(path: Path, key: Ed25519PrivateKey, passphrase: str | None) -> None:
    """Write a new key under a name that nobody has; another process may be first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = _fresh(path, key, passphrase)
    try:
        os.link(fresh, path)  # unlike rename it replaces nothing
    except (FileExistsError, FileNotFoundError):  # another's key is there; it may have swept ours away
        if not path.exists():
            raise
    fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def _sweep(path: Path) -> None:
    """Remove what a writer left that was killed: an open copy of the key, or of one that was never used."""
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        left.unlink(missing_ok=True)


def _fresh(path: Path, key: Ed25519PrivateKey, passphrase: str | None) -> Path:
    how: KeySerializationEncryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    fresh = path.with_name(f"{path.name}.{new_id().hex}.tmp")
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(number, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
        os.fsync(number)
    finally:
        os.close(number)
    return fresh
