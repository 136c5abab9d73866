"""The relay: names are resolved behind it, Guard decides, addresses are remembered, a proxy gets names untouched."""

import asyncio
import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from osint_pipeline.fetch.guard import Guard
from osint_pipeline.fetch.relay import NOT_ALLOWED, REFUSED, UNREACHABLE, Relay, ThreadedRelay
from settings.exits import read_exit
from tests.proxyserver import Socks

LOOPBACK = Guard(allow=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")))
CLOSED = Guard()


@contextmanager
def listener(answer, family=socket.AF_INET, host="127.0.0.1") -> Iterator[int]:
    """Serve each connection in a thread with answer(connection); gives the port."""
    server = socket.create_server((host, 0), family=family)
    threads = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            thread = threading.Thread(target=run, args=(connection,))
            threads.append(thread)
            thread.start()

    def run(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            answer(connection)

    accepting = threading.Thread(target=serve)
    accepting.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for thread in [accepting, *threads]:
            thread.join(10)


def echo_until_end(connection: socket.socket) -> None:
    got = b""
    while chunk := connection.recv(1 << 16):
        got += chunk
    connection.sendall(got[::-1])


def ask(relay_port: int, host: str | bytes, port: int, command: int = 1) -> tuple[int, socket.socket]:
    """Greet a SOCKS5 server and ask for a connection; gives the reply code and the socket."""
    connection = socket.create_connection(("127.0.0.1", relay_port), timeout=10)
    connection.sendall(b"\x05\x01\x00")
    assert connection.recv(2) == b"\x05\x00"
    if isinstance(host, bytes):
        address = bytes((1 if len(host) == 4 else 4,)) + host
    else:
        address = b"\x03" + bytes((len(host),)) + host.encode()
    connection.sendall(bytes((5, command, 0)) + address + struct.pack(">H", port))
    reply = connection.recv(10)
    return reply[1], connection


def code_of(relay_port: int, host: str | bytes, port: int, command: int = 1) -> int:
    code, connection = ask(relay_port, host, port, command)
    connection.close()
    return code


def test_bytes_go_both_ways_and_half_close_is_kept():
    big = bytes(range(256)) * 8192
    with listener(echo_until_end) as port, ThreadedRelay(LOOPBACK) as relay:
        code, connection = ask(int(relay.url.rsplit(":", 1)[1]), "127.0.0.1", port)
        with connection:
            assert code == 0
            connection.sendall(big)
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while chunk := connection.recv(1 << 16):
                got += chunk
        assert got == big[::-1]
        assert relay.addresses == {("127.0.0.1", port): "127.0.0.1"}


def test_a_name_is_resolved_here_and_its_address_remembered():
    with listener(echo_until_end) as port, ThreadedRelay(LOOPBACK) as relay:
        assert code_of(_port(relay), "LocalHost", port) == 0
        assert relay.addresses[("localhost", port)] in ("127.0.0.1", "::1")


def test_the_next_address_is_tried_when_the_first_refuses():
    found = {str(info[4][0]) for info in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
    with listener(echo_until_end) as port:  # listens on IPv4 only, so that ::1, where there is one, refuses

        async def dial() -> dict[tuple[str, int], str]:
            async with Relay(LOOPBACK) as relay:
                order = tuple(dict.fromkeys(("127.0.0.2", "127.0.0.1", *found)))
                _, writer = await relay._dial_first("localhost", port, order)
                writer.close()
                await writer.wait_closed()
                return relay.addresses

        assert asyncio.run(dial()) == {("localhost", port): "127.0.0.1"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "169.254.169.254",
        "10.1.2.3",
        "::1",
        "::ffff:127.0.0.1",
        bytes((127, 0, 0, 1)),
        bytes(15) + b"\x01",
    ],
)
def test_a_private_address_is_refused_and_named(host):
    with listener(echo_until_end) as port, ThreadedRelay(CLOSED) as relay:
        assert code_of(_port(relay), host, port) == NOT_ALLOWED
        assert len(relay.refused) == 1
        assert relay.addresses == {}


def test_ipv4_and_ipv6_addresses_in_binary_form_are_dialled():
    with ThreadedRelay(LOOPBACK) as relay:
        with listener(echo_until_end) as port:
            assert code_of(_port(relay), bytes((127, 0, 0, 1)), port) == 0
        if socket.has_ipv6:
            try:
                with listener(echo_until_end, socket.AF_INET6, "::1") as port:
                    assert code_of(_port(relay), bytes(15) + b"\x01", port) == 0
            except OSError as error:
                pytest.skip(f"no IPv6 on this machine: {error}")


def test_failures_are_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as bound:
        free = bound.getsockname()[1]
    with ThreadedRelay(LOOPBACK) as relay:
        assert code_of(_port(relay), "127.0.0.1", free) == REFUSED
        assert code_of(_port(relay), "no-such-host.invalid", 80) == UNREACHABLE
        assert code_of(_port(relay), "127.0.0.1", free, command=2) == 7
        assert [error.reply for error in relay.failed] == [REFUSED, UNREACHABLE, 7]


def test_garbage_and_early_ends_do_no_harm():
    with listener(echo_until_end) as port, ThreadedRelay(LOOPBACK) as relay:
        for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x05\x01\x02", b"\x05\x01\x00\x05\x01\x00\x09"):
            with socket.create_connection(("127.0.0.1", _port(relay)), timeout=10) as connection:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(100):
                    pass
        assert code_of(_port(relay), "127.0.0.1", port) == 0


def test_open_connections_end_with_the_relay():
    with listener(echo_until_end) as port:
        with ThreadedRelay(LOOPBACK) as relay:
            _, connection = ask(_port(relay), "127.0.0.1", port)
        with connection:
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                pass


def test_a_proxy_gets_the_name_and_no_name_is_looked_up_here():
    heads = []

    def proxy(connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        heads.append(head)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\nhello")

    with listener(proxy) as port, ThreadedRelay(CLOSED, read_exit(f"http://ada:s%40y@127.0.0.1:{port}")) as relay:
        code, connection = ask(_port(relay), "name-that-is-nowhere.invalid", 443)
        with connection:
            assert (code, connection.recv(5)) == (0, b"hello")
        assert code_of(_port(relay), "169.254.169.254", 80) == NOT_ALLOWED
        assert relay.addresses == {}
    assert heads == [
        b"CONNECT name-that-is-nowhere.invalid:443 HTTP/1.1\r\nHost: name-that-is-nowhere.invalid:443\r\n"
        b"Proxy-Authorization: Basic YWRhOnNAeQ==\r\n\r\n"
    ]


def test_a_proxy_that_refuses_is_a_failure_with_its_status():
    def proxy(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n")

    with listener(proxy) as port, ThreadedRelay(CLOSED, read_exit(f"http://127.0.0.1:{port}")) as relay:
        assert code_of(_port(relay), "example.org", 443) == 1
        assert "407" in relay.failed[0].why


@pytest.mark.parametrize("login", ["", "mira:geheim-4711@"])
def test_a_socks_proxy_gets_the_name_and_the_login(login):
    known = ("mira", "geheim-4711") if login else None
    with (
        Socks(login=known, hosts={"watched.invalid": "127.0.0.1"}) as proxy,
        listener(echo_until_end) as port,
        ThreadedRelay(CLOSED, read_exit(f"socks5://{login}127.0.0.1:{proxy.port}")) as relay,
    ):
        code, connection = ask(_port(relay), "watched.invalid.", port)
        with connection:
            connection.sendall(b"abc")
            connection.shutdown(socket.SHUT_WR)
            assert (code, connection.recv(5)) == (0, b"cba")
        assert code_of(_port(relay), "169.254.169.254", 80) == NOT_ALLOWED
        assert code_of(_port(relay), "0x7f.1", 80) == NOT_ALLOWED
        assert code_of(_port(relay), "nowhere.invalid", port) == 1
        assert relay.failed[-1].why == "tunnel: the proxy could not connect: Host unreachable"
        assert relay.addresses == {}
    assert proxy.asked == [("name", "watched.invalid", port), ("name", "nowhere.invalid", port)]
    assert proxy.logins == ([known] * 2 if known else [])


def test_a_socks_proxy_that_lets_us_not_in_is_a_failure():
    with (
        Socks(login=("mira", "other")) as proxy,
        ThreadedRelay(CLOSED, read_exit(f"socks5://mira:geheim-4711@127.0.0.1:{proxy.port}")) as relay,
    ):
        assert code_of(_port(relay), "example.org", 443) == 1
        assert relay.failed[0].why.startswith("login: the proxy lets us not in")
    assert proxy.asked == []


def _port(relay: ThreadedRelay) -> int:
    return int(relay.url.rsplit(":", 1)[1])
