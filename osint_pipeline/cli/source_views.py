"""`osint source list`, `show` and `test`: how watched sources look on a screen."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from osint_pipeline.cli.common import as_json, console, print_json, sizes, table, workspace
from osint_pipeline.cli.sources import given_options, options, source
from osint_pipeline.errors import Exit

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_WIDE, _WIDER = 100, 150  # columns of a screen from which more is shown
_VISITS, _POSTS, _LINKS, _WORDS = 8, 8, 6, 100


@source.command(
    "list",
    short_help="List what is watched.",
    help="List what is watched: when it is next due, and when something was last captured.",
)
@click.option("--tag", help="Only what bears this label.")
@click.option("--spider", type=click.Choice(("telegram", "news", "page", "video")), help="Only of this site module.")
@click.option("--host", help="Only what is on this host.")
@click.option("--paused", is_flag=True, help="Only what is paused.")
@click.option("--removed", is_flag=True, help="Only what was removed.")
@as_json
def list_(tag: str | None, spider: str | None, host: str | None, paused: bool, removed: bool, json_: bool) -> int:
    from osint_pipeline.source import host_of
    from storage.standing import standings
    from storage.watched import list_watched

    with workspace() as opened:
        rows, standing = list_watched(opened.catalog, removed=removed), standings(opened.catalog)
    rows = [one for one in rows if bool(one.watch.removed_at) is removed and (one.watch.paused_at or not paused)]
    rows = [one for one in rows if tag in (None, *one.watch.tags) and spider in (None, one.source.spider)]
    rows = [one for one in rows if host is None or host_of(one.source.url) == host.lower()]
    if json_:
        print_json(watched_json(one, standing.get(one.source.id)) for one in rows)
        return Exit.COMPLETE
    if not rows:
        click.echo(
            "nothing is watched; osint source add https://t.me/s/CHANNEL" if not removed else "nothing was removed"
        )
        return Exit.COMPLETE
    _print_list(rows, standing)
    return Exit.COMPLETE


def _print_list(rows: list[Any], standing: Mapping[Any, Any]) -> None:
    out = console()
    out.print(list_table(rows, standing, out.width))
    paused = sum(one.watch.paused_at is not None for one in rows)
    click.echo(many(len(rows), "source") + (f", {paused} paused" if paused else ""))


def list_table(rows: list[Any], standing: Mapping[Any, Any], width: int) -> Any:
    """Lay watched sources out for a screen: only slugs, labels and addresses are cut, and the last two need a wide one."""
    from rich.table import Table
    from rich.text import Text

    cells = [_cells(one, standing.get(one.source.id), datetime.now(UTC)) for one in rows]
    columns = ["source", "every", "next", "captured", "outcome"]
    columns += (["tags"] if width >= _WIDE else []) + (["address"] if width >= _WIDER else [])
    widest = {name: max(len(name), *(len(row[name]) for row in cells)) for name in columns}
    room = width - sum(widest[name] + 2 for name in columns[1:5]) - 2  # for the source and what comes behind
    widest["source"] = max(12, min(widest["source"], room if len(columns) == 5 else room // 2))
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(name, no_wrap=True, overflow="ellipsis", width=None if name in columns[5:] else widest[name])
    for one, row in zip(rows, cells, strict=True):
        made.add_row(*(Text(row[name], style="" if one.watch.active else "dim") for name in columns))
    return made


def _cells(one: Any, stands: Any, now: datetime) -> dict[str, str]:
    return {
        "source": one.source.slug,
        "every": one.watch.schedule or "-",
        "next": _next(one.watch, stands, now),
        "captured": ago(stands.last_success_at, now) if stands else "-",
        "outcome": _outcome(stands),
        "tags": ",".join(one.watch.tags),
        "address": one.source.url,
    }


def many(count: int, what: str) -> str:
    """Write a number with its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _next(watch: Any, stands: Any, now: datetime) -> str:
    if watch.removed_at is not None:
        return "removed"
    if watch.paused_at is not None:
        return "paused"
    if watch.schedule is None or stands is None or stands.due_at is None:
        return "when asked"
    return (
        f"in {span((stands.due_at - now).total_seconds())}" if stands.due_at > now else f"due {ago(stands.due_at, now)}"
    )


def _outcome(stands: Any) -> str:
    if stands is None or stands.last_run_at is None:
        return "not visited"
    return "running" if stands.running else str(stands.last_outcome)


def span(seconds: float) -> str:
    """Write a span in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Write how long ago a moment was; - where there is none."""
    return "-" if moment is None else f"{span((now - moment).total_seconds())} ago"


def due(at: datetime | None) -> str:
    """Say when a source is due."""
    if at is None:
        return "visited only when asked"
    return "due now" if at <= datetime.now(UTC) else f"due {at.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def watched_json(one: Any, stands: Any) -> dict[str, Any]:
    """Give a watched source under the names of --json."""
    row, watch = one.source, asdict(one.watch)
    state = "removed" if one.watch.removed_at else "paused" if one.watch.paused_at else "watched"
    found = {
        "id": str(row.id),
        "source": row.slug,
        "url": row.url,
        "spider": row.spider,
        "state": state,
        "render": row.render,
    }
    found |= {"robots": row.robots, "robots_reason": row.robots_reason, "proxy": row.proxy}
    found |= {name: value for name, value in watch.items() if name != "source_id"}
    stood = {name: value for name, value in (asdict(stands) if stands else {}).items() if name != "source_id"}
    return {name: _plain(value) for name, value in (found | stood).items()}


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


@source.command(
    short_help="Show one source and its last visits.",
    help="Show how a source is watched, when it is due, and what its visits came to.",
)
@click.argument("name", metavar="SOURCE")
@as_json
def show(name: str, json_: bool) -> int:
    from osint_pipeline.sources import find
    from osint_pipeline.walls import walls_of
    from storage.standing import latest_visits, standings, totals

    with workspace() as opened:
        one = find(opened.catalog, name, removed=True)
        stands = standings(opened.catalog, one.source.id)[one.source.id]
        visits, counts = latest_visits(opened.catalog, one.source.id, _VISITS), totals(opened.catalog, one.source.id)
        walls = walls_of(opened, one.source.url)
    if json_:
        last = [{name: _plain(value) for name, value in asdict(visit).items()} for visit in visits]
        print_json(
            [{**watched_json(one, stands), "totals": asdict(counts), "visits": last, "walls": _walls_json(walls)}]
        )
    else:
        _print_watched(one, stands)
        _print_walls(walls)
        _print_visits(visits, counts)
    return Exit.COMPLETE


def _print_watched(one: Any, stands: Any) -> None:
    from osint_pipeline.options import write_options

    now, watch = datetime.now(UTC), one.watch
    rows: list[tuple[str, Any]] = [("source", one.source.slug), ("address", one.source.url)]
    rows += [(name, text) for name, text in write_options(one).items() if text and name != "state"]
    if watch.paused_at is not None:
        rows.append(("paused", f"{ago(watch.paused_at, now)}" + (f": {watch.paused_why}" if watch.paused_why else "")))
    if watch.removed_at is not None:
        rows.append(("removed", watch.removed_at))
    if watch.active:
        at = f" ({stands.due_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z)" if stands.due_at else ""
        rows.append(("next visit", _next(watch, stands, now) + at))
    rows.append(("last success", ago(stands.last_success_at, now)))
    rows.append(("watched since", watch.added_at))
    console().print(table(None, ("", ""), rows))


def _walls_json(walls: list[Any]) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in asdict(one).items()} for one in walls]


def _print_walls(walls: list[Any]) -> None:
    now = datetime.now(UTC)
    for one in walls:
        why = f": {one.reason}" if one.reason else ""
        said = f"{one.host} refuses the {one.fetcher} ({one.verdict.replace('_', ' ')}{why})"
        click.echo(f"{said}, {one.count}x since {ago(one.since, now)}, last {ago(one.last_at, now)}, by {one.exit}")


def _print_visits(visits: list[Any], counts: Any) -> None:
    told = f"{many(counts.captures, 'capture')}, {many(counts.posts, 'post')}, {sizes(counts.bytes)}"
    click.echo(f"\n{told} in {many(counts.runs, 'run')}")
    if counts.gaps:
        ids = many(sum(last - first + 1 for first, last in counts.gaps), "id")
        shown = ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in counts.gaps[:_LINKS])
        click.echo(f"{ids} skipped in the last visit: {shown}" + (", …" if len(counts.gaps) > _LINKS else ""))
    if not visits:
        return
    click.echo()
    columns = ("when", "why", "outcome", "captured", "posts", "reason")
    cells = (
        (
            f"{(one.started_at or one.due_at).astimezone(UTC):%Y-%m-%d %H:%M}Z",
            one.why,
            one.outcome or one.state,
            "-" if one.wanted is None else f"{one.captured} of {one.wanted}",
            one.posts,
            one.reason or "",
        )
        for one in visits
    )
    console().print(table(None, columns, cells, right=("captured", "posts")))


@source.command(
    help="Fetch one page and say what would be read from it. Nothing is stored, no database is needed for a URL."
)
@click.argument("name", metavar="URL|SOURCE")
@options("spider", "render", "proxy", "robots")
@as_json
def test(name: str, json_: bool, **given: str | None) -> int:
    from osint_pipeline.trial import trial_source
    from osint_pipeline.trying import try_source
    from settings.service import load

    service = load().service
    trial = try_source(service, trial_source(service, name, given_options(given)))
    if json_:
        print_json([trial.as_json()])
    else:
        _print_trial(trial)
    return trial.exit_code


def _print_trial(trial: Any) -> None:
    page, out = trial.page, console()
    rows: list[tuple[str, Any]] = [("address", trial.source.url), ("spider", trial.source.spider)]
    if trial.final_url and trial.final_url != trial.source.url:
        rows.append(("led to", trial.final_url))
    if trial.status:
        rows.append(
            ("answer", f"status {trial.status}, {sizes(trial.bytes)}" + (", by the browser" if trial.rendered else ""))
        )
    rows.append(("verdict", trial.verdict + (f": {trial.why}" if trial.why else "")))
    if page is not None:
        rows += [(name, getattr(page, name)) for name in ("title", "channel", "language") if getattr(page, name)]
    out.print(table(None, ("", ""), rows))
    if page is None:
        return
    if posts := trial.posts():
        click.echo(f"\n{many(len(posts), 'post')}, the newest first:")
        cells = ((_date(one), one.language or "-", one.kind.value, _first_words(one)) for one in _newest(posts))
        out.print(table(None, ("when", "language", "kind", "what"), cells))
    for line in _remarks(trial):
        click.echo(line)


def _newest(posts: Iterable[Any]) -> list[Any]:
    early = datetime.min.replace(tzinfo=UTC)
    return sorted(posts, key=lambda one: one.published_at or early, reverse=True)[:_POSTS]


def _date(one: Any) -> str:
    return f"{one.published_at.astimezone(UTC):%Y-%m-%d %H:%M}Z" if one.published_at else "no date"


def _first_words(one: Any) -> str:
    text = " ".join(f"{one.title or ''} {one.text}".split()) or one.url
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"


def _remarks(trial: Any) -> Iterable[str]:
    media, followed = trial.media(), trial.followed()
    counts = {kind: sum(one.kind.value == kind for one in media) for kind in sorted({one.kind.value for one in media})}
    if media:
        yield "\nmedia: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if followed:
        yield f"\na crawl would go on to {many(len(followed), 'link')}:"
        yield from (f"  {one.kind.value}  {one.url}" for one in followed[:_LINKS])
        if len(followed) > _LINKS:
            yield f"  and {len(followed) - _LINKS} more"
    for one in trial.unread():
        yield f"not read: {one}"
