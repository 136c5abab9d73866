"""Compares two catalogues row by row, in flat memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, Text, select

from storage.catalog import Catalog
from storage.schema import (
    captures,
    fingerprints,
    gaps,
    journal,
    media,
    post_versions,
    posts,
    records,
    runs,
    similar,
    sources,
    version_captures,
    warc_files,
    warc_runs,
    watch_lists,
    watches,
)

TABLES = (
    sources, runs, captures, records, posts, post_versions, version_captures, media, fingerprints, similar, gaps,
    warc_files, warc_runs, journal, watches, watch_lists,
)  # fmt: skip
# what is said of this machine and of the moment, and not of the archive
NOT_COMPARED = {"runs": {"process"}, "warc_files": {"path", "preserved_at", "state"}, "warc_runs": {"machine"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sameness:
    """How a table compares: rows of the one and the other, how many differ, and the first that does."""

    table: str
    rows: int
    others: int
    differing: int
    first: str = ""


def compare(one: Catalog, other: Catalog) -> Iterator[Sameness]:
    """Compare table by table. Left out: events (each catalogue has its own chain) and NOT_COMPARED."""
    with one.begin() as left, other.begin() as right:
        for table in TABLES:
            yield _compare(table, left, right)


def _compare(table: Table, left: Connection, right: Connection) -> Sameness:
    ours, theirs = _rows(table, left), _rows(table, right)
    rows = others = differing = 0
    first, mine, his = "", next(ours, None), next(theirs, None)
    while mine is not None or his is not None:
        behind = his is None or (mine is not None and _order(mine[0]) <= _order(his[0]))
        before = mine is None or (his is not None and _order(his[0]) <= _order(mine[0]))
        if not (behind and before) or mine != his:
            differing += 1
            first = first or _difference(mine if behind else None, his if before else None)
        if behind:
            rows, mine = rows + 1, next(ours, None)
        if before:
            others, his = others + 1, next(theirs, None)
    return Sameness(table=table.name, rows=rows, others=others, differing=differing, first=first)


Row = tuple[tuple[Any, ...], dict[str, Any]]


def _rows(table: Table, connection: Connection) -> Iterator[Row]:
    """Yield key and values of each row in the order of the keys; all columns are the key where there is none."""
    left_out = NOT_COMPARED.get(table.name, set())
    columns = [column for column in table.columns if column.computed is None and column.name not in left_out]
    key = list(table.primary_key.columns) or columns
    ordered = [(column.collate("C") if isinstance(column.type, Text) else column).nulls_first() for column in key]
    query = select(*columns).order_by(*ordered).execution_options(yield_per=1000)
    for row in connection.execute(query):
        values = dict(row._mapping)
        yield tuple(values[column.name] for column in key), values


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make a key that sorts in Python as the query sorts it."""
    return tuple((one is not None, one.encode() if isinstance(one, str) else one or 0) for one in key)


def _difference(mine: Row | None, his: Row | None) -> str:
    if mine is None or his is None:
        here, row = ("only in the second", his) if mine is None else ("only in the first", mine)
        return f"{here}: {_short(row[0] if row else ())}"
    names = [name for name, value in mine[1].items() if his[1][name] != value]
    return "; ".join(f"{name}: {_short(mine[1][name])} and {_short(his[1][name])}" for name in names) + (
        f" (row {_short(mine[0])})"
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:119] + "…"
