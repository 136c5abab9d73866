"""`osint verify`, `osint recover`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import click

from osint_pipeline.cli.common import Reader, as_json, console, print_json, sizes, workspace
from osint_pipeline.errors import Exit, UserError

if TYPE_CHECKING:
    from osint_pipeline.claims import Claim
    from osint_pipeline.verify import Progress

_TOLD = {"passed": "PASS", "failed": "FAIL", "unverifiable": "UNVERIFIABLE"}
_SHOWN_SECONDS = 0.1
_SHOWN = 200  # characters of what was named


@click.command(help="Check a post, capture or run by id, a WARC file by path or name, or everything.")
@click.argument("what", required=False, metavar="[ID|WARC]")
@click.option("--all", "all_", is_flag=True, help="Check every WARC, its records and its copy in the store.")
@as_json
def verify(what: str | None, all_: bool, json_: bool) -> int:
    if bool(what) == all_:
        said = f"--all checks everything, and {what[:_SHOWN]} was named too" if what else "nothing to verify was named"
        raise UserError(said, "osint verify ID, osint verify FILE.warc.gz, or osint verify --all")
    Reader.code_if_gone = Exit.PARTIAL  # not everything was checked
    counts = {"PASS": 0, "FAIL": 0, "UNVERIFIABLE": 0}
    with workspace() as opened, _Watched(json_) as watched:
        for claim in _claims(opened, what, watched.at):
            counts[claim.result] += 1
            if json_:
                print_json([claim.as_json()])
            elif claim.result != "PASS":
                watched.say(
                    f"{claim.result} {claim.claim}: {claim.subject}: {claim.why}"
                    + (f" ({claim.clause})" if claim.clause else "")
                )
        if all_:
            from storage.events import add_event

            add_event(opened.catalog, "verified", "all", None, {name: counts[key] for name, key in _TOLD.items()})
    if not json_:
        total = f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['UNVERIFIABLE']} could not be checked"
        click.echo(total + watched.read)
    if counts["FAIL"]:
        return Exit.FAILED
    return Exit.COMPLETE if counts["PASS"] and not counts["UNVERIFIABLE"] else Exit.PARTIAL


class _Watched:
    """Counts what is read, and shows it on a terminal: on stderr, so that the answers can be piped."""

    def __init__(self, quiet: bool) -> None:
        self._status = None if quiet or not sys.stderr.isatty() else console(stderr=True).status("")
        self._began, self._warcs, self._bytes = time.monotonic(), 0, 0
        self._current, self._upto, self._shown = "", 0, 0.0

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def at(self, warc: str, upto_bytes: int) -> None:
        """Note up to which of its bytes a WARC is checked."""
        if warc != self._current:
            self._current, self._upto, self._warcs = warc, 0, self._warcs + 1
        self._bytes += max(0, upto_bytes - self._upto)
        self._upto = max(self._upto, upto_bytes)
        if self._status and time.monotonic() - self._shown > _SHOWN_SECONDS:
            self._shown = time.monotonic()
            self._status.update(f"{self._sums}: …{warc[-40:]}")

    def say(self, sentence: str) -> None:
        """Print an answer; on a terminal above the line that shows how far the check is."""
        if self._status and sys.stdout.isatty():
            self._status.console.print(sentence, markup=False, soft_wrap=True)
        else:
            click.echo(sentence)

    @property
    def read(self) -> str:
        """What was read, as the end of a sentence; empty where only records were."""
        return f"; {self._sums}" if self._warcs else ""

    @property
    def _sums(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-3)
        files = "1 WARC" if self._warcs == 1 else f"{self._warcs} WARCs"
        return f"{files}, {sizes(self._bytes)}, {self._bytes / seconds / 1e6:.1f} MB/s"


def _claims(opened: Any, what: str | None, at: "Progress") -> "Iterator[Claim]":
    from osint_pipeline.verify import verify_all, verify_file, verify_records, verify_warc
    from storage.warc_files import list_warcs

    if what is None:
        return verify_all(opened, at)
    try:
        return verify_records(opened, UUID(what))
    except ValueError:
        pass
    try:
        there, is_file = Path(what).exists(), Path(what).is_file()
    except OSError:  # longer than a name can be
        there = is_file = False
    bare = Path(what).name == what  # a path says which copy is meant: never another one's place
    if not there and bare and (named := list_warcs(opened.catalog, names=[what])):
        return verify_warc(opened, named[0], at)
    if not is_file:
        what = what if len(what) <= _SHOWN else f"{what[:_SHOWN]}…"
        kinds = "no id, no file and no WARC of the catalogue" if bare else "no file"
        raise UserError(f"{what} is {kinds}", "`osint find` and `osint runs` list ids")
    return verify_file(Path(what), margin_seconds=opened.service.clock_margin_seconds, progress=at)


@click.command(help="Mend the spool and the catalogue after a crash, and say what was cut.")
@as_json
def recover(json_: bool) -> None:
    from osint_pipeline.recovery import recover as mend

    Reader.code_if_gone = Exit.PARTIAL
    count = 0
    with workspace() as opened:
        for one in mend(opened):
            count += 1
            if json_:
                print_json(
                    [
                        {
                            "name": one.name,
                            "what": one.sentence,
                            "kept_records": one.kept_records,
                            "cut_bytes": one.cut_bytes,
                        }
                    ]
                )
            else:
                click.echo(f"{one.name}: {one.sentence}")
    if not json_ and not count:
        click.echo("nothing to mend")
