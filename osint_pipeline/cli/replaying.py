"""`osint shot`, `osint replay`."""

import asyncio
import os
import shlex
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from osint_pipeline.cli.common import Reader, as_json, console, not_found, print_json, sizes, table, workspace
from osint_pipeline.cli.reading import _id
from osint_pipeline.errors import Exit, UserError

if TYPE_CHECKING:
    from osint_pipeline.replay.check import Checked
    from osint_pipeline.replay.proxy import ReplayProxy
    from osint_pipeline.workspace import Workspace
    from storage.replays import RenderedCapture


@click.command(help="Write the pictures that the browser took of a page, byte for byte as archived, to new files.")
@click.argument("id_", metavar="ID")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder to write to.")
@as_json
def shot(id_: str, out: Path, json_: bool) -> int:
    from osint_pipeline.shots import write_shots

    with workspace() as opened:
        shots = write_shots(opened, _id(id_), out)
    if json_:
        print_json(one.to_json() for one in shots)
    else:
        for one in shots:
            click.echo(f"{one.path}  {sizes(one.size_bytes)}  sha256:{one.payload_sha256}  {one.url}")
    return Exit.COMPLETE


@click.command(help="Show a captured page from the archive alone: a proxy on 127.0.0.1 that reaches no network.")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the proxy.  [default: a free one]")
@click.option("--open", "open_", is_flag=True, help="Open it in a browser window of its own.")
@click.option("--check", is_flag=True, help="Replay unseen, and compare with what was seen live.")
@click.option("--run", metavar="ID", help="With --check: all that this run captured by the browser.")
@click.option("--all", "all_", is_flag=True, help="With --check: all that was captured by the browser.")
@click.option("--new", is_flag=True, help="With --check: only what was not checked yet.")
@as_json
def replay(
    ids: tuple[str, ...], port: int, open_: bool, check: bool, run: str | None, all_: bool, new: bool, json_: bool
) -> int:
    if not check:
        if run or all_ or new or len(ids) != 1:
            raise UserError("name one capture to look at", "osint replay ID; with --check: ID..., --run ID or --all")
        with workspace() as opened:
            return _serve(opened, _id(ids[0]), port, open_=open_, json_=json_)
    if bool(ids) + bool(run) + all_ != 1 or open_ or port:
        raise UserError("what is to be checked?", "osint replay --check ID..., or --check --run ID, or --check --all")
    Reader.code_if_gone = Exit.PARTIAL
    with workspace() as opened:
        return _check(opened, _wanted(opened, ids, run, new), json_=json_)


def _serve(opened: "Workspace", id_: UUID, port: int, *, open_: bool, json_: bool) -> int:
    from osint_pipeline.replay.live import live_of
    from osint_pipeline.replay.proxy import ReplayProxy
    from osint_pipeline.replay.recorded import Recorded

    if open_ and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("there is no screen here: DISPLAY is not set", "without --open, it says how to start a browser")
    capture = _capture_of(opened, id_)
    recorded = Recorded(opened, capture.id)
    look = live_of(recorded, capture.url).look
    try:
        proxy = ReplayProxy(port)
    except OSError as error:
        raise UserError(
            f"port {port} of 127.0.0.1 cannot be used: {error.strerror}", "name another with --port"
        ) from error
    with proxy:
        proxy.show(recorded)
        _say(proxy, capture, json_=json_)
        if open_:
            from osint_pipeline.replay.browser import ReplayBrowser

            async def window() -> None:
                async with ReplayBrowser(proxy, opened.service.chromium, headless=False) as browser:
                    await browser.open(look)

            with suppress(KeyboardInterrupt):
                asyncio.run(window())
        else:
            with suppress(KeyboardInterrupt):  # Ctrl-C and SIGTERM are how it ends
                while True:
                    time.sleep(3600)
    return Exit.COMPLETE


def _say(proxy: "ReplayProxy", capture: "RenderedCapture", *, json_: bool) -> None:
    """Say how to look at it."""
    from osint_pipeline.fetch.browser import FLAGS
    from storage.ids import new_id

    pin = f"--ignore-certificate-errors-spki-list={proxy.certificates.pin}"
    home = f"--user-data-dir={Path(tempfile.gettempdir()) / f'osint-replay-{new_id()}'}"  # a cache of its own each time
    command = ["chromium", *FLAGS, f"--proxy-server={proxy.url}", pin, home, capture.url]
    if json_:
        print_json([{"capture": str(capture.id), "url": capture.url, "proxy": proxy.url, "command": command}])
        return
    click.echo(
        f"{capture.url}\nas captured {capture.captured_at:%Y-%m-%d %H:%M:%S}Z, from the archive alone, by the proxy {proxy.url}"
    )
    click.echo(f"a browser that uses it (--open starts one):\n  {shlex.join(command)}\nCtrl-C ends it")


def _capture_of(opened: "Workspace", id_: UUID) -> "RenderedCapture":
    """Find the capture to show: the one of that id, or the newest that a post or media was read from."""
    from storage.finding import show as look
    from storage.found import Found
    from storage.replays import RenderedCapture

    found = look(opened.catalog, id_)
    if found is None:
        raise not_found(str(id_))
    if not isinstance(found, Found) or found.capture is None or found.run is None or found.captured_at is None:
        raise UserError(
            f"{id_} is no captured page", "`osint find` lists pages and posts; of a run, name one of its pages"
        )
    capture = look(opened.catalog, found.capture)
    assert isinstance(capture, Found) and capture.captured_at is not None
    return RenderedCapture(id=found.capture, run_id=found.run, url=capture.url, captured_at=capture.captured_at)


def _wanted(opened: "Workspace", ids: tuple[str, ...], run: str | None, new: bool) -> "list[RenderedCapture]":
    from storage.replays import rendered_captures

    wanted = [_capture_of(opened, _id(one)).id for one in ids] if ids else None
    found = rendered_captures(opened.catalog, ids=wanted, run=_id(run) if run else None, unchecked=new)
    if missing := set(wanted or ()) - {one.id for one in found}:
        if new:
            return found
        what = f"{', '.join(map(str, missing))} was not captured by the browser: there is nothing to compare with"
        raise UserError(what, "--render always captures by the browser", Exit.FAILED)
    return found


def _check(opened: "Workspace", captures: "list[RenderedCapture]", *, json_: bool) -> int:
    from osint_pipeline.replay.check import check_replays

    if not captures:
        click.echo("nothing was captured by the browser, or all of it was checked before", err=True)
        return Exit.COMPLETE
    done = check_replays(opened, captures, (lambda one: print_json([_as_json(one)])) if json_ else lambda _: None)
    if not json_:
        columns = ("capture", "score", "", "text", "found", "missing", "unasked", "picture", "url")
        console().print(table(None, columns, map(_cells, done), right=columns[1:2] + columns[3:8]))
    return Exit.COMPLETE if all(one.row and not one.row.bad for one in done) else Exit.PARTIAL


def _as_json(one: "Checked") -> dict[str, Any]:
    row = one.row.to_json() if one.row else {"capture": str(one.capture.id), "why": one.why}
    return {**row, "url": one.capture.url}


def _cells(one: "Checked") -> tuple[Any, ...]:
    if (row := one.row) is None:
        return (one.capture.id, None, one.why, None, None, None, None, None, one.capture.url)
    found = f"{row.found} of {row.asked}" + (f" ({row.alike} alike)" if row.alike else "")
    bits = None if row.picture_bits is None else f"{row.picture_bits} bits"
    said = "BAD" if row.bad else "good"
    text = None if row.text_ratio is None else f"{row.text_ratio:.3f}"
    return (row.capture_id, f"{row.score:.3f}", said, text, found, row.missing, row.unasked, bits, one.capture.url)
