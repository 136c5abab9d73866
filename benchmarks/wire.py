"""Pages per CPU-second of the crawl process and its peak memory: plain Scrapy, this pipeline, wget --warc-file.

python benchmarks/wire.py [--pages 3000] [--rounds 3] [--long]
The contenders take turns in one run, so that a noisy machine is noisy for all; ratios are medians over the rounds.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


def measure(name: str, base: str, count: int, folder: Path) -> dict[str, float]:
    """Run one contender to its end; CPU-seconds of its process (user + system) and peak memory in kB."""
    if name == "wget":
        return wget(base, count, folder)
    if name == "archived":
        contend("prepare", str(folder))  # made once for an archive, not for each crawl
        done = contend(name, base, str(count), str(folder))
    else:
        done = contend(name, base, str(count))
    if name == "archived":
        run = json.loads(done.stderr.strip().splitlines()[-1])
        assert run["captured"] == run["wanted"] == count, run
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def contend(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run wire_contenders.py to its end."""
    command = [sys.executable, str(HERE / "wire_contenders.py"), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done


def wget(base: str, count: int, folder: Path) -> dict[str, float]:
    """Fetch the same pages with wget, which neither reads nor schedules: a ceiling."""
    urls = folder / "urls"
    urls.write_text("".join(f"{base}/{number}.html\n" for number in range(count)))
    command = ["wget", "-q", "-O", "/dev/null", f"--warc-file={folder / 'wget'}", "--no-warc-keep-log", "-i", str(urls)]
    child = subprocess.Popen(command, cwd=folder)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_kb": used.ru_maxrss}


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pages", type=int, default=3000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--long", action="store_true", help="the pipeline's memory at 1,000 and at 20,000 pages, too")
    chosen = options.parse_args()
    contenders = ["plain", "stripped", "archived", *(["wget"] if shutil.which("wget") else [])]
    server = subprocess.Popen(
        [sys.executable, str(HERE / "pages.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout and server.stdin
    base = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    starts: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for _ in range(chosen.rounds):
            for name in contenders:
                with tempfile.TemporaryDirectory() as folder:
                    found[name].append(measure(name, base, chosen.pages, Path(folder)))
                with tempfile.TemporaryDirectory() as folder:
                    starts[name].append(measure(name, base, 1, Path(folder))["cpu_seconds"])
        table(found, starts, chosen.pages)
        if chosen.long:
            for count in (1000, 20000):
                with tempfile.TemporaryDirectory() as folder:
                    peak = measure("archived", base, count, Path(folder))["peak_kb"]
                print(f"| peak memory of the pipeline at {count} pages | {peak / 1024:.0f} MiB |")
    finally:
        server.stdin.close()
        server.wait(10)


def table(found: dict[str, list[dict[str, float]]], starts: dict[str, list[float]], pages: int) -> None:
    """Print medians, and ratios to plain Scrapy paired by round; the start is that of a crawl of one page."""
    names = {
        "plain": "tuned plain Scrapy, no archive",
        "stripped": "the same, also without the middlewares that we switch off",
        "archived": "this pipeline, synced WARC and catalogue",
        "wget": "wget --warc-file",
    }
    print(
        f"{pages} pages of 40 KB, {len(found['plain'])} rounds, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n"
    )
    print("| contender | pages per CPU-second | ratio | start, CPU-seconds | ratio without start | peak memory |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, runs in found.items():
        rate = statistics.median(pages / run["cpu_seconds"] for run in runs)
        pairs = zip(found["plain"], runs, strict=True)
        ratio = statistics.median(plain["cpu_seconds"] / run["cpu_seconds"] for plain, run in pairs)
        work = {
            one: [run["cpu_seconds"] - statistics.median(starts[one]) for run in found[one]] for one in ("plain", name)
        }
        steady = statistics.median(plain / own for plain, own in zip(work["plain"], work[name], strict=True))
        start = statistics.median(starts[name])
        peak = statistics.median(run["peak_kb"] for run in runs) / 1024
        print(f"| {names[name]} | {rate:.0f} | {ratio:.2f} | {start:.2f} | {steady:.2f} | {peak:.0f} MiB |")


if __name__ == "__main__":
    main()
