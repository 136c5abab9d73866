"""What a capture costs as the archive grows: time, memory, size of the database and what the screens ask of it.

    nice -n 10 .venv/bin/python benchmarks/scale.py [--captures 10000 | --steps 10000,50000,100000] [--folder FOLDER] [--multiplied 1000000]

The captures are made by the real run, writer, journal, catalogue and embedded store, as visits of watched sources; only the
wire is left out. A capture is a page of 4 kB with one post, or a picture of 20 kB that every third page names. One payload in
five is one that the archive has. 200 sources on 20 hosts, runs of 50 captures. A step's figures are those of the
10,000 captures that come when there are so many. `--multiplied N` then makes the catalogue as large as N captures would,
by copies that are days older (benchmarks/multiply.py), and makes 10,000 more captures. `--beside N` then makes an archive of
10,000 captures beside it, and lets both grow in turn, N times by 1,000 captures: the ratio of each pair is of one minute.
"""

import argparse
import os
import platform
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import text

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from multiply import multiply  # noqa: E402

from osint_pipeline.known import ArchiveKnown  # noqa: E402
from osint_pipeline.measures import measure  # noqa: E402
from osint_pipeline.preserve import upload  # noqa: E402
from osint_pipeline.run import Run  # noqa: E402
from osint_pipeline.shared import SharedWarcs  # noqa: E402
from osint_pipeline.source import Source, make_sources  # noqa: E402
from osint_pipeline.workspace import Workspace  # noqa: E402
from settings.service import load  # noqa: E402
from spiders.page import Media, MediaKind, Page, Post, PostKind, Verdict  # noqa: E402
from storage.exchange import Exchange  # noqa: E402
from storage.finding import find  # noqa: E402
from storage.fingerprints import earlier_fingerprints  # noqa: E402
from storage.payloads import payload_prefixes  # noqa: E402

SOURCES, HOSTS, PER_RUN, PER_FLUSH, WINDOW = 200, 20, 50, 25, 10_000
PAGE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
FILE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/bmp\r\n\r\n"
SIDE = 140  # pixels of a picture's side, one byte each
BMP = (
    b"BM" + (1078 + SIDE * SIDE).to_bytes(4, "little") + bytes(4) + (1078).to_bytes(4, "little") + (40).to_bytes(4, "little")
    + SIDE.to_bytes(4, "little") * 2 + b"\1\0\10\0" + bytes(24) + b"".join(bytes((n, n, n, 0)) for n in range(256))
)  # fmt: skip
LETTERS = "абвгдежзійклмнопрстуўфхцчшыьэюя"
RARE = 1000  # a post in so many holds the word that is looked for


def make_sentences() -> list[str]:
    """Make 1024 sentences of 36 words out of 20,000, the first of them far more often than the last."""
    chance = random.Random(1)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(3, 9))) for _ in range(20_000)]
    return [" ".join(words[int(20_000 * chance.random() ** 3)] for _ in range(36)) for _ in range(1024)]


SENTENCES = make_sentences()


@dataclass(slots=True)
class Figures:
    """What was gathered since the last step."""

    captures: int = 0
    started: float = field(default_factory=time.monotonic)
    commits: list[float] = field(default_factory=list)
    begins: list[float] = field(default_factory=list)
    upload_seconds: float = 0.0


def own_seconds(workspace: Workspace) -> float:
    """CPU-seconds of this process and of the child that hashes pictures."""
    ended, child = resource.getrusage(resource.RUSAGE_CHILDREN), workspace.pictures.hasher._child
    there = psutil.Process(child.pid).cpu_times() if child else None
    return time.process_time() + ended.ru_utime + ended.ru_stime + (there.user + there.system if there else 0.0)


def server_seconds(home: Path) -> float:
    """CPU-seconds of PostgreSQL, with the backends that ended."""
    pid = int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    server = psutil.Process(pid)
    times = [server.cpu_times(), *(one.cpu_times() for one in server.children(recursive=True))]
    return sum(one.user + one.system for one in times) + times[0].children_user + times[0].children_system


class Archive:
    """Makes captures by number. Page n is always the same; one in five is that of an earlier number, and its picture too."""

    def __init__(self, workspace: Workspace, home: Path) -> None:
        self.workspace, self.home = workspace, home
        self.warcs = [SharedWarcs.open(workspace, host_name(number)) for number in range(HOSTS)]
        self.copied, self.made, self.runs, self.pages = 0, 0, 0, [0] * SOURCES
        self.figures = Figures()

    def grow(self, captures: int) -> None:
        """Make runs until there are so many captures, and bring what they wrote to the store."""
        while self.made < captures:
            self.run(min(PER_RUN, captures - self.made))
            self.runs += 1
        begun = time.monotonic()
        for one in self.warcs:
            one.turn()
        for kept in upload(self.workspace):
            assert not kept.why, kept
        self.figures.upload_seconds += time.monotonic() - begun

    def run(self, captures: int) -> None:
        """Make one visit of the next source."""
        number = self.runs % SOURCES
        begun = time.monotonic()
        run = Run(self.workspace, source_of(number), warcs=self.warcs[number % HOSTS])
        self.figures.begins.append(time.monotonic() - begun)
        run.recorder.flush = self.timed(run.recorder.flush)  # type: ignore[method-assign]
        left = captures
        while left > 0:
            left -= self.capture(run, number, left)
            if left <= captures - PER_FLUSH < left + 2:
                run.flush()
        summary = run.end()
        assert summary.error is None and summary.outcome == "complete", summary
        self.made += captures
        self.figures.captures += captures

    def timed(self, flush: Callable[[], bool]) -> Callable[[], bool]:
        def timed() -> bool:
            begun = time.monotonic()
            if there_was_something := flush():
                self.figures.commits.append(time.monotonic() - begun)
            return there_was_something

        return timed

    def capture(self, run: Run, source: int, left: int) -> int:
        """Make a page's captures: with its picture if it has one and there is room; how many these are."""
        page = self.pages[source]
        self.pages[source] += 1
        if page % 5 == 4:
            page = random.Random(page * SOURCES + source).randrange(page)
            page -= page % 5 == 4
        url = f"http://{host_name(source % HOSTS)}/{source}/{page}"
        words = words_of(source, page)
        media = (Media(kind=MediaKind.PHOTO, url=f"{url}.bmp"),) if page % 3 == 0 and left > 1 else ()
        body = f"<html><head><title>{page}</title></head><body><article><p>{words}</p></article></body></html>"
        wanted = run.captures.want(url, "page")
        ref = run.recorder.exchange(exchange(url, PAGE_HEAD + body.encode()), wanted)
        run.captures.answered(wanted, url=url, status=200, media_type="text/html", refs=[ref])
        post = Post(
            kind=PostKind.ARTICLE, platform="outlet", url=url, post_id=url, title=str(page), text=words, media=media
        )
        run.captures.read(wanted, Page(url=url, verdict=Verdict.CONTENT, posts=(post,)), None)
        for one in media:
            address = str(one.url)
            file = run.captures.want(address, "file", wanted)
            picture = BMP + random.Random(f"{source}/{page}").randbytes(SIDE * SIDE)
            ref = run.recorder.exchange(exchange(address, FILE_HEAD + picture), file)
            run.captures.answered(file, url=address, status=200, media_type="image/bmp", refs=[ref])
        return 1 + len(media)


def host_name(number: int) -> str:
    return f"outlet{number}.example"


def source_of(number: int) -> Source:
    (source,) = make_sources(
        [f"http://{host_name(number % HOSTS)}/{number}/"],
        spider="news",
        render="never",
        robots="obey",
        proxy=None,
        new=True,
    )
    return source


def words_of(source: int, page: int) -> str:
    chosen = random.Random(page * SOURCES + source).getrandbits(70)
    told = [SENTENCES[chosen >> shift & 1023] for shift in range(0, 70, 10)]
    if (page * SOURCES + source) % RARE == 0:
        told.append("затрыманыя")
    return f"{source} {page} " + ". ".join(told)


def exchange(url: str, response: bytes) -> Exchange:
    now = datetime.now(UTC)
    request = f"GET {url} HTTP/1.1\r\n\r\n".encode()
    return Exchange(url=url, method="GET", started_at=now, ended_at=now, request=request, response=response)


def timed(act: Callable[[], object], times: int = 3) -> float:
    """Milliseconds, the median."""
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        spent.append(1000 * (time.perf_counter() - begun))
    return statistics.median(spent)


def known_view(workspace: Workspace) -> int:
    """Load what a visit of one source asks of the archive before its first request."""
    source = source_of(7)
    with workspace.catalog.begin() as connection:
        key = connection.scalar(text("SELECT id FROM sources WHERE slug = :slug"), {"slug": source.slug})
    known = ArchiveKnown(workspace.catalog, workspace.service, key, started_at=datetime.now(UTC), new=True)
    known.page(source.url, None)
    known.feeds()
    known.missing()
    return len(known._pages)


COLUMNS = (
    "captures", "captures/s", "wall ms", "ratio", "CPU ms", "ratio", "PostgreSQL CPU ms", "ratio", "begin ms", "commit p50 ms",
    "p95 ms", "upload ms", "memory MiB", "WARC MB", "database MB", "measure ms", "find ms", "known ms (pages)",
    "all payloads ms", "all pictures ms",
)  # fmt: skip


def cpu_of(archive: Archive, captures: int) -> tuple[float, float]:
    """CPU milliseconds of a capture while so many are made: ours, and PostgreSQL's."""
    own, server = own_seconds(archive.workspace), server_seconds(archive.home)
    archive.grow(archive.made + captures)
    spent = own_seconds(archive.workspace) - own, server_seconds(archive.home) - server
    return 1000 * spent[0] / captures, 1000 * spent[1] / captures


def in_turn(large: Archive, small: Archive, rounds: int) -> None:
    """Let two archives grow in turn, and print what a capture costs in each."""
    small.grow(WINDOW)
    there = small.made, large.made + large.copied
    pairs = []
    for number in range(rounds):
        turns = (small, large) if number % 2 else (large, small)
        costs = {archive.home: cpu_of(archive, 1000) for archive in turns}
        pairs.append((costs[small.home], costs[large.home]))
    print("\n| captures | CPU ms of a capture | PostgreSQL's | together |\n|---:|---:|---:|---:|")
    for place, count in enumerate(there):
        ours, theirs = (statistics.median(pair[place][part] for pair in pairs) for part in (0, 1))
        both = statistics.median(sum(pair[place]) for pair in pairs)
        print(f"| {count:,} | {ours:.2f} | {theirs:.2f} | {both:.2f} |")
    ratios = sorted(sum(large) / sum(small) for small, large in pairs)
    print(
        f"\nratio of the pairs: median {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f} (n = {rounds})",
        flush=True,
    )


class Table:
    """Prints a row for each step, beside the first."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.first: tuple[float, float, float] | None = None
        print(f"| {' | '.join(COLUMNS)} |\n|{'---:|' * len(COLUMNS)}", flush=True)

    def step(self) -> None:
        """Make the captures of a step and print its row."""
        archive, there = self.archive, self.archive.made + self.archive.copied
        archive.figures = Figures()
        own, server = own_seconds(archive.workspace), server_seconds(archive.home)
        archive.grow(archive.made + WINDOW)
        done = archive.figures
        costs = (
            1000 * (time.monotonic() - done.started) / done.captures,
            1000 * (own_seconds(archive.workspace) - own) / done.captures,
            1000 * (server_seconds(archive.home) - server) / done.captures,
        )
        self.first = self.first or costs
        ratios = [now / then for now, then in zip(costs, self.first, strict=True)]
        commits = statistics.quantiles(done.commits, n=20)
        memory = psutil.Process().memory_info().rss / (1 << 20)
        catalog = archive.workspace.catalog
        with catalog.begin() as connection:
            warcs = connection.scalar(text("SELECT sum(size_bytes) FROM warc_files"))
            size = connection.scalar(text("SELECT pg_database_size(current_database())"))
        cells = [f"{there:,}", f"{1000 / costs[0]:.0f}"]
        for cost, ratio in zip(costs, ratios, strict=True):
            cells += [f"{cost:.2f}", f"{ratio:.2f}"]
        cells += [
            f"{1000 * statistics.median(done.begins):.1f}",
            f"{1000 * commits[9]:.0f}",
            f"{1000 * commits[18]:.0f}",
        ]
        cells += [f"{1000 * done.upload_seconds / done.captures:.2f}", f"{memory:.0f}"]
        cells += [f"{float(warcs or 0) / 1e6:,.0f}", f"{float(size or 0) / 1e6:,.0f}"]
        cells += [f"{timed(lambda: measure(catalog)):.0f}", f"{timed(lambda: find(catalog, 'затрыманыя')):.0f}"]
        cells += [f"{timed(lambda: known_view(archive.workspace)):.0f} ({known_view(archive.workspace):,})"]
        cells += [f"{timed(lambda: payload_prefixes(catalog)):.0f}"]
        cells += [f"{timed(lambda: earlier_fingerprints(catalog, 'phash')):.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


@contextmanager
def archive_in(folder: Path) -> Iterator[Archive]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OSINT_")}
    home = folder / "home"
    with Workspace(load({**environ, "OSINT_HOME": str(home)}).service) as workspace:
        _ = workspace.catalog, workspace.store
        yield Archive(workspace, home)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--captures", type=int, default=10_000)
    parser.add_argument("--steps", type=lambda given: [int(one) for one in given.split(",")])
    parser.add_argument("--multiplied", type=int, default=0)
    parser.add_argument("--beside", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("TMPDIR", "/var/tmp")))
    given = parser.parse_args(arguments)
    steps = sorted(given.steps or [given.captures])
    with (
        tempfile.TemporaryDirectory(prefix="osint-scale-", dir=given.folder) as folder,
        archive_in(Path(folder)) as archive,
    ):
        print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores (shared)\n")
        table = Table(archive)
        for step in steps:
            while archive.made < step:
                archive.grow(min(archive.made + WINDOW, step))
            table.step()
        if copies := max(0, given.multiplied // archive.made - 1):
            begun = time.monotonic()
            for number in multiply(archive.workspace.catalog, copies):
                archive.copied = number * archive.made
            took = time.monotonic() - begun
            table.step()
            print(f"\n{archive.copied:,} of them copied within the catalogue in {took:.0f} s")
        if given.beside:
            with archive_in(Path(folder) / "small") as small:
                in_turn(archive, small, given.beside)
        print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
