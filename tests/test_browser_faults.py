"""Faulty answers in a real Chromium: the records say what crossed the wire, and what of it is missing."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator

import pytest
from browserlab import CHROMIUM, Kept, Lab, chromiums

from storage.exchange import Truncated

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Raw:
    """A server that sends the bytes of `answers` by path and then hangs up, or holds the connection where `held` says so."""

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
                await reader.read()
        writer.close()

    def close(self) -> None:
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
def lab(tmp_path_factory) -> Iterator[Lab]:
    scratch = tmp_path_factory.mktemp("scratch")
    with Lab(scratch) as lab:
        yield lab
    assert chromiums() == []
    assert list(scratch.iterdir()) == []


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
