"""Starts the processes that make visits, watches over each, and ends those that take too much."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess

import psutil

from osint_pipeline.crawling import END_SECONDS
from osint_pipeline.logs import logger
from osint_pipeline.visiting import HARD_SECONDS, Order, make_visits
from settings.service import Service

log = logger(__name__)

PRELOADED = (  # imported once, in the process that the others are forked from: a start costs 20 ms instead of 1.5 s
    "osint_pipeline.visiting", "osint_pipeline.crawl", "osint_pipeline.fetch.handler", "osint_pipeline.run", "scrapy.crawler",
    "scrapy.core.downloader.handlers.http11", "spiders.channels", "spiders.outlets", "spiders.videos",
)  # fmt: skip
LOOK_SECONDS = 2.0
LOST = 255  # what multiprocessing says where the process died that forks the others: this one may live


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code (minus the number of a signal), and why we ended it, if we did."""

    code: int
    why: str | None = None

    @property
    def sentence(self) -> str:
        """Say it."""
        if self.why:
            return self.why
        if self.code == LOST:
            return "the process that starts the others died"
        if self.code < 0:
            return f"its process was killed by {signal.Signals(-self.code).name}"
        return f"its process ended with exit code {self.code}"


class Nursery:
    """The processes of one worker. To be used from one event loop."""

    def __init__(self, service: Service, overdue: Callable[[str], str | None]) -> None:
        self.service, self._overdue = service, overdue
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))
        forkserver.ensure_running()  # imports now: the first visit would wait 2.4 s for it
        self._ours, self._theirs = self._context.Pipe()  # nobody else has our end: it closes when we are gone
        self._living: dict[str, ForkServerProcess] = {}
        self.stopping = False

    @property
    def hosts(self) -> list[str]:
        """The hosts that are being visited."""
        return sorted(self._living)

    async def run(self, order: Order) -> Ended:
        """Make the visits of a host in a process; how it ended."""
        process = self._context.Process(target=make_visits, args=(order, self._theirs), name=f"visits of {order.host}")
        await asyncio.to_thread(process.start)
        self._living[order.host] = process
        try:
            if self.stopping:
                process.terminate()
            why = await self._watch(process, order.host)
        finally:
            del self._living[order.host]
            if process.is_alive():
                _kill(process)
            process.join()
        code = process.exitcode
        assert code is not None
        if code == LOST:
            _kill(process)  # it may live
        process.close()
        return Ended(code, why)

    def stop(self) -> None:
        """Ask all processes to end in order."""
        self.stopping = True
        for process in self._living.values():
            process.terminate()

    def kill(self) -> None:
        """End all processes at once, with all that they started."""
        for process in self._living.values():
            _kill(process)

    async def _watch(self, process: ForkServerProcess, host: str) -> str | None:
        """Wait for the end of a process; why it had to be ended, None if it ended by itself."""
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(process.sentinel, over.set)
        why: str | None = None
        hard_at = float("inf")
        try:
            while not over.is_set():
                try:
                    await asyncio.wait_for(over.wait(), LOOK_SECONDS)
                except TimeoutError:
                    if why is None and (why := await asyncio.to_thread(self._too_much, process, host)):
                        _kill(process)  # at once: an orderly end would take more of what there is too little of
                if self.stopping and hard_at == float("inf"):  # it was asked already: a second time would cut it short
                    hard_at = time.monotonic() + self.service.stop_seconds + END_SECONDS + HARD_SECONDS
                if time.monotonic() > hard_at:
                    _kill(process)
        finally:
            loop.remove_reader(process.sentinel)
        return why

    def _too_much(self, process: ForkServerProcess, host: str) -> str | None:
        limit = self.service.crawl_memory_bytes
        used = _memory_bytes(process.pid)
        if limit and used > limit:
            return f"its process used {used / 1e6:,.0f} MB of memory, more than OSINT_CRAWL_MEMORY_BYTES"
        return self._overdue(host)


def _memory_bytes(pid: int | None) -> int:
    """Add up what a process and all that it started hold in memory and share with nobody (USS)."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for one in [parent, *parent.children(recursive=True)]:
            try:
                total += one.memory_full_info().uss
            except psutil.Error:
                continue
    except psutil.Error:
        return 0
    return total


def _kill(process: ForkServerProcess) -> None:
    """Kill a process and the group that it leads, a browser among it."""
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
