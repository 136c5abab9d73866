"""Real proxies on 127.0.0.1 that log what they were asked: HTTP (rawserver.Proxy) and SOCKS5 with a login (RFC 1928, 1929)."""

import contextlib
import ipaddress
import socket

from tests.rawserver import PATIENCE_SECONDS, Listener, Proxy

HttpProxy = Proxy
OK, NOT_ALLOWED, HOST_UNREACHABLE, REFUSED = 0, 2, 4, 5


class Socks(Listener):
    """A SOCKS5 proxy. `hosts` are the names that it knows, `replies` what it answers for some of them, `silent` says nothing.

    `asked` lists ("name" or "address", host, port) in order, `logins` the (user, password) that were let in.
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        hosts: dict[str, str] | None = None,
        replies: dict[str, int] | None = None,
        silent: bool = False,
    ) -> None:
        super().__init__()
        self.login, self.hosts, self.replies, self.silent = login, hosts or {}, replies or {}, silent
        self.asked: list[tuple[str, str, int]] = []
        self.logins: list[tuple[str, str]] = []
        self.connections = 0
        known = f"{login[0]}:{login[1]}@" if login else ""
        self.url = f"socks5://{known}127.0.0.1:{self.port}"

    def serve(self, sock: socket.socket, number: int) -> None:
        self.connections = number
        with contextlib.suppress(EOFError):
            if self.silent:
                sock.recv(1 << 10)
                sock.recv(1)
            elif self._let_in(sock):
                self._serve(sock)

    def _let_in(self, sock: socket.socket) -> bool:
        _, count = _take(sock, 2)
        offered = _take(sock, count)
        if self.login is None:
            sock.sendall(b"\5\0" if 0 in offered else b"\5\xff")
            return 0 in offered
        if 2 not in offered:
            sock.sendall(b"\5\xff")
            return False
        sock.sendall(b"\5\2")
        user = _take(sock, _take(sock, 2)[1])
        given = (user.decode(), _take(sock, _take(sock, 1)[0]).decode())
        sock.sendall(b"\1\0" if given == self.login else b"\1\1")
        if given == self.login:
            self.logins.append(given)
        return given == self.login

    def _serve(self, sock: socket.socket) -> None:
        _, _, _, kind = _take(sock, 4)
        if kind == 3:
            host = _take(sock, _take(sock, 1)[0]).decode("ascii")
        else:
            host = str(ipaddress.ip_address(_take(sock, 4 if kind == 1 else 16)))
        port = int.from_bytes(_take(sock, 2), "big")
        self.asked.append(("name" if kind == 3 else "address", host, port))
        place = self.hosts.get(host, host if kind != 3 else None)
        reply = self.replies.get(host, OK if place else HOST_UNREACHABLE)
        try:
            origin = socket.create_connection((place or "", port), PATIENCE_SECONDS) if reply == OK else None
        except OSError:
            origin, reply = None, REFUSED
        sock.sendall(bytes((5, reply, 0, 3, 4)) + b"exit\0\0")  # bound to a name, as some do
        if origin is not None:
            with origin:
                Proxy._tunnel(self, sock, origin)  # type: ignore[arg-type]

    _pour = staticmethod(Proxy._pour)


def _take(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := sock.recv(count - len(data))):
            raise EOFError
        data += piece
    return data
