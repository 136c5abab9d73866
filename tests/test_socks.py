"""A SOCKS5 exit on the wire: the same bytes as without it, names left to the proxy, failures recorded, nothing of it archived."""

import hashlib
from contextlib import ExitStack

import pytest
from rawserver import RawServer, answer, closing, self_signed
from wirecrawl import Job, crawl

from osint_pipeline.fetch.tunnel import TunnelFailed, talk
from settings.exits import read_exit
from storage.exchange import Truncated
from tests.proxyserver import NOT_ALLOWED, REFUSED, Socks

LOGIN = ("mira", "geheim-4711")
HOST = "watched.invalid"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def socks(certificate, tmp_path_factory):
    """One crawl through a proxy that wants a login; with it what the servers and the proxy saw."""
    with ExitStack() as stack:
        cut = closing(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut")
        plain = stack.enter_context(RawServer({"/a": answer(), "/b": answer(b"<p>two</p>"), "/cut": cut}))
        secure = stack.enter_context(RawServer({"/s": answer(b"<p>inside</p>")}, tls=certificate[0]))
        replies = {"forbidden.invalid": NOT_ALLOWED, "closed.invalid": REFUSED}
        proxy = stack.enter_context(Socks(login=LOGIN, hosts={HOST: "127.0.0.1"}, replies=replies))
        site, safe = f"http://{HOST}:{plain.port}", f"https://{HOST}:{secure.port}"
        requests = {
            "a": {"url": f"{site}/a?x=1#part"},
            "b": {"url": f"{site}/b"},
            "cut": {"url": f"{site}/cut"},
            "s": {"url": f"{safe}/s"},
            "t": {"url": f"{safe}/s?again"},
            "dot": {"url": f"http://{HOST}.:{plain.port}/a?dot"},
            "forbidden": {"url": "http://forbidden.invalid/"},
            "closed": {"url": "https://closed.invalid/"},
            "nowhere": {"url": "http://nowhere.invalid/"},
            "private": {"url": "http://10.1.2.3/"},
            "odd": {"url": "http://0x0a.66051/"},
            "stray": {"url": f"{site}/a?stray", "meta": {"proxy": "http://127.0.0.1:1"}},
        }
        exit = read_exit(proxy.url.replace("socks5:", "socks5h:"), "warsaw")
        settings = {"CONCURRENT_REQUESTS": 1, "CONCURRENT_REQUESTS_PER_DOMAIN": 1}
        job = Job(requests, allow=(), exit=exit, deaf=True, settings=settings)
        result = crawl(job, tmp_path_factory.mktemp("socks"))
        yield result, proxy, plain, secure


def test_what_is_recorded_is_what_the_server_got_and_said(socks):
    result, _, plain, _ = socks
    for name, path, said in (("a", "/a", answer()), ("b", "/b", answer(b"<p>two</p>"))):
        one = result.one(name)
        assert (one.request, one.response) == (plain.asked(path)[0].raw, said)
        assert one.request.startswith(f"GET {path}".encode())  # origin-form, as without a proxy
        assert (one.ip, one.notes, one.protocols) == (None, (("OSINT-Proxy", "socks5"),), ("http/1.1",))
        assert result.got[name].recorded_before
    assert result.one("cut").truncated is Truncated.DISCONNECT


def test_tls_goes_end_to_end_inside(socks, certificate):
    result, _, _, secure = socks
    one = result.one("s")
    assert (one.request, one.response) == (secure.asked("/s")[0].raw, answer(b"<p>inside</p>"))
    assert (one.ip, one.protocols) == (None, ("http/1.1", "tls/1.3"))
    assert one.notes == (
        ("OSINT-Proxy", "socks5"),
        ("OSINT-Certificate-SHA256", hashlib.sha256(certificate[1]).hexdigest()),
    )


def test_connections_are_used_again(socks):
    _, proxy, plain, secure = socks
    assert len({one.connection for one in secure.requests}) == 1 < len(secure.requests)
    to_plain = [one for one in proxy.asked if one[2] == plain.port]
    assert len(to_plain) == len({one.connection for one in plain.requests}) < len(plain.requests)


def test_names_go_to_the_proxy_and_are_never_looked_up_here(socks):
    result, proxy, *_ = socks
    assert result.lookups == []
    assert {one[:2] for one in proxy.asked} == {
        ("name", one) for one in (HOST, "forbidden.invalid", "closed.invalid", "nowhere.invalid")
    }
    assert set(proxy.logins) == {LOGIN}


def test_private_addresses_never_reach_the_proxy(socks):
    result, proxy, *_ = socks
    for name in ("private", "odd"):
        assert result.got[name].error == "AddressRefused" and not result.of(name)
    assert "10." not in str(proxy.asked)


def test_what_the_proxy_cannot_reach_is_a_failure_with_a_record(socks):
    result = socks[0]
    for name in ("forbidden", "closed", "nowhere"):
        one = result.one(name)
        assert (one.failure, one.request, one.response, one.ip) == ("proxy-tunnel", b"", None, None)
        assert one.notes == (("OSINT-Proxy", "socks5"),) and result.got[name].error == "SocksFailed"


def test_no_request_finds_another_way_out(socks):
    assert socks[0].one("stray").response == answer()  # though something had set another proxy for it


def test_no_credential_is_recorded(socks):
    told = repr(socks[0].kept) + repr(socks[0].got) + socks[0].stderr
    assert "geheim" not in told and "mira" not in told and str(socks[1].port) not in told


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("Watched.Example.", b"\3\x0fWatched.Example"),
        ("xn--80ak6aa92e.example", b"\3\x16xn--80ak6aa92e.example"),
        ("192.0.2.1", b"\1\xc0\0\2\1"),
        ("0xc0000201", b"\1\xc0\0\2\1"),
        ("2001:db8::1", b"\4\x20\1\x0d\xb8" + bytes(11) + b"\1"),
    ],
)
def test_what_a_host_is_asked_for_as(host, said):
    talking = talk(read_exit("socks5://127.0.0.1:1"), host, 443)
    assert next(talking) == (b"\5\1\0", 2)
    assert talking.send(b"\5\0")[0] == b"\5\1\0" + said + b"\x01\xbb"


def test_a_name_that_no_proxy_could_resolve_is_not_asked_for():
    talking = talk(read_exit("socks5://127.0.0.1:1"), "x" * 64 + ".example", 443)
    next(talking)
    with pytest.raises(TunnelFailed, match="is no name"):
        talking.send(b"\5\0")


@pytest.mark.parametrize("garbage", [b"HT", b"\5\7", b"\4\0"])
def test_a_proxy_that_speaks_otherwise_is_a_failure(garbage):
    talking = talk(read_exit("socks5://mira:geheim@127.0.0.1:1"), "watched.example", 443)
    assert next(talking) == (b"\5\2\0\2", 2)
    with pytest.raises(TunnelFailed) as caught:
        talking.send(garbage)
    assert caught.value.word == "login" and "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("server", "url", "word", "error"),
    [
        ({"login": ("mira", "other")}, None, "proxy-login", "TunnelFailed"),
        ({"silent": True}, None, "timeout", "DownloadTimeoutError"),
        ({}, "socks5://127.0.0.1:1", "proxy-refused", "DownloadConnectionRefusedError"),
        ({}, "socks5://proxy.invalid:1080", "proxy-name-unknown", "CannotResolveHostError"),
    ],
    ids=["login", "silent", "closed", "noname"],
)
def test_a_proxy_that_fails_is_told_from_a_server_that_does(tmp_path, server, url, word, error):
    with Socks(**server) as proxy:
        exit = read_exit(url or f"socks5://mira:geheim-4711@127.0.0.1:{proxy.port}")
        requests = {"one": {"url": f"http://{HOST}/", "meta": {"download_timeout": 1.0}}}
        result = crawl(Job(requests, exit=exit, deaf=True), tmp_path)
    assert (result.one("one").failure, result.got["one"].error) == (word, error)
    assert HOST not in result.lookups and proxy.asked == []
