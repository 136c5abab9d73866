"""Reads who is at the other end of a connection, and how the connection is secured."""

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.interfaces import ISSLTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end. Not `ready` where the TLS handshake never ended: then nothing of a request has left us."""

    ip: str
    ready: bool = True
    tls: str | None = None  # "tls/1.3"
    cipher: str | None = None
    certificate_sha256: str | None = None


def look_at(transport: Any) -> Peer:
    """Read the peer's address and, with TLS, version, cipher and certificate; may be called after the end."""
    ip = transport.getPeer().host
    if not ISSLTransport.providedBy(transport):
        return Peer(ip=ip)
    handle = transport.getHandle()
    cipher = handle.get_cipher_name()
    if cipher is None:
        return Peer(ip=ip, ready=False)
    certificate = handle.get_peer_certificate(as_cryptography=True)
    version = handle.get_protocol_version_name().removeprefix("TLSv")
    return Peer(
        ip=ip,
        tls=f"tls/{version if '.' in version else version + '.0'}",
        cipher=cipher,
        certificate_sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest() if certificate else None,
    )
