"""`osint backup`."""

from pathlib import Path
from typing import Any

import click

from osint_pipeline.cli.common import as_json, print_json, sizes, workspace
from osint_pipeline.errors import UserError

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    help="Back up the catalogue's database to a file, read back before it counts; check one, or restore one."
)
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=_FILE, help="Write to this file instead of one in a folder.")
@click.option("--keep", type=click.IntRange(1, 100_000), help="Delete older backups of this archive in the folder.")
@click.option("--check", "checked", type=_FILE, help="Read a backup whole and compare it with its digest.")
@click.option("--restore", "restored", type=_FILE, help="Restore a backup into the empty database of the settings.")
@as_json
def backup(
    folder: Path | None,
    out: Path | None,
    keep: int | None,
    checked: Path | None,
    restored: Path | None,
    json_: bool,
) -> None:
    from osint_pipeline.backup import back_up, check, restore

    if sum(one is not None for one in (folder, out, checked, restored)) > 1:
        raise UserError("several things were asked for", "name one of FOLDER, --out, --check and --restore")
    if keep and (out or checked or restored):
        raise UserError("--keep was given without a folder", "osint backup FOLDER --keep N")
    if checked:
        return _say(check(checked), "is whole", json_)
    with workspace() as opened:
        if restored:
            _say(restore(opened, restored), "is restored", json_)
            click.echo(
                "this is another archive to a spool now: run `osint spool adopt`, then `osint recover`", err=True
            )
        else:
            _say(back_up(opened, folder=folder, out=out, keep=keep), "is written and read back", json_)


def _say(found: Any, what: str, json_: bool) -> None:
    facts = found.facts
    if json_:
        row = {"file": str(found.path), "sha256": found.sha256, "bytes": found.size_bytes, "entries": facts.entries}
        return print_json([{**row, "server": facts.server, "program": facts.program, "deleted": list(found.deleted)}])
    click.echo(f"{found.path} {what}: {sizes(found.size_bytes)}, {facts.entries} entries of PostgreSQL {facts.server}")
    click.echo(f"sha256 {found.sha256}")
    for name in found.deleted:
        click.echo(f"deleted {name}")
