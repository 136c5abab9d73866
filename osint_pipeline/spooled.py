"""What the spool holds: for `osint spool`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select

from osint_pipeline.pressure import Level, Marks, measure
from osint_pipeline.workspace import Workspace
from storage.rows import WarcRow, WarcState
from storage.schema import events
from storage.warc_files import list_warcs

HELD_BACK, QUARANTINED = "held back", "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The spool as it is now; sizes in bytes."""

    folder: str
    level: str
    waiting_warcs: int
    waiting_bytes: int
    high_bytes: int
    open_warcs: int
    preserved_warcs: int
    local_warcs: int  # preserved ones that still have a local copy
    free_bytes: int
    needed_bytes: int
    low_share: float
    retain_hours: float | None
    held_back: tuple[dict[str, str], ...]
    torn: tuple[dict[str, str | int], ...]

    def as_json(self) -> dict[str, Any]:
        """Give it under the names of docs/spool.md."""
        return asdict(self)

    @property
    def retained(self) -> str:
        """How long local copies stay, in words."""
        return "for ever" if self.retain_hours is None else f"{self.retain_hours:g} hours after they are preserved"


def status(workspace: Workspace) -> Status:
    """Look at the spool and at what the catalogue knows of its WARCs."""
    marks, load = Marks.of(workspace.service), measure(workspace)
    warcs = list_warcs(workspace.catalog)
    preserved = [one for one in warcs if one.state == WarcState.PRESERVED]
    waiting = [one for one in warcs if one.state not in (WarcState.PRESERVED, WarcState.OPEN)]
    spool = workspace.spool
    return Status(
        folder=str(spool.folder),
        level=load.level(marks, Level.FREE).value,
        waiting_warcs=len(waiting),
        waiting_bytes=load.waiting_bytes,
        high_bytes=marks.high_bytes,
        open_warcs=sum(1 for _ in spool.open_folder.glob("*.open")),
        preserved_warcs=len(preserved),
        local_warcs=sum(workspace.local_copy(one.name) is not None for one in preserved),
        free_bytes=load.free_bytes,
        needed_bytes=load.needed_bytes(marks),
        low_share=marks.low_share,
        retain_hours=workspace.service.retain_hours,
        held_back=tuple(_held_back(workspace, waiting)),
        torn=tuple({"file": path.name, "bytes": path.stat().st_size} for path in spool.torn()),
    )


def _held_back(workspace: Workspace, waiting: list[WarcRow]) -> list[dict[str, str]]:
    names = [one.name for one in waiting]
    kinds = events.c.kind.in_((HELD_BACK, QUARANTINED))
    wanted = select(events).where(kinds, events.c.subject.in_(names)).order_by(events.c.id)
    with workspace.catalog.begin() as connection:
        last = {row.subject: _why(row.kind, row.detail) for row in connection.execute(wanted)}
    return [{"warc": name, "why": why} for name, why in last.items()]


def _why(kind: str, detail: Mapping[str, Any]) -> str:
    if kind == HELD_BACK:
        return str(detail.get("why"))
    return f"the store holds other bytes under {detail.get('key')}; ours lies under {detail.get('quarantine')}"
