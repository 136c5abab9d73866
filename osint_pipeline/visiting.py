"""Makes the visits of one host, one after the other, in a process of its own: what a worker starts for a job."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from uuid import UUID

from sqlalchemy import text

from osint_pipeline.crawling import crawl_feed
from osint_pipeline.errors import Exit, UserError, explain
from osint_pipeline.hostlock import HostLock, is_wanted
from osint_pipeline.logs import configure, logger
from osint_pipeline.outcome import Summary
from osint_pipeline.shared import SharedWarcs
from osint_pipeline.source import Source, watched_source
from osint_pipeline.stopping import INTERRUPTED, ORDERLY_SECONDS, arm
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.errors import StorageError
from storage.visits import VisitRow, VisitState, began, claim, database_now, finish, put_back, take_over
from storage.watched import one_watched

log = logger(__name__)

BUSY = 75  # exit code: another process has the host (EX_TEMPFAIL of sysexits.h)
LOCK_SECONDS = 20.0  # how long a process of a worker that died may still hold the host
POLL_SECONDS = 0.5
SHARE_SECONDS = 60.0  # what a process has its place for, at least, before it makes room for others
LOCK_LOOK_SECONDS = 2.0
AGAIN = timedelta(seconds=60)  # before a visit is tried again that our own trouble broke, doubled each time
AGAIN_AT_MOST = timedelta(hours=1)
HARD_SECONDS = 4.0  # beyond what an orderly end may take, before a process is killed
_OTHERS_WAIT = text(
    "SELECT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = 'crawl' "
    "AND (scheduled_at IS NULL OR scheduled_at <= now()))"
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker asks for: all visits of a host that are due. `worker` is its name, as visits bear it."""

    host: str
    worker: str


def make_visits(order: Order, alive: Connection) -> None:
    """Do what is ordered and exit: 0, BUSY, or the code of what broke; the main function of a process.

    `alive` is a pipe whose other end only the worker has: at its end this process ends too, in order.
    """
    os.setsid()  # Ctrl-C on the worker's terminal is the worker's alone
    arm()
    threading.Thread(target=_end_with, args=(alive,), daemon=True, name="worker").start()
    try:
        code = int(_make_visits(order))
    except StorageError as error:
        code = _said(explain(error))
    except UserError as error:
        code = _said(error)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    os._exit(code)  # threads of libraries do not hold it up


def _make_visits(order: Order) -> int:
    service = load().service
    configure(service, kind="run")
    with Workspace(service, named=True) as workspace:
        lock = HostLock.take(workspace.catalog, order.host, seconds=LOCK_SECONDS)
        if lock is None:
            return BUSY
        with lock:
            why = "its process or its machine went away"
            most = workspace.service.visit_attempts
            take_over(workspace.catalog, order.host, database_now(workspace.catalog), most=most, why=why, died=False)
            warcs = SharedWarcs.open(workspace, order.host)
            feed = HostFeed(workspace, order, lock, warcs)
            threading.Thread(target=feed.watch_lock, daemon=True, name="host lock").start()
            try:
                crawl_feed(workspace, feed, warcs=warcs)
            finally:
                warcs.close()
                if feed.stopped:  # otherwise the worker finds what was taken, and counts it
                    feed.give_back()
            return Exit.INTERRUPTED if feed.stopped else Exit.COMPLETE


class HostFeed:
    """The visits of one host, as a crawl's feed. After the last one it lingers, as long as nobody else needs its place."""

    def __init__(self, workspace: Workspace, order: Order, lock: HostLock, warcs: SharedWarcs) -> None:
        self.workspace, self.order, self.lock, self.warcs = workspace, order, lock, warcs
        self.catalog = workspace.catalog
        self.visit: VisitRow | None = None
        self.made = 0
        self._account: Callable[[], bool] | None = None  # what could not be written of the visit before
        self._stopped = threading.Event()
        self._begun_at = self._idle_since = time.monotonic()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped.is_set()

    def take(self) -> Source | None:
        """Give the source of the next visit."""
        while not self.stopped and self.lock.still_held():
            self._write_account()
            if self._is_over():
                return None
            if self.warcs.age_seconds > self.workspace.service.warc_open_seconds:
                self.warcs.turn()
            self.visit = claim(self.catalog, self.order.host, self.order.worker)
            if self.visit is not None:
                if source := self._source_of(self.visit):
                    return source
                continue
            if not self._may_linger():
                return None
            self._stopped.wait(POLL_SECONDS)
        return None

    def began(self, run: UUID) -> None:
        """Note the run of the visit."""
        if self.visit is None:
            return
        if not began(self.catalog, self.visit, run):
            raise UserError(
                f"visit {self.visit.id} was taken over by another worker", "it makes the visit", Exit.FAILED
            )
        self.visit = replace(self.visit, run_id=run)

    def ended(self, summary: Summary) -> None:
        """Account for the visit: done, or to be gone on with where it was not the source that broke it."""
        visit = self.visit
        self.made, self._idle_since = self.made + 1, time.monotonic()
        if visit is not None:
            self._account = partial(self._how_it_ended, visit, summary)
            self._write_account()

    def _write_account(self) -> None:
        """Write what became of the visit before; where that fails it is tried again before another is taken."""
        if self._account is not None:
            if not self._account():
                log.warning("a visit was accounted for by another worker", visit=str(self.visit and self.visit.id))
            self._account = self.visit = None

    def _how_it_ended(self, visit: VisitRow, summary: Summary) -> bool:
        now = database_now(self.catalog)
        if summary.reason == INTERRUPTED:
            return put_back(self.catalog, visit, not_before=now, reason="its worker was stopped")
        if isinstance(summary.error, StorageError):  # our own trouble, not the source's
            later = now + min(AGAIN_AT_MOST, AGAIN * 2 ** min(visit.attempt - 1, 10))
            return put_back(self.catalog, visit, not_before=later, reason=str(summary.reason))
        done = {"outcome": summary.outcome.value, "reason": summary.reason}
        return finish(self.catalog, visit, VisitState.DONE, at=now, **done)

    def watch_lock(self) -> None:
        """End the process where its hold of the host is lost while it works: another may have it now."""
        while not self.stopped:
            self._stopped.wait(LOCK_LOOK_SECONDS)
            if not self.stopped and not self.lock.still_held():
                log.warning("the hold of the host is lost", host=self.order.host)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def stop(self) -> None:
        """Take no more."""
        self._stopped.set()

    def give_back(self) -> None:
        """Let another worker make a visit that was taken and not ended."""
        if self.visit is not None and self._account is None:
            put_back(self.catalog, self.visit, not_before=database_now(self.catalog), reason="its worker was stopped")

    def _source_of(self, visit: VisitRow) -> Source | None:
        """Read how the source is set now; None, and the visit cancelled, where it is not to be visited any more."""
        watched, service = one_watched(self.catalog, visit.source_id), self.workspace.service
        gone = watched is None or watched.watch.removed_at is not None
        if gone or (watched and watched.watch.paused_at is not None):
            why = "the source was removed" if gone else "the source is paused"
            finish(self.catalog, visit, VisitState.CANCELLED, at=database_now(self.catalog), reason=why)
            return None
        assert watched is not None
        source = watched_source(watched, robots=service.robots, proxy=service.proxy)
        return replace(source, attempt=visit.attempt, continues=visit.earlier_runs)

    def _is_over(self) -> bool:
        """Whether this process has had its share: of its life, or of a place that others wait for."""
        age = time.monotonic() - self._begun_at
        if not self.made:
            return False
        if age > self.workspace.service.process_seconds or is_wanted(self.catalog, self.order.host):
            return True
        return age > SHARE_SECONDS and self._others_wait()

    def _may_linger(self) -> bool:
        idle = time.monotonic() - self._idle_since
        return idle <= self.workspace.service.linger_seconds and not self._others_wait()

    def _others_wait(self) -> bool:
        with self.catalog.begin() as connection:
            jobs = bool(connection.scalar(_OTHERS_WAIT))
        return jobs or is_wanted(self.catalog, self.order.host)


def _end_with(alive: Connection) -> None:
    """Wait until the worker is gone, however it ended; then end this process, and all that it started if it does not."""
    alive.poll(None)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORDERLY_SECONDS + HARD_SECONDS)
    os.killpg(os.getpid(), signal.SIGKILL)


def _said(error: UserError) -> int:
    log.error(error.what, advice=error.advice)
    return error.exit_code
