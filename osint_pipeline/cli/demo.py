"""`osint demo`."""

import time
from pathlib import Path
from typing import Any

import click

from osint_pipeline.cli.common import console, sizes, table
from osint_pipeline.errors import Exit
from settings.service import load

SHORT = {"truncated": "cut"}
COUNTS = ("wanted", "captured", "refused", "truncated", "failed", "posts", "edited", "revisits", "similar", "gaps")


@click.command(help="Run the main job on the bundled sample sites, in a data folder of its own.")
def demo() -> int:
    from osint_pipeline.demo import run_demo

    started = time.monotonic()
    service = load().service
    home = service.home.with_name(service.home.name + "-demo")
    report = run_demo(home, click.echo)
    _print(report, time.monotonic() - started)
    return Exit.FAILED if report.claims.get("FAIL") or not report.claims.get("PASS") else Exit.COMPLETE


def _print(report: Any, seconds: float) -> None:
    from osint_pipeline.demo import totals

    out = console()
    columns = ("name", "outcome", *(SHORT.get(name, name) for name in COUNTS), "WARCs", "size", "verified")
    for visit, runs in report.visits.items():
        rows: list[tuple[Any, ...]] = []
        for run in (*runs, {**totals(runs), "name": "all", "outcome": ""}):
            counts = (run[name] for name in COUNTS)
            rows.append(
                (run["name"], run["outcome"], *counts, run["warc_files"], sizes(run["bytes"]), run["preserved"])
            )
        out.print()
        out.print(table(f"Visit {visit}", columns, rows, right=columns[2:]))
    click.echo(
        "\nverified: WARC files whose copy in the store was read back and is equal; cut: broken off, kept as far as it came"
    )
    claims = ", ".join(f"{count} {name}" for name, count in sorted(report.claims.items()))
    out.print(f"\nchecked:  {claims} (files, records, the store's copies, originals of revisits, the chain of events)")
    if report.pulled:
        out.print(f"pulled:   {report.pulled_records} records of one post as {report.pulled}")
    if report.similar:
        nearest = ", ".join(f"{one['id']} ({one['distance']} bits)" for one in report.similar[:2])
        out.print(f"similar:  {report.picture}, a photo saved smaller, looks like {nearest}")
    _go_on(report, seconds)


def _go_on(report: Any, seconds: float) -> None:
    say = click.echo
    say(f"\nAll of it lies in {report.home} ({seconds:.0f} s). Nothing is left running. To go on:\n")
    osint = f"OSINT_HOME={report.home} {_program()}"
    say(f"  {osint} runs")
    say(f"  {osint} find затрым")
    if report.found:
        say(f"  {osint} show {report.found[0]['id']}")
    if report.picture:
        say(f"  {osint} similar {report.picture}")
    say(f"  {osint} verify --all")
    say(f"  {_program()} crawl https://t.me/s/<channel>     the same job on the live web")


def _program() -> str:
    here = Path(".venv/bin/osint")
    return str(here) if here.exists() else "osint"
