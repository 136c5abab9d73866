"""Rows as workers leave them, for tests of what watches over them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, insert, text
from sqlalchemy.dialects.postgresql import insert as upsert

from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.catalog import Catalog
from storage.ids import new_id
from storage.replays import ReplayRow, keep_replay
from storage.rows import SourceRow
from storage.schema import captures, machines, metadata, runs, sources, visits, warc_files, watches
from storage.watched import WatchRow

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def open_workspace(folder: Path, url: str, **more: str) -> Workspace:
    """A workspace on a test's own database."""
    environment = {"HOME": str(folder), "OSINT_HOME": str(folder / "home"), "OSINT_MACHINE": "m1"}
    environment["OSINT_DATABASE_URL"] = url.replace("postgresql+psycopg://", "postgresql://")
    return Workspace(load(environment | more).service).__enter__()


def emptied(url: str) -> str:
    """Empty the tables of a database that tests share; its URL."""
    names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://")) as connection:
        connection.execute(f"TRUNCATE {names}")
    return url


class World:
    """Writes into a catalogue what happened."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._connection: Connection | None = None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write all of it in one transaction."""
        with self.catalog.begin() as self._connection:
            yield
        self._connection = None

    def source(
        self, slug: str, *, host: str | None = None, schedule: str | None = "*/15 * * * *", **watch: Any
    ) -> UUID:
        row = SourceRow(
            slug=slug, url=f"https://{host or slug + '.example'}/{slug}", spider="news", created_at=ago(days=9)
        )
        self._write(insert(sources).values(asdict(row)))
        values = {"added_at": ago(days=9), "changed_at": ago(days=9), "schedule": schedule, **watch}
        self._write(insert(watches).values(asdict(WatchRow(source_id=row.id, **values))))
        return row.id

    def run(self, source: UUID, ended: datetime, outcome: str | None = "complete", **more: Any) -> UUID:
        values: dict[str, Any] = {"wanted": 3, "captured": 3, "bytes": 1000, "posts": 2, "media": 1} | more
        values |= {"id": new_id(), "source_id": source, "started_at": ended - timedelta(seconds=30)}
        values |= {"ended_at": ended if outcome else None, "outcome": outcome}
        self._write(insert(runs).values(values))
        return values["id"]

    def visit(self, source: UUID, due: datetime, state: str = "done", **more: Any) -> UUID:
        over = state not in ("due", "running")
        values: dict[str, Any] = {
            "id": new_id(),
            "source_id": source,
            "host": "x.example",
            "due_at": due,
            "why": "schedule",
        }
        values |= {"priority": 0, "state": state, "attempt": 1, "not_before": due, "detail": {}}
        if state in ("done", "running", "parked"):
            values["started_at"] = due + timedelta(seconds=10)
        values |= {"ended_at": due + timedelta(seconds=40) if over else None}
        values |= {"outcome": "complete" if state == "done" else None, **more}
        self._write(insert(visits).values(values))
        return values["id"]

    def captures(self, run: UUID, source: UUID, count: int, state: str, **more: Any) -> None:
        common = {"run_id": run, "source_id": source, "url": "https://x.example/p", "kind": "page", "captured_at": NOW}
        self._write(insert(captures).values([{"id": new_id(), "state": state, **common, **more} for _ in range(count)]))

    def replays(self, source: UUID, *scores: float, at: datetime = NOW, explains: bool = False) -> list[UUID]:
        """Captures that were replayed, each with its score; `explains`: two replays differ from each other as much."""
        run = self.run(source, at)
        made = [new_id() for _ in scores]
        common = {
            "run_id": run,
            "source_id": source,
            "url": "https://x.example/p",
            "kind": "rendered",
            "captured_at": at,
        }
        self._write(insert(captures).values([{"id": one, "state": "captured", **common} for one in made]))
        for one, score in zip(made, scores, strict=True):
            self.replay(one, score, at, explains=explains)
        return made

    def replay(self, capture: UUID, score: float, at: datetime, *, explains: bool = False) -> None:
        row = ReplayRow(
            capture_id=capture, checked_at=at, browser="Chromium 1", text_ratio=score, dom_equal=False, asked=9, found=9,
            alike=0, missing=0, unasked=0, picture_bits=0, score=score, bad=score < 0.9,
            detail={"missing": ["https://geheim.example/"], "steadiness": {"text_ratio": 1.0, "picture_bits": 0, "explains": explains}},
        )  # fmt: skip
        keep_replay(self.catalog, row)

    def machine(self, name: str, seen: datetime = NOW, **detail: Any) -> None:
        said: Mapping[str, Any] = {
            key: value.isoformat() if isinstance(value, datetime) else value for key, value in detail.items()
        }
        values = {"name": name, "worker": f"{name}:1:2", "started_at": ago(days=1), "seen_at": seen, "detail": said}
        self._write(upsert(machines).values(values).on_conflict_do_update(index_elements=["name"], set_=values))

    def warc(self, name: str, state: str, sealed: datetime | None, size: int = 1000, path: str | None = None) -> None:
        values = {
            "name": name,
            "run_id": new_id(),
            "state": state,
            "sealed_at": sealed,
            "size_bytes": size,
            "path": path,
        }
        self._write(upsert(warc_files).values(values).on_conflict_do_update(index_elements=["name"], set_=values))

    def sql(self, statement: str, **values: Any) -> None:
        self._write(text(statement), values)

    def _write(self, statement: Any, values: Mapping[str, Any] | None = None) -> None:
        if self._connection is not None:
            self._connection.execute(statement, dict(values or {}))
            return
        with self.catalog.begin() as connection:
            connection.execute(statement, dict(values or {}))
