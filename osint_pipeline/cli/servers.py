"""`osint up`, `osint down`, `osint config`."""

from typing import Any

import click

from osint_pipeline.cli.common import as_json, console, print_json, table
from osint_pipeline.errors import Exit
from settings.folders import private_folder
from settings.service import load


@click.command(
    help="Run all of it on this machine until Ctrl-C or SIGTERM: database, store, worker, scheduler, metrics."
)
@click.option(
    "--servers", is_flag=True, help="Start only the embedded servers, and leave them running until `osint down`."
)
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Hosts at once.  [default: OSINT_WORKER_CONCURRENCY]")
@as_json
def up(servers: bool, concurrency: int | None, json_: bool) -> int:
    from osint_pipeline.servers import start

    service = load().service
    private_folder(service.home)
    if servers:
        _tell(start(service), json_)
        return Exit.COMPLETE
    from osint_pipeline.cli.worker import serve

    return serve(service, concurrency=concurrency, with_store=True)


def _tell(rows: list[dict[str, Any]], json_: bool) -> None:
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
    _tell([{**row, "where": ""} for row in stop(service)] if not json_ else stop(service), json_)


@click.command(help="List every setting, its value and where it came from. Secrets are masked.")
@as_json
def config(json_: bool) -> None:
    rows = load().rows()
    if json_:
        return print_json(dict(zip(("setting", "value", "from", "about"), row, strict=True)) for row in rows)
    console().print(table(None, ("setting", "value", "from", "what it is"), rows))
