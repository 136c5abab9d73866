"""`osint status`."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from osint_pipeline.cli.common import Reader, as_json, console, print_json, sizes, workspace
from osint_pipeline.errors import Exit
from storage.errors import StorageError

if TYPE_CHECKING:
    from osint_pipeline.machine import Machine
    from osint_pipeline.status import Attention, Status
    from osint_pipeline.workspace import Workspace

_WIDE = 120  # columns from which on more is shown of each source
_FEWEST_ROWS = 3
_MOST_WALLS = 5
_GOOD, _BAD, _FAINT = "green", "bold red", "dim"


@click.command(help="Show machines, queue, runs, spool, store, disk, alerts, and the sources that need a look.")
@click.option("--watch", type=click.FloatRange(0.2, 86400), metavar="SECONDS", help="Show it again and again.")
@click.option("--check", is_flag=True, help="End with code 3 where something is wrong.")
@as_json
def status(watch: float | None, check: bool, json_: bool) -> int:
    Reader.code_if_gone = Exit.PARTIAL if check else Exit.COMPLETE
    with workspace() as opened:
        if watch:
            _watch(opened, watch, json_=json_)
        from osint_pipeline.status import status as look

        found = look(opened)
    screen = console()
    if json_:
        print_json([found.as_json()])
    else:
        screen.print(view(found, screen.width if screen.is_terminal else _WIDE, _height(screen)))
    return Exit.PARTIAL if check and found.troubles else Exit.COMPLETE


def _watch(opened: "Workspace", seconds: float, *, json_: bool) -> None:
    """Show it until Ctrl-C; a database that goes away is shown, and waited for."""
    from osint_pipeline.status import status as look

    screen = console()
    if json_:
        while True:
            print_json([look(opened).as_json()])
            time.sleep(seconds)
    if not screen.is_terminal:
        while True:
            screen.print(view(look(opened), _WIDE, None), "")
            time.sleep(seconds)
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_seen(lambda: look(opened), screen), refresh=True)
            time.sleep(seconds)


def _seen(look: Callable[[], "Status"], screen: Console) -> RenderableType:
    try:
        return view(look(), screen.width, _height(screen))
    except StorageError as error:
        return Text(f"nothing can be shown now: {error}", style=_BAD)


def _height(screen: Console) -> int | None:
    return screen.height - 1 if screen.is_terminal else None


def view(found: "Status", width: int, height: int | None) -> RenderableType:
    """Lay it out for a width; for a height too, if one is given: the last sources are counted instead of shown."""
    grid = Table.grid(padding=(0, 1, 0, 0), expand=False)
    grid.add_column(width=9, style="bold", no_wrap=True)
    grid.add_column(max_width=max(width - 10, 20), overflow="fold")
    lines = list(_lines(found))
    for name, said in lines:
        grid.add_row(name, said)
    parts: list[RenderableType] = [_title(found, width), grid]
    if found.attention:
        used = 4 + sum(_rows_of(said, width - 10) for _, said in lines)
        room = len(found.attention) if height is None else max(height - used, _FEWEST_ROWS)
        shown = found.attention if len(found.attention) <= room else found.attention[: room - 1]
        parts += ["", _table(shown, found.measures.at, width)]
        if left := len(found.attention) - len(shown):
            parts.append(Text(f"and {left} more; `osint status --json` has all", style=_FAINT))
    return Group(*parts)


def _title(found: "Status", width: int) -> Text:
    at = f"{found.measures.at:%Y-%m-%d %H:%M:%S}Z"
    said = "; ".join(found.troubles) or "nothing is wrong"
    text = Text.assemble(("osint ", "bold"), (f"{at}  ", _FAINT), (said, _BAD if found.troubles else _GOOD))
    text.truncate(max(width, 20), overflow="ellipsis")
    return text


def _lines(found: "Status") -> Iterator[tuple[str, Text]]:
    yield "machines", _join([_machine(one, found) for one in found.measures.machines] or ["no worker ever ran"])
    yield "queue", _queue(found)
    yield "runs", _runs(found)
    yield "spool", _spool(found)
    yield "store", _store(found)
    yield "disk", _join([_disk(one) for one in found.measures.machines if one.said.disk_bytes] or ["not known yet"])
    if found.measures.replays.checked:
        yield "replays", _replays(found)
    yield "database", Text(f"{sizes(found.measures.database_bytes)}, schema {found.measures.schema}")
    yield "alerts", _alerts(found)
    paused = sum(not one.active for one in found.measures.sources)
    needy = len(found.attention)
    said = f"{len(found.measures.sources)} watched, {paused} paused, {needy} need a look"
    yield "sources", Text(said, style=_BAD if needy else "")
    if found.measures.walls:
        yield "walls", _walls(found)


def _machine(one: "Machine", found: "Status") -> Text:
    ago = _ago(found.measures.at - one.seen_at)
    if one in found.living:
        work = f"{len(one.said.running)} of {one.said.concurrency} hosts running"
        return Text.assemble(one.name, (f" seen {ago} ago, ", _FAINT), work)
    if one.said.stopped:
        return Text(f"{one.name} stopped {ago} ago", style=_FAINT)
    return Text(f"{one.name} GONE, seen {ago} ago", style=_BAD)


def _queue(found: "Status") -> Text:
    queue, at = found.measures.queue, found.measures.at
    said = f"{queue.open.get('due', 0)} due, {queue.open.get('running', 0)} running"
    if queue.oldest_due_at:
        said += f", oldest {_ago(max(at - queue.oldest_due_at, timedelta(0)))}"
    if queue.lag_p50_seconds is None or queue.lag_p95_seconds is None:
        return Text(said)
    late = [_ago(timedelta(seconds=one)) for one in (queue.lag_p50_seconds, queue.lag_p95_seconds)]
    return Text(f"{said}; began late by p50 {late[0]}, p95 {late[1]} (last hour: {queue.begun})")


def _runs(found: "Status") -> Text:
    ended = sorted(found.measures.ended, key=lambda one: -one.runs)
    total = sum(one.runs for one in ended)
    if not total:
        return Text("none ended in the last hour")
    split = ", ".join(f"{one.runs} {one.outcome}" for one in ended)
    captured, size = sum(one.captured for one in ended), sum(one.bytes for one in ended)
    return Text(f"{total} in the last hour: {split}; {captured} captures, {sizes(size)}")


def _spool(found: "Status") -> Text:
    measures = found.measures
    warcs = "1 WARC waits" if measures.spool_warcs == 1 else f"{measures.spool_warcs} WARCs wait"
    said = f"{warcs}, {sizes(measures.spool_bytes)}"
    if measures.spool_oldest_at:
        said += f", the oldest for {_ago(measures.at - measures.spool_oldest_at)}"
    torn = sum(one.said.torn_files for one in measures.machines)
    return Text(said + (f"; {torn} torn pieces" if torn else ""))


def _store(found: "Status") -> Text:
    measures = found.measures
    last = (
        f"last preserved {_ago(measures.at - measures.last_preserved_at)} ago"
        if measures.last_preserved_at
        else "nothing preserved lately"
    )
    failing = [one.name for one in measures.machines if one.said.upload_failing_since]
    return Text.assemble(
        (found.store, _BAD if found.store == "away" else ""),
        f", {last}, ",
        (f"{measures.held_back} held back", _BAD if measures.held_back else ""),
        (f"; uploads fail on {', '.join(failing)}" if failing else "", _BAD),
    )


def _disk(one: "Machine") -> Text:
    free, whole = one.said.disk_free_bytes or 0, one.said.disk_bytes or 1
    said = f"{one.name} {sizes(free)} of {sizes(whole)} free ({100 * free / whole:.0f} %)"
    return Text(said, style=_BAD if one.said.spool_level == "full" else "")


def _replays(found: "Status") -> Text:
    counts = found.measures.replays
    bad = (f", {counts.bad} not as they were seen (`osint show` says how)", _BAD) if counts.bad else ""
    unsteady = (f", {counts.unsteady} that differ from themselves", _FAINT) if counts.unsteady else ""
    return Text.assemble(f"{counts.checked} checked in the last day", bad, unsteady)


def _alerts(found: "Status") -> Text:
    if not found.alerts:
        return Text("none open")
    worst = sorted(found.alerts, key=lambda one: (one.severity != "critical", one.began_at))
    text = Text(f"{len(worst)} open: ", style=_BAD)
    text.append(", ".join(f"{one.rule} {one.subject}" for one in worst[:5]), style="")
    text.append(f", and {len(worst) - 5} more" if len(worst) > 5 else "", style=_FAINT)
    return text


def _walls(found: "Status") -> Text:
    """The hosts that refused us lately, the most often met first."""
    walls = sorted(found.measures.walls, key=lambda one: -one.count)
    hosts = len({one.host for one in walls})
    text = Text("1 host: " if hosts == 1 else f"{hosts} hosts: ")
    shown = (f"{one.host} {one.verdict.replace('_', ' ')} ({one.fetcher}, {one.count}x)" for one in walls[:_MOST_WALLS])
    text.append(", ".join(shown))
    left = len(walls) - _MOST_WALLS
    text.append(f", and {left} more; `osint status --json` has all" if left > 0 else "", style=_FAINT)
    return text


def _table(rows: "tuple[Attention, ...]", at: datetime, width: int) -> Table:
    wide = width >= _WIDE
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=False, width=width)
    made.add_column("source", no_wrap=True, overflow="ellipsis", max_width=49 if width >= 150 else 32 if wide else 22)
    made.add_column("need", no_wrap=True, style=_BAD)
    made.add_column("overdue", justify="right", no_wrap=True)
    made.add_column("last success", justify="right", no_wrap=True)
    if wide:
        for name in ("last run", "schedule"):
            made.add_column(name, no_wrap=True)
        made.add_column("captured", justify="right", no_wrap=True)
    made.add_column("outcome" if wide else "last run", no_wrap=True)
    made.add_column("reason", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        made.add_row(*(Text(cell) for cell in _cells(row, at, wide)))
    return made


def _cells(row: "Attention", at: datetime, wide: bool) -> Iterator[str]:
    from osint_pipeline.status import WORDS

    one = row.source
    yield one.slug
    yield WORDS[row.need]
    yield _ago(timedelta(seconds=row.late_seconds)) if row.late_seconds else "-"
    yield f"{_ago(at - one.success_at)} ago" if one.success_at else "never"
    if wide:
        yield f"{_ago(at - one.run_at)} ago" if one.run_at else "never"
        yield one.schedule or "-"
        yield f"{one.captured} of {one.wanted}" if one.run else "-"
    yield one.outcome or "-"
    yield _one_line(one.reason or "")


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _ago(time_: timedelta) -> str:
    """Write a span of time in at most five letters."""
    seconds = max(0.0, time_.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _join(parts: list[Any]) -> Text:
    return Text(" · ").join([part if isinstance(part, Text) else Text(part) for part in parts])


def _rows_of(text: Text, width: int) -> int:
    return max(1, -(-text.cell_len // max(width, 1)))
