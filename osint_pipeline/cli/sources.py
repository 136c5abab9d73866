"""`osint source`: what is watched, and how."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import click

from osint_pipeline.cli.common import as_json, print_json, workspace
from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from settings.service import load

if TYPE_CHECKING:
    from osint_pipeline.sources import Wanted

PATIENCE_SECONDS = 2.0  # for the store: a snapshot that it does not take now waits for the next upload
_LINES = 50  # refused lines that are shown
_OPTIONS = {  # the texts are read in osint_pipeline/options.py, which is imported when a command runs
    "spider": "Site module: telegram, news, page, video; guessed from the address if not given.",
    "name": "What people call it.",
    "every": 'When it is visited, as cron: "*/15 * * * *"; none: only when asked.',
    "timezone": "Time zone of the schedule, as Europe/Minsk.  [default: UTC]",
    "jitter": "Seconds that a visit may come later, so that not all come at once.",
    "catch-up": "What is made up for after an outage: none, once, all.  [default: once]",
    "render": "When to use the browser: never, auto, always.  [default: auto]",
    "languages": "What it writes in, as be,ru.",
    "proxy": "Name of the exit that it is reached by, or direct.",
    "identity": "Name of a login for its pages in the browser (osint identity); none: nobody's.",
    "robots": "obey, or ignore:<reason>.  [default: OSINT_ROBOTS]",
    "priority": "Higher goes first.  [default: 0]",
    "limit-pages": "Pages of one visit.  [default: OSINT_LIMIT]",
    "limit-bytes": "Bytes of one visit, as 500MB.",
    "limit-seconds": "Time of one visit.",
    "backfill-pages": "Pages of older history that a visit may add.",
    "tags": "Labels, as minsk,courts.",
}
_METAVARS = {
    "every": "CRON",
    "jitter": "SECONDS",
    "limit-seconds": "SECONDS",
    "limit-bytes": "SIZE",
    "proxy": "NAME",
    "identity": "NAME",
}
_NUMBERS = ("priority", "limit-pages", "backfill-pages")


def options(*names: str) -> Callable[[Any], Any]:
    """Add options of a source to a command, all of them if none is named; their texts come as one mapping, `given`."""

    def add(command: Any) -> Any:
        for name in reversed(names or tuple(_OPTIONS)):
            metavar = _METAVARS.get(name, "N" if name in _NUMBERS else "TEXT")
            command = click.option(f"--{name}", name.replace("-", "_"), metavar=metavar, help=_OPTIONS[name])(command)
        return command

    return add


def given_options(options_: Mapping[str, str | None]) -> dict[str, str]:
    """Give the texts of the options that were named."""
    return {name.replace("_", "-"): text for name, text in options_.items() if text is not None}


@contextmanager
def changing() -> Iterator[Workspace]:
    """Open the workspace for a change; at its end a signed snapshot tells of it, in the store too where that is there."""
    from osint_pipeline.state import note_state, store_state
    from storage.errors import StoreUnavailable

    service = load().service
    patience_seconds = min(PATIENCE_SECONDS, service.store_patience_seconds)
    with Workspace(replace(service, store_patience_seconds=patience_seconds)) as opened:
        yield opened
        if note_state(opened) is None:
            return
        try:
            store_state(opened)
        except StoreUnavailable as error:
            click.echo(f"the snapshot of this waits for the store: {error}", err=True)


@click.group(help="Say what is watched, and how: add, change, pause and look at sources.")
def source() -> None:
    """Hold the commands about sources."""


@source.command(help="Watch a channel, an outlet, a page or a video. Several addresses get the same options.")
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@options()
@click.option("--later", is_flag=True, help="Do not visit it at once, but when its schedule says.")
@as_json
def add(urls: tuple[str, ...], later: bool, json_: bool, **given: str | None) -> int:
    from osint_pipeline.sources import Wanted, What, put

    texts = given_options(given)
    with changing() as opened:
        done = list(put(opened, [Wanted(url=url, given=texts) for url in urls], again=True, later=later))
        _warn_of_identity(opened, texts)
    for one in done:
        if one.what is What.REFUSED:
            click.echo(f"osint: {one.why}", err=True)
        elif one.what is What.DIFFERS:
            click.echo(f"osint: {one.slug} is watched already, otherwise: {_changes(one.changes)}", err=True)
            click.echo(f"       osint source edit {one.slug} changes that", err=True)
    _say(done, json_=json_)
    bad = sum(one.what in (What.REFUSED, What.DIFFERS) for one in done)
    return Exit.COMPLETE if not bad else Exit.BAD_INPUT if bad == len(done) else Exit.PARTIAL


@source.command(help="Change how sources are watched. `none` as a value takes an option back.")
@click.argument("names", nargs=-1, required=True, metavar="SOURCE...")
@options()
@as_json
def edit(names: tuple[str, ...], json_: bool, **given: str | None) -> int:
    from osint_pipeline.sources import edit as change

    texts = given_options(given)
    if not texts:
        raise UserError("no option was given", "osint source edit --help lists them")
    with changing() as opened:
        done = change(opened, names, texts)
        _warn_of_identity(opened, texts)
    _say(done, json_=json_)
    return Exit.COMPLETE


def _warn_of_identity(opened: Workspace, texts: Mapping[str, str]) -> None:
    """Say where the identity that was named is not on this machine; another that visits the source may have it."""
    from osint_pipeline.identities import is_kept
    from osint_pipeline.identity_names import CLEARED, NAME

    name = texts.get("identity", "").strip()
    if name and name != CLEARED and NAME.fullmatch(name) and not is_kept(opened, name):
        click.echo(f"osint: there is no identity {name} on this machine: pages in the browser fail here", err=True)
        click.echo(f"       osint identity add {name} FILE adds it", err=True)


@source.command(help="Stop visiting sources for a while.")
@click.argument("names", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--why", default="", metavar="TEXT", help="What `osint source list` shows beside it.")
@as_json
def pause(names: tuple[str, ...], why: str, json_: bool) -> int:
    return _set_state(names, f"paused:{why}" if why else "paused", json_)


@source.command(
    short_help="Visit paused sources again.",
    help="Visit paused sources again; what was missed is made up for as --catch-up says.",
)
@click.argument("names", nargs=-1, required=True, metavar="SOURCE...")
@as_json
def resume(names: tuple[str, ...], json_: bool) -> int:
    return _set_state(names, "watched", json_)


@source.command(help="Watch sources no more. What was captured stays, and `osint source add` goes on with it.")
@click.argument("names", nargs=-1, required=True, metavar="SOURCE...")
@as_json
def remove(names: tuple[str, ...], json_: bool) -> int:
    return _set_state(names, "removed", json_)


def _set_state(names: tuple[str, ...], state: str, json_: bool) -> int:
    from osint_pipeline.sources import set_state

    with changing() as opened:
        done = set_state(opened, names, state)
    _say(done, json_=json_)
    return Exit.COMPLETE


@source.command(
    short_help="Let sources be visited now.",
    help="Let sources be visited now, whatever their schedule; a worker takes it up.",
)
@click.argument("names", nargs=-1, required=True, metavar="SOURCE...")
@as_json
def run(names: tuple[str, ...], json_: bool) -> int:
    from osint_pipeline.sources import run_now

    with workspace() as opened:
        asked = run_now(opened, names)
    if json_:
        print_json({"source": one.source.slug, "visit": visit and str(visit)} for one, visit in asked)
    else:
        for one, visit in asked:
            click.echo(f"{one.source.slug}: " + (f"visit {visit} is due now" if visit else "is due already"))
    return Exit.COMPLETE


@source.command(
    "clear-walls",
    help="Forget that a host refused the browser: its pages are tried again at the next visit, not after OSINT_WALL_HOURS.",
)
@click.argument("host")
@as_json
def clear_walls(host: str, json_: bool) -> int:
    from osint_pipeline.source import host_of
    from storage.walls import clear_walls as forget

    name = host_of(host if "://" in host else f"https://{host}")
    with workspace() as opened:
        gone = forget(opened.catalog, name, datetime.now(UTC))
    if json_:
        print_json([{"host": name, "cleared": gone}])
    else:
        click.echo(f"{name}: {gone} cleared; the browser tries its pages again at the next visit")
    return Exit.COMPLETE


@source.command(
    "import",
    short_help="Watch what a CSV, YAML or OPML file lists.",
    help="Watch what a CSV, YAML or OPML file lists; a line that cannot be used does not stop the others.",
)
@click.argument("file", type=click.File("rb"), metavar="FILE|-")
@click.option("--format", "form", type=click.Choice(("csv", "yaml", "opml")), help="By the file's suffix if not given.")
@click.option("--update", is_flag=True, help="Change what is watched otherwise.")
@click.option("--later", is_flag=True, help="Do not visit new ones at once, but when their schedules say.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, write nothing.")
@as_json
def import_(file: IO[bytes], form: str | None, update: bool, later: bool, dry_run: bool, json_: bool) -> int:
    from osint_pipeline.sources import What, put

    wanted = _read_file(file, form)
    with workspace() if dry_run else changing() as opened:
        done = list(put(opened, wanted, update=update, later=later, dry_run=dry_run))
    _say_import(done, dry_run=dry_run, json_=json_)
    return Exit.PARTIAL if any(one.what is What.REFUSED for one in done) else Exit.COMPLETE


@source.command(
    short_help="Write what is watched as CSV, YAML or OPML.",
    help="Write what is watched as a list that `osint source import` reads.",
)
@click.option("--format", "form", type=click.Choice(("csv", "yaml", "opml")), default="csv", show_default=True)
@click.option("--all", "all_", is_flag=True, help="Also what was removed.")
def export(form: str, all_: bool) -> int:
    from osint_pipeline.options import write_options
    from osint_pipeline.source_lists import write_list
    from storage.watched import list_watched

    with workspace() as opened:
        rows = [(one.source.url, write_options(one)) for one in list_watched(opened.catalog, removed=all_)]
    sys.stdout.write(write_list(rows, form))
    sys.stdout.flush()
    return Exit.COMPLETE


def _read_file(file: IO[bytes], form: str | None) -> list["Wanted"]:
    """Read a list to its end before anything is written of it."""
    from osint_pipeline.source_lists import UnreadableList, format_of, read_list

    service, name = load().service, getattr(file, "name", "-")
    data = file.read(service.import_limit_bytes + 1)
    if len(data) > service.import_limit_bytes:
        advice = "split it, or set OSINT_IMPORT_LIMIT_BYTES"
        raise UserError(f"{name} has more than {service.import_limit_bytes} bytes", advice)
    if (form := form or format_of(name)) is None:
        raise UserError(f"the format of {name} cannot be told by its name", "name it: --format csv, yaml or opml")
    try:
        return list(read_list(data, form, most_rows=service.import_limit_rows))
    except UnreadableList as error:
        raise UserError(f"{name} cannot be read as {form}: {error}", "nothing was changed") from error


def _say(done: Iterable[Any], *, json_: bool) -> None:
    """Print what was done with each source."""
    from osint_pipeline.cli.source_views import due
    from osint_pipeline.sources import What

    if json_:
        print_json(one.as_json() for one in done)
        return
    for one in done:
        if one.what is What.ADDED:
            click.echo(f"{one.slug}: added ({one.spider}), {due(one.due_at)}")
        elif one.what is What.CHANGED:
            click.echo(f"{one.slug}: {_changed(one)}")
        elif one.what is What.UNCHANGED:
            click.echo(f"{one.slug}: unchanged")


def _changed(one: Any) -> str:
    """Say what was changed, and when the source is due where that changed too."""
    from osint_pipeline.cli.source_views import due

    changes, state = {**one.changes}, one.changes.get("state", ("", ""))[1]
    if "state" in changes:
        if state:
            return state.replace(":", ": ", 1) if state.startswith("paused") else "removed; what was captured stays"
        del changes["state"]
    told = [*(["watched again"] if "state" in one.changes else []), *([_changes(changes)] if changes else [])]
    return ", ".join(told) + ("" if one.change.keeps_due else f"; {due(one.due_at)}")


def _changes(changes: Mapping[str, tuple[str, str]]) -> str:
    return ", ".join(f"{name} {before or '-'} → {after or '-'}" for name, (before, after) in changes.items())


def _say_import(done: list[Any], *, dry_run: bool, json_: bool) -> None:
    from osint_pipeline.options import shortened
    from osint_pipeline.sources import What

    if json_:
        print_json(one.as_json() for one in done)
        return
    refused = [one for one in done if one.what is What.REFUSED]
    for one in refused[:_LINES]:
        click.echo(
            f"line {one.line}: {shortened(one.url)}: {one.why}" if one.url else f"line {one.line}: {one.why}", err=True
        )
    if len(refused) > _LINES:
        click.echo(f"and {len(refused) - _LINES} more lines that cannot be used; --json lists all", err=True)
    for one in done:
        if one.what in (What.DIFFERS, What.CHANGED):
            click.echo(f"line {one.line}: {one.slug}: {_changes(one.changes)}")
    counts = {what: sum(one.what is what for one in done) for what in What}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "no source in it"
    click.echo(("nothing was written; it would be: " if dry_run else "") + told)
    if counts[What.DIFFERS]:
        click.echo("what differs stays as it is; --update changes it")
