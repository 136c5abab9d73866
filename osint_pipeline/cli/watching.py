"""`osint alerts`, `osint alerts test`, `osint metrics`."""

import sys
import threading
from dataclasses import asdict

import click

from osint_pipeline.cli.common import as_json, console, log_lines, print_json, table, workspace
from osint_pipeline.errors import Exit, UserError
from settings.folders import private_folder
from settings.service import load


@click.group(
    invoke_without_command=True,
    help="List the troubles that are open; test sends one message to each address of OSINT_ALERTS.",
)
@click.option("--history", is_flag=True, help="Those that ended too, the newest first.")
@as_json
@click.pass_context
def alerts(context: click.Context, history: bool, json_: bool) -> int:
    if context.invoked_subcommand is not None:
        return Exit.COMPLETE
    from osint_pipeline.measures import snapshot
    from storage.alerting import all_alerts, open_alerts

    with workspace() as opened, snapshot(opened.catalog) as connection:
        found = all_alerts(connection) if history else open_alerts(connection)
    if not history:
        found.sort(key=lambda one: (one.severity != "critical", one.began_at))
    if json_:
        print_json(asdict(one) for one in found)
    elif found:
        columns = ("severity", "rule", "subject", "when", "ended", "told", "what")
        rows = [
            (o.severity, o.rule, o.subject, o.began_at, o.ended_at, "yes" if o.told_at else "no", o.said) for o in found
        ]
        console().print(table(None, columns if history else (*columns[:4], *columns[5:]),
                              rows if history else [(*row[:4], *row[5:]) for row in rows]))  # fmt: skip
    else:
        click.echo("no alert is open" if not history else "there was no alert yet")
    return Exit.COMPLETE


@alerts.command(help="Send one message to each address of OSINT_ALERTS, and say how many took it.")
def test() -> int:
    from osint_pipeline.alerts import send_test

    service = load().service
    log_lines(service)
    if not service.alerts:
        raise UserError("OSINT_ALERTS names no address", "set it as docs/watching.md shows")
    took, known = send_test(service)
    click.echo(f"{took} of {known} addresses took the message")
    return Exit.COMPLETE if took == known else Exit.PARTIAL if took else Exit.FAILED


@click.command(help="Answer /metrics, /healthz and /readyz on OSINT_METRICS_LISTEN, until it is stopped.")
@click.option("--once", is_flag=True, help="Print the metrics once instead.")
def metrics(once: bool) -> int:
    from osint_pipeline.metrics import render
    from osint_pipeline.web_metrics import listening

    service = load().service
    if once:
        from osint_pipeline.measures import measure

        with workspace() as opened:
            found = measure(opened.catalog, silent_hours=service.alert_silent_hours, wall_hours=service.wall_hours)
        sys.stdout.write(render(lambda: found).decode())
        return Exit.COMPLETE
    if service.metrics_listen == "off":
        raise UserError("OSINT_METRICS_LISTEN is off", "set it to an address such as 127.0.0.1:9464")
    private_folder(service.home)
    log_lines(service)
    with listening(service) as address:
        click.echo(f"listening on {address}")
        sys.stdout.flush()
        threading.Event().wait()
    return Exit.COMPLETE
