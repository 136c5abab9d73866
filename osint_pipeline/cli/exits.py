"""`osint exits`."""

from collections.abc import Iterator
from typing import Any

import click

from osint_pipeline.cli.common import as_json, console, print_json, table
from osint_pipeline.errors import Exit, ExitUnusable, UserError
from settings.exits import Exit as WayOut
from settings.service import Service, load


@click.command(
    help="List the exits that OSINT_EXITS names and see whether each can be used; nothing is asked of a source."
)
@click.argument("name", required=False)
@click.option("--address", is_flag=True, help="Ask OSINT_ADDRESS_URL through each at which address it comes out.")
@as_json
def exits(name: str | None, address: bool, json_: bool) -> int:
    service = load().service
    if address and not service.address_url:
        raise UserError("OSINT_ADDRESS_URL is not set", "name a server of yours that answers with the caller's address")
    rows = list(_rows(service, _chosen(service, name), address))
    if json_:
        print_json(rows)
    elif rows:
        columns = ("exit", "way", "place", "usable", "why", *(("address",) if address else ()))
        console().print(table(None, columns, ([_word(row[one]) for one in columns] for row in rows)))
    else:
        click.echo("no exit is set: sources go out directly, or through OSINT_PROXY (docs/egress.md)", err=True)
    return Exit.COMPLETE if all(row["usable"] for row in rows) else Exit.FAILED


def _chosen(service: Service, name: str | None) -> list[WayOut]:
    from osint_pipeline.exits import exit_of, exits_of

    known = exits_of(service)
    if name is None:
        proxy = exit_of(service, service.proxy)
        return [*known.values(), *([proxy] if proxy and proxy.name is None else [])]
    if name not in known:
        raise UserError(f"there is no exit {name}", f"OSINT_EXITS names: {', '.join(known) or 'none'}")
    return [known[name]]


def _rows(service: Service, chosen: list[WayOut], address: bool) -> Iterator[dict[str, Any]]:
    from osint_pipeline.address import ask_address
    from osint_pipeline.exits import check_exit

    for one in chosen:
        row: dict[str, Any] = {"exit": one.label, "way": one.way, "place": one.place, "usable": True, "why": None}
        try:
            check_exit(one, service.exit_check_seconds)
        except ExitUnusable as error:
            row |= {"usable": False, "why": error.why}
        if address:
            row["address"] = (ask_address(service, one) if row["usable"] else None) or "unknown"
        yield row


def _word(cell: Any) -> Any:
    return {True: "yes", False: "no"}.get(cell, cell) if isinstance(cell, bool) else cell
