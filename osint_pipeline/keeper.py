"""What a worker does for its own machine beside the visits: mends its spool, brings WARCs to the store, says how it is."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from osint_pipeline.alerts import look
from osint_pipeline.backup import back_up, is_due
from osint_pipeline.clock import UNKNOWN, clock_of
from osint_pipeline.errors import UserError
from osint_pipeline.logs import logger
from osint_pipeline.machine import describe
from osint_pipeline.pressure import Drained, drain
from osint_pipeline.recovery import recover
from osint_pipeline.workspace import Workspace
from settings.service import Service
from storage.errors import SchemaTooNew, StorageError
from storage.machines import MachineRow, put_machine

log = logger(__name__)

SAY_SECONDS = 10.0
BACKUP_SECONDS = 600.0  # between two looks at how old the newest backup is
REPLAYED_WITHIN, REPLAYED_AT_ONCE = timedelta(days=1), 20  # captures that one look at them checks
LONGEST_SECONDS = 300.0  # between two attempts to reach a store that is away


class Keeper:
    """The housekeeping of one machine. keep() goes on until `stop` is set; nothing that fails ends it.

    `on_outdated` is called where a newer program has changed the database: then nothing here may write to it any more.
    """

    def __init__(
        self,
        service: Service,
        worker: str,
        concurrency: int,
        hosts: Callable[[], list[str]],
        on_outdated: Callable[[], None],
    ) -> None:
        self.service, self.worker, self.concurrency, self.hosts = service, worker, concurrency, hosts
        self.on_outdated = on_outdated
        self.started_at = datetime.now(UTC)
        self.upload_error: str | None = None
        self.backup_error: str | None = None
        self.backed_up_at: datetime | None = None
        self.outdated: SchemaTooNew | None = None  # a newer program has changed the database meanwhile
        self._wake = asyncio.Event()
        self._halt = threading.Event()
        self._spool = asyncio.Lock()  # one thread at a time works on it for us

    def wake(self) -> None:
        """Look soon whether there is something to bring to the store."""
        self._wake.set()

    async def keep(self, stop: asyncio.Event) -> None:
        """Mend, then bring WARCs to the store now and then, and say each few seconds how the machine is."""
        await self.recover_soon()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._upload(stop))
            group.create_task(self._say(stop))
            if self.service.backup_folder:
                group.create_task(self._back_up(stop))
            group.create_task(self._end(stop))

    async def recover_soon(self) -> None:
        """Mend what a process that died left in the spool."""
        async with self._spool:
            await asyncio.to_thread(self._quietly, self._recover)

    async def _end(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._halt.set()
        self._wake.set()

    async def _upload(self, stop: asyncio.Event) -> None:
        pause = self.service.upload_every_seconds
        while not stop.is_set():
            self._wake.clear()
            async with self._spool:
                self.upload_error = await asyncio.to_thread(self._quietly, self._drain)
            every = self.service.upload_every_seconds
            pause = min(max(LONGEST_SECONDS, every), 2 * pause) if self.upload_error else every
            try:
                await asyncio.wait_for(stop.wait() if self.upload_error else self._wake.wait(), pause)
            except TimeoutError:
                continue

    async def _say(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.to_thread(self._quietly, self._describe)
            if self.outdated:
                log.error("%s: this worker stops and gives its visits back", self.outdated)
                self.on_outdated()
            try:
                await asyncio.wait_for(stop.wait(), SAY_SECONDS)
            except TimeoutError:
                continue
        await asyncio.to_thread(self._quietly, self._farewell)

    async def alert(self) -> None:
        """Look whether something is wrong, and tell people."""
        await asyncio.to_thread(self._quietly, self._alert)

    async def replay(self) -> None:
        """Replay a share of what browsers rendered, and compare."""
        if self.service.replay_sample:
            await asyncio.to_thread(self._quietly, self._replay)

    async def _back_up(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.backup_error = await asyncio.to_thread(self._quietly, self._make_backup)
            try:
                await asyncio.wait_for(stop.wait(), BACKUP_SECONDS)
            except TimeoutError:
                continue

    def _quietly(self, act: Callable[[Workspace], str | None]) -> str | None:
        """Do something in a workspace of its own; what went wrong, None if nothing did."""
        try:
            with Workspace(self.service, named=True) as workspace:
                return act(workspace)
        except SchemaTooNew as error:
            self.outdated = error
            return str(error)
        except (StorageError, UserError, OSError) as error:
            log.warning("cannot " + act.__name__.strip("_"), why=str(error))
            return str(error)
        except Exception as error:
            log.error("a fault of ours in " + act.__name__.strip("_"), exc_info=error)
            return f"a fault of the program: {type(error).__name__}"

    def _make_backup(self, workspace: Workspace) -> str | None:
        folder = self.service.backup_folder
        if folder is None or not is_due(workspace, folder, self.service.backup_hours):
            return None
        made = back_up(workspace, folder=folder, keep=self.service.backup_keep, halt=self._halt)
        self.backed_up_at = datetime.now(UTC)
        log.info("backed up", path=str(made.path), size_bytes=made.size_bytes)
        return None

    def _recover(self, workspace: Workspace) -> None:
        for one in recover(workspace):
            log.warning("recovered", what=one.name, said=one.sentence)

    def _drain(self, workspace: Workspace) -> str | None:
        done: Drained = drain(workspace, self._halt)
        if done.preserved:
            log.info("stored", warcs=done.preserved, local_copies_released=done.released)
        if done.why and done.why != self.upload_error:
            log.warning("not everything is in the store", why=done.why)
        return done.why

    def _describe(self, workspace: Workspace, *, stopped: bool = False) -> None:
        told = clock_of(self.service.ntp_server)
        offset = None if told.offset_seconds == UNKNOWN else float(told.offset_seconds)
        detail = describe(
            workspace,
            concurrency=self.concurrency,
            running=self.hosts(),
            clock={"offset_seconds": offset, "source": told.source},
            stopped=stopped,
        )
        detail |= {"last_backup_error": self.backup_error, "last_backup_at": str(self.backed_up_at or "") or None}
        name, now = self.service.machine, datetime.now(UTC)
        row = MachineRow(name=name, worker=self.worker, started_at=self.started_at, seen_at=now, detail=detail)
        put_machine(workspace.catalog, row)

    def _farewell(self, workspace: Workspace) -> None:
        self._describe(workspace, stopped=True)

    def _alert(self, workspace: Workspace) -> None:
        look(workspace)

    def _replay(self, workspace: Workspace) -> None:
        from osint_pipeline.replay.check import check_recent

        check_recent(workspace, datetime.now(UTC) - REPLAYED_WITHIN, REPLAYED_AT_ONCE)
