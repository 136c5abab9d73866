"""`osint rebuild`, `osint reparse`."""

import sys
from dataclasses import asdict
from typing import Any

import click

from osint_pipeline.cli.common import Reader, as_json, console, print_json, table, workspace
from osint_pipeline.errors import Exit


@click.command(help="Make the catalogue again from the object store alone, into an empty database.")
@click.option(
    "--check", "check", is_flag=True, help="Make it again beside this one, compare row by row, throw it away."
)
@click.option("--quick", is_flag=True, help="Do not read whole WARCs back; they are called uploaded, not preserved.")
@as_json
def rebuild(check: bool, quick: bool, json_: bool) -> int:
    from osint_pipeline.rebuild import rebuild as make

    Reader.code_if_gone = Exit.PARTIAL
    with workspace(rebuilds=not check) as opened:
        if check:
            return _check(opened, read_back=not quick, json_=json_)
        done = make(opened, read_back=not quick, progress=_progress(json_))
    if json_:
        print_json([asdict(done)])
    else:
        _say(done)
    return Exit.PARTIAL if done.troubles else Exit.COMPLETE


def _check(opened: Any, *, read_back: bool, json_: bool) -> int:
    from osint_pipeline.rebuild import beside
    from osint_pipeline.rebuild import rebuild as make
    from osint_pipeline.sameness import compare
    from storage.scratch import open_scratch

    with open_scratch(opened.catalog) as fresh, beside(opened, fresh) as other:
        done = make(other, read_back=read_back, lock=False, progress=_progress(json_))
        rows = list(compare(opened.catalog, fresh))
    differing = sum(row.differing for row in rows)
    if json_:
        print_json(asdict(row) for row in rows)
    else:
        _say(done)
        cells = [(row.table, row.rows, row.others, row.differing, row.first) for row in rows]
        columns = ("table", "catalogue", "rebuilt", "differing", "first difference")
        console().print(table(None, columns, cells, right=("catalogue", "rebuilt", "differing")))
        click.echo(f"{differing} rows differ" if differing else "every row is the same")
    if differing:
        return Exit.FAILED
    return Exit.PARTIAL if done.troubles else Exit.COMPLETE


def _say(done: Any) -> None:
    for trouble in done.troubles:
        click.echo(f"not used: {trouble}", err=True)
    click.echo(
        f"{done.warcs} WARCs, {done.records} records and {done.entries} journal entries read from the store"
        + (f"; {done.captures_read_again} captures read again" if done.captures_read_again else "")
    )


def _progress(json_: bool) -> Any:
    """Show on a terminal how far it is."""
    if json_ or not sys.stderr.isatty():
        return None

    def show(what: str, done: int, of: int) -> None:
        sys.stderr.write(f"\r\x1b[K{what}: {done + 1} of {of}" if done + 1 < of else "\r\x1b[K")
        sys.stderr.flush()

    return show


@click.command(help="Read captured pages again with today's parsers; the earlier reading stays as a version.")
@click.argument("source", required=False)
@click.option("--all", "all_", is_flag=True, help="Every source.")
@click.option("--dry-run", is_flag=True, help="Say what would change, write nothing.")
@as_json
def reparse(source: str | None, all_: bool, dry_run: bool, json_: bool) -> int:
    from osint_pipeline.errors import UserError
    from osint_pipeline.reparse import reparse as read_again

    if bool(source) == all_:
        raise UserError(
            "no source was named", "osint reparse SOURCE, or osint reparse --all; `osint runs` lists sources"
        )
    troubles = 0
    with workspace() as opened:
        for one in read_again(opened, source, write=not dry_run):
            troubles += one.unreadable
            if json_:
                print_json([asdict(one)])
            else:
                verb = "would be added" if dry_run else "added"
                click.echo(
                    f"{one.source}: {one.captures} captures read again, {one.changed} posts read otherwise, "
                    f"{one.versions} versions {verb}" + (f", {one.unreadable} unreadable" if one.unreadable else "")
                )
    return Exit.PARTIAL if troubles else Exit.COMPLETE
