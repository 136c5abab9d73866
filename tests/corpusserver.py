"""Serves the saved real pages on 127.0.0.1, and stands as the proxy of the whole internet, which holds nothing else.

A crawl with `proxy_url` as its proxy reaches no other machine: whatever a saved page names is answered with 404, over
TLS too. Telegram's message blocks are fragments and get the envelope of a channel's page.
"""

import gzip
import mimetypes
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

CHANNEL_PAGE = b"""<!DOCTYPE html><html><head><meta charset="utf-8"><title>Telegram</title></head><body class="widget_frame_base">
<main class="tgme_main"><section class="tgme_channel_history js-message_history">%s</section></main></body></html>"""
HTML = "text/html; charset=utf-8"
IMAGE_TYPES = {
    ".blp": "image/x-blp",
    ".dds": "image/vnd-ms.dds",
    ".fli": "image/x-fli",
    ".gpl": "image/x-gimp-palette",
    ".j2k": "image/jp2",
    ".jp2": "image/jp2",
    ".pcx": "image/x-pcx",
    ".sgi": "image/sgi",
    ".spider": "image/x-spider",
}


@dataclass(frozen=True, slots=True)
class Served:
    """One answer; `status` 302 has its target in `body`."""

    body: bytes
    content_type: str | None = HTML
    status: int = 200


@dataclass(slots=True)
class Corpus:
    """What is served by path, and the paths of each kind, in the order of their names."""

    served: dict[str, Served] = field(default_factory=dict)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def add(self, kind: str, path: str, served: Served, file: Path) -> None:
        """Serve something and count it to its kind."""
        assert path not in self.served, path
        self.served[path] = served
        self.files[path] = file
        self.kinds.setdefault(kind, []).append(path)


def load(folder: Path) -> Corpus:
    """Make the answers of the saved pages under a folder."""
    corpus = Corpus()
    _telegram(corpus, folder / "telegram")
    _cards(corpus, folder)
    _news(corpus, folder / "news")
    for kind, below, suffixes in (
        ("feeds", "feeds", {".xml"}),
        ("feeds", "feeds/gofeed/parser/json", {".json"}),
        ("html", "hostile/heritrix-selftest", {".html"}),
        ("html", "social/metascraper/metascraper-tiktok", {".html"}),
        ("files", "hostile/heritrix-selftest", {".avi", ".ps", ".txt", ".wpd", ".xls", ".xml"}),
        ("files", "hostile/scrapy-compressed", {".bin", ".gz"}),
        ("images", "hostile/pillow-images", set()),
        ("images", "hostile/pngsuite", set()),
        ("images", "images/pdq", set()),
    ):
        _files(corpus, folder, kind, below, suffixes)
    return corpus


def _telegram(corpus: Corpus, folder: Path) -> None:
    for file in sorted((folder / "tchan").glob("*.html")):
        name = file.stem
        if name == "channel_info":
            page = file.read_bytes() + CHANNEL_PAGE % b""
        elif name == "no_posts_found":
            page = file.read_bytes()
        else:
            page = CHANNEL_PAGE % file.read_bytes()
        kind = "telegram" if name not in ("channel_info", "no_posts_found") else "telegram-without-posts"
        corpus.add(kind, f"/s/{name}", Served(page), file)
    whole = folder / "lifemodel" / "telegram-test-channel.html"
    corpus.add("telegram-whole", "/s/test_channel", Served(whole.read_bytes()), whole)


def _cards(corpus: Corpus, folder: Path) -> None:
    """A name without a preview: /s/<name> leads to the card, which says 200 (as Telegram does)."""
    for name, place in (
        ("python", "telegram/sherlock-telegram/tme_group.html"),
        ("durov", "telegram/sherlock-telegram/tme_channel.html"),
        ("DiaboxApp", "social/metascraper/metascraper-telegram/test/fixtures/no-iframe.html"),
    ):
        file = folder / place
        corpus.add("cards", f"/s/{name}", Served(f"/{name}".encode(), None, 302), file)
        corpus.served[f"/{name}"] = Served(file.read_bytes())


def _news(corpus: Corpus, folder: Path) -> None:
    for set_, pattern in (
        ("benchmark", "article-extraction-benchmark/html/*.html.gz"),
        ("fundus", "fundus/*/*.html.gz"),
        ("trafilatura", "trafilatura/eval/*.html"),
    ):
        for number, file in enumerate(sorted(folder.glob(pattern))):
            body = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            corpus.add("news", f"/news/{set_}/{70_000 + number}", Served(body, "text/html"), file)


def _files(corpus: Corpus, folder: Path, kind: str, below: str, suffixes: set[str]) -> None:
    for file in sorted((folder / below).rglob("*")):
        if not file.is_file() or (suffixes and file.suffix not in suffixes):
            continue
        if kind == "feeds":
            type_ = "application/feed+json" if file.suffix == ".json" else "application/xml"
        elif kind == "images":
            type_ = IMAGE_TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "image/png"
        else:
            type_ = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        corpus.add(kind, f"/{kind}/" + quote(str(file.relative_to(folder))), Served(file.read_bytes(), type_), file)


CHANNELS_END = Served(CHANNEL_PAGE % b'<div class="tgme_no_messages_found">No posts found</div>')


class CorpusServer:
    """A threaded server of a corpus and a proxy before everything else; counts what was asked of either."""

    def __init__(self, corpus: Corpus, tls: ssl.SSLContext) -> None:
        self.corpus = corpus
        self.asked: Counter[str] = Counter()
        self.foreign: Counter[str] = Counter()
        self.proxied = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"owner": self, "tls": tls}))
        self._server.daemon_threads = True
        self.url = self.proxy_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "CorpusServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def urls(self, kind: str) -> list[str]:
        """List the addresses of a kind."""
        return [self.url + path for path in self.corpus.kinds[kind]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    owner: CorpusServer
    tls: ssl.SSLContext
    connection: Any

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        ours = parts.netloc in ("", urlsplit(self.owner.url).netloc) and not isinstance(self.connection, ssl.SSLSocket)
        served = self.owner.corpus.served.get(quote(unquote(parts.path))) if ours else None
        if served and parts.query.startswith("before="):
            served = CHANNELS_END
        self.owner.proxied += bool(parts.netloc)
        if not ours:
            self.owner.foreign[parts.netloc or self.headers["Host"]] += 1
        else:
            self.owner.asked[parts.path] += 1
        self._answer(served or Served(b"not in the corpus", "text/plain", 404))

    def _answer(self, served: Served) -> None:
        self.send_response(served.status)
        body = served.body
        if served.status == 302:
            self.send_header("Location", body.decode())
            body = b""
        if served.content_type:
            self.send_header("Content-Type", served.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """Answer in the place of any server at all: with TLS, and then with 404."""
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        try:
            self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        except OSError:
            self.close_connection = True  # who looks at certificates goes away here
            return
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
