"""Machines that work together, as processes with data folders of their own, against one PostgreSQL and one S3."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import text

from osint_pipeline.source import slug_of
from storage.catalog import Catalog
from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_store import EmbeddedStore
from storage.rows import SourceRow
from storage.sources import ensure_source
from storage.watched import WatchRow, put_dues, put_watch
from tests.commands import Osint, kill_group


class Cluster:
    """One database and one store, and the machines that share them; use it in a with statement."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.settings = folder, settings
        self.workers: dict[str, subprocess.Popen[str]] = {}
        self.machines: dict[str, Osint] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.url = self.postgres.start()
        self._stack.callback(self.postgres.stop)
        self._stack.callback(self.postgres.leave)
        self.store = EmbeddedStore(self.folder / "store")
        config = self.store.start()
        self._stack.callback(self.store.leave)
        self.named = {
            "OSINT_DATABASE_URL": self.url,
            "OSINT_S3_ENDPOINT": config.endpoint,
            "OSINT_S3_ACCESS_KEY": config.access_key,
            "OSINT_S3_SECRET_KEY": config.secret_key,
        }
        self.catalog = self._stack.enter_context(Catalog.open(self.url))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.workers.values():
            kill_group(worker)
        self._stack.close()

    def machine(self, name: str) -> Osint:
        """A machine's commands; its data folder is its own."""
        if name not in self.machines:
            settings = {**self.named, "OSINT_MACHINE": name, "OSINT_METRICS_LISTEN": "off", **self.settings}
            self.machines[name] = Osint(self.folder / name, **settings)
        return self.machines[name]

    def start(self, name: str, *words: str) -> "subprocess.Popen[str]":
        """Start a machine's worker; what it says goes to <name>.log."""
        osint = self.machine(name)
        osint.home.mkdir(exist_ok=True, mode=0o700)
        with (self.folder / f"{name}.log").open("a") as log:
            self.workers[name] = osint.start("worker", *words, stdout=log, stderr=log)
        return self.workers[name]

    def stop(self, name: str, seconds: float = 30) -> int:
        """End a machine's worker in order; its exit code."""
        worker = self.workers.pop(name)
        wait_for(lambda: f"worker {name}:{worker.pid}:" in self.said(name) or worker.poll() is not None, seconds)
        worker.send_signal(signal.SIGTERM)
        return worker.wait(seconds)

    def kill(self, name: str) -> None:
        """kill -9 a machine's worker alone: what it started must end by itself."""
        worker = self.workers.pop(name)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def watch(
        self, urls: Iterable[str], schedule: str | None = None, *, spider: str = "telegram", **more: Any
    ) -> list[SourceRow]:
        """Watch sources; they are due now, and then by their schedule. `more` are fields of the watch."""
        now, rows = datetime.now(UTC), []
        for url in urls:
            stored = ensure_source(self.catalog, SourceRow(slug=slug_of(url), url=url, spider=spider, created_at=now))
            watch = WatchRow(source_id=stored.id, added_at=now, changed_at=now, schedule=schedule, **more)
            put_watch(self.catalog, watch)
            with self.catalog.begin() as connection:
                put_dues(connection, {stored.id: now})
            rows.append(stored)
        return rows

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Ask the catalogue."""
        with self.catalog.begin() as connection:
            return [dict(row._mapping) for row in connection.execute(text(query), values)]

    def visits(self) -> list[dict[str, Any]]:
        """Every visit with its source's URL, by the time that it was due."""
        return self.rows("SELECT v.*, s.url FROM visits v JOIN sources s ON s.id = v.source_id ORDER BY v.due_at, v.id")

    def ended(self) -> bool:
        """Whether every visit so far is accounted for, and there are some."""
        found = self.visits()
        return bool(found) and all(row["state"] not in ("due", "running") for row in found)


def wait_for(what: Callable[[], Any], seconds: float, why: Callable[[], object] = lambda: "") -> Any:
    """Poll until something is so; what it is."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := what():
                return found
        except psycopg.OperationalError:
            pass
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)
