"""Which hosts refused us lately: for the next visits and for the operator who looks. What was captured tells it too, slower."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Text, case, cast, func, select
from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.copying import storable
from storage.rows import CaptureKind, CaptureState
from storage.schema import captures, runs, walls

MOST = 1000
_INDEXED = 400  # letters of an address that the index holds
_OPERATOR = "operator"  # stands as the fetcher of a host's mark that its walls were cleared; no wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """A host that refused us: by which way out and fetcher ("wire", "browser") it was asked, as what its answer showed.

    `exit` is whatever the caller tells ways apart by.
    `count` are the captures refused since `since` without a pause longer than the caller's.
    """

    host: str
    exit: str
    fetcher: str
    verdict: str
    reason: str | None
    since: datetime
    last_at: datetime
    count: int


def note_walls(catalog: Catalog, met: Iterable[Wall], *, fresh_after: datetime) -> None:
    """Count walls that were met; one that was last met before `fresh_after` begins anew."""
    with catalog.begin() as connection:
        for one in sorted(
            met, key=lambda one: (one.host, one.exit, one.fetcher, one.verdict)
        ):  # or two would wait for each other
            _note(connection, one, fresh_after)


def _note(connection: Connection, one: Wall, fresh_after: datetime) -> None:
    old = walls.c.last_at < fresh_after
    row = {name: getattr(one, name) for name in Wall.__slots__}
    row["reason"] = storable(one.reason) if one.reason else None
    made = insert(walls).values(row)
    grown = {
        "reason": made.excluded.reason,
        "since": case((old, made.excluded.since), else_=walls.c.since),
        "last_at": func.greatest(walls.c.last_at, made.excluded.last_at),
        "count": case((old, made.excluded["count"]), else_=walls.c["count"] + made.excluded["count"]),
    }
    connection.execute(made.on_conflict_do_update(index_elements=["host", "exit", "fetcher", "verdict"], set_=grown))


def lift_walls(
    catalog: Catalog, host: str, exit: str, fetcher: str, verdicts: Sequence[str], *, before: datetime
) -> None:
    """Forget walls of a host that was captured well at a moment."""
    ours = (walls.c.host == host) & (walls.c.exit == exit) & (walls.c.fetcher == fetcher)
    with catalog.begin() as connection:
        connection.execute(walls.delete().where(ours, walls.c.verdict.in_(verdicts), walls.c.last_at < before))


def clear_walls(catalog: Catalog, host: str, at: datetime) -> int:
    """Forget all walls of a host, and what the browser met at its pages until a moment; give how many stood in the list."""
    mark = {
        "host": host,
        "exit": "",
        "fetcher": _OPERATOR,
        "verdict": "cleared",
        "since": at,
        "last_at": at,
        "count": 1,
    }
    made = insert(walls).values(mark)
    with catalog.begin() as connection:
        gone = connection.execute(walls.delete().where(walls.c.host == host, walls.c.fetcher != _OPERATOR)).rowcount
        connection.execute(made.on_conflict_do_update(index_elements=list(walls.primary_key), set_={"last_at": at}))
    return gone


def cleared_at(connection: Connection, host: str) -> datetime | None:
    """Tell when the walls of a host were last cleared."""
    mark = select(func.max(walls.c.last_at)).where(walls.c.host == host, walls.c.fetcher == _OPERATOR)
    return connection.execute(mark).scalar_one()


def walls_since(connection: Connection, since: datetime, *, host: str | None = None) -> list[Wall]:
    """List walls that were met since a moment, the last met first, at most MOST."""
    wanted = select(walls).where(walls.c.last_at >= since).order_by(walls.c.last_at.desc(), walls.c.host).limit(MOST)
    wanted = wanted.where(walls.c.fetcher != _OPERATOR)
    wanted = wanted if host is None else wanted.where(walls.c.host == host)
    return [Wall(**row._mapping) for row in connection.execute(wanted)]


def rendering_refused(
    catalog: Catalog, source_id: object, url: str, *, exit: str, identity: str | None, since: datetime
) -> bool:
    """Tell whether a source's last rendering of an address, since a moment, came upon a wall.

    `exit` ("direct", "proxy" for one without a name) and `identity` (digest of its name) are those that it was asked by.
    """
    way = func.coalesce(
        runs.c.detail["egress"]["exit"].astext,
        case((cast(runs.c.detail["proxy"], Text) == "true", "proxy"), else_="direct"),
    )
    wanted = (
        select(captures.c.state, captures.c.verdict, captures.c.status)
        .join(runs, runs.c.id == captures.c.run_id)
        .where(func.left(captures.c.url, _INDEXED) == storable(url)[:_INDEXED], captures.c.url == storable(url))
        .where(captures.c.source_id == source_id, captures.c.kind == CaptureKind.RENDERED)
        .where(captures.c.captured_at >= since)
        .where(way == exit, runs.c.detail["identity"].astext.is_not_distinct_from(identity))
        .order_by(captures.c.captured_at.desc())
        .limit(1)
    )
    with catalog.begin() as connection:
        last = connection.execute(wanted).one_or_none()
    return last is not None and last.state == CaptureState.REFUSED and (last.verdict or last.status) is not None
