"""Byte for byte through the product: what a server sent and received is what `osint pull` gives back."""

import base64
import gzip
import hashlib
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import pytest
from warcio.archiveiterator import ArchiveIterator

from storage.records import open_warc
from tests.commands import Osint
from tests.rawserver import Answer, Proxy, RawServer, answer, closing, in_turn, self_signed

PAGE = (
    "<html><head><title>Хроніка</title></head><body><h1>Затрыманне ў Мінску</h1>"
    "<p>Учора ўвечары каля ратушы затрымалі траіх чалавек; дзе яны цяпер, невядома.</p></body></html>"
).encode()
TYPE = b"Content-Type: text/html; charset=utf-8"


def chunked(body: bytes, *lines: bytes, size: int = 40) -> bytes:
    """Build an answer in chunks, with extensions and trailers."""
    head = b"\r\n".join((b"HTTP/1.1 200 OK", TYPE, *lines, b"Transfer-Encoding: chunked", b"Trailer: X-Sum"))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b'%X;part="%d"\r\n%s\r\n' % (len(one), at, one) for at, one in enumerate(pieces))
    return head + b"\r\n\r\n" + framed + b"00;last\r\nX-Sum: 1\r\nx-sum:  2 \r\n\r\n"


def large(size_bytes: int) -> bytes:
    """Make a page of hardly compressible words, the same each time."""
    letters = random.Random(4)
    words = b" ".join(letters.randbytes(6).hex().encode() for _ in range(size_bytes // 13))
    return b"<html><body><p>" + words + b"</p></body></html>"


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
ODD: dict[str, bytes] = {
    "http10": b"HTTP/1.0 200 OK\r\n" + TYPE + b"\r\n\r\n" + PAGE,
    "nolength": b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + TYPE + b"\r\n\r\n" + PAGE,
    "chunked": chunked(PAGE),
    "hints": INTERIM + answer(PAGE),
    "nocontent": b"HTTP/1.1 204 No Content\r\nX-Nothing: yes\r\n\r\n",
    "duplicate": answer(PAGE, b"200 OK", b"set-cookie: a=1", b"SET-COOKIE: b=2", b"Set-Cookie: a=1"),
    "folded": answer(PAGE, b"200 OK", b"X-Folded: one", b"  two", b"\tthree", b"X-Blank:", b"X-Tight:x", b"x-b:  y  "),
    "noreason": answer(PAGE, b"200"),
    "blankreason": answer(PAGE, b"200 "),
    "longreason": answer(PAGE, b"200 All  is \xb1 well"),
    "latin": answer(PAGE, b"200 OK", b"X-City: M\xfcnchen \xe9t\xe9", b"X-Bytes: \xff\xfe"),
    "gzip": answer(gzip.compress(PAGE, mtime=0), b"200 OK", b"Content-Encoding: gzip"),
    "br": answer(brotli.compress(PAGE), b"200 OK", b"Content-Encoding: br"),
    "gzipchunked": chunked(gzip.compress(PAGE, mtime=0), b"Content-Encoding: x-gzip"),
    "empty": answer(b""),
    "missing": answer(PAGE, b"404 Not Here"),
    "gone": answer(PAGE, b"410 Gone"),
    "large": answer(large(300_000)),
    "linefeeds": b"HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 0000%d\nX: y\n\n" % len(PAGE) + PAGE,
    "manyheaders": answer(PAGE, b"200 OK", *(b"X-%d: %s" % (at, b"v" * 90) for at in range(400))),
    "cyrillic": answer("<html><body><p>затрыманы</p></body></html>".encode("cp1251"), b"200 OK", b"X: 1"),
}
CLOSED = {"http10", "nolength"}
HOPS = {
    "first": b"HTTP/1.1 301 Moved\r\nLocation: /second?a=1\r\nContent-Length: 4\r\n\r\nmove",
    "second": b"HTTP/1.1 302 Found\r\nlocation: third\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyet\r\n0\r\n\r\n",
    "third": b"HTTP/1.1 308 Still Moving\r\nLOCATION:/fourth#part\r\nContent-Length: 0\r\n\r\n",
    "fourth": answer(PAGE + b"<!-- the end of the chain -->"),
}
BUSY = answer(b"later", b"503 Busy")
AGAIN = answer(PAGE + b"<!-- at last -->")
SECRET = "mira:geheim-4711"
HIDDEN = (b"geheim-4711", base64.b64encode(SECRET.encode()), b"roxy-Authorization")


@dataclass(frozen=True)
class Block:
    """A record of a pulled WARC."""

    type: str
    url: str
    block: bytes
    fields: tuple[tuple[str, str], ...]


@dataclass
class Archive:
    """Crawls into one data folder and reads what `pull` writes."""

    osint: Osint

    def crawl(self, *urls: str, code: int | None = 0) -> dict[str, Any]:
        """Crawl single pages of one host; give the summary."""
        given = "\n".join(urls)
        done = self.osint.run("crawl", "--spider", "page", "--render", "never", "--json", "-", code=code, given=given)
        (line,) = done.stdout.splitlines()
        run: dict[str, Any] = json.loads(line)
        assert run["wanted"] == run["captured"] + run["refused"] + run["truncated"] + run["failed"] == len(urls), run
        return run

    def captures(self, *words: str) -> dict[str, str]:
        """Find the captures, by address."""
        return {
            row["url"]: row["capture"] for row in self.osint.rows("find", "--kind", "page", "--limit", "500", *words)
        }

    def pull(self, id_: str) -> list[Block]:
        """Pull; give the request, response and revisit records, read by our reader and, the same, by warcio."""
        (pulled,) = self.osint.rows("pull", id_, "--out", tempfile.mkdtemp(dir=self.osint.home.parent))
        path = Path(pulled["path"])
        with open_warc(path) as reader:
            ours = [Block(r.header.type, r.header.url, b"".join(r.pieces()), r.header.fields) for r in reader]
        with path.open("rb") as file:
            theirs = [record.raw_stream.read() for record in ArchiveIterator(file, no_record_parse=True)]
        assert [one.block for one in ours] == theirs
        return [one for one in ours if one.type in ("request", "response", "revisit")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    osint = Osint(tmp_path_factory.mktemp("roundtrip") / "home", OSINT_RETRY_AFTER_LIMIT_SECONDS="1")
    osint.run("up", "--servers")
    try:
        yield Archive(osint)
    finally:
        osint.run("down")


@dataclass
class Plain:
    """One crawl of all odd answers: what the server saw, the summary, and the records of the run."""

    server: RawServer
    run: dict[str, Any]
    records: list[Block]

    def of(self, path: str, *types: str) -> list[Block]:
        """List the records of a path, in the order of the WARC."""
        types = types or ("response", "revisit")
        return [
            one for one in self.records if one.type in types and one.url.partition("?")[0] == self.server.url + path
        ]


@pytest.fixture(scope="module")
def plain(archive: Archive) -> Iterator[Plain]:
    answers: dict[str, Answer] = {f"/{name}": closing(data) if name in CLOSED else data for name, data in ODD.items()}
    answers |= {f"/{name}": data for name, data in HOPS.items()}
    answers |= {"/busy": in_turn(BUSY, AGAIN)}
    with RawServer(answers) as server:
        run = archive.crawl(*(f"{server.url}/{name}" for name in (*ODD, "first", "busy")), code=None)
        yield Plain(server, run, archive.pull(run["run"]))


def final(data: bytes) -> bytes:
    """Leave out interim answers: they are named in the record's fields instead (storage/exchange.py)."""
    return data.removeprefix(INTERIM)


def head_of(data: bytes) -> bytes:
    """Give an answer's head: all that a revisit record keeps."""
    mark = b"\n\n" if b"\r\n\r\n" not in data else b"\r\n\r\n"
    return data[: data.index(mark) + len(mark)]


@pytest.mark.parametrize("name", ODD)
def test_an_answer_is_pulled_as_it_was_sent(plain: Plain, name: str) -> None:
    (got,) = plain.of(f"/{name}")
    sent = final(ODD[name])
    assert got.block == (head_of(sent) if got.type == "revisit" else sent)


@pytest.mark.parametrize("name", [*ODD, *HOPS])
def test_a_request_is_pulled_as_it_was_received(plain: Plain, name: str) -> None:
    (got,) = plain.of(f"/{name}", "request")
    (received,) = plain.server.asked(f"/{name}")
    assert got.block == received.raw


def test_an_equal_body_is_a_revisit_of_a_whole_one(plain: Plain) -> None:
    """Every body was sent in full at least once in a response record; equal payloads refer to it by its id."""
    ids = {dict(one.fields)["WARC-Record-ID"] for one in plain.records if one.type == "response"}
    revisits = [one for one in plain.records if one.type == "revisit"]
    assert plain.run["revisits"] == len(revisits) > 0
    for one in revisits:
        assert dict(one.fields)["WARC-Refers-To"] in ids


def test_every_hop_of_a_chain_is_pulled_in_order(plain: Plain, archive: Archive) -> None:
    records = archive.pull(archive.captures()[f"{plain.server.url}/fourth"])
    hops = [one for one in records if one.type == "response"]
    assert [one.url.removeprefix(plain.server.url) for one in hops] == ["/first", "/second?a=1", "/third", "/fourth"]
    assert [one.block for one in hops] == list(HOPS.values())


@pytest.mark.parametrize("name", ["first", "fourth"])
def test_a_page_is_found_by_what_was_asked_and_by_where_it_led(plain: Plain, archive: Archive, name: str) -> None:
    (found,) = archive.osint.rows("find", "--url", f"{plain.server.url}/{name}")
    assert found["text"] and "ратушы" in found["text"]


def test_every_try_is_pulled(plain: Plain, archive: Archive) -> None:
    assert [one.block for one in plain.of("/busy")] == [BUSY, AGAIN]
    assert [one.block for one in plain.of("/busy", "request")] == [one.raw for one in plain.server.asked("/busy")]


def test_interim_answers_are_named(plain: Plain) -> None:
    (got,) = plain.of("/hints")
    assert ("OSINT-Interim", "103 Early Hints") in got.fields


def test_connections_were_used_again(plain: Plain) -> None:
    """The records of several requests on one connection are told apart: the blocks above say so, this says that it was tried."""
    connections = [one.connection for one in plain.server.requests]
    assert len(set(connections)) <= len(connections) * 2 // 3


def test_the_summary_counts_a_404_and_a_410_as_captured_and_an_empty_200_as_failed(plain: Plain) -> None:
    counts = {name: plain.run[name] for name in ("outcome", "captured", "refused", "truncated", "failed")}
    all_but_one = len(ODD) + 2 - 1
    assert counts == {"outcome": "partial", "captured": all_but_one, "refused": 0, "truncated": 0, "failed": 1}


@pytest.mark.parametrize("name", ["chunked", "gzipchunked", "gone", "large", "fourth"])
def test_a_single_capture_can_be_pulled(plain: Plain, archive: Archive, name: str) -> None:
    records = archive.pull(archive.captures()[f"{plain.server.url}/{name}"])
    blocks = {(one.type, one.block) for one in records}
    (mine,) = plain.of(f"/{name}")
    assert (mine.type, mine.block) in blocks
    assert ("request", plain.server.asked(f"/{name}")[0].raw) in blocks


def test_a_second_visit_is_a_revisit_with_the_head_of_its_own_day(archive: Archive) -> None:
    first = answer(PAGE + b"<!-- both days -->", b"200 OK", b"X-Day: 1")
    second = answer(PAGE + b"<!-- both days -->", b"200 OK", b"X-Day: 2")
    with RawServer({"/again": in_turn(first, second)}) as server:
        for sent, type_ in ((first, "response"), (second, "revisit")):
            run = archive.crawl(f"{server.url}/again")
            (got,) = [one for one in archive.pull(run["run"]) if one.type == type_ and one.url.endswith("/again")]
            assert got.block == (sent if type_ == "response" else head_of(sent))
            assert run["revisits"] >= (type_ == "revisit")


def test_over_tls_the_bytes_inside_are_pulled(archive: Archive, tmp_path: Path) -> None:
    context, der = self_signed(tmp_path)
    sent = chunked(PAGE + b"<!-- in private -->")
    with RawServer({"/secret": sent}, tls=context) as server:
        run = archive.crawl(f"{server.url}/secret")
        records = [one for one in archive.pull(run["run"]) if one.url.endswith("/secret")]
        (request,) = [one for one in records if one.type == "request"]
        (response,) = [one for one in records if one.type == "response"]
        assert (request.block, response.block) == (server.asked("/secret")[0].raw, sent)
        assert ("OSINT-Certificate-SHA256", hashlib.sha256(der).hexdigest()) in response.fields
        assert any(name == "WARC-Protocol" and value.startswith("tls/") for name, value in response.fields)


@pytest.mark.parametrize("tls", [False, True])
def test_through_a_proxy_the_records_are_the_origins_and_hold_no_password(
    archive: Archive, tmp_path: Path, tls: bool
) -> None:
    word = base64.b64encode(SECRET.encode()).decode()
    sent = answer(PAGE + b"<!-- through a proxy %d -->" % tls)
    context = self_signed(tmp_path)[0] if tls else None
    with RawServer({"/far": sent}, tls=context) as server, Proxy(auth=f"Basic {word}") as proxy:
        osint = Osint(archive.osint.home, OSINT_PROXY=proxy.url.replace("//", f"//{SECRET}@"))
        run = Archive(osint).crawl(f"{server.url}/far")
        records = [one for one in archive.pull(run["run"]) if one.url.endswith("/far")]
        asked_of_proxy = [one for one in proxy.requests if b"/far" in one or one.startswith(b"CONNECT")]
        assert asked_of_proxy, "OSINT_PROXY was passed by: the crawl asked the server itself"
        assert all(b"roxy-Authorization" in one for one in proxy.requests)
        arrived = {one.connection for one in server.requests}
        assert len(arrived) == len(proxy.requests), "robots.txt and every try go the same way"
        (response,) = [one for one in records if one.type == "response"]
        (request,) = [one for one in records if one.type == "request"]
        assert response.block == sent
        assert ("OSINT-Proxy", "connect" if tls else "http") in response.fields
        assert not [value for name, value in response.fields if name == "WARC-IP-Address"]
        received = server.asked("/far")[0].raw
        if tls:
            assert request.block == received
        else:
            assert request.block.startswith(f"GET {server.url}/far HTTP/1.1\r\n".encode())
        assert not holders(archive.osint, run["run"])
        shown = osint.run("config").stdout + osint.run("runs", run["run"]).stdout + osint.run("runs", "--json").stdout
        assert not [one for one in HIDDEN[:2] if one in shown.encode()]


def holders(osint: Osint, run: str) -> list[tuple[str, str]]:
    """Name the files of the run's WARCs, in spool and store, that hold the proxy's user, password or header."""
    found = []
    for path in (*(osint.home / "spool").rglob("*"), *(osint.home / "store").rglob("*")):
        if path.is_file() and run[-12:] in path.name:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found += [(path.name, word.decode()) for word in HIDDEN if word in data]
    return found


def test_everything_verifies(archive: Archive) -> None:
    counts = archive.osint.claims()
    assert counts["UNVERIFIABLE"] == 0 and counts["PASS"] > 5
