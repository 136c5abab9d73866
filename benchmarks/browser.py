"""What recording costs in the browser: load time, CPU and memory against a bare load, and pages a minute.

`.venv/bin/python benchmarks/browser.py --rounds 5` prints Markdown. The contenders load the same page in turn, in one browser
process each, started once; ratios are medians of the pairs. CPU is that of this process and everything below it (Playwright's
driver, Chromium), without the servers, which run in a process of their own.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil
from playwright.async_api import Browser as Chromium
from playwright.async_api import Error, Page, Playwright, Response, async_playwright

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from osint_pipeline.fetch.browser import FLAGS, Browser  # noqa: E402
from osint_pipeline.fetch.cdp import ATTACH, Recorder  # noqa: E402
from osint_pipeline.fetch.cdp_link import Link  # noqa: E402
from osint_pipeline.fetch.chromium import launched  # noqa: E402
from osint_pipeline.fetch.guard import Guard, read_networks  # noqa: E402
from osint_pipeline.fetch.relay import Relay  # noqa: E402
from storage.exchange import Exchange, RecordRef, RecordType, Resource, Stored, Truncated  # noqa: E402
from storage.ids import new_id  # noqa: E402

GUARD = Guard(allow=read_networks(("127.0.0.1/32", "::1/128")))
SAMPLE_SECONDS = 0.1
DONE_SECONDS = 60.0
LIGHT_IMAGES = 40
LIMIT_BYTES = 256 << 20
TELL = "<script>onload = () => { document.body.dataset.ms = Math.ceil(performance.now()) }</script>"


class Nowhere:
    """A sink that takes records and forgets them: what is measured is the recorder, not the WARC."""

    def exchange(self, exchange: Exchange, capture: UUID | None) -> RecordRef:
        if isinstance(exchange.response, Stored):
            exchange.response.path.unlink()
        return _ref(exchange.record_id, RecordType.RESPONSE, exchange.url)

    def resource(self, resource: Resource, capture: UUID | None) -> RecordRef:
        if isinstance(resource.body, Stored):
            resource.body.path.unlink()
        return _ref(resource.record_id, RecordType.RESOURCE, resource.url)


def _ref(record_id: UUID, kind: RecordType, url: str) -> RecordRef:
    texts = dict.fromkeys(("date", "warc", "record_sha256", "block_sha256"), "")
    return RecordRef(record_id=record_id, type=kind, url=url, offset_bytes=0, length_bytes=0, **texts)


@dataclass(frozen=True)
class Cost:
    """Loads: seconds to their end as the page tells it, seconds until all is kept, CPU-seconds."""

    load: float
    whole: float
    cpu: float


class Meter:
    """CPU and memory of this process and all below it but the servers. Memory is the sum of USS; measuring it costs CPU."""

    def __init__(self, without: int) -> None:
        self.without = without

    def _processes(self) -> list[psutil.Process]:
        return [
            one for one in (psutil.Process(), *psutil.Process().children(recursive=True)) if one.pid != self.without
        ]

    def cpu(self) -> float:
        """CPU-seconds so far, with those of processes that have ended: whoever waited for them has them."""
        total = 0.0
        for one in self._processes():
            with suppress(psutil.Error):
                total += sum(one.cpu_times()[:4])
        return total

    @contextmanager
    def peak(self, name: str, peaks: dict[str, int]) -> Iterator[None]:
        """Keep the highest memory seen meanwhile; what comes and goes between two samples is not seen."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(SAMPLE_SECONDS):
                peaks[name] = max(peaks.get(name, 0), self._memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _memory(self) -> int:
        total = 0
        for one in self._processes():
            with suppress(psutil.Error):
                total += one.memory_full_info().uss
        return total


Load = Callable[[str], Awaitable[float | None]]


async def bare(chromium: Chromium, url: str, body: bool = False) -> float:
    """Load without recording; `body` reads each response's body as simple recorders do."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 800})
    reading: set[asyncio.Task[None]] = set()
    try:
        page = await context.new_page()
        if body:
            page.on("response", lambda response: reading.add(asyncio.ensure_future(_read(response))))
        ended = await _load(page, url)
        if reading:
            await asyncio.wait(reading, timeout=10)
        return ended
    finally:
        await context.close()


async def _read(response: Response) -> None:
    with suppress(Error):
        await response.body()


async def _load(page: Page, url: str) -> float:
    await page.goto(url)
    await page.wait_for_function("document.body.dataset.ms", timeout=DONE_SECONDS * 1000)
    return int(await page.evaluate("document.body.dataset.ms")) / 1000


class Contenders:
    """Each with a browser of its own that has loaded the page once before anything is measured."""

    def __init__(self, playwright: Playwright, executable: str, scratch: Path) -> None:
        self.playwright, self.executable, self.scratch = playwright, executable, scratch
        self.stack = AsyncExitStack()

    async def make(self) -> dict[str, Load]:
        plain = await self._plain()
        reader = await self._plain()
        relayed, recording = await self._relayed()
        ours = Browser(Path(self.executable), GUARD, scratch=self.scratch)
        await self.stack.enter_async_context(ours)
        return {
            "bare load, new context": lambda url: bare(plain, url),
            '`on("response").body()`': lambda url: bare(reader, url, body=True),
            "bare load through our relay": relayed,
            "our recorder": recording,
            "the same with picture, DOM and text (a whole visit)": lambda url: self._ours(ours, url),
        }

    async def _plain(self, *flags: str) -> Chromium:
        args = [
            *flags,
            "--disable-gpu",
            "--no-sandbox",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-sync",
        ]
        chromium = await self.playwright.chromium.launch(executable_path=self.executable, args=args)
        self.stack.push_async_callback(chromium.close)
        return chromium

    async def _relayed(self) -> tuple[Load, Load]:
        """Loads through the relay that guards addresses: bare, and with the recorder (no picture, no waiting for quiet)."""
        relay = await self.stack.enter_async_context(Relay(GUARD))
        flags = [*FLAGS, f"--proxy-server={relay.url}"]
        plain, home = await self._plain(*flags), self.stack.enter_context(tempfile.TemporaryDirectory())
        chromium, pipe = await launched(self.playwright, Path(self.executable), Path(home), headless=True, args=flags)
        self.stack.push_async_callback(chromium.close)
        self.stack.callback(pipe.abort)
        link = await Link.open(pipe)
        await link.send("Target.setAutoAttach", ATTACH)

        async def load(url: str) -> float:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                recorder = Recorder(link, relay, Nowhere(), new_id(), Path(folder), limit_bytes=LIMIT_BYTES, block=())
                link.listener = recorder.event
                context = await chromium.new_context(viewport={"width": 1280, "height": 800})
                page = await context.new_page()
                await recorder.ready.wait()
                told = await _load(page, url)
                await recorder.leave()
                await context.close()
                await recorder.finish(Truncated.DISCONNECT)
                return told

        return lambda url: bare(plain, url), load

    async def _ours(self, browser: Browser, url: str) -> float | None:
        page = await browser.fetch(url, new_id(), Nowhere(), timeout_seconds=DONE_SECONDS, limit_bytes=LIMIT_BYTES)
        found = page.html.partition('data-ms="')[2].partition('"')[0]
        return int(found) / 1000 if found else None


async def reused(chromium: Chromium) -> Load:
    """A bare load in one context and page for all."""
    page = await (await chromium.new_context()).new_page()
    return lambda url: _load(page, url)


@contextmanager
def served(kind: str):
    """Run the servers of a page in a process of their own: its URL and process id."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.stdin.close()


def serve(kind: str) -> None:
    if kind == "torture":
        import torturesite

        with torturesite.running() as site:
            print(site.url + "/go", flush=True)
            sys.stdin.read()
    else:
        import browsersite

        images = "".join(f"<img src=/i/{number}.png>" for number in range(LIGHT_IMAGES))
        files = {"/light": (200, "text/html", f"<!doctype html><title>light</title><body>{images}{TELL}".encode())}
        files |= {f"/i/{number}.png": (200, "image/png", browsersite.png(number)) for number in range(LIGHT_IMAGES)}
        with browsersite.running(files) as site:
            print(site.url + "/light", flush=True)
            sys.stdin.read()


async def measure(load: Load, url: str, meter: Meter) -> Cost:
    before, start = meter.cpu(), time.monotonic()
    told = await load(url)
    whole = time.monotonic() - start
    return Cost(told or whole, whole, meter.cpu() - before)


def table(rows: dict[str, list[Cost]], peaks: dict[str, int], pages: int) -> None:
    first = next(iter(rows.values()))
    print(
        "| contender | load s | ratio | until all is kept s | ratio | CPU-s | ratio | pages a minute | peak memory above the least |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for name, costs in rows.items():
        cells = []
        for field in ("load", "whole", "cpu"):
            pairs = [getattr(one, field) / getattr(base, field) for one, base in zip(costs, first, strict=True)]
            cells += [
                f"{statistics.median(getattr(one, field) for one in costs) / pages:.2f}",
                f"{statistics.median(pairs):.2f}",
            ]
        minute = 60 * pages / statistics.median(one.whole for one in costs)
        print(f"| {name} | {' | '.join(cells)} | {minute:.0f} | {(peaks[name] - min(peaks.values())) >> 20} MiB |")


async def contest(kind: str, rounds: int, pages: int, executable: str) -> None:
    """Let the contenders load a page in turn, `pages` times each a round."""
    rows: dict[str, list[Cost]] = defaultdict(list)
    peaks: dict[str, int] = {}
    with served(kind) as (url, server), tempfile.TemporaryDirectory() as scratch:
        meter = Meter(server)
        async with async_playwright() as playwright:
            contenders = Contenders(playwright, executable, Path(scratch))
            async with contenders.stack:
                loads = await contenders.make()
                if kind == "light":
                    loads["bare load, one context for all"] = await reused(await contenders._plain())
                for load in loads.values():
                    await load(url)
                for _ in range(rounds):
                    for name, load in loads.items():
                        rows[name].append(await measure(times(load, pages), url, meter))
                for name, load in loads.items():
                    with meter.peak(name, peaks):
                        await load(url)
    table(rows, peaks, pages)


def times(load: Load, count: int) -> Load:
    async def many(url: str) -> float | None:
        told = [await load(url) for _ in range(count)]
        return sum(one for one in told if one is not None) if all(one is not None for one in told) else None

    return many


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--pages", type=int, default=20, help="light pages a round")
    options.add_argument("--chromium", default="/usr/bin/chromium")
    options.add_argument("--only", choices=("torture", "light"))
    options.add_argument("--serve", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        return serve(given.serve)
    if given.only != "light":
        print("\nThe torture page:\n")
        asyncio.run(contest("torture", given.rounds, 1, given.chromium))
    if given.only != "torture":
        print(f"\nLight pages ({LIGHT_IMAGES} images each), {given.pages} a round:\n")
        asyncio.run(contest("light", given.rounds, given.pages, given.chromium))


if __name__ == "__main__":
    main()
