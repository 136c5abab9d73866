"""A worker: takes jobs from the queue, has hosts visited, turns schedules into visits, frees what dead workers held."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import procrastinate
import psycopg
from procrastinate import exceptions
from procrastinate.jobs import Status

from osint_pipeline.errors import Exit
from osint_pipeline.keeper import Keeper
from osint_pipeline.logs import logger
from osint_pipeline.nursery import LOST, Ended, Nursery
from osint_pipeline.process_names import this_process
from osint_pipeline.timetable import tick
from osint_pipeline.visiting import BUSY, Order
from osint_pipeline.workspace import Workspace
from settings.service import Service
from storage.catalog import Catalog
from storage.errors import StorageError
from storage.scratch import sweep_scratch
from storage.visits import database_now, forget_visits, put_off, running_since, seconds_to_next, take_over

log = logger(__name__)

CRAWL, CLOCK = "crawl", "clock"  # the queues: one job for each host that has visits; what looks after the others
QUEUES = (CRAWL, CLOCK)
TICK_SECONDS = 5.0
TICK_LEAST_SECONDS = 1.0  # between two looks where something falls due all the time
ALERTS, REPLAYS, DAILY = "* * * * * 30", "*/10 * * * * 45", "17 3 * * * 0"  # cron with seconds, last
OURS = (Exit.STORE, Exit.DATABASE, Exit.DISK, Exit.INTERRUPTED, LOST)  # ends that say nothing against the visit
BUSY_SECONDS = 30.0  # before a host is tried again that another process keeps
OURS_AGAIN = timedelta(seconds=60)  # before a visit is made again that such an end cut short
CLOCKS = 3  # jobs of the clock at once: a long one keeps the ticks from nothing
LEAVING_SECONDS = (
    5.0  # how long a queue that cannot be served any more waits for its jobs: the visits go on without them
)
OUTAGE_SECONDS = (1.0, 30.0)  # between two attempts to reach a database that is away, from and to


@dataclass(slots=True)
class Worker:
    """One worker process. work() serves until stop() is called, through outages of the database."""

    workspace: Workspace
    concurrency: int
    queues: tuple[str, ...]
    nursery: Nursery = field(init=False)
    keeper: Keeper = field(init=False)
    name: str = field(init=False)
    _visits: dict[str, "asyncio.Task[None]"] = field(init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        service = self.workspace.service
        self.name = this_process(service.machine)
        self.nursery = Nursery(service, self._overdue)
        self._visits = {}
        self.keeper = Keeper(service, self.name, self.concurrency, lambda: self.nursery.hosts, self._outdated)

    @property
    def service(self) -> Service:
        return self.workspace.service

    def stop(self) -> None:
        """End in order: no new job, the visits under way are given back. Called again: at once."""
        if self._stop.is_set():
            self.nursery.kill()
            return
        self._stop.set()
        self.nursery.stop()

    def _outdated(self) -> None:
        if not self._stop.is_set():
            self.stop()

    def _unkept(self, keeping: "asyncio.Task[None]") -> None:
        """Stop where the housekeeping ended by itself: without it nothing would come to the store."""
        if not self._stop.is_set():
            log.error("the housekeeping ended", exc_info=keeping.exception() if not keeping.cancelled() else None)
            self.stop()

    async def work(self) -> None:
        """Serve the queues; comes back after stop(). Raises SchemaTooNew where a newer program changed the database."""
        keeping = asyncio.create_task(self.keeper.keep(self._stop))
        keeping.add_done_callback(self._unkept)
        pause, longest = OUTAGE_SECONDS
        while not self._stop.is_set():
            try:
                await self._serve()
                pause = OUTAGE_SECONDS[0]
            except (psycopg.Error, exceptions.ProcrastinateException, StorageError) as error:
                log.warning("the queue cannot be served", why=_short(error), again_in_seconds=pause)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), pause)
                pause = min(longest, 2 * pause)
        while self._visits:
            await asyncio.wait(self._visits.values())
        await keeping
        if self.keeper.outdated:
            raise self.keeper.outdated

    async def _serve(self) -> None:
        """Run a worker of procrastinate for each queue, until stop() or until the database goes away."""
        catalog = await asyncio.to_thread(lambda: self.workspace.catalog)  # starts the embedded one where it is gone
        app = self.app(catalog)
        async with app.open_async():
            serving = {asyncio.create_task(self._one_queue(app, queue)) for queue in self.queues}
            if CLOCK in self.queues:
                serving.add(asyncio.create_task(self._clock(app, catalog)))
            stopping = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait({*serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                await _end(serving)

    async def _one_queue(self, app: procrastinate.App, queue: str) -> None:
        service = self.service
        await app.run_worker_async(
            queues=[queue],
            name=f"{self.name}:{queue}",
            concurrency=self.concurrency if queue == CRAWL else CLOCKS,
            shutdown_graceful_timeout=LEAVING_SECONDS,
            delete_jobs="successful",
            update_heartbeat_interval=service.heartbeat_seconds,
            stalled_worker_timeout=service.worker_gone_seconds,
            fetch_job_polling_interval=1.0,
            install_signal_handlers=False,
        )

    def app(self, catalog: Catalog) -> procrastinate.App:
        """Make the application of the queue: its connection and its tasks."""
        url = catalog.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connector = procrastinate.PsycopgConnector(
            conninfo=url, min_size=1, max_size=4, kwargs={"application_name": "osint-pipeline queue"}
        )
        app = procrastinate.App(connector=connector)
        self._add_tasks(app, catalog)
        return app

    def _add_tasks(self, app: procrastinate.App, catalog: Catalog) -> None:
        @app.task(name="crawl", queue=CRAWL)
        async def crawl(host: str) -> None:
            await asyncio.shield(self._visiting(catalog, host))

        @app.task(
            name="tick", queue=CLOCK, queueing_lock="tick"
        )  # no lock: one that a dead worker left keeps nobody out
        async def on_tick() -> None:
            most = self.service.catch_up_visits
            hosts = await asyncio.to_thread(tick, catalog, catch_up_visits=most)
            await order_visits(app, hosts)

        @app.periodic(cron=ALERTS, periodic_id="alerts")
        @app.task(name="alerts", queue=CLOCK, queueing_lock="alerts")
        async def alerts(timestamp: int) -> None:
            await self.keeper.alert()

        @app.periodic(cron=REPLAYS, periodic_id="replays")
        @app.task(name="replays", queue=CLOCK, queueing_lock="replays", lock="replays")
        async def replays(timestamp: int) -> None:
            await self.keeper.replay()

        @app.periodic(cron=DAILY, periodic_id="daily")
        @app.task(name="daily", queue=CLOCK, queueing_lock="daily")
        async def daily(timestamp: int) -> None:
            before = datetime.now(UTC) - timedelta(days=self.service.visits_days)
            while await asyncio.to_thread(forget_visits, catalog, before):
                pass
            await asyncio.to_thread(sweep_scratch, catalog)
            await app.job_manager.delete_old_jobs(nb_hours=24, include_failed=True, include_cancelled=True)

    async def _clock(self, app: procrastinate.App, catalog: Catalog) -> None:
        """Have the clock looked at when a source falls due, and every few seconds; a clock that steps delays it by no more.

        Dead workers' jobs are freed every few seconds.
        """
        rescued = 0.0
        while True:
            next_due = await asyncio.to_thread(seconds_to_next, catalog)
            pause = TICK_SECONDS - time.time() % TICK_SECONDS
            await asyncio.sleep(pause if next_due is None else min(pause, max(TICK_LEAST_SECONDS, next_due)))
            if time.monotonic() - rescued >= TICK_SECONDS - TICK_LEAST_SECONDS:
                rescued = time.monotonic()
                await rescue(app, self.service.worker_gone_seconds)
            with suppress(exceptions.AlreadyEnqueued):
                await app.configure_task("tick", queueing_lock="tick", queue=CLOCK).defer_async()

    def _visiting(self, catalog: Catalog, host: str) -> "asyncio.Task[None]":
        """Have a host visited, or join those who wait for it already: a job that is given up does not end its visits."""
        if host not in self._visits:
            self._visits[host] = asyncio.create_task(self.visit(catalog, host))
            self._visits[host].add_done_callback(lambda _: self._visits.pop(host))
        return self._visits[host]

    async def visit(self, catalog: Catalog, host: str) -> None:
        """Have the visits of a host made; account for those whose process died."""
        ended = await self.nursery.run(Order(host, self.name))
        self.keeper.wake()
        if ended.code == BUSY:
            log.info("another process has the host", host=host)
            with suppress(StorageError):
                await asyncio.to_thread(put_off, catalog, host, BUSY_SECONDS)
        if ended.code in (0, BUSY) or (ended.code == Exit.INTERRUPTED and ended.why is None):
            return
        log.warning("a host's process ended", host=host, why=ended.sentence)
        try:
            await asyncio.to_thread(self._account, catalog, host, ended)
        except StorageError as error:  # whoever visits the host next finds the visit, and takes it over
            log.warning("a visit is not accounted for yet", host=host, why=str(error))
        await self.keeper.recover_soon()

    def _account(self, catalog: Catalog, host: str, ended: Ended) -> None:
        ours = self.nursery.stopping or (ended.why is None and ended.code in OURS)
        wait = OURS_AGAIN if ours else timedelta(seconds=self.service.visit_again_seconds)
        for visit in take_over(
            catalog,
            host,
            database_now(catalog),
            most=None if ours else self.service.visit_attempts,
            why=ended.sentence,
            died=not ours,
            wait=wait,
            worker=self.name,
        ):
            log.warning("visit", visit=str(visit.id), host=host, state=visit.state.value, reason=visit.reason)

    def _overdue(self, host: str) -> str | None:
        """Say that a visit of ours goes on for longer than it may, though its process should have ended it; None: it does not."""
        service = self.service
        try:
            begun = running_since(self.workspace.catalog, host, self.name)
        except StorageError:
            return None
        if begun is None:
            return None
        limit = (begun.limit_seconds or service.visit_seconds) + service.stop_seconds + service.hung_seconds
        late = begun.running_seconds > limit
        return f"its visit went on for {begun.running_seconds:.0f} s, and its process did not end it" if late else None


async def order_visits(app: procrastinate.App, hosts: Iterable[tuple[str, int]]) -> None:
    """Put a job into the queue for each host that has none."""
    for host, priority in hosts:
        lock = f"host:{host}"
        with suppress(exceptions.AlreadyEnqueued):
            await app.configure_task(
                "crawl", lock=lock, queueing_lock=lock, queue=CRAWL, priority=priority
            ).defer_async(host=host)


async def rescue(app: procrastinate.App, seconds: float) -> None:
    """Let the jobs of workers that have gone silent be taken by others."""
    manager = app.job_manager
    await manager.prune_stalled_workers(seconds)
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=seconds):
        log.warning("a dead worker's job is taken again", job=job.id, lock=job.lock)
        try:
            await manager.retry_job(job)
        except exceptions.ConnectorException:  # another of its kind waits already, and does the same
            await manager.finish_job(job, status=Status.FAILED, delete_job=True)


async def _end(serving: set["asyncio.Task[None]"]) -> None:
    """End the queues' workers: each waits for its jobs; raise what ended one of them early."""
    for task in serving:
        task.cancel()
    errors = [one for one in await asyncio.gather(*serving, return_exceptions=True) if isinstance(one, Exception)]
    if errors:
        raise errors[0]


def _short(error: BaseException) -> str:
    return " ".join(str(getattr(error, "__cause__", None) or error).split())[:300]
