"""`osint up`, `osint down`, `osint config`."""

import click

from osint_pipeline.cli.common import as_json, console, print_json, table
from settings.service import load, private_folder


@click.command(help="Start the embedded database and store and leave them running until `osint down`.")
@as_json
def up(json_: bool) -> None:
    from osint_pipeline.servers import start

    service = load().service
    private_folder(service.home)
    rows = start(service)
    if json_:
        return print_json(rows)
    for row in rows:
        click.echo(f"{row['server']}: {row['state']}" + (f" ({row['where']})" if row["where"] else ""))


@click.command(help="Stop the embedded database and store. Fails while another command uses them.")
@as_json
def down(json_: bool) -> None:
    from osint_pipeline.servers import stop

    service = load().service
    private_folder(service.home)
    rows = stop(service)
    if json_:
        return print_json(rows)
    for row in rows:
        click.echo(f"{row['server']}: {row['state']}")


@click.command(help="List every setting, its value and where it came from. Secrets are masked.")
@as_json
def config(json_: bool) -> None:
    rows = load().rows()
    if json_:
        return print_json(dict(zip(("setting", "value", "from", "about"), row, strict=True)) for row in rows)
    console().print(table(None, ("setting", "value", "from", "what it is"), rows))
