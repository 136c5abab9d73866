"""`osint worker`, and what `osint up` does beside the servers."""

import asyncio
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from settings.service import Service, load

if TYPE_CHECKING:
    from osint_pipeline.work import Worker


@click.command(
    help="Visit what is due until told to stop (Ctrl-C, SIGTERM); as many machines as wanted share one archive."
)
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Hosts at once.  [default: OSINT_WORKER_CONCURRENCY]")
@click.option(
    "--queues",
    default="crawl,clock",
    show_default=True,
    help="What it works for: crawl (visits), clock (schedules, rescue of dead workers' jobs).",
)
def worker(concurrency: int | None, queues: str) -> int:
    from osint_pipeline.work import QUEUES

    wanted = tuple(dict.fromkeys(one.strip() for one in queues.split(",") if one.strip()))
    if not wanted or set(wanted) - set(QUEUES):
        raise UserError(f"{queues!r} names a queue that there is not", f"name some of {', '.join(QUEUES)}")
    return serve(load().service, concurrency=concurrency, queues=wanted)


def serve(
    service: Service,
    *,
    concurrency: int | None = None,
    queues: tuple[str, ...] | None = None,
    with_store: bool = False,
) -> int:
    """Run a worker in this process until it is told to stop; `with_store`: keep the embedded store running meanwhile."""
    from osint_pipeline.guarantees import known, require
    from osint_pipeline.logs import configure
    from osint_pipeline.web_metrics import listening
    from osint_pipeline.work import QUEUES, Worker

    configure(service, kind="up" if with_store else "worker")
    with Workspace(service) as workspace, ExitStack() as stack:
        if service.require:
            require(service, known(workspace))
        _ = workspace.catalog, workspace.spool  # refused now rather than later
        if with_store:
            _ = workspace.store_config
        made = Worker(workspace, concurrency or service.worker_concurrency, queues or QUEUES)
        try:
            stack.enter_context(listening(service))
        except UserError as error:  # another worker of this machine answers there
            click.echo(f"no metrics from this worker: {error.what}", err=True)
        asyncio.run(_until_told(made))
    return Exit.COMPLETE


async def _until_told(made: "Worker") -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, made.stop)
    click.echo(f"worker {made.name} visits {made.concurrency} hosts at once", err=True)
    await made.work()
    click.echo("worker stopped", err=True)
