"""A full disk at every point where something is written: one clear sentence, nothing lost that was reported, mended after."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_crawl_faults import BAD_INPUT, COMPLETE, DATABASE, DISK, FAILED, PARTIAL, STORE, balanced, page, pages

from storage.embedded_store import EmbeddedStore
from storage.objects import ObjectStore
from tests.commands import Osint
from tests.rawserver import RawServer, answer

PAGES = 40
FILLING_BYTES = 20_000
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + random.Random(1).randbytes(3_000_000)


@dataclass
class Disk:
    """A small file system of its own."""

    place: Path

    def resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.place)], check=True)

    def fill(self, leave_bytes: int) -> Path:
        """Write a file that leaves only so much; its path."""
        ballast = self.place / "ballast"
        disk = os.statvfs(self.place)
        with ballast.open("wb") as file:
            left = disk.f_bavail * disk.f_frsize - leave_bytes
            while left > 0:
                left -= file.write(b"\0" * min(left, 1 << 20))
        return ballast


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small tmpfs")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def osint(tmp_path: Path, disk: Disk) -> Iterator[Osint]:
    """The spool alone is on the small disk."""
    osint = Osint(tmp_path / "home", OSINT_SPOOL=str(disk.place / "spool"), OSINT_SPOOL_FREE_BYTES="0")
    osint.run("up", "--servers")
    try:
        yield osint
    finally:
        osint.run("down")


def nothing_runs_on(disk: Disk) -> bool:
    """Whether no process works in a folder of the disk, as a server of ours would."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(disk.place):
                return False
    return True


def said_in_one_sentence(done: "subprocess.CompletedProcess[str]") -> None:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) <= 4 and "no space" in done.stderr.lower(), done.stderr


def all_is_well(osint: Osint, run: dict[str, Any] | None) -> None:
    """After there is space again: what was reported is there and verifies, and a second recovery has nothing to do."""
    osint.run("recover")
    assert not osint.rows("recover")
    osint.run("upload")
    counts = osint.claims()
    assert counts["UNVERIFIABLE"] == 0, counts
    for row in osint.rows("runs"):
        assert row["outcome"] and row["ended_at"] and balanced(row), row
        assert row["preserved"] == row["warc_files"], row
        shown = osint.rows("show", row["run"]) if row["captured"] else []
        assert len(shown) >= bool(row["captured"])
        if run and row["run"] == run["run"]:
            assert row["captured"] >= run["captured"], (row, run)


def crawl(osint: Osint, urls: list[str], folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    listed = folder / "urls.txt"
    listed.write_text("\n".join(urls))
    return osint.run("crawl", "--json", "--file", str(listed), *words, code=None)


@pytest.mark.parametrize(
    "size",
    [
        "4k",
        pytest.param("24k", marks=pytest.mark.soak),
        "60k",
        pytest.param("200k", marks=pytest.mark.soak),
        "400k",
        "800k",
    ],
)
def test_a_crawl_fills_the_spool(osint: Osint, disk: Disk, tmp_path: Path, size: str) -> None:
    """Marker, folders, WARC, journal, index, manifest: the size says at which the disk is full."""
    disk.resize(size)
    with RawServer(pages(PAGES, FILLING_BYTES)) as server:
        urls = [f"{server.url}/{at}" for at in range(PAGES)]
        done = crawl(osint, urls, tmp_path, "--spider", "page", "--render", "never")
    assert done.returncode == DISK, f"{done.returncode}: {done.stdout}{done.stderr}"
    said_in_one_sentence(done)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    for run in runs:
        assert run["outcome"] in ("partial", "failed") and balanced(run), run
    disk.resize("64m")
    all_is_well(osint, runs[0] if runs else None)
    found = osint.rows("find", "--kind", "page", "--limit", "200")
    assert len(found) == sum(row["captured"] for row in osint.rows("runs"))


FETCHERS = {
    "wire": ("--spider", "page", "--render", "never"),
    "browser": ("--spider", "page", "--render", "always"),
    "media": ("--spider", "video"),
}


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_scratch_fills_the_spool(osint: Osint, disk: Disk, tmp_path: Path, fetcher: str) -> None:
    """An answer that is larger than the disk, through each of the fetchers."""
    disk.resize("1m")
    film = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % len(VIDEO) + VIDEO
    large = answer(b"<html><p>\xd1\x81\xd1\x83\xd0\xb4</p>" + random.Random(2).randbytes(3_000_000).hex().encode())
    with RawServer({"/0": page(0), "/film.mp4": film, "/large": large}) as server:
        url = f"{server.url}/film.mp4" if fetcher == "media" else f"{server.url}/large"
        osint.environ["OSINT_MEMORY_BODY_BYTES"] = "100000"
        done = crawl(osint, [url], tmp_path, *FETCHERS[fetcher])
    assert done.returncode == DISK, f"{done.returncode}: {done.stdout}{done.stderr}"
    said_in_one_sentence(done)
    run = json.loads(done.stdout)
    assert run["captured"] == 0 and balanced(run), run
    disk.resize("64m")
    all_is_well(osint, run)
    assert not list((disk.place / "spool" / "scratch").iterdir())


@pytest.mark.parametrize("leave_bytes", [0, pytest.param(8192, marks=pytest.mark.soak), 65_536])
def test_recover_and_upload_on_a_full_disk(osint: Osint, disk: Disk, tmp_path: Path, leave_bytes: int) -> None:
    """A crawl is killed, and what it left is to be sealed where there is no room for an index and a manifest."""
    with RawServer(pages(PAGES, FILLING_BYTES)) as server:
        urls = [f"{server.url}/{at}" for at in range(PAGES)]
        full = {"OSINT_SPOOL": str(disk.place / "spool"), "OSINT_DELAY_SECONDS": "0.05"}
        listed = tmp_path / "urls.txt"
        listed.write_text("\n".join(urls))
        slow = Osint(osint.home, **full)
        process = slow.start("crawl", "--spider", "page", "--render", "never", "--file", str(listed))
        while len(server.requests) < PAGES // 2:
            assert process.poll() is None
        process.kill()
        process.communicate()
    (torn,) = (disk.place / "spool" / "open").glob("*.open")
    with torn.open("ab") as file:
        file.write(b"\x1f\x8b torn")
    ballast = disk.fill(leave_bytes)
    for command in ("recover", "upload", "recover"):
        done = osint.run(command, code=None)
        assert done.returncode in (COMPLETE, DISK), f"{command} {done.returncode}: {done.stderr}"
        if done.returncode == DISK:
            said_in_one_sentence(done)
    ballast.unlink()
    all_is_well(osint, None)
    (row,) = osint.rows("runs")
    assert row["captured"] > 0 and len(osint.rows("find", "--kind", "page", "--limit", "200")) == row["captured"]


@pytest.mark.parametrize("leave_bytes", [0])
def test_the_whole_data_folder_on_a_full_disk(tmp_path: Path, disk: Disk, leave_bytes: int) -> None:
    """Database, store, keys, spool and state files all lie on the disk that is full."""
    disk.resize("400m")
    osint = Osint(disk.place / "home", OSINT_SPOOL_FREE_BYTES="0")
    with RawServer(pages(PAGES, FILLING_BYTES)) as server:
        osint.run("crawl", "--spider", "page", "--render", "never", f"{server.url}/1")
        (before,) = osint.rows("runs")
        ballast = disk.fill(leave_bytes)
        urls = [f"{server.url}/{at}" for at in range(PAGES)]
        done = crawl(osint, urls, tmp_path, "--spider", "page", "--render", "never")
        assert done.returncode in (DISK, DATABASE, STORE, PARTIAL, FAILED), f"{done.returncode}: {done.stderr}"
        for words in (("runs",), ("find",), ("upload",), ("recover",), ("spool",), ("verify", "--all")):
            one = osint.run(*words, code=None)  # no traceback: Osint.run looks
            assert one.returncode != BAD_INPUT and len(one.stderr.splitlines()) <= 4, f"{words}: {one.stderr}"
            assert nothing_runs_on(disk), words
    ballast.unlink()
    all_is_well(osint, None)
    assert before["run"] in {row["run"] for row in osint.rows("runs")}
    found = osint.rows("find", "--kind", "page", "--limit", "200")
    assert len(found) == sum(row["captured"] for row in osint.rows("runs"))


@pytest.mark.parametrize("leave_bytes", [0, 5_000_000])
def test_a_new_data_folder_on_a_full_disk(disk: Disk, leave_bytes: int) -> None:
    """The first command of all, where nothing can be made."""
    ballast = disk.fill(leave_bytes)
    osint = Osint(disk.place / "home")
    for words in (("up", "--servers"), ("runs",), ("recover",)):
        done = osint.run(*words, code=None)
        assert done.returncode in (DATABASE, DISK, STORE), f"{words} {done.returncode}: {done.stdout}{done.stderr}"
        assert 1 <= len(done.stderr.splitlines()) <= 4, done.stderr
    osint.run("down", code=None)
    ballast.unlink()
    disk.resize("400m")
    osint.run("recover")


def test_a_large_file_goes_to_the_store_from_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    """There is no room for the file that an upload would be resumed from; the upload is what frees the disk."""
    path, data = disk.place / "large", random.Random(3).randbytes(12 << 20)
    path.write_bytes(data)
    ballast = disk.fill(0)
    with EmbeddedStore(tmp_path / "store") as embedded:
        config = replace(embedded.start(), part_bytes=5 << 20)
        with ObjectStore.open(config) as store:
            store.ensure_bucket()
            stored = store.put_once(path, "v1/large", hashlib.sha256(data).hexdigest())
            assert stored.size_bytes == len(data)
    assert sorted(disk.place.iterdir()) == sorted((path, ballast))
