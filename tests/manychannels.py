"""Many sample channels on several addresses of 127.0.0.0/8, in a process of their own; each publishes a post now and then.

python -m tests.manychannels FOLDER HOSTS CHANNELS SECONDS   listens, writes FOLDER/port, appends "time host name" to FOLDER/asked

The posts that a channel has shown by a time can be computed by anybody (shown_at): what a test compares the archive with.
"""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from osint_pipeline.samples import telegram_markup as markup
from osint_pipeline.samples.channel import SamplePost
from osint_pipeline.samples.telegram_media import Place

ROOT = Path(__file__).parent.parent
OLD_POSTS, PAGE_POSTS = 3, 10  # what a channel has when it begins, what a page shows


def shown_at(begun: float, now: float, every_seconds: float) -> int:
    """How many posts each channel shows."""
    return OLD_POSTS + int(max(0.0, now - begun) / every_seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    begun = time.time()
    every_seconds = 30.0
    log_file: Path
    lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = parts.path.removeprefix("/s/")
        if not parts.path.startswith("/s/"):
            self._answer(404, b"not found")
            return
        host = str(self.connection.getsockname()[0])
        with self.server.lock, self.server.log_file.open("a") as log:
            log.write(f"{time.time():.3f} {host} {name}\n")
        before = int(parse_qs(parts.query).get("before", ["0"])[0])
        self._answer(200, self._page(host, name, before).encode())

    def _page(self, host: str, name: str, before: int) -> str:
        server = self.server
        count = shown_at(server.begun, time.time(), server.every_seconds)
        last = min(count, before - 1) if before else count
        shown = [_post(name, number) for number in range(max(1, last - PAGE_POSTS + 1), last + 1)]
        base = f"http://{host}:{server.server_address[1]}"
        number = 1_800_000_000 + int(host.rpartition(".")[2]) * 10_000 + int(name.rpartition("_")[2])
        place = Place(base=base, cdn=base, name=name, number=number, seen_at=datetime.now(UTC))
        older = shown[0].id if shown and shown[0].id > 1 else None
        texts = {one.id: one.text for one in shown}
        return markup.page(
            place, tuple(shown), older=older, newer=None, last=count, counters=(("1.2K", "subscribers"),), texts=texts
        )

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _post(name: str, number: int) -> SamplePost:
    when = datetime(2026, 11, 20, 6, 0, tzinfo=UTC) + timedelta(minutes=number)
    text = f"Затрымалі чалавека нумар {number} каля рынку, піша {name}."
    return SamplePost(
        id=number, ids=(number,), kind="text", text=text, language="be", published_at=when, views=100 + number
    )


class ManyChannels:
    """The server in a process; use it in a with statement."""

    def __init__(self, folder: Path, *, hosts: int, channels: int, every_seconds: float) -> None:
        self.folder, self.hosts, self.channels, self.every_seconds = folder, hosts, channels, every_seconds
        self.begun = 0.0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [str(self.folder), str(self.hosts), str(self.channels), str(self.every_seconds)]
        self._process = subprocess.Popen([sys.executable, "-m", "tests.manychannels", *words], cwd=ROOT)
        deadline, port = time.monotonic() + 30, self.folder / "port"
        while not port.exists():
            assert self._process.poll() is None and time.monotonic() < deadline, "the channels did not start"
            time.sleep(0.02)
        self.port, begun = port.read_text().split()
        self.begun = float(begun)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(10)

    def url(self, host: int, channel: int) -> str:
        """The preview of a channel; hosts are numbered from 1, channels from 0."""
        return f"http://127.0.0.{host}:{self.port}/s/kanal_{channel}"

    def urls(self) -> list[str]:
        """All channels, spread over the hosts."""
        return [self.url(1 + number % self.hosts, number) for number in range(self.channels)]

    def asked(self) -> list[tuple[float, str, str]]:
        """Every page that was asked for: when, of which host, of which channel."""
        log = self.folder / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(float(at), host, name) for at, host, name in (line.split() for line in lines)]


def serve(folder: Path, hosts: int, every_seconds: float) -> None:
    """Listen on the same port of several addresses, for ever."""
    first = _Server(("127.0.0.1", 0), _Handler)
    port = int(first.server_address[1])
    servers = [first, *(_Server((f"127.0.0.{number}", port), _Handler) for number in range(2, hosts + 1))]
    begun = time.time()
    for server in servers:
        server.begun, server.every_seconds, server.log_file = begun, every_seconds, folder / "asked"
        threading.Thread(target=server.serve_forever, daemon=True).start()
    fresh = folder / "port.new"
    fresh.write_text(f"{port} {begun}")
    fresh.rename(folder / "port")
    threading.Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[4]))
