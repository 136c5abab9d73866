"""One throwaway key for each replay, and a certificate for each host that is asked for. Nothing outside the replay trusts it."""

import base64
import hashlib
import ipaddress
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID = timedelta(days=2)
_PEM = serialization.Encoding.PEM


class Certificates:
    """Makes a server's TLS context for a host. `pin` is what --ignore-certificate-errors-spki-list takes."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    @property
    def pin(self) -> str:
        """The SHA-256 of the key's SubjectPublicKeyInfo, in base64 (RFC 7469 2.4)."""
        public = self._key.public_key()
        told = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(told).digest()).decode()

    def context(self, host: str) -> ssl.SSLContext:
        """Give the context for a host's name or address."""
        with self._lock:
            if host not in self._made:
                self._made[host] = self._make(host)
            return self._made[host]

    def _make(self, host: str) -> ssl.SSLContext:
        private = self._key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        with tempfile.TemporaryDirectory(prefix="osint-replay-") as folder:  # ssl reads files alone
            path = Path(folder) / "pem"
            path.touch(mode=0o600)
            path.write_bytes(private + self._certificate(host).public_bytes(_PEM))
            context.load_cert_chain(path)
        return context

    def _certificate(self, host: str) -> x509.Certificate:
        now = datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "osint replay, not the site itself")])
        builder = x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - VALID).not_valid_after(now + VALID)
        builder = builder.add_extension(x509.SubjectAlternativeName([_named(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode() if not host.isascii() else host)
