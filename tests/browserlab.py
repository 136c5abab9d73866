"""A browser for tests, a sink in memory, and a load without any recording to compare with."""

import asyncio
import hashlib
import ipaddress
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
from playwright.async_api import async_playwright

from osint_pipeline.fetch.browser import VIEW_COUNTERS, Browser
from osint_pipeline.fetch.guard import Guard
from storage.errors import SpoolFull
from storage.exchange import Exchange, RecordRef, RecordType, Stored
from storage.ids import new_id

CHROMIUM = shutil.which("chromium")
GUARD = Guard(allow=(ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("::1/128")))
BLOCK = (*VIEW_COUNTERS, "http://127.0.0.1:*/v/*")


class Kept:
    """A sink in memory."""

    def __init__(self, fail_at: int = 0) -> None:
        self.exchanges: list[tuple[Exchange, bytes]] = []
        self.resources = {}
        self.made = []
        self.fail_at = fail_at
        self.seen = threading.Event()

    def exchange(self, exchange, capture):
        block = exchange.response or b""
        if isinstance(block, Stored):
            assert block.path.stat().st_size == block.length_bytes
            data = block.path.read_bytes()
            block.path.unlink()
            block = data
        self.exchanges.append((exchange, block))
        self.seen.set()
        if len(self.exchanges) == self.fail_at:
            raise SpoolFull("spool", 10)
        return self._ref(exchange.record_id, RecordType.RESPONSE, exchange.url)

    def resource(self, resource, capture):
        if isinstance(resource.body, Stored):
            body = resource.body.path.read_bytes()
            resource.body.path.unlink()
            resource = replace(resource, body=body)
        self.resources[resource.url.split(":")[1]] = resource
        self.made.append(resource)
        return self._ref(resource.record_id, RecordType.RESOURCE, resource.url)

    def _ref(self, record_id, kind, url) -> RecordRef:
        return RecordRef(
            record_id=record_id,
            type=kind,
            url=url,
            date="",
            warc="",
            offset_bytes=0,
            length_bytes=0,
            record_sha256="",
            block_sha256="",
        )

    def of(self, path: str) -> tuple[Exchange, bytes, bytes]:
        """The one exchange of a path: itself, its response's head, its body."""
        (found,) = [(one, block) for one, block in self.exchanges if one.url.partition("/")[2].partition("/")[2].partition("/")[2] == path.lstrip("/")]  # fmt: skip
        head, _, body = found[1].partition(b"\r\n\r\n")
        return found[0], head, body

    def seen_on_wire(self) -> Counter:
        return Counter(
            (one.method, one.url, int(block.split(b" ", 2)[1]), hashlib.sha256(block.partition(b"\r\n\r\n")[2]).hexdigest())
            for one, block in self.exchanges
            if block
        )  # fmt: skip


class Lab:
    """One browser in a loop of its own thread."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def run(self, work, seconds=60.0):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def fetch(self, url, kept=None, timeout_seconds=20.0, limit_bytes=64 << 20):
        kept = kept or Kept()
        work = self.browser.fetch(url, new_id(), kept, timeout_seconds=timeout_seconds, limit_bytes=limit_bytes)
        return self.run(work, timeout_seconds + 60), kept

    async def _start(self) -> None:
        self.browser = Browser(Path(CHROMIUM or ""), GUARD, scratch=self.scratch, block=BLOCK)
        await self.browser.__aenter__()

    def __enter__(self):
        self.thread.start()
        self.run(self._start())
        return self

    def __exit__(self, *_) -> None:
        self.run(self.browser.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


def chromiums(below: int | None = None) -> list[psutil.Process]:
    """Every process of a Chromium below this one."""
    found = []
    for process in psutil.Process(below).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "chrom" in process.name() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def main_ones() -> list[psutil.Process]:
    """The main process of each Chromium."""
    found = []
    for process in chromiums():
        with suppress(psutil.Error):
            words = process.cmdline()
            if words and not any(word.startswith("--type=") for word in words):
                found.append(process)
    return found


def hit(number: int, chosen: psutil.Process) -> None:
    with suppress(psutil.Error):
        chosen.send_signal(number)


def hit_driver(number: int) -> None:
    for one in psutil.Process().children():
        if "node" in one.name():
            hit(number, one)


def homes(pid: int | None = None) -> list[Path]:
    """The folders of a process's Chromiums."""
    return list(Path(tempfile.gettempdir()).glob(f"osint-browser-{pid or os.getpid()}-*"))


def gone(what: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether something is empty within a time."""
    deadline = time.monotonic() + seconds
    while what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


async def bare_report(url: str, report_in: Callable[[str], dict]) -> dict:
    """The page's own report in a plain Playwright, once its title says "done"."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--no-sandbox"])
        page = await browser.new_page()
        await page.goto(url, timeout=120_000)
        await page.wait_for_function("document.title == 'done'", timeout=120_000)
        report = report_in(await page.inner_text("body"))
        await browser.close()
    return report
