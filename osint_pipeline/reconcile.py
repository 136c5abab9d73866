"""Reconciles what a source's visits wanted with what they brought: what is missing, how often it was asked for, and totals."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, func, or_, select

from storage.catalog import Catalog
from storage.rows import CaptureKind, CaptureState
from storage.schema import captures, runs

LOOK_BACK_DAYS = 90  # what was wanted before is history
MOST = 10_000
_NOT_REACHED = "not reached"  # how the reason of a capture begins that was never asked for
_SPEAKING = (401, 403, 407, 429, 451, 999)  # refusals of the server's own; robots.txt and our guard have no status
_WALLS = ("login_wall", "challenge", "consent_wall", "blocked", "stub", "undecided")


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingCapture:
    """An address that was wanted and never came, by its newest capture. `tries` are runs that asked for it in vain."""

    url: str
    kind: str
    tries: int
    last_reason: str | None
    last_at: datetime
    capture: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Of a source's runs: captures wanted and captured, and the addresses that are missing now.

    `given_up` of the missing are not asked for again.
    """

    wanted: int
    captured: int
    missing: int
    given_up: int


def missing(catalog: Catalog, source_id: UUID, *, by_path: bool = False) -> list[MissingCapture]:
    """List what a source's visits wanted and did not get, the newest first: failed, cut, refused by the server, not reached.

    Not what robots.txt refuses or what is gone (404, 410). `by_path`: files are the same whatever their query, as
    Telegram's tokens change.
    """
    since = datetime.now(UTC) - timedelta(days=LOOK_BACK_DAYS)
    names = ("url", "kind", "reason", "id", "run_id", "captured_at")
    query = (
        select(
            *(captures.c[name] for name in names),
            func.concat(captures.c.kind, " ", _address(captures, by_path)).label("key"),
        )
        .where(
            captures.c.source_id == source_id,
            captures.c.captured_at >= since,
            captures.c.state != CaptureState.CAPTURED,
        )
        .where(_in_vain(), ~_came_later(source_id, by_path))
        .order_by(captures.c.captured_at.desc(), captures.c.id.desc())
        .limit(MOST)
    )
    newest: dict[str, MissingCapture] = {}
    runs_of: dict[str, set[UUID]] = {}
    with catalog.begin() as connection:
        for row in connection.execute(query):
            tried = runs_of.setdefault(row.key, set())
            if not (row.reason or "").startswith(_NOT_REACHED):
                tried.add(row.run_id)
            newest.setdefault(
                row.key,
                MissingCapture(
                    url=row.url,
                    kind=row.kind,
                    tries=0,
                    last_reason=row.reason,
                    last_at=row.captured_at,
                    capture=row.id,
                ),
            )
    return [replace(one, tries=len(runs_of[key])) for key, one in newest.items()]


def totals(catalog: Catalog, source_id: UUID, *, tries: int, by_path: bool = False) -> Totals:
    """Count over all runs of a source; `tries` is after how many an address is given up (OSINT_MISSING_TRIES)."""
    sums = select(func.coalesce(func.sum(runs.c.wanted), 0), func.coalesce(func.sum(runs.c.captured), 0))
    with catalog.begin() as connection:
        wanted, captured = connection.execute(sums.where(runs.c.source_id == source_id)).one()
    left = missing(catalog, source_id, by_path=by_path)
    given_up = sum(one.tries >= tries for one in left)
    return Totals(wanted=int(wanted), captured=int(captured), missing=len(left), given_up=given_up)


def _came_later(source_id: UUID, by_path: bool) -> ColumnElement[bool]:
    """Whether the same address was captured well since; found by the index of addresses, or by the source's captures.

    What the browser saw of a page stands for what the wire did not get.
    """
    good = captures.alias()
    kinds = (good.c.kind == captures.c.kind) | (
        (captures.c.kind == CaptureKind.PAGE) & (good.c.kind == CaptureKind.RENDERED)
    )
    same = [_address(good, by_path) == _address(captures, by_path), kinds]
    if not by_path:
        same.append(func.left(good.c.url, 400) == func.left(captures.c.url, 400))
    mine = (good.c.source_id == source_id) & (good.c.captured_at > captures.c.captured_at)
    later = select(good.c.id).where(mine, good.c.state == CaptureState.CAPTURED, *same)
    return later.correlate(captures).exists()


def _address(table: FromClause, by_path: bool) -> ColumnElement[str]:
    return func.split_part(table.c.url, "?", 1) if by_path else table.c.url


def _in_vain() -> ColumnElement[bool]:
    refused = captures.c.state == CaptureState.REFUSED
    spoken = captures.c.status.in_(_SPEAKING) | captures.c.verdict.in_(_WALLS)
    return or_(captures.c.state.in_((CaptureState.FAILED, CaptureState.TRUNCATED)), refused & spoken)
