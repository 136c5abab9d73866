"""Sealed notes: bytes that whoever keeps the archive's key can read, and nobody else who holds the archive.

X25519 (RFC 7748) with a key of its own for each note, HKDF-SHA256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439). The archive's
sealing key is derived from the seed of its signing key, so that the printed sheet brings both back. Written as base64 of
ephemeral public key (32 bytes), then ciphertext with its tag.
"""

import base64

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES, _PAD_BYTES = 32, 128
_NONCE = bytes(12)  # each key is used once


class NotOurs(Exception):
    """A note was sealed for another key, about something else, or was changed."""


def sealing_key(seed: bytes) -> X25519PrivateKey:
    """Derive the sealing key from the 32 bytes of the signing key."""
    return X25519PrivateKey.from_private_bytes(_derive(seed, b"osint-pipeline/sealing-key/1"))


def seal(to: X25519PublicKey, data: bytes, about: str) -> str:
    """Encrypt a short note; it opens only where `about` is said again. Its length does not tell what it says."""
    once = X25519PrivateKey.generate()
    public = once.public_key().public_bytes_raw()
    cipher = ChaCha20Poly1305(_shared(once, to, public + to.public_bytes_raw()))
    padded = data.ljust(-(-len(data) // _PAD_BYTES) * _PAD_BYTES)
    return base64.b64encode(public + cipher.encrypt(_NONCE, padded, about.encode())).decode("ascii")


def unseal(key: X25519PrivateKey, note: str, about: str) -> bytes:
    """Decrypt a note, without the blanks at its end. Raises NotOurs."""
    try:
        box = base64.b64decode(note, validate=True)
        public = X25519PublicKey.from_public_bytes(box[:_KEY_BYTES])
        cipher = ChaCha20Poly1305(_shared(key, public, box[:_KEY_BYTES] + key.public_key().public_bytes_raw()))
        return cipher.decrypt(_NONCE, box[_KEY_BYTES:], about.encode()).rstrip(b" ")
    except (ValueError, InvalidTag) as error:
        raise NotOurs("the note was sealed for another key, or it was changed") from error


def _shared(own: X25519PrivateKey, other: X25519PublicKey, both: bytes) -> bytes:
    return _derive(own.exchange(other), b"osint-pipeline/sealed-note/1" + both)


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=purpose).derive(secret)
