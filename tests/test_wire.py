"""Contract of the wire fetcher: what stands in an Exchange is what the server sent, byte for byte."""

import gzip
import hashlib
from contextlib import ExitStack

import brotli
import pytest
from backports import zstd
from rawserver import HTML, Listener, Proxy, RawServer, answer, closing, holding, in_turn, resetting, self_signed
from wirecrawl import Job, crawl

from storage.exchange import Truncated

CHUNKED = (
    b"HTTP/1.1 200 Weird  Reason\r\nset-cookie: a=1\r\nSET-Cookie: b=2\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    b'5;ext=1;q="a b"\r\nhello\r\n0a\r\n, witness!\r\n0;last\r\nX-T: t\r\nx-t:  u\r\n\r\n'
)
ODD = (
    b"HTTP/1.1 200 \r\nContent-Length: 2\r\nbadline no colon\r\nX-Fold: a\r\n  b\r\n\tc\r\nX-B:nospace\r\nx-a:   sp  \r\n"
    b"X-Latin: \xe9t\xe9\r\nX Y: name with a space\r\nX-A: 1\r\nx-a: 2\r\nX-Empty:\r\n\r\nok"
)
EXACT = {
    "plain": answer(),
    "reason": answer(HTML, b"200 Fine Thanks"),
    "http10": b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + HTML,
    "chunked": CHUNKED,
    "odd": ODD,
    "noreason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "lf": b"HTTP/1.1 200 OK\nContent-Length: 2\nX: y\n\nok",
    "longline": answer(HTML, b"200 OK", b"X-Policy: " + b"p" * 100_000),
    "nocontent": b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    "notmodified": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 77\r\n\r\n',
    "gone": answer(HTML, b"410 Gone"),
    "empty": answer(b""),
    "gzip": answer(gzip.compress(HTML), b"200 OK", b"Content-Encoding: gzip"),
    "br": answer(brotli.compress(HTML), b"200 OK", b"Content-Encoding: br"),
    "zstd": answer(zstd.compress(HTML), b"200 OK", b"Content-Encoding: zstd"),
    "post": answer(b"<html>posted</html>"),
}
"""Answers that must be recorded as they are; http10 ends with its connection."""

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
GARBAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
CUT = b"HTTP/1.1 200 Fine\r\nContent-Length: 100\r\n\r\nonly this"
DRIP = b"HTTP/1.1 200 Slow\r\nContent-Length: 100\r\n\r\nso far"


class Rude(Listener):
    """Answers a TLS hello in plain text."""

    def serve(self, sock, number):
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Speak plainly\r\n\r\n")


def routes() -> dict:
    """Say what the plain server answers."""
    exact = {f"/{name}": closing(data) if name == "http10" else data for name, data in EXACT.items()}
    return exact | {
        "/interim": INTERIM + answer(),
        "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nX: y\r\n\r\n",
        "/garbage": answer() + GARBAGE,
        "/cut": closing(CUT),
        "/cutchunk": closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf a chunk"),
        "/cuthead": closing(b"HTTP/1.1 200 OK\r\nX-Half: "),
        "/reset": resetting(b"HTTP/1.1 200 OK\r\n\r\nno length"),
        "/nothing": closing(b""),
        "/hang": holding(b""),
        "/drip": holding(DRIP),
        "/banner": closing(b"SSH-2.0-OpenSSH_9.2\r\n"),
        "/badchunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        "/from": b"HTTP/1.1 302 Elsewhere\r\nLocation: /to?x=1\r\nContent-Length: 4\r\n\r\nmove",
        "/to": answer(b"<html>there</html>"),
        "/busy": in_turn(answer(b"later", b"503 Busy"), answer(b"<html>now</html>")),
        "/login": answer(b"<html>in</html>"),
        "/robots.txt": b"HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\nUser-agent: *\nDisallow: /private\n",
    }


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def plain(certificate, tmp_path_factory):
    """One crawl of everything that needs no special limits."""
    context, _ = certificate
    tls_routes = {"/secure": answer(), "/secure10": closing(EXACT["http10"]), "/tunnel": answer(b"<html>deep</html>")}
    with ExitStack() as stack:
        server = stack.enter_context(RawServer(routes()))
        six = stack.enter_context(RawServer({"/six": answer()}, host="::1"))
        secure = stack.enter_context(RawServer(tls_routes, tls=context))
        rude = stack.enter_context(Rude())
        proxy = stack.enter_context(Proxy(hosts={"nowhere.example": "127.0.0.1"}))
        strict = stack.enter_context(Proxy(auth="Basic bWlyYTpzZWNyZXQ=", hosts={"nowhere.example": "127.0.0.1"}))
        host = f"nowhere.example:{server.port}"
        deep = f"nowhere.example:{secure.port}"
        known = strict.url.replace("//", "//mira:secret@")
        requests: dict = {name: {"url": f"{server.url}/{name}", "all": True} for name in EXACT}
        requests["post"] |= {"method": "POST", "body": b"a=1&b=2", "headers": {"x-lower-CASE": "v"}}
        requests |= {
            name: {"url": f"{server.url}/{name}", "all": name != "busy"}
            for name in (
                "interim",
                "garbage",
                "cut",
                "cutchunk",
                "cuthead",
                "reset",
                "nothing",
                "banner",
                "badchunk",
                "busy",
            )
        }
        requests |= {
            "head": {"url": f"{server.url}/head", "method": "HEAD"},
            "hang": {"url": f"{server.url}/hang", "meta": {"download_timeout": 2.0}},
            "drip": {"url": f"{server.url}/drip", "meta": {"download_timeout": 2.0}},
            "redirect": {"url": f"{server.url}/from#part"},
            "login": {"url": server.url.replace("//", "//mira:secret@") + "/login"},
            "dot": {"url": f"http://localhost.:{server.port}/plain?dot"},
            "refused": {"url": "http://127.0.0.1:1/"},
            "noname": {"url": "http://does-not-exist.invalid/"},
            "six": {"url": f"{six.url}/six"},
            "secure": {"url": f"{secure.url}/secure"},
            "secure10": {"url": f"{secure.url}/secure10"},
            "nottls": {"url": f"https://127.0.0.1:{rude.port}/"},
            "nohandshake": {"url": f"https://127.0.0.1:{server.port}/", "meta": {"download_timeout": 2.0}},
            "proxied": {"url": f"http://{host}/plain?proxied", "meta": {"proxy": proxy.url}},
            "known": {"url": f"http://{host}/plain?known", "meta": {"proxy": known}},
            "stranger": {"url": f"http://{host}/plain?stranger", "meta": {"proxy": strict.url}, "all": True},
            "tunnel": {"url": f"https://{deep}/tunnel", "meta": {"proxy": proxy.url}},
            "knowntunnel": {"url": f"https://{deep}/tunnel?k", "meta": {"proxy": known}},
            "strangertunnel": {"url": f"https://{deep}/tunnel?s", "meta": {"proxy": strict.url}},
            "noproxy": {"url": f"http://{host}/plain?n", "meta": {"proxy": "http://127.0.0.1:1"}},
        }
        requests["busy"]["meta"] = {"max_retry_times": 2}
        for name in ("cut", "cutchunk", "reset", "nothing", "cuthead", "banner", "badchunk"):
            requests[name]["meta"] = {"dont_retry": True}
        result = crawl(Job(requests), tmp_path_factory.mktemp("plain"))
        yield server, strict, result


@pytest.mark.parametrize("name", EXACT)
def test_an_answer_is_recorded_as_sent_and_before_it_is_seen(plain, name):
    _, _, result = plain
    exchange = result.one(name)
    assert exchange.response == EXACT[name]
    assert exchange.truncated is None and exchange.failure is None
    assert exchange.started_at <= exchange.ended_at
    assert exchange.ip == "127.0.0.1"
    assert exchange.protocols == ("http/1.0" if name == "http10" else "http/1.1",)
    assert result.got[name].recorded_before
    assert [ref.record_id for ref in result.got[name].records] == [exchange.record_id]


@pytest.mark.parametrize("name", EXACT)
def test_a_request_is_recorded_as_received(plain, name):
    server, _, result = plain
    (received,) = [one for one in server.requests if one.target == f"/{name}"]
    assert result.one(name).request == received.raw


def test_bodies_reach_scrapy_decoded(plain):
    got = plain[2].got
    assert {got[name].body for name in ("plain", "http10", "gzip", "br", "zstd")} == {HTML}
    assert got["chunked"].body == b"hello, witness!"
    assert got["gzip"].kind == "HtmlResponse"
    assert got["notmodified"].status == 304 and got["gone"].status == 410


def test_interim_answers_are_named_and_left_out(plain):
    exchange = plain[2].one("interim")
    assert exchange.response == answer()
    assert exchange.notes == (("OSINT-Interim", "100 Continue"), ("OSINT-Interim", "103 Early Hints"))


def test_head_has_no_body(plain):
    exchange = plain[2].one("head")
    assert exchange.method == "HEAD"
    assert exchange.response == b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nX: y\r\n\r\n"


def test_bytes_after_an_answer_are_left_out_and_end_the_connection(plain):
    server, _, result = plain
    exchange = result.one("garbage")
    assert exchange.response == answer()
    assert exchange.notes == (("OSINT-Trailing", f"{len(GARBAGE)} bytes after the answer are left out"),)
    (asked,) = server.asked("/garbage")
    assert [one for one in server.requests if one.connection == asked.connection][-1] is asked


@pytest.mark.parametrize(
    ("name", "response", "truncated", "failure", "error"),
    [
        ("cut", CUT, Truncated.DISCONNECT, None, "ResponseDataLossError"),
        ("cutchunk", b"half a chunk", Truncated.DISCONNECT, None, "ResponseDataLossError"),
        ("cuthead", b"HTTP/1.1 200 OK\r\nX-Half: ", Truncated.DISCONNECT, None, "DownloadFailedError"),
        ("reset", b"no length", Truncated.DISCONNECT, None, None),
        ("nothing", None, None, "disconnect", "DownloadFailedError"),
        ("hang", None, None, "timeout", "DownloadTimeoutError"),
        ("drip", DRIP, Truncated.TIME, None, "DownloadTimeoutError"),
        ("banner", b"SSH-2.0-OpenSSH_9.2\r\n", Truncated.UNSPECIFIED, "malformed", "DownloadFailedError"),
        ("badchunk", b"zz\r\nhello", Truncated.UNSPECIFIED, "malformed", "ResponseDataLossError"),
    ],
)
def test_what_came_before_a_failure_is_recorded_once(plain, name, response, truncated, failure, error):
    exchange = plain[2].one(name)
    assert exchange.response is None if response is None else exchange.response.endswith(response)
    assert (exchange.truncated, exchange.failure) == (truncated, failure)
    assert exchange.request.startswith(f"GET /{name} ".encode())
    assert plain[2].got[name].error == error
    assert len(plain[2].got[name].records) == 1


@pytest.mark.parametrize(
    ("name", "failure", "error"),
    [
        ("refused", "refused", "DownloadConnectionRefusedError"),
        ("noname", "name-unknown", "NameUnknown"),
        ("nottls", "tls", "DownloadFailedError"),
        ("strangertunnel", "proxy-tunnel", "TunnelError"),
        ("noproxy", "proxy-refused", "DownloadConnectionRefusedError"),
    ],
)
def test_a_request_that_never_left_is_recorded_without_bytes(plain, name, failure, error):
    exchange = plain[2].one(name)
    assert (exchange.request, exchange.response, exchange.failure) == (b"", None, failure)
    assert plain[2].got[name].error == error


def test_each_hop_and_each_try_is_recorded(plain):
    hops = [one.exchange for one in plain[2].of("redirect")]
    assert [one.url.rpartition("/")[2] for one in hops] == ["from", "to?x=1"]
    assert hops[0].response.endswith(b"\r\n\r\nmove")
    assert [one.record_id for one in plain[2].got["redirect"].records] == [one.record_id for one in hops]
    tries = [one.exchange.response for one in plain[2].of("busy")]
    assert tries == [answer(b"later", b"503 Busy"), answer(b"<html>now</html>")]
    assert plain[2].got["busy"].body == b"<html>now</html>"


def test_user_and_password_of_a_url_are_neither_sent_nor_recorded(plain):
    server, _, result = plain
    exchange = result.one("login")
    assert exchange.url == f"{server.url}/login"
    assert exchange.notes == (("OSINT-Redacted", "userinfo"),)
    assert b"uthorization" not in server.asked("/login")[0].raw
    assert result.got["login"].status == 200


def test_names_with_a_dot_and_ipv6_work(plain):
    assert plain[2].one("dot").response == answer()
    assert plain[2].one("dot").url.startswith("http://localhost.:")
    assert plain[2].one("six").ip == "::1"


def test_tls_is_described(plain, certificate):
    exchange = plain[2].one("secure")
    assert exchange.response == answer()
    assert exchange.protocols == ("http/1.1", "tls/1.3")
    assert exchange.cipher.startswith("TLS_")
    assert exchange.notes == (("OSINT-Certificate-SHA256", hashlib.sha256(certificate[1]).hexdigest()),)
    unclosed = plain[2].one("secure10")  # without close_notify, nobody can know that this was all
    assert unclosed.protocols == ("http/1.0", "tls/1.3")
    assert unclosed.response == EXACT["http10"] and unclosed.truncated is Truncated.DISCONNECT


def test_through_a_proxy_there_is_no_address_and_no_credential(plain, certificate):
    _, strict, result = plain
    assert result.one("proxied").notes == (("OSINT-Proxy", "http"),)
    assert result.one("proxied").ip is None
    assert result.one("proxied").response == answer()
    known = result.one("known")
    assert known.notes == (("OSINT-Proxy", "http"), ("OSINT-Redacted", "proxy-authorization"))
    assert b"roxy-" not in known.request and known.request.startswith(b"GET http://nowhere.example:")
    (received,) = [one for one in strict.requests if b"?known" in one]
    assert b"Proxy-Authorization: Basic bWlyYTpzZWNyZXQ=\r\n" in received
    assert result.one("stranger").response.startswith(b"HTTP/1.1 407 Who Are You\r\n")


def test_through_a_tunnel_the_origins_bytes_are_recorded(plain, certificate):
    digest = ("OSINT-Certificate-SHA256", hashlib.sha256(certificate[1]).hexdigest())
    tunnel, known = plain[2].one("tunnel"), plain[2].one("knowntunnel")
    assert tunnel.notes == (("OSINT-Proxy", "connect"), digest)
    assert known.notes == (("OSINT-Proxy", "connect"), ("OSINT-Redacted", "proxy-authorization"), digest)
    for one in (tunnel, known):
        assert one.response == answer(b"<html>deep</html>")
        assert one.request.startswith(b"GET /tunnel") and b"roxy-" not in one.request
        assert (one.ip, one.protocols) == (None, ("http/1.1", "tls/1.3"))


def test_nothing_is_recorded_twice_and_scrapy_complains_of_nothing(plain):
    _, _, result = plain
    assert len({one.exchange.record_id for one in result.kept}) == len(result.kept)
    assert "Traceback" not in result.stderr, result.stderr
