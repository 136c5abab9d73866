"""`osint identity`: cookies and storage of a browser that the operator lets one source see."""

from typing import IO

import click

from osint_pipeline.cli.common import as_json, console, print_json, table, workspace
from osint_pipeline.errors import Exit


@click.group(help="Keep named identities: a browser's login, used only for the sources that name it.")
def identity() -> None:
    """Hold the commands about identities."""


@identity.command(help="Encrypt a storage state of Playwright and keep it on this machine; - reads standard input.")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@as_json
def add(name: str, file: IO[bytes], json_: bool) -> int:
    from osint_pipeline.identities import LIMIT_BYTES
    from osint_pipeline.identities import add as keep

    data, called = file.read(LIMIT_BYTES + 1), getattr(file, "name", "-")
    called = "standard input" if called in ("-", "<stdin>") else called
    with workspace() as opened:
        made = keep(opened, name, data, file=called)
    if json_:
        print_json([{"identity": made.name, "path": str(made.path)}])
    else:
        click.echo(f"{made.name} is kept encrypted; use it by: osint source edit SOURCE --identity {made.name}")
        click.echo("the file that it came from still lies open: delete it", err=True)
    return Exit.COMPLETE


@identity.command(
    "list", help="List the identities on this machine, and the sources that name each; never what they hold."
)
@as_json
def list_(json_: bool) -> int:
    from osint_pipeline.identities import kept, named_by

    with workspace() as opened:
        rows = [{"identity": one.name, "sources": named_by(opened, one.name)} for one in kept(opened)]
    if json_:
        print_json(rows)
    elif not rows:
        click.echo("there are none; osint identity add NAME FILE")
    else:
        cells = ((row["identity"], ", ".join(row["sources"]) or "-") for row in rows)
        console().print(table(None, ("identity", "used for"), cells))
    return Exit.COMPLETE


@identity.command(help="Delete an identity from this machine.")
@click.argument("name")
@as_json
def remove(name: str, json_: bool) -> int:
    from osint_pipeline.identities import named_by
    from osint_pipeline.identities import remove as forget

    with workspace() as opened:
        forget(opened, name)
        sources = named_by(opened, name)
    if json_:
        print_json([{"identity": name, "sources": sources}])
    else:
        click.echo(f"{name} is deleted")
        if sources:
            said = "their pages are not rendered until it is added again, or they are edited: --identity none"
            click.echo(f"{', '.join(sources)} still name it: {said}", err=True)
    return Exit.COMPLETE
