"""`osint machine list`, `osint machine retire`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from osint_pipeline.cli.common import as_json, console, print_json, table, workspace

if TYPE_CHECKING:
    from osint_pipeline.retirement import Machine


@click.group(
    help="Look at the machines that share the archive; retire NAME --why TEXT ends what one left that is gone."
)
def machine() -> None:
    pass


@machine.command("list", help="List the machines, when each was last heard of, and its runs that nobody ended.")
@as_json
def list_(json_: bool) -> None:
    from osint_pipeline.retirement import machines

    with workspace() as opened:
        found = machines(opened)
    if json_:
        return print_json(asdict(one) for one in found)
    columns = ("name", "state", "last heard of", "open runs", "worker")
    cells = [(one.name, _state(one), one.seen_at, one.unfinished_runs, one.worker) for one in found]
    console().print(table(None, columns, cells, right=("open runs",)))


def _state(one: "Machine") -> str:
    if one.worker is None:
        return "no worker"
    return "silent" if one.silent else "alive"


@machine.command(help="End the runs and free the visits of a machine that is gone for good. It may come back later.")
@click.argument("name")
@click.option("--why", required=True, help="What became of it; it stands in its runs and in the chain of events.")
@as_json
def retire(name: str, why: str, json_: bool) -> None:
    from osint_pipeline.retirement import retire as end

    with workspace() as opened:
        done = end(opened, name, why)
    if json_:
        return print_json([asdict(done)])
    click.echo(f"{done.name} is retired: {done.runs} runs ended, {done.visits} visits given to others")
    click.echo(
        "what was on its disk alone is named by `osint verify --all`; if the disk turns up: `osint recover` there"
    )
