"""The main job, end to end, on the sample sites: two visits, every fetcher, every command that gives back."""

import hashlib
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from warcio.archiveiterator import ArchiveIterator

from osint_pipeline.samples import SampleSites
from tests.commands import ROOT, Osint


@dataclass
class Job:
    """What two visits brought."""

    osint: Osint
    sites: SampleSites
    runs: dict[tuple[str, int], dict[str, Any]]


TROUBLES = (
    "chain",
    "loop",
    "missing",
    "gone",
    "forbidden",
    "login",
    "challenge",
    "busy",
    "tired",
    "cut",
    "inside",
    "empty",
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    osint = Osint(tmp_path_factory.mktemp("job") / "home")
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            runs = {}
            for visit in (1, 2):
                sites.visit = visit
                calls = {
                    "telegram": ("--spider", "telegram", sites.telegram),
                    "news": ("--spider", "news", "--limit", "60", sites.news),
                    "script": ("--spider", "page", sites.script_page),
                    "video": ("--spider", "video", sites.video),
                }
                for name, words in calls.items():
                    (runs[name, visit],) = osint.rows("crawl", *words, code=None)
            (runs["trouble", 1],) = osint.rows("crawl", "--spider", "page", *map(sites.troubled, TROUBLES), code=3)
            yield Job(osint, sites, runs)
        finally:
            osint.run("down")


def balanced(run: dict[str, Any]) -> bool:
    return run["wanted"] == run["captured"] + run["refused"] + run["truncated"] + run["failed"]


def test_every_run_accounts_for_all_that_it_wanted(job: Job) -> None:
    for run in job.runs.values():
        assert balanced(run), run
        assert run["preserved"] == run["warc_files"] > 0


@pytest.mark.parametrize("name", ["telegram", "news", "script", "video"])
@pytest.mark.parametrize("visit", [1, 2])
def test_what_can_be_had_is_had(job: Job, name: str, visit: int) -> None:
    run = job.runs[name, visit]
    assert run["outcome"] == "complete", run


def test_the_channel_is_read_whole(job: Job) -> None:
    assert job.runs["telegram", 1]["posts"] >= 150  # 200 ids, albums count once
    assert job.runs["telegram", 1]["not_offered"] > 0  # files that the preview does not give


def test_the_second_visit_shows_revisits_edits_and_a_gap(job: Job) -> None:
    first, second = job.runs["telegram", 1], job.runs["telegram", 2]
    assert second["revisits"] > 20
    assert second["gaps"] > first["gaps"]
    edited = [row for row in job.osint.rows("find", "--kind", "post", "--limit", "300") if len(row["captures"]) > 1]
    assert edited


def test_the_same_photo_recompressed_is_linked(job: Job) -> None:
    assert sum(run["similar"] for run in job.runs.values()) > 0


def test_refusals_are_told_apart_and_never_captured(job: Job) -> None:
    run = job.runs["trouble", 1]
    assert run["outcome"] == "partial"
    assert run["refused"] >= 4  # forbidden, login, challenge, inside
    pages = job.osint.rows("find", "--kind", "page", "--limit", "300")
    by_url = {row["url"].rsplit("/", 1)[-1]: row for row in pages if job.sites.trouble in row["url"]}
    assert by_url["login"]["verdict"] == "login_wall"
    assert by_url["challenge"]["verdict"] == "challenge"


def test_nothing_was_asked_inside_the_private_network(job: Job) -> None:
    shown = [
        row for row in job.osint.rows("find", "--kind", "page", "--limit", "300") if row["url"].endswith("/inside")
    ]
    assert shown
    records = job.osint.rows("show", shown[0]["id"])[0]["records"]
    assert not [record for record in records if "169.254" in record["url"]]


def test_the_film_has_the_digest_that_the_server_sent(job: Job) -> None:
    film = next(one for one in job.sites.log if one.path.endswith(".mp4") and one.host in job.sites.video)
    payloads = payloads_of(job, "video")
    assert film.sent_sha256 in payloads


def payloads_of(job: Job, name: str) -> set[str]:
    run = job.runs[name, 1]["run"]
    folder = job.osint.home / f"pulled-{name}"
    (pulled,) = job.osint.rows("pull", run, "--out", str(folder))
    found = set()
    with Path(pulled["path"]).open("rb") as file:
        for record in ArchiveIterator(file, no_record_parse=False):
            if record.rec_type == "response":
                found.add(hashlib.sha256(record.raw_stream.read()).hexdigest())
    return found


def test_a_pulled_post_is_one_valid_warc(job: Job) -> None:
    post = job.osint.rows("find", "затрым", "--kind", "post", "--limit", "1")[0]
    (pulled,) = job.osint.rows("pull", post["id"], "--out", str(job.osint.home / "pulled"))
    claims = job.osint.rows("verify", pulled["path"], code=None)
    assert not [claim for claim in claims if claim["result"] == "FAIL"]
    archived = {record["record_sha256"] for record in job.osint.rows("show", post["id"])[0]["records"]}
    assert archived <= {hashlib.sha256(member).hexdigest() for member in members(Path(pulled["path"]))}


def members(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    while data:
        machine = zlib.decompressobj(31)
        machine.decompress(data)
        rest = machine.unused_data
        yield data[: len(data) - len(rest)]
        data = rest


def test_everything_verifies(job: Job) -> None:
    counts = job.osint.claims()
    assert counts["PASS"] > 10 and counts["UNVERIFIABLE"] == 0


def test_one_changed_byte_in_the_spool_is_named(job: Job) -> None:
    warc = sorted((job.osint.home / "spool" / "sealed").glob("*.warc.gz"))[0]
    data = bytearray(warc.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 1
    warc.write_bytes(data)
    try:
        rows = job.osint.rows("verify", warc.name, code=1)
    finally:
        data[middle] ^= 1
        warc.write_bytes(data)
    assert any(row["result"] == "FAIL" and warc.name in row["subject"] for row in rows)


def test_every_id_that_find_prints_can_be_shown(job: Job) -> None:
    for kind in ("post", "article", "page", "media"):
        found = job.osint.rows("find", "--kind", kind, "--limit", "2")
        assert found, kind
        for row in found:
            assert job.osint.rows("show", row["id"])[0]["id"] == row["id"]


def test_words_are_found_in_each_language(job: Job) -> None:
    for word in ("затрым", "задерж", "затрим", "zatrzyma", "detain"):
        assert job.osint.rows("find", word), word


def test_scrapy_crawl_records_too(job: Job, tmp_path: Path) -> None:
    scrapy = [str(Path(sys.executable).parent / "scrapy")]
    listed = subprocess.run(
        [*scrapy, "list"], env=job.osint.environ, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == ["news", "page", "telegram", "video"]
    before = len(job.osint.rows("runs", "--limit", "100"))
    subprocess.run(
        [*scrapy, "crawl", "page", "-a", f"url={job.sites.troubled('chain')}"],
        env=job.osint.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    after = job.osint.rows("runs", "--limit", "100")
    assert len(after) == before + 1
    assert after[0]["captured"] == 1


def test_the_commands_of_the_readme_work(job: Job) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    tour = readme.split("## Five minutes")[1].split("## The live web")[0]
    commands = [line.split("#")[0].split() for line in tour.splitlines() if line.startswith("osint ")]
    assert len(commands) >= 6
    photo = next(
        row for row in job.osint.rows("find", "--kind", "media", "--limit", "500") if row["media"][0]["kind"] == "photo"
    )
    post = job.osint.rows("find", "затрым", "--kind", "post", "--limit", "1")[0]
    for words in commands:
        chosen = photo["id"] if words[1] == "similar" else post["id"]
        out = str(job.osint.home / "tour")
        done = job.osint.run(*({"ID": chosen, "evidence/": out}.get(word, word) for word in words[1:]))
        assert done.stdout.strip(), words


def test_retry_after_is_waited_for(job: Job) -> None:
    pages = job.osint.rows("find", "--kind", "page", "--limit", "300")
    busy = next(row for row in pages if row["url"].endswith("/busy"))
    (pulled,) = job.osint.rows("pull", busy["id"], "--out", str(job.osint.home / "busy"))
    answers = []
    with Path(pulled["path"]).open("rb") as file:
        for record in ArchiveIterator(file):
            url = (
                record.rec_headers.get_header("WARC-Target-URI") or ""
            )  # an equal refusal of another page may be the original
            if record.rec_type in ("response", "revisit") and url.endswith("/busy"):
                when = datetime.fromisoformat(record.rec_headers.get_header("WARC-Date"))
                answers.append((record.http_headers.get_statuscode(), when))
    (refused, first), (given, second) = answers
    assert (refused, given) == ("429", "200")
    assert (second - first).total_seconds() >= 1.0
