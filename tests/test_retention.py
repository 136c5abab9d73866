"""Local copies go only when the store is proven to have them, after the event that says so; everything works without them."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_crawl_faults import BAD_INPUT, COMPLETE, PARTIAL, claims, pages

from storage.embedded_store import EmbeddedStore
from tests.commands import ROOT, Osint, kill_group
from tests.rawserver import RawServer


@dataclass
class Archive:
    """A data folder with three captured pages in a WARC that a named store has, and that store's folder."""

    osint: Osint
    objects: Path
    run: dict[str, Any]

    @property
    def sealed(self) -> Path:
        return self.osint.home / "spool" / "sealed"

    def warcs(self) -> list[str]:
        return sorted(path.name for path in self.sealed.glob("*.warc.gz"))

    def events(self) -> list[str]:
        """List the kinds of the events of the chain, by way of a process of its own."""
        code = """
import sys
from settings.service import load
from osint_pipeline.workspace import Workspace
from storage.finding import list_events
with Workspace(load().service) as opened:
    print(*(one.kind for one in list_events(opened.catalog)))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], env=self.osint.environ, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.split()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    store = EmbeddedStore(tmp_path / "elsewhere")
    config = store.start()
    osint = Osint(
        tmp_path / "home",
        OSINT_S3_ENDPOINT=config.endpoint,
        OSINT_S3_ACCESS_KEY=config.access_key,
        OSINT_S3_SECRET_KEY=config.secret_key,
    )
    osint.run("up", "--servers")
    try:
        yield Archive(osint, tmp_path / "elsewhere" / "data" / "osint", captured(osint))
    finally:
        osint.run("down")
        store.leave()


def captured(osint: Osint) -> dict[str, Any]:
    with RawServer(pages(3)) as server:
        urls = [f"{server.url}/{at}" for at in range(3)]
        (run,) = osint.rows("crawl", "--spider", "page", "--render", "never", *urls)
    assert run["outcome"] == "complete" and run["preserved"] == run["warc_files"] == 1, run
    return run


def works(osint: Osint, folder: Path) -> None:
    """Find, show, pull and verify a page."""
    found = osint.rows("find", "--kind", "page", "старонка")
    assert len(found) == 3
    osint.run("show", found[0]["id"])
    (pulled,) = osint.rows("pull", found[0]["id"], "--out", str(folder))
    assert Path(pulled["path"]).stat().st_size > 500
    assert osint.rows("verify", found[0]["id"])[0]["result"] == "PASS"
    assert claims(osint)["UNVERIFIABLE"] == 0


def test_without_a_setting_local_copies_stay_for_ever(archive: Archive) -> None:
    done = archive.osint.run("spool", "clean", code=BAD_INPUT)
    assert "OSINT_RETAIN_HOURS" in done.stderr
    archive.osint.run("upload")
    assert len(archive.warcs()) == 1 and "released" not in archive.events()


def test_a_copy_goes_after_its_time_and_everything_works_without_it(archive: Archive, tmp_path: Path) -> None:
    osint, (name,) = archive.osint, archive.warcs()
    assert osint.rows("spool", "clean", "--hours", "1") == []
    (would,) = osint.rows("spool", "clean", "--hours", "0", "--dry-run")
    assert would["released"] and archive.warcs() == [name] and "released" not in archive.events()
    (gone,) = osint.rows("spool", "clean", "--hours", "0")
    assert (gone["warc"], gone["released"]) == (name, True) and not archive.warcs()
    assert [path.name for path in archive.sealed.iterdir()] == [name.replace(".warc.gz", ".manifest.json")]
    assert archive.events()[-1] == "released"
    works(osint, tmp_path / "pulled")
    (status,) = osint.rows("spool")
    assert (status["preserved_warcs"], status["local_warcs"], status["waiting_warcs"]) == (1, 0, 0), status
    assert not osint.rows("recover") and osint.rows("spool", "clean", "--hours", "0") == []
    with RawServer(pages(1)) as server:  # a new crawl refers to a payload that only the store has
        (run,) = osint.rows("crawl", "--spider", "page", "--render", "never", f"{server.url}/0")
        assert run["revisits"] == 1, run
    assert claims(osint)["UNVERIFIABLE"] == 0


def test_an_upload_cleans_by_itself_where_a_time_is_set(archive: Archive) -> None:
    archive.osint.environ["OSINT_RETAIN_HOURS"] = "0"
    archive.osint.run("upload")
    assert not archive.warcs()
    captured(archive.osint)
    assert not archive.warcs()


def test_the_embedded_store_proves_nothing_and_both_names_stay_on_one_copy(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home", OSINT_RETAIN_HOURS="0")
    osint.run("up", "--servers")
    try:
        captured(osint)
        (kept,) = osint.rows("spool", "clean", code=PARTIAL)
        assert not kept["released"] and "prove" in kept["why"], kept
        (local,) = (osint.home / "spool" / "sealed").glob("*.warc.gz")
        (stored,) = (osint.home / "store").rglob("*.warc.gz")
        assert local.samefile(stored) and local.stat().st_nlink == 2
        works(osint, tmp_path / "pulled")
        two = Osint(osint.home, OSINT_ONE_DISK="copy")
        captured(two)
        links = sorted(path.stat().st_nlink for path in (osint.home / "spool" / "sealed").glob("*.warc.gz"))
        assert links == [1, 2]
    finally:
        osint.run("down")


def change_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_the_manifest(path: Path) -> None:
    change_a_byte(path.with_name(path.name.replace(".warc.gz", ".manifest.json")))


def change_the_index(path: Path) -> None:
    change_a_byte(path.with_name(path.name.replace(".warc.gz", ".cdxj")))


def take_away(path: Path) -> None:
    path.unlink()


def take_the_manifest_away(path: Path) -> None:
    path.with_name(path.name.replace(".warc.gz", ".manifest.json")).unlink()


HARMS = [change_size, change_a_byte, change_the_manifest, change_the_index, take_away, take_the_manifest_away]


@pytest.mark.parametrize("harm", HARMS)
def test_a_copy_stays_where_the_store_has_lost_or_changed_its_own(archive: Archive, harm: Any) -> None:
    """By default the store's bytes are read at the deletion, whatever was read when the WARC was preserved."""
    (stored,) = archive.objects.rglob("*.warc.gz")
    harm(stored)
    (kept,) = archive.osint.rows("spool", "clean", "--hours", "0", code=PARTIAL)
    assert not kept["released"] and kept["why"], kept
    assert len(archive.warcs()) == 1 and "released" not in archive.events()


@pytest.mark.parametrize("hours", ["inf", "nan", "1e9", "-1"])
def test_hours_without_a_bound_are_refused(tmp_path: Path, hours: str) -> None:
    done = Osint(tmp_path / "home").run("spool", "clean", "--hours", hours, code=BAD_INPUT)
    assert "876600" in done.stderr


def test_a_warc_in_quarantine_is_told_of(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    osint.run("up", "--servers")
    try:
        with RawServer(pages(1)) as server:
            page = ("--spider", "page", "--render", "never", f"{server.url}/0")
            (run,) = osint.rows("crawl", "--no-upload", *page)
        (warc,) = (osint.home / "spool" / "sealed").glob("*.warc.gz")
        slug, day = re.match(r"(.+?)-(\d{8})T", warc.name).groups()  # type: ignore[union-attr]
        key = f"v1/warc/{slug}/{day[:4]}/{day[4:6]}/{day[6:]}/{run['run']}/{warc.name}"
        taken = osint.home / "store" / "data" / "osint" / key
        taken.parent.mkdir(parents=True)
        taken.write_bytes(b"foreign")
        osint.run("upload", code=None)
        (status,) = osint.rows("spool")
        (held,) = status["held_back"]
        assert held["warc"] == warc.name and key in held["why"] and "v1/quarantine/" in held["why"], held
    finally:
        osint.run("down")


def test_a_link_that_a_kill_left_in_the_embedded_store_goes_when_nobody_uses_it(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    osint.run("up", "--servers")
    try:
        captured(osint)
        (stored,) = (osint.home / "store" / "data").rglob("*.warc.gz")
        left = stored.with_name(".rclone_temp_link_00")
        left.hardlink_to(stored)
        with EmbeddedStore(osint.home / "store"):
            assert not osint.rows("recover") and left.exists()
        assert [row["name"] for row in osint.rows("recover")] == ["store"]
        assert not left.exists() and stored.exists() and not osint.rows("recover")
    finally:
        osint.run("down")


RELEASED_MEANWHILE = """
from pathlib import Path
from settings.service import load
from osint_pipeline.retrieve import Archive, stands
from osint_pipeline.workspace import Workspace
from storage.finding import records_of
from uuid import UUID
import sys
with Workspace(load().service) as opened:
    (ref, *_) = records_of(opened.catalog, UUID(sys.argv[1]))
    gone = opened.spool.sealed_folder / ref.warc
    real = Path.is_file
    def looked(path):
        there = real(path)
        if path == gone:
            gone.unlink(missing_ok=True)
        return there
    Path.is_file = looked  # it goes between the look and the opening
    print(len(Archive(opened).member(ref)), stands(opened, ref.record_id))
"""


def test_a_copy_that_goes_while_it_is_opened_is_read_from_the_store(archive: Archive) -> None:
    (found, *_) = archive.osint.rows("find", "--kind", "page", "старонка")
    words = [sys.executable, "-c", RELEASED_MEANWHILE, found["id"]]
    done = subprocess.run(words, env=archive.osint.environ, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    length, stood = done.stdout.split()
    assert int(length) > 100 and stood == "True"
    assert not archive.warcs()


def test_a_copy_that_another_store_preserved_stays(archive: Archive, tmp_path: Path) -> None:
    other = EmbeddedStore(tmp_path / "third")
    archive.osint.environ["OSINT_S3_ENDPOINT"] = (config := other.start()).endpoint
    archive.osint.environ |= {"OSINT_S3_ACCESS_KEY": config.access_key, "OSINT_S3_SECRET_KEY": config.secret_key}
    try:
        (kept,) = archive.osint.rows("spool", "clean", "--hours", "0", code=PARTIAL)
        assert not kept["released"] and "has no" in kept["why"], kept
    finally:
        other.leave()
    assert len(archive.warcs()) == 1


STOPS = {
    "before the file goes": "storage.spool.Spool.release",
    "before the catalogue knows": "osint_pipeline.retention._forget_path",
    "before the event": "osint_pipeline.retention.add_event",
}
KILLED = """
import os, signal, sys
from importlib import import_module
from osint_pipeline.cli import main
module, _, name = sys.argv.pop(1).rpartition(".")
try:
    holder = import_module(module)
except ModuleNotFoundError:
    package, _, kind = module.rpartition(".")
    holder = getattr(import_module(package), kind)
setattr(holder, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
main()
"""


@pytest.mark.parametrize("moment", STOPS)
def test_a_clean_that_was_killed_is_finished_by_the_next(archive: Archive, moment: str, tmp_path: Path) -> None:
    """The process dies by SIGKILL at a named line; the next one is untouched."""
    (name,) = archive.warcs()
    words = [sys.executable, "-c", KILLED, STOPS[moment], "spool", "clean", "--hours", "0"]
    done = subprocess.run(words, env=archive.osint.environ, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not [left for left in archive.osint.rows("recover") if left["name"] == name]
    archive.osint.run("spool", "clean", "--hours", "0")
    assert not archive.warcs() and not list(archive.sealed.glob("*.cdxj"))
    assert archive.events().count("released") == 1
    works(archive.osint, tmp_path / "pulled")


def test_two_cleans_at_once_write_one_event(archive: Archive) -> None:
    both = [archive.osint.start("spool", "clean", "--hours", "0") for _ in range(2)]
    try:
        for one in both:
            _, err = one.communicate(timeout=60)
            assert one.returncode == COMPLETE, err
    finally:
        for one in both:
            kill_group(one)
    assert not archive.warcs() and archive.events().count("released") == 1


# --- whose the spool is ---


def test_a_spool_on_another_disk_is_private_and_shown(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    osint = Osint(tmp_path / "home", OSINT_SPOOL=str(place / "spool"))
    rows = {row["setting"]: row["value"] for row in osint.rows("config")}
    assert rows["OSINT_SPOOL"] == str(place / "spool")
    captured(osint)
    assert not (osint.home / "spool").exists() and list((place / "spool" / "sealed").glob("*.warc.gz"))
    assert (place / "spool").stat().st_mode & 0o077 == 0
    works(osint, tmp_path / "pulled")


def test_a_disk_that_is_not_mounted_is_no_new_spool(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    osint = Osint(tmp_path / "home", OSINT_SPOOL=str(place / "spool"))
    captured(osint)
    away = place.rename(tmp_path / "unplugged")
    done = osint.run("recover", code=BAD_INPUT)
    assert "does not exist" in done.stderr and str(place) in done.stderr
    place.mkdir()
    done = osint.run("recover", code=BAD_INPUT)
    assert "mounted" in done.stderr and "adopt --new" in done.stderr and not list(place.iterdir())
    assert "mounted" in osint.run("spool", "adopt", code=BAD_INPUT).stderr and not list(place.iterdir())
    place.rmdir()
    away.rename(place)
    works(osint, tmp_path / "pulled")


def test_another_archive_and_another_machine_are_refused_until_the_spool_is_adopted(tmp_path: Path) -> None:
    first = Osint(tmp_path / "home", OSINT_SPOOL=str(tmp_path / "spool"))
    captured(first)
    second = Osint(tmp_path / "other", OSINT_SPOOL=str(tmp_path / "spool"))
    with RawServer(pages(1)) as server:
        done = second.run("crawl", "--spider", "page", f"{server.url}/0", code=BAD_INPUT)
        assert "another archive" in done.stderr and not server.requests
    assert "another archive" in second.run("recover", code=BAD_INPUT).stderr
    marker = tmp_path / "spool" / ".osint-spool"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"host": "other-machine"}))
    assert "other-machine" in first.run("recover", code=BAD_INPUT).stderr
    before = digests(tmp_path / "spool" / "sealed")
    assert "other-machine" in first.run("spool", "adopt").stdout
    assert digests(tmp_path / "spool" / "sealed") == before
    works(first, tmp_path / "pulled")


def test_a_spool_in_use_is_not_adopted(tmp_path: Path) -> None:
    first = Osint(tmp_path / "home", OSINT_SPOOL=str(tmp_path / "spool"))
    captured(first)
    second = Osint(tmp_path / "other", OSINT_SPOOL=str(tmp_path / "spool"))
    with RawServer({"/0": lambda sock, _: bool(sock.recv(1))}) as server:
        crawl = first.start("crawl", "--spider", "page", f"{server.url}/0")
        try:
            while not server.asked("/0"):
                assert crawl.poll() is None
            assert "another command" in second.run("spool", "adopt", code=BAD_INPUT).stderr
        finally:
            kill_group(crawl)
    assert "another archive" in second.run("recover", code=BAD_INPUT).stderr
    first.run("recover")


def test_a_spool_that_is_lost_is_made_anew_on_purpose_alone(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home", OSINT_SPOOL=str(tmp_path / "disk"))
    osint.run("recover")
    shutil.rmtree(tmp_path / "disk")
    osint.run("spool", "adopt", code=BAD_INPUT)
    osint.run("spool", "adopt", "--new")
    osint.run("recover")


@pytest.mark.parametrize("words", [("recover",), ("spool", "adopt"), ("spool", "adopt", "--new")])
def test_what_is_no_folder_and_what_lies_nowhere_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("not ours")
    done = Osint(tmp_path / "home", OSINT_SPOOL=str(tmp_path / "file")).run(*words, code=BAD_INPUT)
    assert "no folder" in done.stderr and (tmp_path / "file").read_text() == "not ours"
    done = Osint(tmp_path / "home", OSINT_SPOOL=str(tmp_path / "gone" / "spool")).run(*words, code=BAD_INPUT)
    assert "does not exist" in done.stderr and not (tmp_path / "gone").exists()


def test_warcs_of_which_nothing_says_whose_they_are_wait_to_be_adopted(tmp_path: Path) -> None:
    captured(Osint(tmp_path / "home", OSINT_SPOOL=str(tmp_path / "spool")))
    (tmp_path / "spool" / ".osint-spool").unlink()
    other = Osint(tmp_path / "other", OSINT_SPOOL=str(tmp_path / "spool"))
    done = other.run("recover", code=BAD_INPUT)
    assert "nothing says whose" in done.stderr and "spool adopt" in done.stderr
    other.run("spool", "adopt")
    assert other.rows("recover")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_marker_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    osint.run("recover")
    (osint.home / "spool" / ".osint-spool").write_text("nothing of ours")
    assert "cannot be read" in osint.run("recover", code=BAD_INPUT).stderr
    osint.run("spool", "adopt")
    osint.run("recover")
    assert os.access(osint.home / "spool" / "sealed", os.R_OK)
