"""A site over TLS that speaks HTTP/2 alone (h2), each answer logged with the digest of its decoded payload."""

import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What a path is answered: `body` as it goes out, `plain` what it decodes to where that differs."""

    status: int
    fields: Fields
    body: bytes = b""
    plain: bytes | None = None


@dataclass
class Asked:
    """One request: its pseudo-fields and fields in order, what it posted, the digest of what it was answered."""

    fields: Fields
    posted: bytes = b""
    sha256: str = ""

    @property
    def path(self) -> str:
        return dict(self.fields)[":path"]


@dataclass
class Site:
    url: str
    answers: dict[str, Answer]
    log: list[Asked] = field(default_factory=list)

    def asked(self, path: str) -> list[Asked]:
        return [one for one in self.log if one.path == path]


@contextmanager
def running(answers: dict[str, Answer], certificate: Path) -> Iterator[Site]:
    """Serve until left. `certificate` is a PEM file with its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", 0))
    site = Site(f"https://127.0.0.1:{listener.getsockname()[1]}", answers)
    opened: list[socket.socket] = []
    thread = threading.Thread(target=_accept, args=(listener, context, site, opened))
    thread.start()
    try:
        yield site
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in opened:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listener: socket.socket, context: ssl.SSLContext, site: Site, opened: list[socket.socket]) -> None:
    threads = []
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            break
        opened.append(raw)
        threads.append(threading.Thread(target=_serve, args=(raw, context, site)))
        threads[-1].start()
    for one in threads:
        one.join()


def _serve(raw: socket.socket, context: ssl.SSLContext, site: Site) -> None:
    with contextlib.suppress(OSError, h2.exceptions.ProtocolError), raw:
        sock = context.wrap_socket(raw, server_side=True)
        with sock:
            _Connection(sock, site).run()


class _Connection:
    def __init__(self, sock: ssl.SSLSocket, site: Site) -> None:
        self.sock, self.site = sock, site
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.asked: dict[int, Asked] = {}
        self.waiting: dict[int, bytes] = {}  # what flow control holds up

    def run(self) -> None:
        self.h2.initiate_connection()
        self.sock.sendall(self.h2.data_to_send())
        while data := self.sock.recv(65536):
            for event in self.h2.receive_data(data):
                self.take(event)
            self.pour()
            self.sock.sendall(self.h2.data_to_send())

    def take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.asked[event.stream_id] = Asked([(str(name), str(value)) for name, value in event.headers])
        elif isinstance(event, h2.events.DataReceived):
            self.asked[event.stream_id].posted += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.answer(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.waiting.pop(event.stream_id, None)

    def answer(self, stream: int) -> None:
        asked = self.asked.pop(stream)
        self.site.log.append(asked)
        answer = self.site.answers.get(asked.path, Answer(404, [("content-type", "text/plain")], b"none"))
        asked.sha256 = hashlib.sha256(answer.body if answer.plain is None else answer.plain).hexdigest()
        self.h2.send_headers(stream, [(":status", str(answer.status)), *answer.fields], end_stream=not answer.body)
        if answer.body:
            self.waiting[stream] = answer.body

    def pour(self) -> None:
        for stream, rest in list(self.waiting.items()):
            while rest and (room := min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)):
                piece, rest = rest[:room], rest[room:]
                self.h2.send_data(stream, piece, end_stream=not rest)
            self.waiting[stream] = rest
            if not rest:
                del self.waiting[stream]
