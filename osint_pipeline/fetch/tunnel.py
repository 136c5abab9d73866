"""What is said to a proxy before bytes go through it: SOCKS5 (RFC 1928, 1929) by python_socks, and CONNECT (RFC 9110 9.3.6).

A talk is a generator without a socket, so that Twisted, asyncio and plain sockets say the same. Built on the private
protocol classes of python_socks 2.8; tests/test_socks.py holds what is relied on.
"""

import asyncio
import base64
import socket
import time
from collections.abc import Generator

from python_socks._protocols import socks5
from python_socks._protocols.errors import ReplyError

from osint_pipeline.fetch.guard import literal
from settings.exits import Exit

Talk = Generator[tuple[bytes, int], bytes, None]
"""Yields what to send and how many bytes it wants then (0: none); is sent those. Returns when the tunnel stands."""

HEAD_BYTES = 16384
DIAL_SECONDS = 15.0


class TunnelFailed(Exception):
    """The proxy opened no tunnel; `word` names why, as Exchange.failure does. The text holds nothing of the proxy's place."""

    def __init__(self, word: str, why: str) -> None:
        super().__init__(why)
        self.word, self.why = word, why


def greet(exit: Exit) -> Talk:
    """Say what can be said to a proxy without naming a target: SOCKS5 agrees on a login, HTTP says nothing."""
    if exit.scheme == "socks5":
        yield from _login(exit, socks5.Connection())


def talk(exit: Exit, host: str, port: int) -> Talk:
    """Ask for a tunnel to a host; its name goes to the proxy as it is. Raises TunnelFailed."""
    if exit.scheme == "socks5":
        return _socks(exit, host, port)
    return _connect(exit, host, port)


def _login(exit: Exit, connection: socks5.Connection) -> Talk:
    offer = socks5.AuthMethodsRequest(exit.user, exit.password)
    answer = yield connection.send(offer), socks5.AuthMethodReply.SIZE
    try:
        chosen = connection.receive(answer)
        if getattr(chosen, "method", None) == socks5.AuthMethod.USERNAME_PASSWORD:
            answer = yield connection.send(socks5.AuthRequest(exit.user, exit.password)), socks5.AuthReply.SIZE
            connection.receive(answer)
    except ReplyError as error:
        raise TunnelFailed("login", f"the proxy lets us not in: {error}") from error


def _socks(exit: Exit, host: str, port: int) -> Talk:
    connection = socks5.Connection()
    yield from _login(exit, connection)
    try:
        request = connection.send(socks5.ConnectRequest(_target(host), port))
    except (UnicodeError, ValueError) as error:
        raise TunnelFailed("name-unknown", f"{host[:100]!r} is no name: {error}") from error
    answer = yield request, 3
    if answer[:2] == bytes((socks5.SOCKS_VER, socks5.ReplyCode.SUCCEEDED)):
        answer += yield b"", 2  # the kind of an address, and its first byte: the length of a name
        answer += yield b"", {1: 4, 4: 16}.get(answer[3], answer[4] + 1) + 1
    try:
        connection.receive(answer)
    except ReplyError as error:
        raise TunnelFailed("tunnel", f"the proxy could not connect: {error}") from error


def _target(host: str) -> str:
    """Write an address in its usual form; a name without the trailing dot that proxies stumble over."""
    address = literal(host)
    return str(address) if address else host.rstrip(".")


def _connect(exit: Exit, host: str, port: int) -> Talk:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if exit.user:
        word = base64.b64encode(f"{exit.user}:{exit.password}".encode()).decode()
        head += f"Proxy-Authorization: Basic {word}\r\n"
    answer = yield head.encode("ascii", "replace") + b"\r\n", 1
    while not answer.endswith(b"\r\n\r\n") and len(answer) < HEAD_BYTES:
        answer += yield b"", 1
    status = answer.partition(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise TunnelFailed("tunnel", f"the proxy answered {exit.conceal(status)[:200]!r}")


def dial(exit: Exit, talking: Talk, *, seconds: float = DIAL_SECONDS) -> socket.socket:
    """Connect to the proxy and hold the talk (blocking); the socket is the tunnel then. Raises TunnelFailed."""
    until = time.monotonic() + seconds
    try:
        sock = socket.create_connection((exit.host, exit.port), seconds)
    except OSError as error:
        raise _unreached(error) from error
    try:
        _hold(sock, talking, until)
    except TunnelFailed:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise _broken(error) from error
    return sock


def _hold(sock: socket.socket, talking: Talk, until: float) -> None:
    wanted = next(talking, None)
    while wanted is not None:
        data, count = wanted
        sock.settimeout(max(0.01, until - time.monotonic()))
        sock.sendall(data)
        answer = b""
        while len(answer) < count:
            sock.settimeout(max(0.01, until - time.monotonic()))
            if not (piece := sock.recv(count - len(answer))):
                raise ConnectionError("the proxy hung up")
            answer += piece
        wanted = _next(talking, answer)


def _next(talking: Talk, answer: bytes) -> tuple[bytes, int] | None:
    try:
        return talking.send(answer)
    except StopIteration:
        return None


Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial_async(exit: Exit, talking: Talk, *, seconds: float = DIAL_SECONDS) -> Pipe:
    """Connect to the proxy and hold the talk in an event loop. Raises TunnelFailed."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(exit.host, exit.port)
            wanted = next(talking, None)
            while wanted is not None:
                writer.write(wanted[0])
                wanted = _next(talking, await reader.readexactly(wanted[1]))
    except (OSError, EOFError) as error:
        if writer is None:
            raise _unreached(error) from error
        writer.transport.abort()
        raise _broken(error) from error
    except (TunnelFailed, asyncio.CancelledError):
        if writer is not None:
            writer.transport.abort()
        raise
    return reader, writer


def _unreached(error: Exception) -> TunnelFailed:
    if isinstance(error, TimeoutError):
        return TunnelFailed("timeout", "it did not answer in time")
    if isinstance(error, socket.gaierror):
        return TunnelFailed("name-unknown", "its name has no address")
    if isinstance(error, ConnectionRefusedError):
        return TunnelFailed("refused", "nobody listens there")
    return TunnelFailed("unreachable", f"it cannot be reached ({type(error).__name__})")


def _broken(error: Exception) -> TunnelFailed:
    if isinstance(error, TimeoutError):
        return TunnelFailed("timeout", "it did not answer in time")
    return TunnelFailed("disconnect", "it hung up before the tunnel stood")
