"""`osint runs`, `osint find`, `osint show`, `osint pull`, `osint similar`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from osint_pipeline.cli.common import as_json, console, not_found, print_json, read_date, sizes, table, workspace
from osint_pipeline.errors import Exit, UserError
from storage.found import Found, RunSummary

COUNTS = ("wanted", "captured", "refused", "truncated", "failed", "posts", "media", "revisits", "similar", "gaps")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise UserError(
            f"{text!r} is no id", "ids look like 01990a5e-…; `osint find` and `osint runs` list them"
        ) from error


WIDE, NARROW = (
    130,
    4,
)  # a terminal of so many columns has room for all of a run's figures, a narrower one for the first four


@click.command(help="List the newest runs, or show one.")
@click.argument("id_", required=False, metavar="[ID]")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Runs listed.")
@as_json
def runs(id_: str | None, limit: int, json_: bool) -> int:
    from storage.finding import list_runs, one_run

    with workspace() as opened:
        rows = list_runs(opened.catalog, limit) if id_ is None else [one_run(opened.catalog, _id(id_))]
    if rows == [None]:
        raise not_found(str(id_))
    found = [row for row in rows if row is not None]
    if json_:
        print_json(row.to_json() for row in found)
    elif id_ is not None:
        _print_run(found[0])
    else:
        columns = ("run", "source", "started", "outcome", "captured", "posts", "revisits", "preserved")
        shown = len(columns) if console().width >= WIDE else NARROW
        cells = [
            (
                r.run,
                r.source,
                f"{r.started_at.astimezone(UTC):%Y-%m-%d %H:%M}Z",
                r.outcome or "running",
                f"{r.captured} of {r.wanted}",
                r.posts,
                r.revisits,
                f"{r.preserved} of {r.warc_files}",
            )
            for r in found
        ]
        narrowed = (row[:shown] for row in cells)
        console().print(table(None, columns[:shown], narrowed, right=columns[4:shown]))
    return Exit.COMPLETE


def _print_run(run: RunSummary) -> None:
    rows: list[tuple[str, Any]] = [("run", run.run), ("source", run.source), ("outcome", run.outcome or "running")]
    rows += [("started", run.started_at), ("ended", run.ended_at), ("reason", run.reason)]
    rows += [(name, getattr(run, name)) for name in (*COUNTS, "not_offered", "warc_files", "preserved")]
    rows += [("size", sizes(run.bytes)), ("attempt", run.attempt), ("process", run.process)]
    rows += [(f"version of {name}", version) for name, version in run.versions.items()]
    console().print(table(None, ("", ""), rows))


@click.command(help="Find what was captured: all the words, at their beginnings; newest first.")
@click.argument("words", nargs=-1)
@click.option("--url", help="Only what has this address.")
@click.option("--source", help="Only what this source (its slug) brought.")
@click.option("--kind", type=click.Choice(("page", "post", "article", "media")), help="Only this kind.")
@click.option("--list", "list_", metavar="NAME", help="Only what holds a word of this list (osint words).")
@click.option("--since", callback=read_date, metavar="DATE", help="Published or captured on or after this date.")
@click.option("--until", callback=read_date, metavar="DATE", help="Published or captured before this date.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Results at most.")
@as_json
def find(
    words: tuple[str, ...],
    url: str | None,
    source: str | None,
    kind: str | None,
    list_: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    json_: bool,
) -> int:
    from osint_pipeline.words import lists_of
    from storage.finding import find as look

    with workspace() as opened:
        lists = lists_of(opened, list_) if list_ else []
        found = look(
            opened.catalog,
            " ".join(words) or None,
            url=url,
            source=source,
            kind=kind,
            since=since,
            until=until,
            limit=limit,
            any_of=[word for one in lists for word in one.words] if list_ else None,
        )
    if json_:
        by = {"list": list_, "list_version": {one.language: one.version for one in lists}} if list_ else {}
        print_json({**one.to_json(), **by} for one in found)
    else:
        rows = [(one.id, one.kind, one.published_at or one.captured_at, _first_words(one), one.source) for one in found]
        shown = 5 if console().width >= WIDE else 4
        console().print(table(None, ("id", "kind", "when", "what", "source")[:shown], (row[:shown] for row in rows)))
        if len(found) == limit:
            click.echo(f"the first {limit}; --limit shows more", err=True)
    return Exit.COMPLETE


def _first_words(found: Found, letters: int = 90) -> str:
    title, text = " ".join((found.title or "").split()), " ".join((found.text or "").split())
    text = (text if text.startswith(title) else f"{title} {text}") or found.url
    return text if len(text) <= letters else text[: letters - 1] + "…"


@click.command(help="Show one post, article, page, media or run, and the records that prove it.")
@click.argument("id_", metavar="ID")
@as_json
def show(id_: str, json_: bool) -> int:
    from storage.finding import show as look
    from storage.finding import versions_of

    with workspace() as opened:
        found = look(opened.catalog, _id(id_))
        versions = versions_of(opened.catalog, _id(id_)) if isinstance(found, Found) else []
    if found is None:
        raise not_found(id_)
    if json_:
        print_json([found.to_json()])
    elif isinstance(found, RunSummary):
        _print_run(found)
    else:
        _print_found(found, versions)
    return Exit.COMPLETE


def _print_found(found: Found, versions: list[Found]) -> None:
    rows: list[tuple[str, Any]] = [("id", found.id), ("kind", found.kind), ("source", found.source), ("url", found.url)]
    rows += [
        (name, getattr(found, name))
        for name in ("title", "author", "language", "views", "verdict")
        if getattr(found, name)
    ]
    rows += [("published", found.published_at), ("as written", found.published_raw), ("captured", found.captured_at)]
    if found.edited:
        rows.append(("edited", "yes"))
    for name in ("forwarded_from", "reply_to"):
        if origin := getattr(found, name):
            rows.append((name.replace("_", " "), " ".join(str(part) for part in origin.values() if part)))
    if found.replay:
        rows.append(("replay", _replayed(found.replay)))
    out = console()
    out.print(table(None, ("", ""), rows))
    if found.text:
        click.echo("\n" + found.text + "\n")
    for number, version in enumerate(versions if len(versions) > 1 else (), 1):
        click.echo(f"version {number}, read {version.captured_at:%Y-%m-%d %H:%M:%SZ}: {_first_words(version)}")
    if found.media:
        columns = ("media", "kind", "state", "why", "url")
        out.print(table(None, columns, ((m.id, m.kind, m.state, m.why, m.url) for m in found.media)))
    names = ("record", "status", "warc", "offset", "length", "url")
    records = ((r.type.value, r.status, r.warc, r.offset_bytes, r.length_bytes, r.url) for r in found.records)
    out.print(table(None, names, records, right=("offset", "length")))


def _replayed(check: Mapping[str, Any]) -> str:
    """Say what the last replay check came to; docs/replay.md says what it means."""
    parts = [f"{'BAD, ' if check['bad'] else ''}score {check['score']:.3f}"]
    if check["text_ratio"] is not None:
        parts.append(f"text {check['text_ratio']:.3f}")
    parts.append(f"{check['found']} of {check['asked']} found, {check['unasked']} not asked for")
    if check["picture_bits"] is not None:
        parts.append(f"picture {check['picture_bits']} bits off")
    if check["detail"].get("steadiness", {}).get("explains"):
        parts.append("two replays differ from each other as much")
    return f"{', '.join(parts)}; checked {check['checked_at'][:19]}Z"


@click.command(help="Write the records of a post, capture, media or run as one WARC, byte for byte as archived.")
@click.argument("id_", metavar="ID")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder to write to.")
@as_json
def pull(id_: str, out: Path, json_: bool) -> int:
    from osint_pipeline.retrieve import pull as fetch

    with workspace() as opened:
        path, count = fetch(opened, _id(id_), out)
    if json_:
        print_json([{"path": str(path), "records": count}])
    else:
        click.echo(f"{count} records in {path}")
    return Exit.COMPLETE


@click.command(
    help="Find captured pictures that look like a file or a captured picture, nearest first. Leads, not proofs."
)
@click.argument("what", metavar="FILE|MEDIA_ID")
@click.option(
    "--radius",
    type=click.IntRange(0, 32),
    help="Bits that two hashes may differ by.  [default: OSINT_PHASH_RADIUS_BITS]",
)
@as_json
def similar(what: str, radius: int | None, json_: bool) -> int:
    from osint_pipeline.similar import similar_to

    with workspace() as opened:
        rows = similar_to(opened, what, radius)
    if json_:
        print_json(row.as_json() for row in rows)
    else:
        columns = ("id", "distance", "turned", "captured", "size", "url")
        cells = [(r.id, r.distance, r.turned, r.captured_at, f"{r.width}x{r.height}", r.url) for r in rows]
        console().print(table(None, columns, cells, right=("distance",)))
    return Exit.COMPLETE
