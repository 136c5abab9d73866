"""Runs that share WARCs, in a process that ends where it is told to: tests/zygote.py calls main()."""

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from osint_pipeline.crawling import crawl_sources
from osint_pipeline.run import Run
from osint_pipeline.shared import SharedWarcs
from osint_pipeline.source import make_sources
from osint_pipeline.workspace import Workspace
from settings.service import load
from spiders.page import Page, Post, PostKind, Verdict
from storage.exchange import Exchange

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
RUNS = 5


def begin(workspace: Workspace, shared: SharedWarcs | None, number: int) -> Run:
    """Begin a visit of the channel of this number."""
    url = f"https://t.me/s/kanal{number}"
    (source,) = make_sources([url], spider="telegram", render="never", robots="obey", proxy=None)
    return Run(workspace, source, warcs=shared)


def record(run: Run, text: str) -> tuple[UUID, str]:
    """Record a page and leave its capture open: its id and its URL."""
    url, now = run.source.url, datetime.now(UTC)
    wanted = run.captures.want(url, "page")
    exchange = Exchange(
        url=url,
        method="GET",
        started_at=now,
        ended_at=now,
        request=b"GET / HTTP/1.1\r\n\r\n",
        response=HEAD + text.encode(),
    )
    ref = run.recorder.exchange(exchange, wanted)
    run.captures.answered(wanted, url=url, status=200, media_type="text/html", refs=[ref])
    return wanted, url


def see(run: Run, text: str, post_id: int = 1) -> UUID:
    """Capture a page with one post."""
    wanted, url = record(run, text)
    channel = url.rsplit("/", 1)[1]
    post = Post(
        kind=PostKind.POST,
        platform="telegram",
        url=f"{url}/{post_id}",
        channel=channel,
        post_id=str(post_id),
        text=text,
    )
    run.captures.read(wanted, Page(url=url, verdict=Verdict.CONTENT, channel=channel, posts=(post,)), None)
    return wanted


def visit(workspace: Workspace, shared: SharedWarcs | None, number: int) -> Run:
    """Make a whole visit, which sees the same text as every other and one of its own."""
    run = begin(workspace, shared, number)
    see(run, "the same for all")
    run.flush()
    see(run, f"seen by {run.id}", 2)
    run.end()
    return run


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(event: str, suffix: str) -> None:
    """Die before the process does this to a file of such a name."""

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name == event and str(arguments[0]).endswith(suffix):
            die()

    sys.addaudithook(hook)


def _middle(workspace: Workspace, shared: SharedWarcs, before: int) -> None:
    for number in range(before):
        visit(workspace, shared, number)
    run = begin(workspace, shared, before)
    see(run, "flushed")
    run.flush()
    see(run, "closed and not flushed", 2)
    record(run, "left open")
    run.series.sync()
    die()


def _begun(workspace: Workspace, shared: SharedWarcs) -> None:
    """Die when the second run's warcinfo record is written, and nothing behind it."""
    visit(workspace, shared, 0)
    run = begin(workspace, None, 1)
    part = shared.begin(run.id, {"run": str(run.id), "isPartOf": run.source.slug}, {"run": str(run.id)})
    part.series._files.for_writing(part.series)
    part.series.sync()
    die()


def _ending(workspace: Workspace, shared: SharedWarcs) -> None:
    """Die when the second run's end is synced and not told."""
    visit(workspace, shared, 0)
    run = begin(workspace, shared, 1)
    see(run, "flushed")
    run.flush()
    run.journal.end(run._how_it_ended(None, None), dict(run.detail))
    run.warcs.seal(True)
    die()


def _sealing(event: str, suffix: str) -> Callable[[Workspace, SharedWarcs], None]:
    def act(workspace: Workspace, shared: SharedWarcs) -> None:
        for number in range(2):
            visit(workspace, shared, number)
        die_at(event, suffix)
        shared.close()

    return act


def _sealed(workspace: Workspace, shared: SharedWarcs) -> None:
    """Die between the seal and the catalogue."""
    for number in range(2):
        visit(workspace, shared, number)
    shared.seal_open()
    die()


def _between(workspace: Workspace, shared: SharedWarcs) -> None:
    for number in range(2):
        visit(workspace, shared, number)
    die()


def _all(workspace: Workspace, shared: SharedWarcs) -> None:
    """Make all runs; say which have ended, with what they captured."""
    for number in range(RUNS):
        run = visit(workspace, shared, number)
        print(run.id, run.tally.captured, flush=True)
    shared.close()


def _crawl(workspace: Workspace, shared: SharedWarcs) -> None:
    """Crawl the addresses that follow, each as a source, with Scrapy; say what came of each."""
    sources = make_sources(sys.argv[2:], spider=None, render="never", robots="obey", proxy=None)
    for one in crawl_sources(workspace, sources, limit=5, warcs=shared):
        print(one.run, one.outcome, one.warc_files, flush=True)
    shared.close()


POINTS: dict[str, Callable[[Workspace, SharedWarcs], None]] = {
    "middle of the first": lambda workspace, shared: _middle(workspace, shared, 0),
    "middle of the second": lambda workspace, shared: _middle(workspace, shared, 1),
    "second begun": _begun,
    "second ending": _ending,
    "between": _between,
    "before the name": _sealing("os.rename", ".open"),
    "before the manifest": _sealing("open", ".manifest.json.tmp"),
    "before the manifest's name": _sealing("os.rename", ".manifest.json.tmp"),
    "sealed": _sealed,
    "all": _all,
    "crawl": _crawl,
}


def main() -> None:
    """Do what the command's first word says."""
    with Workspace(load(os.environ).service) as workspace:
        POINTS[sys.argv[1]](workspace, SharedWarcs.open(workspace, "t.me"))
