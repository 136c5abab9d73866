"""What the commands share: the workspace, JSON lines, tables."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from settings.service import Service, load

WHOLE = {"name", "id", "run", "media", "outcome", "kind", "when", "started", "setting", "guarantee"}  # never folded
CUT = {"source"}  # cut to what a terminal has room for, never folded; the others keep their width
CUT_AT_LEAST = 10

as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object per line.")


class Reader:
    """What a command returns when the reader of its output goes away before its end; never "complete" for a check."""

    code_if_gone: int = Exit.COMPLETE


@contextmanager
def workspace(*, rebuilds: bool = False) -> Iterator[Workspace]:
    """Open the workspace that the settings name, and close it."""
    service = load().service
    log_lines(service)
    with Workspace(service, rebuilds=rebuilds) as opened:
        yield opened


def log_lines(service: Service) -> None:
    """Send this command's log lines where the settings say, under its name."""
    from osint_pipeline.logs import configure

    context = click.get_current_context(silent=True)
    configure(service, kind=(context and context.info_name) or "osint")


def console(*, stderr: bool = False) -> Console:
    """Make a console that folds nothing away when its output is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, soft_wrap=not stream.isatty(), highlight=False, width=None if stream.isatty() else 1000)


def print_json(rows: Iterable[Any]) -> None:
    """Print one JSON object per line, in UTF-8 with nothing escaped that need not be."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def table(
    title: str | None, columns: Iterable[str], rows: Iterable[Iterable[Any]], *, right: tuple[str, ...] = ()
) -> Table:
    """Make a plain table; `right` names the columns of numbers. Cell text is never read as markup."""
    from rich.cells import cell_len
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    cells = [tuple(Text(_shown(cell)) for cell in row) for row in rows]
    for place, column in enumerate(columns):
        whole, cut = column in WHOLE or column in right, column in CUT
        widest = max((cell_len(row[place].plain) for row in cells), default=0)
        made.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="ellipsis" if cut else "fold",
            no_wrap=whole,
            min_width=min(widest, CUT_AT_LEAST) if cut else max(widest, len(column)) if whole else None,
        )
    for row in cells:
        made.add_row(*row)
    return made


def read_date(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Read an ISO date or time; without a zone it is UTC."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no date; write 2026-11-23 or 2026-11-23T10:00+01:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def sizes(count_bytes: int) -> str:
    """Write a size as people read it."""
    size = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def not_found(what: str) -> UserError:
    """Say that an id names nothing."""
    return UserError(f"nothing in the catalogue has the id {what}", "`osint find` and `osint runs` list ids")


def _shown(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, datetime):
        return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    return str(cell)
