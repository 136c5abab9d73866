"""`osint spool`, `osint spool clean`, `osint spool adopt`."""

from typing import TYPE_CHECKING

import click

from osint_pipeline.cli.common import Reader, as_json, print_json, sizes, workspace
from osint_pipeline.errors import Exit
from settings.values import MOST_HOURS

if TYPE_CHECKING:
    from osint_pipeline.spooled import Status


@click.group(
    invoke_without_command=True,
    help="Say what the spool holds; clean [--dry-run] [--hours N] deletes what may go, adopt takes it over.",
)
@as_json
@click.pass_context
def spool(context: click.Context, json_: bool) -> int:
    if context.invoked_subcommand is not None:
        return Exit.COMPLETE
    from osint_pipeline.spooled import status

    with workspace() as opened:
        found = status(opened)
    if json_:
        print_json([found.as_json()])
    else:
        _print(found)
    return Exit.COMPLETE


def _print(found: "Status") -> None:
    click.echo(f"spool {found.folder}")
    high = sizes(found.high_bytes) if found.high_bytes else "no limit"
    click.echo(f"waiting    {found.waiting_warcs} WARCs, {sizes(found.waiting_bytes)} (high-water mark: {high})")
    click.echo(f"open       {found.open_warcs} WARCs that runs write, or that `osint recover` will seal")
    click.echo(f"preserved  {found.preserved_warcs} WARCs, {found.local_warcs} of them with a local copy here")
    click.echo(
        f"free       {sizes(found.free_bytes)} of the disk ({sizes(found.needed_bytes)} must stay); {found.level}"
    )
    click.echo(f"local copies stay {found.retained}")
    for one in found.held_back:
        click.echo(f"held back  {one['warc']}: {one['why']}")
    for left in found.torn:
        click.echo(f"torn       {left['file']} ({sizes(int(left['bytes']))}): never deleted by us")


def _bounded(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 <= value <= MOST_HOURS:  # so that nan is refused too
        raise click.BadParameter(f"{value:g} is not from 0 to {MOST_HOURS}")
    return value


@spool.command(help="Delete local copies that are proven to be in a durable store (OSINT_RETAIN_HOURS).")
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@click.option("--hours", type=float, callback=_bounded, help="How long a copy stays.  [default: OSINT_RETAIN_HOURS]")
@as_json
def clean(dry_run: bool, hours: float | None, json_: bool) -> int:
    from osint_pipeline.errors import UserError
    from osint_pipeline.retention import clean as sweep

    Reader.code_if_gone = Exit.PARTIAL
    gone = kept = 0
    with workspace() as opened:
        if hours is None and opened.service.retain_hours is None:
            what = "nothing says how long local copies stay, so they stay for ever"
            raise UserError(what, "set OSINT_RETAIN_HOURS, or give --hours")
        for one in sweep(opened, hours=hours, dry_run=dry_run):
            gone, kept = gone + one.released, kept + (not one.released)
            if json_:
                print_json([{"warc": one.name, "bytes": one.size_bytes, "released": one.released, "why": one.why}])
            else:
                click.echo(f"{'kept' if one.why else 'would go' if dry_run else 'deleted'} {one.name}: {one.said}")
    if not json_:
        click.echo(f"{gone} local copies {'would go' if dry_run else 'deleted'}, {kept} kept")
    return Exit.PARTIAL if kept else Exit.COMPLETE


@spool.command(help="Make a spool this archive's and this machine's, whoever's it was; nothing in it is changed.")
@click.option("--new", is_flag=True, help="Make a new one even where one was and is lost.")
def adopt(new: bool) -> None:
    with workspace() as opened:
        claim = opened.claim
        before = claim.adopt(opened.owner, new=new)
        claim.leave()
    if before is None:
        click.echo(f"{claim.folder} is this archive's spool now")
    else:
        click.echo(f"{claim.folder} is this archive's spool now; it was that of {before.archive} on {before.host}")
