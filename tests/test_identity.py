"""Named identities: kept encrypted, seen by the browser of one source alone, and in no record."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from conftest import plain
from sqlalchemy import text
from visiting import Visitor
from warcio.archiveiterator import ArchiveIterator

from osint_pipeline import identities
from osint_pipeline.credentials import Words, secrets_in
from osint_pipeline.fetch.redacting import Redacting
from osint_pipeline.identity_names import name_digest
from osint_pipeline.samples.server import Answer, Asked, Serving, html
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.exchange import Exchange, RecordRef, Resource, Stored
from tests.commands import Inside

CHROMIUM = shutil.which("chromium")
SESSION, TOKEN, TURNED = "s3ss10n-of-the-identity", "t0ken-in-local-storage", "turned-0ver-by-the-server"
MARKED = 'vk1.a/Ab&Cd"Ab=1234f-_<ab'  # with every letter that is written otherwise somewhere
PROSE = "<p>" + "Сёння ў Вярхоўску затрымалі траіх рабочых, кажуць сведкі падзеі. " * 8 + "</p>"
LOGIN = "<html><head><title>Увайдзіце</title></head><body><h1>Увайдзіце на сайт</h1></body></html>"
SEEN = f"""<html><head><title>Сцяна</title></head><body><article><h1>Сцяна</h1>{PROSE}<p id="key">Ключ: </p></article>
<script>const held = JSON.parse(localStorage.vk).access_token
document.querySelector("#key").append(held)
fetch("/api?t=" + encodeURIComponent(held), {{method: "POST", headers: {{Authorization: "Bearer " + localStorage.token, "X-Own": localStorage.token}},
body: "t=" + localStorage.token}})</script></body></html>"""


def state(port: int = 80) -> dict[str, Any]:
    cookie = {"name": "sid", "value": SESSION, "domain": "127.0.0.1", "path": "/", "expires": -1, "httpOnly": True, "secure": False, "sameSite": "Lax"}  # fmt: skip
    origin = {
        "origin": f"http://127.0.0.1:{port}",
        "localStorage": [
            {"name": "token", "value": TOKEN},
            {"name": "vk", "value": json.dumps({"access_token": MARKED})},
        ],
    }
    return {"cookies": [cookie], "origins": [origin]}


class Wall:
    """Shows its pages only to the identity, and turns its cookie over."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, asked: Asked) -> Answer:
        who = "browser" if "sec-fetch-dest" in asked.headers else "wire"
        self.asked.append((who, asked.path.partition("?")[0], asked.headers.get("cookie", "")))
        if asked.path == "/wall":
            known = f"sid={SESSION}" in asked.headers.get("cookie", "")
            turned = (("Set-Cookie", f"sid2={TURNED}; Path=/; HttpOnly"),)
            return html(SEEN, headers=turned) if known else html(LOGIN)
        return (
            Answer(body=b"{}", media_type="application/json")
            if asked.path.startswith("/api?t=vk1")
            else html("", status=404)
        )


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    with Visitor() as opened:
        yield opened


@pytest.fixture
def environ(tmp_path: Path, embedded_url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "OSINT_HOME": str(tmp_path / "home"),
        "OSINT_DATABASE_URL": plain(embedded_url),
        "OSINT_ALLOW_NETWORKS": "127.0.0.0/8",
        "OSINT_DELAY_SECONDS": "0",
    }


def records(home: Path) -> Iterator[tuple[list[tuple[str, str]], bytes]]:
    for path in sorted((home / "spool").rglob("*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, no_record_parse=True):
                yield record.rec_headers.headers, record.raw_stream.read()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_browser_of_its_source_is_known_and_no_record_holds_it(
    visitor: Visitor, environ: dict[str, str], tmp_path: Path
) -> None:
    wall = Wall()
    with Serving(wall, lambda served: None) as serving:
        with Workspace(load(environ).service) as opened:
            identities.add(opened, "wall-login", json.dumps(state(serving.port)).encode())
        run = visitor.visit(environ, f"{serving.url}/wall", "page", render="auto", identity="wall-login")
        assert (run["outcome"], run["posts"]) == ("complete", 1), run
        assert {cookie for who, _, cookie in wall.asked if who == "wire"} == {""}, "the wire is nobody"
        cookies = {path: cookie for who, path, cookie in wall.asked if who == "browser"}
        assert SESSION in cookies["/wall"] and TURNED in cookies["/api"]
        check_records(tmp_path / "home")
        wall.asked.clear()
        other = visitor.visit(environ, f"{serving.url}/wall?other", "page", render="always")
        assert other["refused"] == 1 and not any(cookie for _, _, cookie in wall.asked), "nor is any other source"
        lost = visitor.visit(environ, f"{serving.url}/wall?lost", "page", render="always", identity="gone")
        assert (lost["outcome"], lost["failed"]) == ("failed", 2)  # the other page too, which nobody was refused before
        odd = state(serving.port)
        odd["cookies"][0]["partitionKey"] = "no site"
        with Workspace(load(environ).service) as opened:
            identities.add(opened, "odd", json.dumps(odd).encode())
        odd_run = visitor.visit(environ, f"{serving.url}/wall?odd", "page", render="always", identity="odd")
        assert odd_run["outcome"] == "failed"
    with Workspace(load(environ).service) as opened, opened.catalog.begin() as connection:
        assert str(connection.scalar(text("SELECT text FROM post_versions"))).endswith(
            "Ключ: " + "x" * len(escape(MARKED, quote=False))
        )
        wanted = "SELECT detail -> 'identity', detail -> 'identity_used' FROM runs ORDER BY started_at"
        told = [tuple(row) for row in connection.execute(text(wanted))]
        reasons = connection.scalars(
            text("SELECT DISTINCT reason FROM captures WHERE state = 'failed' ORDER BY 1")
        ).all()
    used = [(name_digest("wall-login"), True), (None, None), (name_digest("gone"), False), (name_digest("odd"), False)]
    assert told == used
    assert sorted(reasons) == [
        "Chromium refuses the cookies or storage of the source's named identity",
        "the source's named identity cannot be used on this machine",
    ]


def check_records(home: Path) -> None:
    """No secret anywhere, and each redaction told in the record that bears its exchange's notes: the response."""
    found, redacted, told, info = 0, set(), {}, ""
    written, pages, addresses = dict[str, bytes](), list[dict[str, Any]](), list[str]()
    for fields, block in records(home):
        found += 1
        kind = dict(fields)["WARC-Type"]
        sentences = [value for name, value in fields if name == "OSINT-Alteration"]
        told[dict(fields)["WARC-Record-ID"]] = " ".join(one for one in sentences if one.startswith("named identity: "))
        for secret in (SESSION, TOKEN, TURNED, "Cd%22Ab", "1234f-_", "wall-login"):
            assert secret.encode() not in block and secret not in str(fields), (fields, secret)
        if b"Cookie: [redacted]" in block or b"sid2=[redacted]" in block or b"Authorization: [redacted]" in block:
            redacted.add((kind, dict(fields).get("WARC-Concurrent-To") or dict(fields)["WARC-Record-ID"]))
        info += block.decode("utf-8", "replace") if kind == "warcinfo" else ""
        written[dict(fields)["WARC-Record-ID"][10:-1]] = block
        target = dict(fields).get("WARC-Target-URI", "")
        if target.startswith("urn:pageinfo:"):
            pages.append(json.loads(block))
        elif "/api?" in target:
            addresses.append(target)
    assert found > 8 and {kind for kind, _ in redacted} == {"request", "response"}
    assert all(f"{kind} head" in told[id_] for kind, id_ in redacted), told
    assert any("in the request body, its length kept" in one for one in told.values()), "the token in what was posted"
    (page,) = pages
    assert len(page["made"]) >= 4
    for one in page["made"]:
        assert (one["bytes"], one["sha256"]) == (
            len(written[one["record"]]),
            sha256(written[one["record"]]).hexdigest(),
        )
    (address,) = set(addresses)
    assert len(addresses) == 2 and address.endswith("/api?t=" + "x" * len(quote(MARKED, safe="")))
    assert address in [one["url"] for one in page["resources"]]
    assert "identity: a named identity is set for pages in the browser" in info


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.resources: list[Resource] = []

    def exchange(self, exchange: Exchange, capture: UUID | None) -> RecordRef:
        self.exchanges.append(exchange)
        return None  # type: ignore[return-value]

    def resource(self, resource: Resource, capture: UUID | None) -> RecordRef:
        self.resources.append(resource)
        return None  # type: ignore[return-value]


def exchange(request: bytes, response: Any) -> Exchange:
    now = datetime.now(UTC)
    return Exchange(
        url="http://x.example/", method="GET", started_at=now, ended_at=now, request=request, response=response
    )


def made(kept: Kept, *, url: str = "urn:dom:http://x.example/", body: Any, media_type: str = "text/html") -> Resource:
    """Give what is kept of something made of a page."""
    one = Resource(url=url, made_at=datetime.now(UTC), media_type=media_type, body=body)
    Redacting(kept, Words([SESSION, MARKED])).resource(one, None)
    return kept.resources[-1]


def test_what_is_redacted_is_declared_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    kept = Kept()
    sink = Redacting(kept, Words([SESSION]))
    request = f"POST /a HTTP/1.1\r\nHost: x.example\r\nCookie: sid={SESSION}; b=2\r\nauthorization: Basic abc\r\nX: {SESSION}\r\n\r\nq={SESSION}"
    response = f"HTTP/1.1 200 OK\r\nSet-Cookie: n={TURNED}; Path=/; Secure\r\n folded={TURNED}\r\nServer: s\r\n\r\nSet-Cookie: a body"
    sink.exchange(exchange(request.encode(), response.encode()), None)
    (one,) = kept.exchanges
    assert one.request.decode() == (
        "POST /a HTTP/1.1\r\nHost: x.example\r\nCookie: [redacted]\r\nauthorization: [redacted]\r\n"
        f"X: {'x' * len(SESSION)}\r\n\r\nq={'x' * len(SESSION)}"
    )
    assert one.response == b"HTTP/1.1 200 OK\r\nSet-Cookie: n=[redacted]\r\nServer: s\r\n\r\nSet-Cookie: a body", (
        "what a cookie is called says which guard set it"
    )
    assert one.notes == (
        ("OSINT-Alteration", "named identity: 2 lines of cookies or credentials redacted whole in the request head"),
        ("OSINT-Alteration", "named identity: 1 values redacted in the request head, an x for each letter"),
        ("OSINT-Alteration", "named identity: 1 values redacted in the request body, its length kept"),
        ("OSINT-Alteration", "named identity: 1 lines of cookies or credentials redacted whole in the response head"),
    )
    path = tmp_path / "big"
    path.write_bytes(response.encode() + b"x" * 3_000_000)
    sink.exchange(
        exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Stored(path=path, length_bytes=path.stat().st_size)), None
    )
    big = kept.exchanges[-1].response
    assert isinstance(big, Stored) and big.length_bytes == big.path.stat().st_size and not path.exists()
    data = big.path.read_bytes()
    assert TURNED.encode() not in data and data.endswith(b"Set-Cookie: a body" + b"x" * 3_000_000)
    plain_one = exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nbody")
    sink.exchange(plain_one, None)
    assert kept.exchanges[-1] == plain_one


def test_a_server_can_blank_nothing_but_its_own_cookies() -> None:
    kept, values = Kept(), ("text/html", "задержан", "Belarusian", "minsk-protests-2026-november", TURNED)
    sink = Redacting(kept, Words(secrets_in(["Belarusian", "задержан", "https://x.example/2026/a1b2c3d4e5f6/"])))
    for value in values:
        sink.exchange(
            exchange(b"GET / HTTP/1.1\r\n\r\n", f"HTTP/1.1 200 OK\r\nSet-Cookie: a={value}\r\n\r\n".encode()), None
        )
    said = exchange(b"GET / HTTP/1.1\r\n\r\n", f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{values}".encode())
    sink.exchange(said, None)
    assert kept.exchanges[-1] == said
    page = Resource(url="urn:text:x", made_at=datetime.now(UTC), media_type="text/plain", body=str(values).encode())
    sink.resource(page, None)
    assert kept.resources == [page]


def test_tokens_within_stored_json_stand_in_no_head_body_or_address() -> None:
    stored = json.dumps(
        {"user": {"access_token": MARKED, "lang": "be-tarask"}, "back": f"https://x.example/?sid={SESSION}"}
    )
    assert secrets_in([{"value": stored}]) == {MARKED, SESSION}
    kept = Kept()
    sink = Redacting(kept, Words(secrets_in([stored])))
    there = "/api?lang=be-tarask&t=" + quote(MARKED, safe="")
    head = f"POST {there} HTTP/1.1\r\nReferer: http://x.example{there}\r\n\r\n"
    asked = exchange(
        (head + json.dumps({"t": MARKED})).encode(), f"HTTP/1.1 302 Found\r\nLocation: {there}\r\n\r\n".encode()
    )
    sink.exchange(replace(asked, url="http://x.example" + there, notes=(("OSINT-Omission", there),)), None)
    (one,) = kept.exchanges
    address = "/api?lang=be-tarask&t=" + "x" * len(quote(MARKED, safe=""))
    assert one.url == "http://x.example" + address and one.notes[0][1] == address
    assert one.request.startswith(f"POST {address} HTTP/1.1\r\nReferer: http://x.example{address}\r\n\r\n".encode())
    assert one.response == f"HTTP/1.1 302 Found\r\nLocation: {address}\r\n\r\n".encode()
    assert one.request.endswith(b'{"t": "' + b"x" * len(json.dumps(MARKED)[1:-1]) + b'"}')
    assert any("in the address, also where it is the record's" in note for _, note in one.notes)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text,
        lambda text: quote(text, safe=""),
        lambda text: quote(quote(text)).lower(),
        escape,
        lambda text: escape(escape(text)),
        lambda text: json.dumps(json.dumps(text)),
        lambda text: json.dumps(text).replace("/", "\\/").replace("&", "\\u0026").replace("<", "\\u003C"),
        lambda text: escape(json.dumps(text)),
    ],
)
def test_a_secret_is_found_however_it_is_written(write: Callable[[str], str]) -> None:
    kept, written = Kept(), write(MARKED.lower())
    sink = Redacting(kept, Words([MARKED.lower()]))
    body = f'<p data="{written}">словы</p>'.encode()
    sink.resource(Resource(url="urn:dom:x", made_at=datetime.now(UTC), media_type="text/html", body=body), None)
    (one,) = kept.resources
    assert isinstance(one.body, bytes) and len(one.body) == len(body) and one.notes
    assert "ab" not in one.body.decode() and one.body.decode().endswith('">словы</p>')


def test_the_handshake_of_a_websocket_loses_its_cookies_whole(tmp_path: Path) -> None:
    quoted = 'a="q"; session=NEW; ' + f"sid={SESSION}"
    lines = [
        {"time": "2026-11-24", "event": "request", "headers": {"Cookie": quoted, "Host": "x"}},
        {"event": "request head", "text": f"GET /ws HTTP/1.1\r\nCookie: {quoted}\r\nHost: x\r\n\r\n"},
        {
            "event": "response",
            "headers": {"set-cookie": "s=NEW\nt=NEW"},
            "text": "HTTP/1.1 101\r\nSet-Cookie: s=NEW\r\n",
        },
        {"event": "sent", "text": json.dumps({"cookie": "b", "token": MARKED})},
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path = tmp_path / "frames"
    path.write_bytes(body)
    for block in (body, Stored(path=path, length_bytes=len(body))):
        one = made(Kept(), url="urn:websocket:ws://x.example/", body=block, media_type="application/x-ndjson")
        data = one.body.path.read_bytes() if isinstance(one.body, Stored) else one.body
        assert not isinstance(one.body, Stored) or one.body.length_bytes == len(data)
        told = [json.loads(line) for line in data.splitlines()]
        assert told[0]["headers"] == {"Cookie": "[redacted]", "Host": "x"}
        assert told[1]["text"] == "GET /ws HTTP/1.1\r\nCookie: [redacted]\r\nHost: x\r\n\r\n"
        assert (told[2]["headers"]["set-cookie"], told[2]["text"]) == (
            "s=[redacted]",
            "HTTP/1.1 101\r\nSet-Cookie: s=[redacted]\r\n",
        )
        sent = json.loads(told[3]["text"])
        assert sent["cookie"] == "b" and set(sent["token"]) == {"x"}
        assert [note.partition(": ")[2][:8] for _, note in one.notes] == ["1 values", "4 fields"]


def test_an_identity_is_added_listed_and_removed_and_never_shown(
    environ: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inside = Inside(tmp_path / "home", **{name: environ[name] for name in ("OSINT_DATABASE_URL",)})
    file = tmp_path / "state.json"
    file.write_text(json.dumps(state()))
    added = inside.run("source", "add", "https://x.example/wall", "--identity", "wall-login", "--later")
    assert "no identity wall-login on this machine" in added.stderr
    said = [inside.run("identity", "add", "wall-login", str(file))]
    kept = tmp_path / "home" / "identities" / "wall-login.sealed"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert SESSION not in kept.read_text() and [path.name for path in kept.parent.iterdir()] == [kept.name]
    (slug,) = [row["source"] for row in inside.rows("source", "list")]
    assert inside.rows("identity", "list") == [{"identity": "wall-login", "sources": [slug]}]
    said += [inside.run("identity", "list"), inside.run("source", "show", slug), inside.run("source", "export")]
    assert "wall-login" in said[2].stdout and not any(SESSION in one.stdout + one.stderr for one in said)
    with Workspace(load(inside.environ).service) as opened:
        assert identities.open_identity(opened, "wall-login").state == state()
        assert SESSION not in repr(identities.open_identity(opened, "wall-login"))
        kept.rename(kept.with_name("other.sealed"))
        with pytest.raises(Exception, match="sealed for another key, or it was changed"):
            identities.open_identity(opened, "other")
        kept.with_name("other.sealed").rename(kept)
    removed = inside.run("identity", "remove", "wall-login")
    assert f"{slug} still name it" in removed.stderr and not kept.exists()
    assert "no identity" in inside.run("source", "edit", slug, "--identity", "another").stderr
    assert "no identity" not in inside.run("source", "edit", slug, "--identity", "none").stderr
    assert inside.rows("source", "show", slug)[0]["identity"] is None
    inside.run("identity", "remove", "wall-login", code=2)


def cookie(**changes: Any) -> str:
    told = state()
    told["cookies"][0] |= changes
    return json.dumps(told)


def many(secrets: int) -> str:
    items = [{"name": str(one), "value": f"{SESSION}-{one}"} for one in range(secrets)]
    return json.dumps({"cookies": [], "origins": [{"origin": "https://x.example", "localStorage": items}]})


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("Anna B", "{}", "no name of an identity"),
        ("../x", "{}", "no name of an identity"),
        ("none", "{}", "takes a source's identity back"),
        ("a", SESSION, "standard input: it is no JSON"),
        ("a", "[]", "no list called cookies"),
        ("a", cookie(value=None), "standard input: cookie 1: value must be a text"),
        ("a", cookie(expires="soon-secret-of-mine"), "cookie 1: expires must be a number: seconds since 1970, or -1"),
        ("a", cookie(expires=-5), "cookie 1: expires must be a number"),
        ("a", cookie(sameSite="lax"), "cookie 1: sameSite must be Strict, Lax or None"),
        ("a", cookie(path="secret-of-mine"), "cookie 1: path must be a text that begins with /"),
        ("a", cookie(name="__Secure-a"), "cookie 1: secure must be true"),
        ("a", '{"cookies": [{"name": "sid", "value": "secret-of-mine"}]}', "cookie 1: domain is missing; it must be"),
        ("a", '{"cookies": [], "origins": [{"origin": "https://x", "localStorage": []}, 7]}', "origin 2: origin must be"),
        ("a", '{"cookies": [], "origins": [{"origin": "https://x"}]}', "origin 1: localStorage must be a list"),
        ("a", "[" * 100_000, "it is no JSON"),
        ("a", " " * (5 << 20), "more than 4194304 bytes"),
        ("a", many(501), "more than 500 secrets"),
    ],
)  # fmt: skip
def test_a_bad_state_is_refused_without_a_word_of_it(tmp_path: Path, name: str, data: str, why: str) -> None:
    inside = Inside(tmp_path / "home")
    done = inside.run("identity", "add", name, "-", code=2, given=data)
    assert why in done.stderr and "secret-of-mine" not in done.stderr and SESSION not in done.stderr
    assert not list((tmp_path / "home").rglob("*.sealed"))
