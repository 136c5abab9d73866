"""The browser's recorder on a site that speaks HTTP/2: what was served is what is kept, in the form of HTTP/1.1, and said so."""

import gzip
import hashlib
import json

import h2site
import pytest
from browserlab import CHROMIUM, Lab
from h2site import Answer

from osint_pipeline.fetch import chromium
from tests.rawserver import self_signed

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")

PAGE = """<!doctype html><html lang=be><meta charset=utf-8><title>...</title><link rel=stylesheet href=/look.css>
<script src=/packed.js></script><p id=p>Затрыманне ў Мінску</p><img src=/moved.png>
<script>(async () => {
  const got = {};
  got.post = (await (await fetch('/post', {method: 'POST', body: 'слова'})).text()).length;
  got.large = (await (await fetch('/large')).arrayBuffer()).byteLength;
  got.none = (await fetch('/none')).status;
  got.packed = window.packed;
  document.getElementById('p').dataset.got = JSON.stringify(got); document.title = 'done';
})()</script>""".encode()
SCRIPT = b"window.packed = 42; // " + b"x" * 5000
LARGE = bytes(range(256)) * 24_576  # 6 MiB: copied while the page reads it
PICTURE = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
COOKIES = [("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2; Path=/; HttpOnly")]


def whole(kind: str, body: bytes, *more: tuple[str, str]) -> Answer:
    return Answer(200, [("content-type", kind), ("content-length", str(len(body))), *more], body)


ANSWERS = {
    "/": whole("text/html; charset=utf-8", PAGE, *COOKIES, ("x-words", "Мінск")),
    "/look.css": Answer(200, [("content-type", "text/css")], b"p { color: red }"),  # its length is not told
    "/packed.js": Answer(
        200, [("content-type", "text/javascript"), ("content-encoding", "gzip")], gzip.compress(SCRIPT), SCRIPT
    ),
    "/moved.png": Answer(302, [("location", "/there.gif"), ("x-hop", "1")]),
    "/there.gif": whole("image/gif", PICTURE),
    "/post": whole("text/plain", b"taken", ("z-first", "1"), ("a-last", "2")),
    "/large": whole("application/octet-stream", LARGE),
    "/none": Answer(204, []),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The site's log, the page as rendered, and what was recorded of it."""
    folder = tmp_path_factory.mktemp("h2")
    self_signed(folder)
    with pytest.MonkeyPatch.context() as patch, h2site.running(ANSWERS, next(folder.glob("*.pem"))) as site:
        patch.setattr(chromium, "FLAGS", (*chromium.FLAGS, "--ignore-certificate-errors"))
        with Lab(folder / "scratch") as lab:
            seen, kept = lab.fetch(site.url + "/")
        yield site, seen, kept


def test_the_page_worked(kept):
    _, seen, _ = kept
    told = json.loads(seen.html.partition('data-got="')[2].partition('"')[0].replace("&quot;", '"'))
    assert told == {"post": 5, "large": len(LARGE), "none": 204, "packed": 42}


@pytest.mark.parametrize("path", [path for path, one in ANSWERS.items() if one.status == 200])
def test_each_body_is_what_was_served(kept, path):
    site, _, recorded = kept
    (asked,) = site.asked(path)
    _, _, body = recorded.of(path)
    assert hashlib.sha256(body).hexdigest() == asked.sha256


@pytest.mark.parametrize("path", list(ANSWERS))
def test_heads_are_rewritten_and_that_is_said(kept, path):
    _, _, recorded = kept
    exchange, head, _ = recorded.of(path)
    assert head.startswith(b"HTTP/1.1 %d" % ANSWERS[path].status)
    assert exchange.protocols[0] == "h2" and exchange.protocols[-1].startswith("tls/1.3")
    (rebuilt,) = [
        note for _, note in exchange.notes if note.startswith("response head rebuilt from the browser's list")
    ]
    kept = [line.partition(b":")[0].decode() for line in head.split(b"\r\n")[1:]]
    served = [name for name, _ in ANSWERS[path].fields]
    assert ("order lost" in rebuilt) == (path not in ("/post", "/large", "/none"))  # the page's cookies have no place
    assert "order lost" in rebuilt or [one.removeprefix("X-Archive-Orig-") for one in kept][: len(served)] == served
    assert exchange.cipher.startswith("TLS_")
    for name, value in ANSWERS[path].fields:
        if name not in ("content-length", "content-encoding"):
            assert f"\r\n{name}: {value}".encode() in head, head
    assert exchange.ip == "127.0.0.1" and exchange.failure is None


@pytest.mark.parametrize("path", list(ANSWERS))
def test_requests_hold_what_was_sent(kept, path):
    site, _, recorded = kept
    (asked,) = site.asked(path)
    exchange = recorded.of(path)[0]
    first, *lines = exchange.request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    sent = dict(asked.fields)
    assert first == f"{sent[':method']} {sent[':path']} HTTP/1.1" and f"Host: {sent[':authority']}" in lines
    assert {line.partition(":")[0].lower() for line in lines} - {"host"} == {name for name in sent if name[0] != ":"}
    for name, value in asked.fields:
        if name[0] != ":":
            assert f"{name}: {value}".lower() in [line.lower() for line in lines]
    assert exchange.request.partition(b"\r\n\r\n")[2] == asked.posted


def test_everything_that_was_asked_is_recorded_once(kept):
    site, _, recorded = kept
    there = sorted(one.path for one in site.log)
    assert sorted("/" + one.url.split("/", 3)[3] for one, _ in recorded.exchanges) == there
