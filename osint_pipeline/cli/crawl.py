"""`osint crawl`."""

import os
import sys
from datetime import datetime
from typing import Any

import click

from osint_pipeline.cli.common import Reader, as_json, console, print_json, read_date, sizes, table, workspace
from osint_pipeline.errors import Exit, UserError, explain
from osint_pipeline.outcome import Summary
from osint_pipeline.stopping import INTERRUPTED
from settings.service import load
from storage.errors import StorageError
from storage.rows import Outcome

CODES = {
    Outcome.COMPLETE: Exit.COMPLETE,
    Outcome.PARTIAL: Exit.PARTIAL,
    Outcome.REFUSED: Exit.REFUSED,
    Outcome.FAILED: Exit.FAILED,
}
WORST_FIRST = (Outcome.FAILED, Outcome.REFUSED, Outcome.PARTIAL, Outcome.COMPLETE)


@click.command(
    help="Capture pages, channels, outlets or videos. A URL of - reads URLs from standard input, one per line."
)
@click.argument("urls", nargs=-1, metavar="URL...")
@click.option("--file", "file", type=click.File(encoding="utf-8"), help="Read URLs from a file, one per line.")
@click.option(
    "--spider", type=click.Choice(("telegram", "news", "page", "video")), help="Site module; guessed if not given."
)
@click.option(
    "--render",
    type=click.Choice(("never", "auto", "always")),
    default="auto",
    show_default=True,
    help="When to use the browser; auto: where the wire saw only a shell.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Pages read at most from each source.  [default: OSINT_LIMIT]"
)
@click.option("--since", callback=read_date, metavar="DATE", help="Ask for nothing older than this date.")
@click.option(
    "--new/--again",
    "new",
    default=False,
    help="Ask only for what the archive does not have; --again: for all.  [default: --again]",
)
@click.option("--no-upload", is_flag=True, help="Leave the captures in the spool.")
@click.option("--headed", is_flag=True, help="Show the browser's window; needs a screen.")
@as_json
def crawl(
    urls: tuple[str, ...],
    file: Any,
    spider: str | None,
    render: str,
    limit: int | None,
    since: datetime | None,
    new: bool,
    no_upload: bool,
    headed: bool,
    json_: bool,
) -> int:
    from osint_pipeline.crawling import crawl_and_preserve, crawl_sources
    from osint_pipeline.fetch.display import check_display
    from osint_pipeline.source import UnusableUrl, make_sources

    Reader.code_if_gone = Exit.PARTIAL
    if headed:
        os.environ["OSINT_HEADED"] = "yes"
    if load().service.headed:
        check_display()
    with workspace() as opened:
        service = opened.service
        try:
            sources = make_sources(
                _all(urls, file), spider=spider, render=render, robots=service.robots, proxy=service.proxy, new=new
            )
        except UnusableUrl as error:
            raise UserError(str(error), "write the whole address, as https://t.me/s/name") from error
        from osint_pipeline.guarantees import known, last, require
        from osint_pipeline.recovery import recover

        require(service, last(opened) if no_upload else known(opened))
        for mended in recover(opened):
            click.echo(f"recovered {mended.name}: {mended.sentence}", err=True)
        with _Progress() as progress:
            if no_upload:
                summaries, trouble = crawl_sources(opened, sources, limit=limit, since=since, progress=progress), None
            else:
                summaries, trouble = crawl_and_preserve(opened, sources, limit=limit, since=since, progress=progress)
    Reader.code_if_gone = code = exit_code(summaries, trouble)
    report(summaries, trouble, json_=json_)
    return code


def exit_code(summaries: list[Summary], trouble: str | None) -> Exit:
    """Give the code of the worst outcome; a store that is away counts where all was captured."""
    for summary in summaries:
        if isinstance(summary.error, StorageError):
            return explain(summary.error).exit_code
    if any(summary.reason == INTERRUPTED for summary in summaries):
        return Exit.INTERRUPTED
    worst = next((one for one in WORST_FIRST if any(s.outcome is one for s in summaries)), Outcome.FAILED)
    return Exit.STORE if worst is Outcome.COMPLETE and trouble else CODES[worst]


def report(summaries: list[Summary], trouble: str | None, *, json_: bool) -> None:
    """Print what the runs came to."""
    if json_:
        print_json(one.as_json() for one in summaries)
    else:
        columns = (
            "source",
            "outcome",
            "captured",
            "not captured",
            "posts",
            "media",
            "revisits",
            "similar",
            "size",
            "preserved",
        )
        console().print(table(None, columns, map(_row, summaries), right=columns[4:]))
        for one in summaries:
            click.echo(f"run {one.run}" + (f": {one.reason}" if one.reason else ""))
    for told in dict.fromkeys((one.what, one.advice) for one in _broken(summaries)):
        click.echo(f"osint: {told[0]}\n       {told[1]}", err=True)
    if trouble:
        click.echo(f"not everything is in the store yet: {trouble}", err=True)
        click.echo("it waits in the spool; `osint upload` brings it there", err=True)


def _broken(summaries: list[Summary]) -> list[UserError]:
    """Explain what kept a run from keeping what it captured."""
    return [explain(one.error) for one in summaries if isinstance(one.error, StorageError)]


def _row(one: Summary) -> tuple[Any, ...]:
    tally = one.tally
    not_captured = {"refused": tally.refused, "truncated": tally.truncated, "failed": tally.failed}
    return (
        one.source,
        one.outcome.value,
        f"{tally.captured} of {tally.wanted}",
        ", ".join(f"{count} {name}" for name, count in not_captured.items() if count),
        tally.posts,
        tally.media,
        tally.revisits,
        tally.similar,
        sizes(tally.bytes),
        f"{one.preserved} of {one.warc_files}",
    )


def _all(urls: tuple[str, ...], file: Any) -> list[str]:
    try:
        lines = [line for url in urls for line in (sys.stdin if url == "-" else [url])]
        lines += list(file) if file else []
    except UnicodeDecodeError as error:
        raise UserError(f"the list of URLs is not UTF-8: {error}", "save it as UTF-8, one URL per line") from error
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise UserError("no URL was given", "osint crawl https://t.me/s/name, or --file FILE, or - for standard input")
    return list(dict.fromkeys(found))


class _Progress:
    """A live line on a terminal, nothing otherwise."""

    def __init__(self) -> None:
        self._status: Any = None

    def __enter__(self) -> "_Progress":
        if sys.stderr.isatty():
            self._status = console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, source: Any, tally: Any) -> None:
        if self._status:
            done = tally.captured + tally.refused + tally.truncated + tally.failed
            self._status.update(f"{source.url}: {done} of {tally.wanted}, {tally.posts} posts, {sizes(tally.bytes)}")
