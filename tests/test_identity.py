"""Named identities: kept encrypted, seen by the browser of one source alone, and in no record."""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import plain
from sqlalchemy import text
from visiting import Visitor
from warcio.archiveiterator import ArchiveIterator

from osint_pipeline import identities
from osint_pipeline.fetch.redacting import Redacting
from osint_pipeline.identity_names import name_digest
from osint_pipeline.samples.server import Answer, Asked, Serving, html
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.exchange import Exchange, RecordRef, Resource, Stored
from tests.commands import Inside

CHROMIUM = shutil.which("chromium")
SESSION, TOKEN, TURNED = "s3ss10n-of-the-identity", "t0ken-in-local-storage", "turned-0ver-by-the-server"
PROSE = "<p>" + "Сёння ў Вярхоўску затрымалі траіх рабочых, кажуць сведкі падзеі. " * 8 + "</p>"
LOGIN = "<html><head><title>Увайдзіце</title></head><body><h1>Увайдзіце на сайт</h1></body></html>"
SEEN = f"""<html><head><title>Сцяна</title></head><body><article><h1>Сцяна</h1>{PROSE}</article>
<script>fetch("/api", {{method: "POST", headers: {{Authorization: "Bearer " + localStorage.token, "X-Own": localStorage.token}},
body: "t=" + localStorage.token}})</script></body></html>"""


def state(port: int = 80) -> dict[str, Any]:
    cookie = {"name": "sid", "value": SESSION, "domain": "127.0.0.1", "path": "/", "expires": -1, "httpOnly": True, "secure": False, "sameSite": "Lax"}  # fmt: skip
    origin = {"origin": f"http://127.0.0.1:{port}", "localStorage": [{"name": "token", "value": TOKEN}]}
    return {"cookies": [cookie], "origins": [origin]}


class Wall:
    """Shows its pages only to the identity, and turns its cookie over."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, asked: Asked) -> Answer:
        who = "browser" if "sec-fetch-dest" in asked.headers else "wire"
        self.asked.append((who, asked.path, asked.headers.get("cookie", "")))
        if asked.path == "/wall":
            known = f"sid={SESSION}" in asked.headers.get("cookie", "")
            turned = (("Set-Cookie", f"sid2={TURNED}; Path=/; HttpOnly"),)
            return html(SEEN, headers=turned) if known else html(LOGIN)
        return Answer(body=b"{}", media_type="application/json") if asked.path == "/api" else html("", status=404)


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
        assert (lost["outcome"], lost["failed"]) == ("failed", 1)
    with Workspace(load(environ).service) as opened, opened.catalog.begin() as connection:
        told = [row[0] for row in connection.execute(text("SELECT detail -> 'identity' FROM runs ORDER BY started_at"))]
        reason = connection.scalar(text("SELECT reason FROM captures WHERE state = 'failed'"))
    assert told == [name_digest("wall-login"), None, name_digest("gone")]
    assert reason == "the source's named identity cannot be used on this machine"


def check_records(home: Path) -> None:
    """No secret anywhere, and each redaction told in the record that bears its exchange's notes: the response."""
    found, redacted, told, info = 0, set(), {}, ""
    for fields, block in records(home):
        found += 1
        kind = dict(fields)["WARC-Type"]
        sentences = [value for name, value in fields if name == "OSINT-Alteration"]
        told[dict(fields)["WARC-Record-ID"]] = " ".join(one for one in sentences if one.startswith("named identity: "))
        for secret in (SESSION, TOKEN, TURNED, "wall-login"):
            assert secret.encode() not in block and secret not in str(fields), (fields, secret)
        if b"sid=[redacted]" in block or b"sid2=[redacted]" in block or b"Bearer [redacted]" in block:
            redacted.add((kind, dict(fields).get("WARC-Concurrent-To") or dict(fields)["WARC-Record-ID"]))
        info += block.decode("utf-8", "replace") if kind == "warcinfo" else ""
    assert found > 8 and {kind for kind, _ in redacted} == {"request", "response"}
    assert all(f"{kind} head" in told[id_] for kind, id_ in redacted), told
    assert any("in the request body, its length kept" in one for one in told.values()), "the token in what was posted"
    assert "identity: a named identity was used for pages in the browser" in info


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


def test_what_is_redacted_is_declared_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    kept = Kept()
    sink = Redacting(kept, [SESSION])
    request = f"POST /a HTTP/1.1\r\nHost: x.example\r\nCookie: sid={SESSION}; b=2\r\nauthorization: Basic abc\r\nX: {SESSION}\r\n\r\nq={SESSION}"
    response = f"HTTP/1.1 200 OK\r\nSet-Cookie: n={TURNED}; Path=/; Secure\r\nServer: s\r\n\r\nSet-Cookie: a body"
    sink.exchange(exchange(request.encode(), response.encode()), None)
    (one,) = kept.exchanges
    assert one.request.decode() == (
        "POST /a HTTP/1.1\r\nHost: x.example\r\nCookie: sid=[redacted]; b=[redacted]\r\nauthorization: Basic [redacted]\r\n"
        f"X: [redacted]\r\n\r\nq={'x' * len(SESSION)}"
    )
    assert (
        one.response
        == b"HTTP/1.1 200 OK\r\nSet-Cookie: n=[redacted]; Path=/; Secure\r\nServer: s\r\n\r\nSet-Cookie: a body"
    )
    assert [name for name, _ in one.notes] == ["OSINT-Alteration"] * 3
    assert one.notes[0][1] == "named identity: 4 values of cookies or credentials redacted in the request head"
    path = tmp_path / "big"
    path.write_bytes(response.encode() + b"x" * 3_000_000)
    sink.exchange(
        exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Stored(path=path, length_bytes=path.stat().st_size)), None
    )
    big = kept.exchanges[-1].response
    assert isinstance(big, Stored) and big.length_bytes == big.path.stat().st_size and not path.exists()
    data = big.path.read_bytes()
    assert TURNED.encode() not in data and data.endswith(b"Set-Cookie: a body" + b"x" * 3_000_000)
    sink.resource(
        Resource(url="urn:dom:x", made_at=datetime.now(UTC), media_type="text/html", body=f"<p>{TURNED}".encode()), None
    )
    assert kept.resources[0].body == b"<p>" + b"x" * len(TURNED) and kept.resources[0].notes, (
        "what servers set is known too"
    )
    frames = (
        f'{{"event": "request", "headers": {{"Cookie": "b=2; sid={SESSION}", "Host": "x"}}}}\n'
        f'{{"event": "request head", "text": "GET /ws HTTP/1.1\\r\\nCookie: b=2\\r\\nHost: x\\r\\n"}}\n{{"text": "a cookie: b"}}\n'
    )
    path = tmp_path / "frames"
    path.write_text(frames)
    for body in (frames.encode(), Stored(path=path, length_bytes=len(frames))):
        sink.resource(Resource(url="urn:websocket:ws://x/", made_at=datetime.now(UTC), media_type="x", body=body), None)
        made = kept.resources[-1].body
        data = made.path.read_bytes() if isinstance(made, Stored) else made
        assert (
            len(data) == len(frames)
            and SESSION.encode() not in data
            and b"b=2" not in data
            and b'"a cookie: b"' in data
        )
        assert [json.loads(line).get("event") for line in data.splitlines()] == ["request", "request head", None]
    plain_one = exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nbody")
    sink.exchange(plain_one, None)
    assert kept.exchanges[-1] == plain_one


def test_an_identity_is_added_listed_and_removed_and_never_shown(
    environ: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inside = Inside(tmp_path / "home", **{name: environ[name] for name in ("OSINT_DATABASE_URL",)})
    file = tmp_path / "state.json"
    file.write_text(json.dumps(state()))
    inside.run("source", "add", "https://x.example/wall", "--identity", "wall-login", "--later")
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
    inside.run("source", "edit", slug, "--identity", "none")
    assert inside.rows("source", "show", slug)[0]["identity"] is None
    inside.run("identity", "remove", "wall-login", code=2)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("Anna B", "{}", "no name of an identity"),
        ("../x", "{}", "no name of an identity"),
        ("a", SESSION, "the file is no JSON"),
        ("a", "[]", "no list called cookies"),
        ("a", '{"cookies": [{"name": "sid", "value": "secret-of-mine"}]}', "cookie 1 lacks"),
        ("a", '{"cookies": [], "origins": [{"origin": "https://x"}, 7]}', "origins"),
        ("a", "[" * 100_000, "the file is no JSON"),
        ("a", " " * (5 << 20), "more than 4194304 bytes"),
    ],
)  # fmt: skip
def test_a_bad_state_is_refused_without_a_word_of_it(tmp_path: Path, name: str, data: str, why: str) -> None:
    inside = Inside(tmp_path / "home")
    done = inside.run("identity", "add", name, "-", code=2, given=data)
    assert why in done.stderr and "secret-of-mine" not in done.stderr and SESSION not in done.stderr
    assert not list((tmp_path / "home").rglob("*.sealed"))
