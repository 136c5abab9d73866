"""Faulty answers in a real Chromium: the records say what crossed the wire, and what of it is missing."""

import asyncio
import contextlib
import gzip
import io
import json
import threading
from collections.abc import Iterator
from random import Random

import pytest
from browserlab import CHROMIUM, Kept
from PIL import Image

from storage.exchange import Truncated

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Raw:
    """A server that sends the bytes of `answers` by path and then hangs up, or holds the connection where `held` says so, dripping."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.held: set[str] = set()
        self.log: list[tuple[str, bytes, bytes]] = []  # path, head, posted body
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self._server = self.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def serve(self, page: str, **answers: bytes) -> str:
        """Serve a page and what it asks for; give its address."""
        self.log.clear()
        self.held.clear()
        self.answers = {"/page": answer(page.encode(), "text/html; charset=utf-8"), "/favicon.ico": answer(b"", "image/png")}  # fmt: skip
        self.answers |= {f"/{name}": raw for name, raw in answers.items()}
        return self.url + "/page"

    def also(self, host: str):
        """Listen at another address too, on the same port."""
        return self.run(asyncio.start_server(self._serve, host, self._server.sockets[0].getsockname()[1]))

    def asked(self, path: str) -> int:
        return len([one for one in self.log if one[0] == path])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")), 0)  # fmt: skip
            posted = await reader.readexactly(length)
            path = head.split(b" ")[1].decode()
            self.log.append((path, head, posted))
            writer.write(self.answers.get(path, answer(b"nothing", "text/plain", status="404 Not Found")))
            await writer.drain()
            if path in self.held:
                await self._hold(writer, path)
        writer.close()

    async def _hold(self, writer: asyncio.StreamWriter, path: str) -> None:
        while path in self.held:
            await asyncio.sleep(0.05)
            writer.write(b"/")
            await writer.drain()

    def close(self) -> None:
        self.held.clear()
        self.loop.call_soon_threadsafe(self._server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


def answer(body: bytes, kind: str, *fields: bytes, status: str = "200 OK", length: bytes | None = None) -> bytes:
    """Write an answer; `length` is what its Content-Length says where that is not the body's."""
    lines = [f"HTTP/1.1 {status}".encode(), b"Content-Type: " + kind.encode(), b"Connection: close", *fields]
    return b"\r\n".join([*lines, b"Content-Length: " + (length or b"%d" % len(body))]) + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def server() -> Iterator[Raw]:
    raw = Raw()
    yield raw
    raw.close()


def told(kept: Kept) -> list[dict]:
    return json.loads(kept.resources["pageinfo"].body)["resources"]


class TestOneAnswerCostsNotTheOthers:
    def test_a_length_of_five_thousand_digits(self, lab, server):
        url = server.serve("<img src=/odd><script>fetch('/odd')</script>", odd=answer(b"abcde", "text/plain", length=b"0" * 5000 + b"5"))  # fmt: skip
        rendered, kept = lab.fetch(url)
        bodies = [block.partition(b"\r\n\r\n")[2] for one, block in kept.exchanges if one.url.endswith("/odd")]
        assert rendered.status == 200 and b"abcde" in bodies

    def test_a_fault_of_ours_is_an_omission(self, lab, server, monkeypatch):
        def fails(*_):
            raise KeyError("odd")

        monkeypatch.setattr("osint_pipeline.fetch.cdp.hop_of", fails)
        rendered, kept = lab.fetch(server.serve("<script src=/s></script>", s=answer(b"1", "text/javascript")))
        assert "an answer was not recorded whole: KeyError: 'odd'" in rendered.omissions
        assert kept.of("/s")[2] == b"1"


class TestOnlyWhatCrossedTheWire:
    def test_a_redirect_out_of_the_cache_is_no_exchange_and_takes_no_head(self, lab, server):
        page = "<script>(async () => { for (let i = 0; i < 2; i++) await (await fetch('/r')).text(); })()</script>"
        moved = answer(b"moved", "text/plain", b"Location: /t", b"Cache-Control: max-age=600", status="301 Moved")
        url = server.serve(page, r=moved, t=answer(b"T", "text/plain", b"Cache-Control: no-store", b"X-Who: t"))
        _, kept = lab.fetch(url)
        assert (server.asked("/r"), server.asked("/t")) == (1, 2)
        assert kept.of("/r")[1].startswith(b"HTTP/1.1 301 Moved")
        heads = [block.partition(b"\r\n\r\n")[0] for one, block in kept.exchanges if one.url.endswith("/t")]
        assert len(heads) == 2 and all(head.startswith(b"HTTP/1.1 200 OK") and b"X-Who: t" in head for head in heads)
        assert [one["from"] for one in told(kept) if one["url"].endswith("/r")] == [None, "cache"]

    def test_an_upgrade_to_https_is_no_answer_of_the_site(self, lab, server):
        _, kept = lab.fetch(server.serve("<img src=http://accounts.google.com/x>"))  # one of those built into Chromium
        assert [(one.url, block) for one, block in kept.exchanges if "google" in one.url] == [("https://accounts.google.com/x", b"")]  # fmt: skip
        assert [one["from"] for one in told(kept) if "google" in one["url"]] == ["browser", None]

    def test_a_head_that_was_heard_is_recorded_though_its_body_stalled(self, lab, server, monkeypatch):
        monkeypatch.setattr("osint_pipeline.fetch.cdp.LEAVE_SECONDS", 0.5)
        page = "<script>onload = () => { const s = document.createElement('script'); s.src = '/s'; document.body.append(s); }</script>"
        url = server.serve(page, s=answer(b"x" * 3000, "text/javascript", length=b"10000"))
        server.held.add("/s")
        rendered, kept = lab.fetch(url, timeout_seconds=1.5)
        exchange, head, body = kept.of("/s")
        assert head.startswith(b"HTTP/1.1 200") and body == b"" and exchange.failure is None
        assert exchange.truncated is Truncated.TIME and any("/s: body cut" in one for one in rendered.omissions)


class TestHeads:
    def test_octets_above_127_are_kept_as_they_came(self, lab, server):
        latin, utf8, cyrillic = b"X-A: caf\xe9", "X-B: café".encode(), "X-C: Рэч".encode("cp1251")
        minsk = "X-D: Мінск œ".encode()  # octets from 0x80 to 0x9f, which the browser shows as Windows-1252 does
        head = [latin, utf8, cyrillic, minsk, b"Set-Cookie: a=\xe9", "Set-Cookie: b=Мінск".encode()]
        page = "<script src=/all></script><script src=/one></script><script>fetch('/post', {headers: {'X-Q': 'caf\\u00e9 \\u009c\\u0080'}})</script>"
        server.serve(page, all=answer(b"1", "text/javascript", *head), one=answer(b"1", "text/javascript", utf8, minsk), post=answer(b"1", "text/plain", latin))  # fmt: skip
        _, kept = lab.fetch(server.url + "/page")
        lines = kept.of("/all")[1].split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 200 OK" and set(head) < set(lines)
        assert ("OSINT-Alteration", "response head rebuilt from the browser's list, order lost") in kept.of("/all")[
            0
        ].notes
        assert kept.of("/one")[1] == server.answers["/one"].partition(b"\r\n\r\n")[0]
        assert latin in kept.of("/post")[1].split(b"\r\n")
        sent = next(head for path, head, _ in server.log if path == "/post")
        assert sorted(kept.of("/post")[0].request.split(b"\r\n")) == sorted(sent.split(b"\r\n"))
        assert any("folded lines joined" in why for _, why in kept.of("/one")[0].notes)


NOISE = Random(5).randbytes(9000)


def picture() -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (60, 60), Random(6).randbytes(10_800)).save(out, "PNG")
    return out.getvalue()


PICTURE = picture()


def packed(kind: str, lost: int) -> bytes:
    body = PICTURE if kind == "image/png" else NOISE
    return answer(gzip.compress(body), kind, b"Content-Encoding: gzip")[: -lost or None]


def chunked(kind: str, *, whole: bool) -> bytes:
    body = PICTURE if kind == "image/png" else b"/* */ " * 50
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: " + kind.encode()
    return head + b"\r\n\r\n%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if whole else b"")


class TestBodiesThatBrokeOff:
    def test_each_kind_says_so_and_whole_ones_do_not(self, lab, server):
        kinds = {
            "doc": "text/html",
            "js": "text/javascript",
            "css": "text/css",
            "img": "image/png",
            "txt": "text/plain",
        }
        answers = {f"gz-{name}": packed(kind, 20) for name, kind in kinds.items()}
        answers |= {f"ch-{name}": chunked(kind, whole=False) for name, kind in kinds.items()}
        answers |= {f"gz-{name}-whole": packed(kind, 0) for name, kind in kinds.items()}
        answers |= {f"ch-{name}-whole": chunked(kind, whole=True) for name, kind in kinds.items()}
        forms = {"doc": "<iframe src=/{}></iframe>", "js": "<script src=/{}></script>", "css": "<link rel=stylesheet href=/{}>", "img": "<img src=/{}>", "txt": "<script>fetch('/{}').then(r => r.text()).catch(() => 0)</script>"}  # fmt: skip
        server.serve("".join(forms[name.split("-")[1]].format(name) for name in answers), **answers)
        rendered, kept = lab.fetch(server.url + "/page")
        said = {
            one.url.rpartition("/")[2]: one.truncated
            for one, _ in kept.exchanges
            if one.url.rpartition("/")[2] in answers
        }
        assert said == {name: None if name.endswith("whole") else Truncated.DISCONNECT for name in answers}
        assert {name for name in answers if any(f"/{name}: " in one for one in rendered.omissions)} == {name for name in answers if "whole" not in name}  # fmt: skip

    def test_of_a_picture_that_is_none_it_is_said_that_its_end_is_not_known(self, lab, server):
        _, kept = lab.fetch(server.serve("<img src=/i>", i=answer(gzip.compress(NOISE), "image/png", b"Content-Encoding: gzip")))  # fmt: skip
        exchange, _, body = kept.of("/i")
        assert NOISE.startswith(body) and exchange.truncated is None
        assert any("not known" in why for _, why in exchange.notes)

    @pytest.mark.parametrize("cut", [packed("text/html", 100), chunked("text/html", whole=False)])
    def test_the_page_itself(self, lab, server, cut):
        server.serve("")
        server.answers["/page"] = cut
        _, kept = lab.fetch(server.url + "/page", timeout_seconds=1.5)
        exchange, _, body = kept.of("/page")
        assert exchange.truncated is Truncated.DISCONNECT and body


class TestRequestsWithoutAnAnswer:
    def test_their_posted_bodies_are_kept_or_said_to_be_missing(self, lab, server):
        page = """<script>fetch('/post', {method: 'POST', body: 'A'.repeat(100000)}).catch(() => 0);
        fetch('/file', {method: 'POST', body: new Blob(['a blob'])}).catch(() => 0);</script>"""
        _, kept = lab.fetch(server.serve(page, post=b"", file=b""))
        posted = kept.of("/post")[0]
        assert any("sent the request twice" in why for _, why in posted.notes)
        assert posted.failure and posted.request.endswith(b"\r\n\r\n" + b"A" * 100_000)
        blob = kept.of("/file")[0]
        assert blob.request.endswith(b"\r\n\r\na blob") or any("body of the request" in why for _, why in blob.notes)


class TestAddresses:
    def test_of_several_none_is_written(self, lab, server, monkeypatch):
        asked = []

        def resolve(_, host, port):
            asked.append(host)
            return ("127.0.0.1",) if len(asked) == 1 else ("127.0.0.2",)

        monkeypatch.setattr("osint_pipeline.fetch.guard.Guard.resolve", resolve)
        page = "<script>Promise.all([1, 2, 3].map(i => fetch('/f' + i)))</script>"
        url = server.serve(page).replace("127.0.0.1", "two.example")
        other = server.also("127.0.0.2")
        try:
            _, kept = lab.fetch(url)
        finally:
            server.loop.call_soon_threadsafe(other.close)
        later = [one for one, _ in kept.exchanges if "/f" in one.url]
        assert len(set(asked)) == 1 and later and {one.ip for one in later} == {None}
        assert all(any("127.0.0.1, 127.0.0.2: which" in why for _, why in one.notes) for one in later)


class TestLeaving:
    def test_a_slow_body_does_not_keep_the_page_from_being_left(self, lab, server, monkeypatch):
        monkeypatch.setattr("osint_pipeline.fetch.cdp.READ_SECONDS", 0.2)
        monkeypatch.setattr("osint_pipeline.fetch.cdp.PAUSE_SECONDS", 3.0)
        page = """<iframe src=/slow></iframe><script>addEventListener('pagehide', () => navigator.sendBeacon('/left', 'bye'))</script>"""
        url = server.serve(page, slow=answer(b"<p>", "text/html", length=b"10000"), left=answer(b"ok", "text/plain"))
        server.held.add("/slow")
        rendered, kept = lab.fetch(url, timeout_seconds=1.0)
        assert server.asked("/left") == 1
        assert kept.of("/left")[0].request.endswith(b"bye") and kept.of("/left")[2] == b"ok"
        assert kept.of("/slow")[0].truncated and any("/slow: " in one for one in rendered.omissions)


class TestRedirects:
    def test_a_missing_body_is_said_once(self, lab, server):
        moved = answer(b"moved", "text/plain", b"Location: /t", status="302 Found")
        page = "<img src=/i><script>fetch('/f')</script>"
        _, kept = lab.fetch(server.serve(page, i=moved, f=moved, t=answer(b"T", "text/plain")))
        for path in ("/i", "/f"):
            notes = kept.of(path)[0].notes
            assert [why for name, why in notes if name == "OSINT-Omission"] == [
                "the browser gives no body of a redirect"
            ]


SVG = "<svg xmlns='http://www.w3.org/2000/svg'><text>Привет</text></svg>"
CHARSETS = {
    "1251.js": ("text/javascript; charset=windows-1251", "/* Задержание */ window.a='привет';".encode("cp1251")),
    "unnamed.js": ("text/javascript", "/* Задержание */ window.a='привет';".encode("cp1251")),
    "bom.js": ("text/javascript", b"\xef\xbb\xbf/* \xd0\xb0 */ window.b=1;"),
    "u16.js": ("text/javascript; charset=utf-16le", "\ufeff/* привет */ window.c=1;".encode("utf-16le")),
    "bad.js": ("text/javascript", b"/* \xff\xfe\x80 */ window.d=1;"),
    "nul.js": ("text/javascript", b"/* \x00\x01 */ window.e=1;\r\n"),
    "empty.js": ("text/javascript", b""),
    "1251.css": ("text/css; charset=windows-1251", "/* Привет */ p{color:red}".encode("cp1251")),
    "bom.css": ("text/css", b"\xef\xbb\xbfp{color:red}"),
    "bad.css": ("text/css", b"/* \xff */ p{color:red}"),
    "in.svg": ("image/svg+xml", f"<?xml version='1.0' encoding='windows-1251'?>{SVG}".encode("cp1251")),
    "named.svg": ("image/svg+xml; charset=windows-1251", SVG.encode("cp1251")),
    "1251.html": ("text/html; charset=windows-1251", "<p>Затрыманне".encode("cp1251")),
    "u16.html": ("text/html; charset=utf-16le", "\ufeff<p>прывітанне".encode("utf-16le")),
    "bad.html": ("text/html; charset=utf-8", b"<p>\xff\x00\xfe</p>\r\n"),
    "1251.json": ("application/json; charset=windows-1251", '{"a": "Привет"}'.encode("cp1251")),
}
FORMS = {"js": "<script src=/{}></script>", "css": "<link rel=stylesheet href=/{}>", "svg": "<img src=/{}>", "html": "<iframe src=/{}></iframe>", "json": "<script>fetch('/{}')</script>"}  # fmt: skip


class TestCharsets:
    def test_bodies_come_back_byte_for_byte(self, lab, server):
        page = "<script src=/unnamed.js charset=windows-1251></script>" + "".join(
            FORMS[name.partition(".")[2]].format(name) for name in CHARSETS if name != "unnamed.js"
        )
        rendered, kept = lab.fetch(server.serve(page, **{name: answer(body, kind) for name, (kind, body) in CHARSETS.items()}))  # fmt: skip
        got = {name: kept.of(f"/{name}")[2] for name in CHARSETS}
        assert got == {name: body for name, (_, body) in CHARSETS.items()}
        assert not any("body cut" in one for one in rendered.omissions)


class TestWhatIsOnlyDeclared:
    def test_a_page_with_a_worklet_says_that_its_scripts_may_be_missing(self, lab, server):
        page = "<p id=o></p><script>new AudioContext().audioWorklet.addModule('/audio').then(() => document.getElementById('o').textContent = 'added')</script>"
        rendered, _ = lab.fetch(server.serve(page, audio=answer(b"1", "text/javascript")))
        assert rendered.text == "added" and server.asked("/audio") == 1
        assert any("worklets load" in one for one in rendered.omissions)
