"""Machines that share the archive, and what one left open that is gone for good."""

from dataclasses import dataclass
from datetime import UTC, datetime

from osint_pipeline.errors import UserError
from osint_pipeline.recovery import ALONE, end_retired
from osint_pipeline.workspace import Workspace
from storage.events import add_event
from storage.machines import MachineRow, forget_machine, last_capture, list_machines
from storage.runs import UnfinishedRun, unfinished_runs
from storage.visits import running_of_machine, take_over

GONE_TIMES = 4  # how many times OSINT_WORKER_GONE_SECONDS a machine must have been silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine: its worker and when that was last heard of (None where it never had one), its runs that nobody ended."""

    name: str
    worker: str | None
    seen_at: datetime | None
    silent: bool
    unfinished_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What a machine that is gone left open, and is ended now."""

    name: str
    runs: int
    visits: int


def machines(workspace: Workspace) -> list[Machine]:
    """List the machines that have a worker or a run that nobody ended, by name."""
    rows = {row.name: row for row in list_machines(workspace.catalog)}
    open_runs = _by_machine(workspace)
    return [
        Machine(
            name=name,
            worker=row.worker if (row := rows.get(name)) else None,
            seen_at=row.seen_at if row else None,
            silent=row is not None and _silent_seconds(row.seen_at) > workspace.service.worker_gone_seconds,
            unfinished_runs=len(open_runs.get(name, [])),
        )
        for name in sorted(rows.keys() | open_runs.keys())
    ]


def retire(workspace: Workspace, name: str, why: str) -> Retired:
    """End a machine's runs with what the catalogue has of them, free its visits, forget it. May be called again.

    What its disk alone held stays in the catalogue as it is. Raises UserError while it may be alive.
    """
    row = next((one for one in list_machines(workspace.catalog) if one.name == name), None)
    left = _by_machine(workspace).get(name, [])
    _refuse(workspace, name, row, left)
    now, visits = datetime.now(UTC), 0
    for host, worker in running_of_machine(workspace.catalog, name):
        most, said = workspace.service.visit_attempts, f"its machine was retired: {why}"
        visits += len(take_over(workspace.catalog, host, now, most=most, why=said, died=False, worker=worker))
    with workspace.catalog.alone(ALONE):
        for run in left:
            end_retired(workspace, run.id, why)
    detail = {"why": why, "runs": [str(run.id) for run in left], "visits": visits}
    if row is not None:
        detail["last_seen"] = row.seen_at.isoformat()
    add_event(workspace.catalog, "machine retired", name, None, detail)
    forget_machine(workspace.catalog, name)
    return Retired(name=name, runs=len(left), visits=visits)


def _refuse(workspace: Workspace, name: str, row: MachineRow | None, left: list[UnfinishedRun]) -> None:
    if name == workspace.service.machine:
        raise UserError(f"{name} is this machine", "`osint recover` ends what its dead processes left")
    if row is None and not left:
        raise UserError(f"no machine {name} has a worker or an open run", "`osint machine list` lists them")
    captured = last_capture(workspace.catalog, [run.id for run in left])
    seen = max(one for one in (row and row.seen_at, captured, *(run.started_at for run in left)) if one)
    wanted = GONE_TIMES * workspace.service.worker_gone_seconds
    if (silent := _silent_seconds(seen)) < wanted:
        what = f"{name} was heard of {max(silent, 0):.0f} seconds ago: it is not gone"
        raise UserError(what, f"stop it, or wait until it has been silent for {wanted:g} seconds")


def _by_machine(workspace: Workspace) -> dict[str, list[UnfinishedRun]]:
    found: dict[str, list[UnfinishedRun]] = {}
    for run in unfinished_runs(workspace.catalog):
        if run.process is not None:
            found.setdefault(run.process.rsplit(":", 2)[0], []).append(run)
    return found


def _silent_seconds(since: datetime) -> float:
    return (datetime.now(UTC) - since).total_seconds()
