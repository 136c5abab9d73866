"""The browser's recorder on a TLS server: its certificate chain is kept once for a run."""

import base64
import datetime
import ipaddress
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browserlab import CHROMIUM, Lab
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from osint_pipeline.fetch import chromium

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"<p>secret</p>" if self.path == "/" else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A TLS server of 127.0.0.1 with a certificate of its own: (url, certificate in DER)."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
    )
    certificate = made.sign(key, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())  # fmt: skip
    (tmp_path / "both.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    running = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    running.socket = context.wrap_socket(running.socket, server_side=True)
    running.handle_error = lambda *_: None
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"https://127.0.0.1:{running.server_address[1]}", certificate.public_bytes(serialization.Encoding.DER)
    running.shutdown()
    thread.join()
    running.server_close()


@needs_chromium
def test_a_chain_is_kept_once_for_a_run(server, tmp_path, monkeypatch):
    url, der = server
    monkeypatch.setattr(chromium, "FLAGS", (*chromium.FLAGS, "--ignore-certificate-errors"))
    with Lab(tmp_path / "scratch") as lab:
        first, kept = lab.fetch(url + "/")
        _, again = lab.fetch(url + "/")
    (record,) = [one for one in kept.made if one.url.startswith("urn:certificate:")]
    assert record.url == f"urn:certificate:{url}" and record.about == first.main.record_id
    lines = record.body.decode().splitlines()
    assert base64.b64decode("".join(lines[1:-1])) == der
    assert lines[0] == "-----BEGIN CERTIFICATE-----"
    assert not [one for one in again.made if one.url.startswith("urn:certificate:")]
    exchange = kept.of("/")[0]
    assert exchange.protocols[-1].startswith("tls/1.3") and exchange.cipher.startswith("TLS_")
