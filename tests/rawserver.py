"""Servers on 127.0.0.1 that send exactly the bytes they are told to, and a real HTTP proxy."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PATIENCE_SECONDS = 20.0
HTML = "<html><body>Затрыманне ў Мінску</body></html>".encode()


@dataclass(frozen=True)
class Request:
    """A request as it arrived: its bytes, and the number of the connection that brought it."""

    raw: bytes
    connection: int

    @property
    def method(self) -> str:
        return self.raw.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.raw.split(b" ", 2)[1].decode()


Answer = bytes | Callable[[socket.socket, Request], bool]
"""Bytes (the connection stays open), or a function that writes and says whether the connection stays open."""


def answer(body: bytes = HTML, status: bytes = b"200 OK", *lines: bytes) -> bytes:
    """Build an answer with a Content-Length."""
    head = (b"HTTP/1.1 " + status, b"Content-Type: text/html; charset=utf-8", *lines, b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def closing(data: bytes) -> Answer:
    """Send the bytes, then close."""

    def answer(sock: socket.socket, request: Request) -> bool:
        sock.sendall(data)
        return False

    return answer


def resetting(data: bytes) -> Answer:
    """Send the bytes, then reset the connection."""

    def answer(sock: socket.socket, request: Request) -> bool:
        sock.sendall(data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        return False

    return answer


def holding(data: bytes) -> Answer:
    """Send the bytes, then nothing until the client goes away."""

    def answer(sock: socket.socket, request: Request) -> bool:
        sock.sendall(data)
        sock.recv(1)
        return False

    return answer


def endless(head: bytes, piece: bytes) -> Answer:
    """Send the head, then the piece again and again until the client goes away."""

    def answer(sock: socket.socket, request: Request) -> bool:
        sock.sendall(head)
        while True:
            sock.sendall(piece)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Give each answer once, the last one ever after."""
    left = list(answers)

    def answer(sock: socket.socket, request: Request) -> bool:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, bytes):
            sock.sendall(one)
            return True
        return one(sock, request)

    return answer


def read_request(sock: socket.socket) -> bytes:
    """Read one request with its body; b"" where the client closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            wanted = int(line.split(b":")[1])
            while len(body) < wanted:
                body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


class Listener:
    """Accepts connections on an ephemeral port, a thread for each."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self.port: int = self._socket.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._count = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self._count += 1
            threading.Thread(target=self._run, args=(sock, self._count), daemon=True).start()

    def _run(self, sock: socket.socket, number: int) -> None:
        self._open.add(sock)
        sock.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(OSError), contextlib.closing(sock):
            self.serve(sock, number)
        self._open.discard(sock)

    def serve(self, sock: socket.socket, number: int) -> None:
        raise NotImplementedError


class RawServer(Listener):
    """Answers by path; remembers each request."""

    def __init__(self, answers: dict[str, Answer], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.answers, self.requests = answers, list[Request]()
        self._tls = tls
        name = f"[{host}]" if ":" in host else host
        self.url = f"http{'s' if tls else ''}://{name}:{self.port}"

    def serve(self, sock: socket.socket, number: int) -> None:
        if self._tls:
            sock = self._tls.wrap_socket(sock, server_side=True)
        with contextlib.closing(sock):
            while raw := read_request(sock):
                request = Request(raw, number)
                self.requests.append(request)
                answer = self.answers.get(
                    request.target.split("?")[0], b"HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n"
                )
                if isinstance(answer, bytes):
                    sock.sendall(answer)
                elif not answer(sock, request):
                    return

    def asked(self, path: str) -> list[Request]:
        """List the requests for a path."""
        return [one for one in self.requests if urlsplit(one.target).path == path]


class Proxy(Listener):
    """An HTTP proxy: absolute-form requests and CONNECT tunnels. `auth` is the header value it demands."""

    def __init__(self, auth: str | None = None, hosts: dict[str, str] | None = None) -> None:
        super().__init__()
        self._auth, self._hosts = auth, hosts or {}
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.port}"

    def serve(self, sock: socket.socket, number: int) -> None:
        while raw := read_request(sock):
            self.requests.append(raw)
            if self._auth and f"proxy-authorization: {self._auth}".lower() not in raw.decode("latin-1").lower():
                sock.sendall(b"HTTP/1.1 407 Who Are You\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
                continue
            method, target, _ = raw.split(b" ", 2)
            if method == b"CONNECT":
                with self._dial(target.decode()) as origin:
                    sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    return self._tunnel(sock, origin)
            if not self._forward(sock, raw, urlsplit(target.decode())):
                return

    def _dial(self, netloc: str) -> socket.socket:
        host, _, port = netloc.partition(":")
        return socket.create_connection((self._hosts.get(host, host), int(port or 80)), PATIENCE_SECONDS)

    def _forward(self, sock: socket.socket, raw: bytes, parts) -> bool:
        """Pass a request on and its answer back; False where only the connection's end shows the answer's end."""
        with self._dial(parts.netloc) as origin:
            lines = [line for line in raw.split(b"\r\n") if not line.lower().startswith(b"proxy-")]
            lines[0] = b" ".join(
                (lines[0].split(b" ")[0], parts._replace(scheme="", netloc="").geturl().encode() or b"/", b"HTTP/1.1")
            )
            origin.sendall(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]))
            origin.shutdown(socket.SHUT_WR)
            got = b""
            while piece := origin.recv(65536):
                sock.sendall(piece)
                got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        return lengths == [len(body)]

    def _tunnel(self, sock: socket.socket, origin: socket.socket) -> None:
        back = threading.Thread(target=self._pour, args=(origin, sock), daemon=True)
        back.start()
        self._pour(sock, origin)
        back.join(PATIENCE_SECONDS)

    @staticmethod
    def _pour(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


class NameServer:
    """A DNS server (RFC 1035, A records over UDP); each question for a name gets its next list of addresses."""

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        self._names = {name: list(lists) for name, lists in names.items()}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(PATIENCE_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4096)
            if not question:
                return
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        at, labels = 12, []
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        kind, end, name = question[at + 1 : at + 3], at + 5, ".".join(labels)
        lists = self._names.get(name, [[]])
        found = []
        if kind == b"\0\1":
            self.asked.append(name)
            found = lists.pop(0) if len(lists) > 1 else lists[0]
        records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(one) for one in found)
        flags = b"\x81\x80" if name in self._names else b"\x81\x83"
        counts = b"\0\1" + len(found).to_bytes(2, "big") + b"\0\0\0\0"
        return question[:2] + flags + counts + question[12:end] + records


def self_signed(folder: Path) -> tuple[ssl.SSLContext, bytes]:
    """Make a self-signed certificate for 127.0.0.1; return a server's context and the certificate's DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "raw server")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "raw.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context, certificate.public_bytes(serialization.Encoding.DER)
