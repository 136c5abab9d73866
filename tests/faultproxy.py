"""A TCP proxy that stands between a client and a real HTTP server and does to it what networks do.

It speaks enough HTTP to know where a request ends; one request for each connection to the server.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from enum import Enum

_SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>x</Message></Error>'


class Fault(Enum):
    """What happens to a request that is hit."""

    NONE = "none"
    SLOW_DOWN = "503 SlowDown, the server never hears"
    RESET = "connection reset in the middle of the request's body"
    CUT_ANSWER = "the server does it all, the client never hears"
    FLIP = "one bit of the request's body changes"
    SLOW = "the request's body trickles"
    SILENT = "nothing is ever answered"
    FLIP_ANSWER = "one bit of the answer's body changes"
    HALF_ANSWER = "connection reset in the middle of the answer's body"


class FaultProxy:
    """Listens on `port` of 127.0.0.1; hits the requests of `methods` with a body (asked or, for GET, answered).

    `when(n)` says whether the n-th of them, counted from 1, is hit; `hits` counts those that were.
    """

    def __init__(
        self,
        upstream_port: int,
        fault: Fault = Fault.NONE,
        *,
        methods: tuple[str, ...] = ("PUT", "POST"),
        when: Callable[[int], bool] = lambda n: n % 2 == 1,
    ) -> None:
        self.upstream_port, self.fault, self.methods, self.when = upstream_port, fault, methods, when
        self.seen = self.hits = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FaultProxy":
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()
        for thread in list(self._threads):
            thread.join(10)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(10)
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                self._relay(client)
            except OSError:
                pass  # the client or the server went away: that is what this is for

    def _relay(self, client: socket.socket) -> None:
        head, rest = _read_head(client)
        if not head:
            return
        method = head.split(b" ", 1)[0].decode()
        length = int(_header(head, b"content-length") or 0)
        fault = self._choose(method, head)
        if _header(head, b"expect"):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault is Fault.SILENT:
            self._over.wait(20)
        elif fault is Fault.SLOW_DOWN:
            _drain(client, length - len(rest))
            answer = b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\n"
            client.sendall(answer + b"Content-Length: %d\r\n\r\n" % len(_SLOW_DOWN) + _SLOW_DOWN)
        else:
            with socket.create_connection(("127.0.0.1", self.upstream_port), timeout=10) as server:
                server.sendall(_without(head, b"expect", b"connection") + b"Connection: close\r\n\r\n")
                if self._forward(client, server, rest, length, fault):
                    self._answer(client, server, method, fault)

    def _choose(self, method: str, head: bytes) -> Fault:
        with self._lock:
            if method not in self.methods or (method == "PUT" and not int(_header(head, b"content-length") or 0)):
                return Fault.NONE
            self.seen += 1
            if self.fault is Fault.NONE or not self.when(self.seen):
                return Fault.NONE
            self.hits += 1
            return self.fault

    def _forward(self, client: socket.socket, server: socket.socket, rest: bytes, length: int, fault: Fault) -> bool:
        sent = 0
        while sent < length:
            data = rest or client.recv(min(65536, length - sent))
            rest = b""
            if not data:
                return False
            if fault in (Fault.RESET, Fault.FLIP) and sent + len(data) > length // 2:
                if fault is Fault.RESET:
                    _reset(client)
                    return False
                data, fault = _flipped(data, length // 2 - sent), Fault.NONE  # always the same bit
            if fault is Fault.SLOW:
                time.sleep(0.02)
            server.sendall(data)
            sent += len(data)
        return True

    def _answer(self, client: socket.socket, server: socket.socket, method: str, fault: Fault) -> None:
        head, rest = _read_head(server)
        if fault is Fault.CUT_ANSWER:
            while server.recv(65536):
                pass
            _reset(client)
            return
        client.sendall(head)
        length, sent = int(_header(head, b"content-length") or 0), 0
        while data := rest or server.recv(65536):
            rest = b""
            if fault in (Fault.FLIP_ANSWER, Fault.HALF_ANSWER) and sent + len(data) > length // 2:
                if fault is Fault.HALF_ANSWER:
                    client.sendall(data[: len(data) // 2])
                    _reset(client)
                    return
                data, fault = _flipped(data, length // 2 - sent), Fault.NONE  # always the same bit
            client.sendall(data)
            sent += len(data)


def _read_head(peer: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _without(head: bytes, *names: bytes) -> bytes:
    lines = head.rstrip(b"\r\n").split(b"\r\n")
    return b"".join(line + b"\r\n" for line in lines if line.partition(b":")[0].strip().lower() not in names)


def _drain(peer: socket.socket, length: int) -> None:
    while length > 0 and (data := peer.recv(min(65536, length))):
        length -= len(data)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
