"""One crawl under the spool's pressure: slows, pauses, drains, goes on, or ends with the reason."""

import asyncio
import threading
import time
from dataclasses import dataclass, replace

from osint_pipeline.logs import logger
from osint_pipeline.pressure import Drained, Level, Load, Marks, drain, measure
from osint_pipeline.run import Run
from osint_pipeline.throttle import Throttle
from storage.errors import SpoolHeld

log = logger(__name__)

AGAIN_SECONDS = 2.0  # between two attempts to empty the spool


@dataclass(slots=True)
class _Best:
    """The lowest load since the crawl was paused, and when it was reached."""

    waiting_bytes: int
    free_bytes: int
    at: float

    def improved(self, load: Load) -> bool:
        better = load.waiting_bytes < self.waiting_bytes or load.free_bytes > self.free_bytes
        self.waiting_bytes = min(self.waiting_bytes, load.waiting_bytes)
        self.free_bytes = max(self.free_bytes, load.free_bytes)
        return better


class Backpressure:
    """keep() is called in a thread at each sync, apply() after it in the crawl's own.

    `drains`: whether this crawl may bring WARCs to the store by itself; otherwise it waits for another command to do so.
    """

    def __init__(self, run: Run, throttle: Throttle, *, drains: bool) -> None:
        service = run.workspace.service
        self.run, self.throttle, self.drains = run, throttle, drains
        self.marks, self.wait_seconds = Marks.of(service), service.spool_wait_seconds
        self.level = Level.FREE
        self._best: _Best | None = None
        self._draining: asyncio.Task[Drained] | None = None
        self._next_drain = 0.0
        self._stop = threading.Event()
        self._last: Drained | None = None

    def keep(self) -> Load:
        """Sync and commit, tell the catalogue of WARCs that are sealed and wholly committed, and look at the spool."""
        warcs = self.run.warcs
        warcs.gather()
        self.run.flush()
        if self.level is Level.FULL and self.drains:
            warcs.turn()
            warcs.gather()  # what came since the flush may be in it: then it waits for the next
        warcs.register(self.run.recorder.untold_warcs())
        load = measure(self.run.workspace)
        return replace(load, waiting_bytes=load.waiting_bytes + warcs.waiting_bytes)

    def apply(self, load: Load) -> SpoolHeld | None:
        """Slow, pause or go on; what ends the crawl where nothing has moved for too long."""
        before, self.level = self.level, load.level(self.marks, self.level)
        if self.level is not before:
            self._say(load, before)
        if self.level is Level.FREE:
            self.throttle.free()
            self._best = None
            return None
        self._drain()
        if self.level is Level.SLOW:
            low = self.marks.low_share
            self.throttle.slow((load.share(self.marks) - low) / max(1 - low, 0.01))
            self._best = None
            return None
        self.throttle.pause()
        return self._waited_too_long(load)

    async def end(self) -> None:
        """Let the upload under way come to the end of its WARC, and start no other."""
        self._stop.set()
        if self._draining:
            await asyncio.wait([self._draining])

    def _waited_too_long(self, load: Load) -> SpoolHeld | None:
        now = time.monotonic()
        if self._best is None:
            self._best = _Best(load.waiting_bytes, load.free_bytes, now)
        elif self._best.improved(load):
            self._best.at = now
        if now - self._best.at < self.wait_seconds:
            return None
        why = f"{load.sentence(self.marks)}; nothing left it for {self.wait_seconds:g} s"
        if self._last and self._last.why:
            why += f": {self._last.why}"
        return SpoolHeld(str(self.run.workspace.spool.folder), why)

    def _drain(self) -> None:
        if self._draining and self._draining.done():
            if error := self._draining.exception():
                raise error
            self._last, self._draining = self._draining.result(), None
            self._next_drain = time.monotonic() + AGAIN_SECONDS
        if self.drains and self._draining is None and time.monotonic() >= self._next_drain:
            self._draining = asyncio.ensure_future(asyncio.to_thread(drain, self.run.workspace, self._stop))

    def _say(self, load: Load, before: Level) -> None:
        said = {
            Level.FREE: "the spool has room again, the crawl goes on",
            Level.SLOW: "the spool fills, the crawl slows"
            if before is Level.FREE
            else "the spool has some room again, the crawl goes on slowly",
            Level.FULL: "the spool is full, the crawl pauses",
        }
        log.warning("%s: %s", said[self.level], load.sentence(self.marks))
