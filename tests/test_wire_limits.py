"""What the wire fetcher does with the large, the hostile, the forbidden, and with a sink that refuses."""

import gzip
import hashlib
from contextlib import ExitStack

import pytest
from rawserver import NameServer, Proxy, RawServer, answer, closing, endless, in_turn
from wirecrawl import Job, crawl

from storage.exchange import Stored, Truncated

MIB = 1 << 20
PIECE = bytes(range(256)) * 256


def pouring(head: bytes, count: int, tail: bytes = b""):
    """Send the head, then 64 KiB pieces, then the tail."""

    def pour(sock, request):
        sock.sendall(head)
        for _ in range(count):
            sock.sendall(PIECE)
        sock.sendall(tail)
        return True

    return pour


def chunks(count: int) -> tuple[bytes, bytes]:
    """Build a chunked answer's bytes and its body."""
    return b"".join(b"10000;n=%d\r\n%s\r\n" % (n, PIECE) for n in range(count)) + b"0\r\n\r\n", PIECE * count


LENGTH_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Encoding: gzip\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n"
SMALL = {"memory_body_bytes": 200_000, "body_limit_bytes": 3 * MIB, "head_limit_bytes": 100_000}


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """One crawl with small limits: 200 KB in memory, 3 MiB in all, 100 KB of head."""
    routes = {
        "/declared": pouring(LENGTH_HEAD % (16 * len(PIECE)), 16),
        "/chunked": pouring(b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED_HEAD + chunks(20)[0], 0),
        "/trailing": pouring(LENGTH_HEAD % (16 * len(PIECE)), 16, b"HTTP/1.1 200 OK\r\n\r\n"),
        "/fits": answer(b"x" * 199_000),
        "/justover": answer(b"x" * 200_001),
        "/untilclose": closing(UNTIL_CLOSE + PIECE * 8),
        "/cut": closing(LENGTH_HEAD % (16 * len(PIECE)) + PIECE * 8),
        "/endlessbody": endless(UNTIL_CLOSE, PIECE),
        "/toolong": endless(LENGTH_HEAD % (1 << 40), PIECE),
        "/endlesshead": endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 500),
        "/endlessline": endless(b"HTTP/1.1 200 OK\r\nX: ", b"and more" * 500),
        "/endlessinterim": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 300),
        "/endlesschunk": endless(CHUNKED_HEAD + b"1;", b"extension" * 500),
        "/bomb": answer(gzip.compress(bytes(40 * MIB)), b"200 OK", b"Content-Encoding: gzip"),
    }
    with RawServer(routes) as server:
        requests = {path[1:]: {"url": server.url + path, "meta": {"dont_retry": True}} for path in routes}
        settings = {"DOWNLOAD_MAXSIZE": 8 * MIB, "RETRY_TIMES": 2, "LOG_LEVEL": "CRITICAL"}
        yield crawl(Job(requests, limits=SMALL, settings=settings), tmp_path_factory.mktemp("limited"))


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("declared", LENGTH_HEAD % (16 * len(PIECE)) + PIECE * 16),
        ("trailing", LENGTH_HEAD % (16 * len(PIECE)) + PIECE * 16),
        ("chunked", CHUNKED_HEAD + chunks(20)[0]),
        ("untilclose", UNTIL_CLOSE + PIECE * 8),
        ("justover", answer(b"x" * 200_001)),
    ],
)
def test_a_large_answer_is_stored_whole_and_not_handed_over(limited, name, sent):
    (kept,) = limited.of(name)
    assert isinstance(kept.exchange.response, Stored)
    assert kept.exchange.response.length_bytes == len(sent)
    assert kept.stored_sha256 == hashlib.sha256(sent).hexdigest()
    assert kept.exchange.truncated is None
    got = limited.got[name]
    assert (got.status, got.body) == (200, b"") and "stored" in got.flags
    assert b"Content-Encoding" not in got.headers
    assert got.recorded_before


def test_circumstances_of_a_stored_answer_are_noted(limited):
    assert ("OSINT-Interim", "100 Continue") in limited.one("chunked").notes
    assert ("OSINT-Trailing", "19 bytes after the answer are left out") in limited.one("trailing").notes
    assert limited.one("untilclose").protocols == ("http/1.0",)


def test_an_answer_that_fits_is_handed_over(limited):
    assert limited.one("fits").response == answer(b"x" * 199_000)
    assert limited.got["fits"].body == b"x" * 199_000
    assert limited.got["fits"].flags == ()


def test_a_large_answer_that_is_cut_off_keeps_what_came(limited):
    (kept,) = limited.of("cut")
    assert kept.exchange.truncated is Truncated.DISCONNECT
    assert kept.stored_sha256 == hashlib.sha256(LENGTH_HEAD % (16 * len(PIECE)) + PIECE * 8).hexdigest()
    assert limited.got["cut"].error == "ResponseDataLossError"


@pytest.mark.parametrize(("name", "head"), [("endlessbody", UNTIL_CLOSE), ("toolong", LENGTH_HEAD % (1 << 40))])
def test_a_body_over_the_limit_is_cut_there(limited, name, head):
    (kept,) = limited.of(name)
    assert kept.exchange.truncated is Truncated.LENGTH
    assert kept.exchange.response.length_bytes == len(head) + 3 * MIB
    assert kept.stored_sha256 == hashlib.sha256(head + PIECE * 48).hexdigest()
    got = limited.got[name]
    assert (got.status, got.body) == (200, b"") and "truncated" in got.flags


@pytest.mark.parametrize("name", ["endlesshead", "endlessline"])
def test_a_head_without_end_is_cut_and_not_asked_for_again(limited, name):
    exchange = limited.one(name)
    assert len(exchange.response) == 100_000
    assert exchange.truncated is Truncated.LENGTH
    assert limited.got[name].error == "DownloadCancelledError"


def test_interim_answers_without_end_are_cut(limited):
    exchange = limited.one("endlessinterim")
    assert exchange.failure == "endless-head" or len(exchange.response) < 30
    assert exchange.notes[:16] == (("OSINT-Interim", "103 Early Hints"),) * 16
    assert exchange.notes[16][1].endswith(" more") and len(exchange.notes) == 17


def test_a_chunk_extension_without_end_is_refused(limited):
    exchange = limited.one("endlesschunk")
    assert exchange.failure == "malformed"
    assert exchange.truncated is Truncated.UNSPECIFIED
    assert len(exchange.response) < 300_000


def test_a_decompression_bomb_is_recorded_and_not_inflated(limited):
    assert limited.one("bomb").response.endswith(gzip.compress(bytes(40 * MIB))[-100:])
    assert limited.got["bomb"].error == "IgnoreRequest"


def test_memory_stays_bounded_while_hundreds_of_mib_pass(tmp_path):
    count = 256 * MIB // len(PIECE)
    routes = {"/video": pouring(LENGTH_HEAD % (count * len(PIECE)), count)}
    with RawServer(routes) as server:
        result = crawl(Job({"video": {"url": f"{server.url}/video"}}), tmp_path)
    assert result.one("video").response.length_bytes == len(LENGTH_HEAD % (count * len(PIECE))) + 256 * MIB
    assert result.peak_rss_kib - result.base_rss_kib < 60 * 1024


@pytest.mark.soak
def test_memory_stays_bounded_while_two_gib_pass(tmp_path):
    count = 2048 * MIB // len(PIECE)
    with RawServer({"/chunked": many_chunks(count)}) as server:
        job = Job(
            {"video": {"url": f"{server.url}/chunked", "meta": {"download_timeout": 120}}},
            limits={"body_limit_bytes": 4 << 30},
        )
        result = crawl(job, tmp_path)
    assert result.one("video").response.length_bytes > 2048 * MIB
    assert result.peak_rss_kib - result.base_rss_kib < 100 * 1024


def many_chunks(count: int):
    """Send a chunked answer of so many 64 KiB chunks."""

    def pour(sock, request):
        sock.sendall(CHUNKED_HEAD)
        for _ in range(count):
            sock.sendall(b"10000\r\n" + PIECE + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
        return True

    return pour


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """One crawl where only 127.0.0.1 is open, and one where nothing is; each server remembers who came."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"
    with ExitStack() as stack:
        inner = stack.enter_context(RawServer({"/": answer()}, host="127.0.0.2"))
        routes = {
            "/metadata": moved % b"http://169.254.169.254/latest/meta-data/",
            "/inside": moved % inner.url.encode(),
            "/ok": answer(),
        }
        server = stack.enter_context(RawServer(routes))
        proxy = stack.enter_context(Proxy(hosts={"outside.invalid": "127.0.0.1"}))
        local = f"http://localhost:{server.port}"
        through = {"proxy": proxy.url}
        opened = {name: {"url": f"{server.url}/{name}"} for name in ("metadata", "inside", "ok")}
        opened |= {
            "proxied": {"url": f"{inner.url}/", "meta": through},
            "proxiedname": {"url": f"http://outside.invalid:{server.port}/ok", "meta": through},
            "tunnelled": {"url": "https://10.0.0.1/", "meta": through},
            "ten": {"url": "http://10.1.2.3/"},
            "number": {"url": f"http://2130706434:{inner.port}/"},
            "hex": {"url": f"http://0x7f.2:{inner.port}/"},
            "mapped": {"url": f"http://[::ffff:127.0.0.2]:{inner.port}/"},
        }
        shut = {
            "name": {"url": f"{local}/ok"},
            "dot": {"url": f"http://localhost.:{server.port}/ok"},
            "literal": {"url": f"{server.url}/ok"},
            "proxied": {"url": f"{local}/ok", "meta": through},
        }
        settings = {"RETRY_TIMES": 2}
        first = crawl(Job(opened, allow=("127.0.0.1/32",), settings=settings), tmp_path_factory.mktemp("opened"))
        seen = len(server.requests)
        second = crawl(Job(shut, allow=(), settings=settings), tmp_path_factory.mktemp("shut"))
        yield first, second, inner, len(server.requests) - seen, proxy


@pytest.mark.parametrize("name", ["ten", "number", "hex", "mapped", "proxied", "tunnelled"])
def test_a_literal_private_address_is_refused_however_it_is_written(guarded, name):
    first, _, inner, _, _ = guarded
    assert first.got[name].error == "AddressRefused"
    assert first.of(name) == []
    assert inner.requests == []


@pytest.mark.parametrize("name", ["metadata", "inside"])
def test_a_redirect_into_a_private_network_is_recorded_and_not_followed(guarded, name):
    first, _, inner, _, _ = guarded
    assert first.one(name).response.startswith(b"HTTP/1.1 302 Found\r\n")
    assert first.got[name].error == "AddressRefused"
    assert len(first.got[name].records) == 1
    assert inner.requests == []


def test_a_proxy_is_exempt_and_names_are_its_business(guarded):
    first, _, _, _, proxy = guarded
    assert first.got["ok"].status == 200
    assert first.got["proxiedname"].status == 200
    assert [one.split(b":")[1] for one in proxy.requests] == [b"//outside.invalid"]


@pytest.mark.parametrize("name", ["name", "dot", "literal", "proxied"])
def test_a_name_that_resolves_to_a_private_address_is_refused(guarded, name):
    _, second, _, requests, _ = guarded
    assert second.got[name].error == "AddressRefused"
    assert requests == 0


def test_the_guard_decides_on_the_addresses_that_dns_gave_and_they_alone_are_used(tmp_path):
    names = {
        "inside.example": [["127.0.0.2"]],
        "both.example": [["127.0.0.1", "127.0.0.2"]],
        "rebound.example": [["127.0.0.1"], ["127.0.0.2"]],
        "xn--80ak6aa92e.example": [["127.0.0.1"]],
    }
    with RawServer({"/": closing(answer())}) as server, NameServer(names) as dns:
        requests = {name: {"url": f"http://{name}:{server.port}/"} for name in names}
        requests["idn"] = {"url": f"http://аррӏе.example:{server.port}/"}
        requests["rebound.example"]["priority"] = 1
        requests["again"] = {"url": f"http://rebound.example:{server.port}/", "priority": -1}
        settings = {
            "TWISTED_DNS_RESOLVER": "wirecrawl.Names", "TEST_DNS_PORT": dns.port, "CONCURRENT_REQUESTS": 1, "RETRY_TIMES": 2
        }  # fmt: skip
        result = crawl(Job(requests, allow=("127.0.0.1/32",), settings=settings), tmp_path)
    refused = [name for name, got in result.got.items() if got.error == "AddressRefused"]
    assert sorted(refused) == ["again", "both.example", "inside.example"]
    assert result.got["rebound.example"].status == 200
    assert dns.asked.count("rebound.example") == 2, "one question for each connection"
    assert result.one("idn").url == f"http://xn--80ak6aa92e.example:{server.port}/"
    assert result.got["idn"].status == 200


def test_a_refusing_sink_fails_the_download(tmp_path):
    big = pouring(LENGTH_HEAD % (16 * len(PIECE)), 16)
    with RawServer(
        {"/a": answer(), "/big": big, "/cut": closing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")}
    ) as server:
        requests = {name: {"url": f"{server.url}/{name}"} for name in ("a", "big", "cut")}
        result = crawl(Job(requests, sink_fails=True, limits=SMALL, settings={"RETRY_TIMES": 2}), tmp_path)
        assert {name: got.error for name, got in result.got.items()} == dict.fromkeys(requests, "SpoolFull")
        assert [len(server.asked(f"/{name}")) for name in requests] == [1, 1, 1]


def test_a_scratch_folder_without_space_fails_the_download(tmp_path):
    big = pouring(LENGTH_HEAD % (64 * len(PIECE)), 64)
    with RawServer({"/big": big, "/a": answer()}) as server:
        requests = {name: {"url": f"{server.url}/{name}"} for name in ("big", "a")}
        result = crawl(Job(requests, limits=SMALL, settings={"RETRY_TIMES": 2}, file_limit_bytes=MIB), tmp_path)
    assert result.got["big"].error == "SpoolFull"
    assert result.of("big") == []
    assert result.one("a").response == answer()


def test_two_exchanges_of_one_connection_are_recorded_apart(tmp_path):
    routes = {f"/{n}": answer(b"<html>%d</html>" % n) for n in range(5)}
    routes["/dying"] = in_turn(answer(b"<html>alive</html>"), closing(b""), answer(b"<html>again</html>"))
    with RawServer(routes) as server:
        requests = {str(n): {"url": f"{server.url}/{n}"} for n in range(5)}
        requests |= {f"dying{n}": {"url": f"{server.url}/dying"} for n in range(2)}
        settings = {"CONCURRENT_REQUESTS": 1, "CONCURRENT_REQUESTS_PER_DOMAIN": 1}
        result = crawl(Job(requests, settings=settings), tmp_path)
        assert len({one.connection for one in server.requests}) == 2
    for n in range(5):
        assert result.one(str(n)).response == routes[f"/{n}"]
        assert [result.one(str(n)).request] == [one.raw for one in server.asked(f"/{n}")]
    died, again = (one.exchange for one in result.of("dying1"))
    assert (died.response, died.failure) == (None, "disconnect")
    assert again.response == answer(b"<html>again</html>")
    assert died.request == again.request
    assert len(result.got["dying1"].records) == 2


def test_robots_are_recorded_for_no_capture(tmp_path):
    robots = answer(b"User-agent: *\nDisallow: /private\n")
    with RawServer({"/robots.txt": robots, "/open": answer(), "/private": answer()}) as server:
        requests = {name: {"url": f"{server.url}/{name}"} for name in ("open", "private")}
        result = crawl(Job(requests, settings={"ROBOTSTXT_OBEY": True}), tmp_path)
    (kept,) = result.of(None)
    assert kept.exchange.response == robots
    assert result.got["open"].status == 200
    assert result.got["private"].error == "IgnoreRequest"
    assert result.of("private") == []
