"""One crawl with the wire fetcher in a process of its own (a reactor cannot start twice): python wirecrawl.py JOB RESULT."""

import hashlib
import os
import pickle
import resource
import subprocess
import sys
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

from osint_pipeline.fetch.guard import Guard
from osint_pipeline.fetch.tap import WireLimits
from osint_pipeline.fetch.wire import WireFetcher
from settings.exits import Exit
from storage.errors import SpoolFull
from storage.exchange import Exchange, RecordRef, RecordType, Stored

ROOT = Path(__file__).parent.parent


@dataclass
class Job:
    """What to fetch and how. `requests` are keyword arguments of scrapy.Request, by name."""

    requests: dict[str, dict[str, Any]]
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    limits: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    scratch: Path = Path("/nowhere")
    exit: Exit | None = None
    deaf: bool = False  # whether a lookup of any name fails and is told in Result.lookups
    sink_fails: bool = False
    file_limit_bytes: int = resource.RLIM_INFINITY


@dataclass
class Got:
    """What a request's callback or errback saw."""

    status: int | None = None
    body: bytes = b""
    kind: str = ""
    flags: tuple[str, ...] = ()
    headers: dict[bytes, list[bytes]] = field(default_factory=dict)
    error: str | None = None
    records: list[RecordRef] = field(default_factory=list)
    recorded_before: bool = False


@dataclass
class Kept:
    """A sink's exchange; `stored_sha256` where the answer lay in a scratch file."""

    exchange: Exchange
    capture: Any
    stored_sha256: str | None = None


@dataclass
class Result:
    """All that a crawl gave."""

    got: dict[str, Got] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    base_rss_kib: int = 0
    peak_rss_kib: int = 0
    stderr: str = ""
    lookups: list[str] = field(default_factory=list)

    def of(self, name: str) -> list[Kept]:
        """List what was kept for one request, in order."""
        return [one for one in self.kept if one.capture == name]

    def one(self, name: str) -> Exchange:
        """Return the only exchange of one request."""
        (kept,) = self.of(name)
        return kept.exchange


class ListSink:
    """A sink that keeps exchanges in a list, and digests of stored answers."""

    def __init__(self, result: Result, fails: bool) -> None:
        self.result, self.fails = result, fails

    def exchange(self, exchange: Exchange, capture: Any) -> RecordRef:
        if self.fails:
            raise SpoolFull("a.warc", 1)
        kept = Kept(exchange, capture)
        if isinstance(exchange.response, Stored):
            with exchange.response.path.open("rb") as file:
                kept.stored_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            assert exchange.response.path.stat().st_size == exchange.response.length_bytes
            exchange.response.path.unlink()
        self.result.kept.append(kept)
        return RecordRef(
            record_id=exchange.record_id, type=RecordType.RESPONSE, url=exchange.url, date="", warc="a",
            offset_bytes=0, length_bytes=0, record_sha256="", block_sha256="",
        )  # fmt: skip

    def resource(self, resource: Any, capture: Any) -> RecordRef:
        raise NotImplementedError


class Handler:
    """What Scrapy loads; the pipeline's own is as thin."""

    lazy = False

    @classmethod
    def from_crawler(cls, crawler):
        self = cls()
        job, result = crawler.spider.job, crawler.spider.result
        self.fetcher = WireFetcher(
            crawler,
            guard=Guard(allow=tuple(ip_network(one) for one in job.allow)),
            sink=ListSink(result, job.sink_fails),
            limits=WireLimits(**{"memory_body_bytes": 8 << 20, "body_limit_bytes": 1 << 30} | job.limits),
            scratch=job.scratch,
            exit=job.exit,
        )
        return self

    async def download_request(self, request):
        return await self.fetcher.download_request(request)

    async def close(self):
        await self.fetcher.close()


@implementer(IHostnameResolver)
class Names:
    """A resolver that asks the DNS server at TEST_DNS_PORT for A records; nothing is cached."""

    def __init__(self, reactor, port):
        self.reactor, self.port = reactor, port

    @classmethod
    def from_crawler(cls, crawler, reactor):
        return cls(reactor, crawler.settings.getint("TEST_DNS_PORT"))

    def install_on_reactor(self):
        from twisted.names.client import Resolver

        self.dns = Resolver(servers=[("127.0.0.1", self.port)], reactor=self.reactor)
        self.reactor.installNameResolver(self)

    def resolveHostName(self, receiver, name, portNumber=0, *_, **__):
        def tell(found):
            for record in found[0]:
                receiver.addressResolved(IPv4Address("TCP", record.payload.dottedQuad(), portNumber))
            receiver.resolutionComplete()

        receiver.resolutionBegan(None)
        self.dns._lookup(name.encode("idna"), 1, 1, None).addCallbacks(tell, lambda _: receiver.resolutionComplete())


class Asker(scrapy.Spider):
    name = "asker"

    async def start(self):
        for name, wanted in self.job.requests.items():
            wanted = dict(wanted)
            meta = wanted.pop("meta", {}) | {"osint_capture": name, "handle_httpstatus_all": wanted.pop("all", False)}
            if not meta["handle_httpstatus_all"]:
                del meta["handle_httpstatus_all"]
            yield scrapy.Request(
                **wanted,
                meta=meta,
                dont_filter=True,
                callback=self.parse,
                errback=self.failed,
                cb_kwargs={"asked": name},
            )

    def parse(self, response, asked):
        known = {one.exchange.record_id for one in self.result.kept}
        records = response.meta["osint_records"]
        self.result.got[asked] = Got(
            status=response.status,
            body=response.body,
            kind=type(response).__name__,
            flags=tuple(response.flags),
            headers=dict(response.headers),
            records=records,
            recorded_before=bool(records) and all(one.record_id in known for one in records),
        )

    def failed(self, failure):
        asked = failure.request.cb_kwargs["asked"]
        self.result.got[asked] = Got(error=failure.type.__name__, records=failure.request.meta.get("osint_records", []))


SETTINGS = {
    "LOG_LEVEL": "ERROR",
    "TELNETCONSOLE_ENABLED": False,
    "REMOTE_CONTROL_ENABLED": False,
    "DOWNLOAD_HANDLERS": {"http": "wirecrawl.Handler", "https": "wirecrawl.Handler"},
    "ROBOTSTXT_OBEY": False,
    "RETRY_TIMES": 0,
    "DOWNLOAD_TIMEOUT": 20,
    "CONCURRENT_REQUESTS": 16,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 8,
    "DOWNLOAD_DELAY": 0,
    "USER_AGENT": "test",
}


def main(job_path: str, result_path: str) -> None:
    """Run the job, pickle what came of it."""
    job: Job = pickle.loads(Path(job_path).read_bytes())
    result = Result()
    Asker.job, Asker.result = job, result
    process = AsyncCrawlerProcess(SETTINGS | job.settings)
    process.crawl(Asker)
    result.base_rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_limit_bytes, resource.RLIM_INFINITY))
    process.start()
    result.peak_rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plain = replace(result)  # of this module by its name, not of __main__
    Path(result_path).write_bytes(pickle.dumps(plain))


def crawl(job: Job, folder: Path) -> Result:
    """Run a job in a child process, where warnings are errors, and return what came of it."""
    job.scratch = folder / "scratch"
    job.scratch.mkdir()
    (folder / "job").write_bytes(pickle.dumps(job))
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    lookups = folder / "lookups"
    if job.deaf:
        environ |= {
            "PYTHONPATH": f"{ROOT / 'tests' / 'deaf'}{os.pathsep}{environ['PYTHONPATH']}",
            "LOOKUPS": str(lookups),
        }
    child = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "tests" / "wirecrawl.py", folder / "job", folder / "result"],
        env=environ, cwd=folder, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    result = pickle.loads((folder / "result").read_bytes())
    result.stderr = child.stderr
    result.lookups = lookups.read_text().splitlines() if lookups.exists() else []
    assert list(job.scratch.iterdir()) == [], "scratch files are left behind"
    return result


if __name__ == "__main__":
    from wirecrawl import main as named

    named(sys.argv[1], sys.argv[2])
