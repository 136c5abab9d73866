"""`osint verify`, `osint upload`, `osint recover`, `osint store doctor`."""

from pathlib import Path
from typing import Any
from uuid import UUID

import click

from osint_pipeline.cli.common import Reader, as_json, console, print_json, sizes, table, workspace
from osint_pipeline.errors import Exit, UserError


@click.command(help="Check a post, capture or run by id, a WARC file by path or name, or everything.")
@click.argument("what", required=False, metavar="[ID|WARC]")
@click.option("--all", "all_", is_flag=True, help="Check every WARC, its records and its copy in the store.")
@as_json
def verify(what: str | None, all_: bool, json_: bool) -> int:
    if bool(what) == all_:
        raise UserError(
            "nothing to verify was named", "osint verify ID, osint verify FILE.warc.gz, or osint verify --all"
        )
    Reader.code_if_gone = Exit.PARTIAL  # not everything was checked
    counts = {"PASS": 0, "FAIL": 0, "UNVERIFIABLE": 0}
    with workspace() as opened:
        for claim in _claims(opened, what):
            counts[claim.result] += 1
            if json_:
                print_json([claim.as_json()])
            elif claim.result != "PASS":
                click.echo(
                    f"{claim.result} {claim.claim}: {claim.subject}: {claim.why}"
                    + (f" ({claim.clause})" if claim.clause else "")
                )
    if not json_:
        click.echo(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['UNVERIFIABLE']} could not be checked")
    if counts["FAIL"]:
        return Exit.FAILED
    return Exit.COMPLETE if counts["PASS"] and not counts["UNVERIFIABLE"] else Exit.PARTIAL


def _claims(opened: Any, what: str | None) -> Any:
    from osint_pipeline.verify import verify_all, verify_file, verify_records, verify_warc

    if what is None:
        return verify_all(opened)
    try:
        return verify_records(opened, UUID(what))
    except ValueError:
        pass
    if named := opened.catalog.warcs(names=[Path(what).name]) if not Path(what).exists() else []:
        return verify_warc(opened, named[0])
    if not Path(what).is_file():
        raise UserError(
            f"{what} is no id, no file and no WARC of the catalogue", "`osint find` and `osint runs` list ids"
        )
    return verify_file(Path(what))


@click.command(help="Bring sealed WARCs to the object store: put once, read back, compared, then counted.")
@as_json
def upload(json_: bool) -> int:
    from osint_pipeline.preserve import upload as drain

    Reader.code_if_gone = Exit.PARTIAL
    held = done = 0
    with workspace() as opened:
        for one in drain(opened):
            held, done = held + bool(one.why), done + (not one.why)
            if json_:
                print_json(
                    [
                        {
                            "warc": one.name,
                            "key": one.key,
                            "bytes": one.size_bytes,
                            "preserved": not one.why,
                            "why": one.why,
                        }
                    ]
                )
            elif one.why:
                click.echo(f"held back {one.name}: {one.why}", err=True)
            else:
                click.echo(f"preserved {one.name} ({sizes(one.size_bytes)}) as {one.key}")
    if not json_:
        click.echo(f"{done} preserved, {held} held back" if done or held else "nothing waits in the spool")
    return Exit.STORE if held else Exit.COMPLETE


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


@click.group(help="Look at the object store.")
def store() -> None:
    """Hold the commands about the store."""


@store.command(help="Test which guarantees the object store keeps, with canaries of its own.")
@as_json
def doctor(json_: bool) -> int:
    from storage.doctor import examine

    with workspace() as opened:
        rows = examine(opened.store)
    if json_:
        print_json(
            {"guarantee": r.name, "verdict": r.verdict.value, "detail": r.detail, "what_we_do": r.what_we_do}
            for r in rows
        )
    else:
        cells = [(r.name, r.verdict.value.replace("_", " "), r.detail, r.what_we_do) for r in rows]
        console().print(table(None, ("guarantee", "verdict", "seen", "what we do about it"), cells))
    return Exit.COMPLETE
