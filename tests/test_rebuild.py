"""The catalogue is made again from the store alone, row by row, whatever happened while it was filled."""

import json
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen

import pytest
from sqlalchemy import text

from osint_pipeline.run import Run
from osint_pipeline.samples import SampleSites
from osint_pipeline.source import make_sources
from osint_pipeline.workspace import Workspace
from settings.service import load
from spiders import telegram
from storage.catalog import Catalog
from storage.exchange import Exchange
from storage.scratch import open_scratch
from storage.warc_files import list_warcs
from tests.commands import Osint, kill_group


def visit(osint: Osint, sites: SampleSites) -> None:
    """Crawl sites of every kind: a channel, an outlet, a shell with scripts, a video, troubles."""
    osint.run("crawl", "--spider", "telegram", "--limit", "4", sites.telegram, code=None)
    osint.run("crawl", "--spider", "news", "--limit", "12", sites.news, code=None)
    osint.run("crawl", "--spider", "page", sites.script_page, code=None)
    osint.run("crawl", "--spider", "video", sites.video, code=None)
    troubled = [sites.troubled(name) for name in ("chain", "missing", "login", "forbidden", "cut")]
    osint.run("crawl", "--spider", "page", *troubled, code=None)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Osint]:
    """An archive of two visits, its servers up."""
    osint = Osint(tmp_path_factory.mktemp("rebuild") / "home")
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            for number in (1, 2):
                sites.visit = number
                visit(osint, sites)
            yield osint
        finally:
            osint.run("down")


def connect(osint: Osint) -> Workspace:
    return Workspace(load(osint.environ).service)


def differing(osint: Osint, code: int | None = 0) -> dict[str, int]:
    """Rebuild beside the catalogue and compare: how many rows of each table differ."""
    rows = osint.rows("rebuild", "--check", code=code)
    assert sum(row["rows"] for row in rows) > 10
    return {row["table"]: row["differing"] for row in rows if row["differing"]}


def test_every_row_of_every_table_comes_back(archive: Osint) -> None:
    assert differing(archive) == {}
    counts = {row["table"]: row["rows"] for row in archive.rows("rebuild", "--check")}
    filled = {"sources", "runs", "captures", "records", "posts", "post_versions", "media", "fingerprints", "gaps"}
    assert {table for table in filled if counts[table] == 0} == set()


def test_a_catalogue_that_is_not_empty_is_refused(archive: Osint) -> None:
    done = archive.run("rebuild", code=2)
    assert "not empty" in done.stderr and "--check" in done.stderr


def test_what_was_changed_in_the_catalogue_behind_our_back_is_named(archive: Osint) -> None:
    with connect(archive) as workspace:
        change(workspace.catalog, "UPDATE captures SET url = 'http://other.example/' || url WHERE kind = 'page'", 1)
        try:
            rows = archive.rows("rebuild", "--check", code=1)
        finally:
            change(workspace.catalog, "UPDATE captures SET url = replace(url, 'http://other.example/', '')", 1)
    (row,) = [row for row in rows if row["differing"]]
    assert row["table"] == "captures" and row["first"].startswith("url: http://other.example/")
    assert differing(archive) == {}


def change(catalog: Catalog, statement: str, at_least: int) -> None:
    with catalog.begin() as connection:
        assert connection.execute(text(statement)).rowcount >= at_least


def test_a_lost_database_is_made_again_and_finds_the_same(archive: Osint, tmp_path: Path) -> None:
    """The data folder is gone but for its keys; another one is filled from the store of the first."""
    with connect(archive) as workspace:
        config = workspace.store_config
        fresh = Osint(
            tmp_path / "other",
            OSINT_S3_ENDPOINT=config.endpoint,
            OSINT_S3_BUCKET=config.bucket,
            OSINT_S3_ACCESS_KEY=config.access_key,
            OSINT_S3_SECRET_KEY=config.secret_key,
        )
        before = {
            kind: archive.rows("find", "--kind", kind, "--limit", "1000")
            for kind in ("post", "article", "page", "media")
        }
        done = fresh.rows("rebuild", code=None)[0]
        assert [one for one in done["troubles"] if "is signed by the key" not in one] == []
        assert done["sources"] == 5
        after = {kind: fresh.rows("find", "--kind", kind, "--limit", "1000") for kind in before}
        assert after == before and before["post"] and before["media"]
        post = before["post"][0]["id"]
        assert fresh.rows("verify", post) == archive.rows("verify", post)
        assert fresh.claims()["PASS"] > 20
        runs = [{**run, "preserved": None} for run in archive.rows("runs", "--limit", "100")]
        assert [{**run, "preserved": None} for run in fresh.rows("runs", "--limit", "100")] == runs


def test_a_quick_rebuild_calls_nothing_preserved(archive: Osint, tmp_path: Path) -> None:
    with connect(archive) as workspace, open_scratch(workspace.catalog) as catalog:
        from osint_pipeline.rebuild import beside, rebuild

        with beside(workspace, catalog) as other:
            done = rebuild(other, read_back=False)
        assert done.warcs == len(list_warcs(catalog)) > 5
        assert {warc.state for warc in list_warcs(catalog)} == {"uploaded"}


def test_reading_again_changes_nothing_where_the_parsers_are_the_same(archive: Osint) -> None:
    rows = archive.rows("reparse", "--all")
    assert len(rows) == 5 and sum(row["captures"] for row in rows) > 20
    assert {(row["changed"], row["versions"], row["unreadable"]) for row in rows} == {(0, 0, 0)}


def test_killed_crawls_recovered_are_rebuilt_alike(tmp_path: Path) -> None:
    moments = random.Random(3)
    osint = Osint(tmp_path / "home")
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            began = time.monotonic()
            osint.run("crawl", "--spider", "telegram", "--limit", "3", sites.telegram, code=None)
            lasting = time.monotonic() - began
            for number in range(8):
                sites.visit = 1 + number % 2
                crawl = osint.start("crawl", "--spider", "telegram", "--limit", "3", sites.telegram)
                try:
                    crawl.wait(moments.uniform(lasting / 4, lasting))
                except subprocess.TimeoutExpired:
                    pass
                finally:
                    kill_group(crawl)
                if number % 3 == 1:  # some are mended at once, some later, after other runs saw the same posts
                    osint.run("recover")
            osint.run("recover")
            assert "nothing to mend" in osint.run("recover").stdout
            osint.run("upload")
            assert differing(osint) == {}
        finally:
            osint.run("down")


def read_as_of_old(workspace: Workspace, url: str) -> None:
    """Capture a page of a channel as a run does, with a reader that lost the first post's text."""
    with urlopen(url) as answer:
        body = answer.read()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    run = Run(workspace, make_sources([url], spider="telegram", render="never", robots="obey", proxy=None)[0])
    capture = run.captures.want(url, "page")
    now = datetime.now(UTC)
    ref = run.recorder.exchange(
        Exchange(
            url=url, method="GET", started_at=now, ended_at=now, request=b"GET / HTTP/1.1\r\n\r\n", response=head + body
        ),
        capture,
    )
    run.captures.answered(capture, url=url, status=200, media_type="text/html", refs=[ref])
    page = telegram.parse(body, url)
    lost = replace(next(post for post in page.posts if post.text), text="", extra=(("reader", "old"),))
    posts = tuple(lost if post.post_id == lost.post_id else post for post in page.posts)
    run.captures.read(capture, replace(page, posts=posts), None)
    run.end()


def test_an_earlier_reading_stays_as_a_version(tmp_path: Path) -> None:
    """What an older reader had read otherwise is read again; both readings are there, and a rebuild knows both."""
    osint = Osint(tmp_path / "home")
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            with connect(osint) as workspace:
                read_as_of_old(workspace, sites.telegram)
            (row,) = osint.rows("reparse", "--all", "--dry-run")
            assert (row["changed"], row["versions"]) == (1, 1)
            (row,) = osint.rows("reparse", "--all")
            assert (row["changed"], row["versions"], row["unreadable"]) == (1, 1, 0)
            (row,) = osint.rows("reparse", "--all")
            assert (row["changed"], row["versions"]) == (0, 0)
            query = (
                "SELECT text, extra->>'read_again' AS mark FROM post_versions v WHERE EXISTS "
                "(SELECT 1 FROM post_versions WHERE post_id = v.post_id AND version = 2) ORDER BY version"
            )
            with connect(osint) as workspace, workspace.catalog.begin() as connection:
                older, newer = connection.execute(text(query)).all()
            assert older.text == "" and older.mark is None
            assert newer.text != "" and newer.mark.startswith("osint-pipeline")
            osint.run("upload")
            assert differing(osint) == {}
        finally:
            osint.run("down")


def test_an_archive_of_0_1_0_is_made_again_by_reading_its_captures(tmp_path: Path) -> None:
    """Its WARCs hold no journal and its manifests name no captures: what the records say is all there is."""
    osint = Osint(tmp_path / "home")
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            osint.run("crawl", "--spider", "telegram", "--limit", "2", sites.telegram, code=None)
            before = osint.rows("find", "--kind", "post", "--limit", "1000")
            age(osint.home / "store")
            with connect(osint) as workspace, open_scratch(workspace.catalog) as catalog:
                from osint_pipeline.rebuild import beside, rebuild

                with beside(workspace, catalog) as other:
                    done = rebuild(other, read_back=False)
                assert done.captures_read_again > 10 and done.entries == 0
                with catalog.begin() as connection:
                    posts = set(connection.scalars(text("SELECT post_id FROM posts")))
            assert posts == {row["post_id"] for row in before}
        finally:
            osint.run("down")


def age(store: Path) -> None:
    """Turn WARCs and manifests into those of 0.1.0, which knew of no journal."""
    for path in store.rglob("*.manifest.json"):
        told = json.loads(path.read_text("ascii"))
        warc = path.with_name(told["name"])
        whole, kept, rows = warc.read_bytes(), b"", []
        for row in told.pop("records"):
            if row["url"].startswith("urn:osint:journal:"):
                continue
            member = whole[row["offset"] : row["offset"] + row["length"]]
            row["offset"] = len(kept)
            row.pop("capture", None)
            kept += member
            rows.append(json.dumps(row, separators=(",", ":")))
        warc.write_bytes(kept)
        told |= {"sha256": sha256(kept).hexdigest(), "size_bytes": len(kept), "record_count": len(rows)}
        facts = [
            f"{json.dumps(key)}: {json.dumps(value)}"
            for key, value in told.items()
            if key not in ("format", "name", "sealed_at")
        ]
        head = f'{{\n"format": {json.dumps(told["format"])},\n"name": {json.dumps(told["name"])},\n"records": [\n'
        path.write_text(head + ",\n".join(rows) + "\n],\n" + ",\n".join(facts) + "\n}\n", "ascii")


def test_a_snapshot_with_a_broken_signature_is_not_used(archive: Osint) -> None:
    (snapshot,) = sorted((archive.home / "store").rglob("v1/state/*.json"))[-1:]
    whole = snapshot.read_bytes()
    try:
        snapshot.write_bytes(whole.replace(b'"spider":"telegram"', b'"spider":"news"'))
        with connect(archive) as workspace:
            from osint_pipeline.state import newest_state

            state = newest_state(workspace)
        assert state is None or (snapshot.name not in state.key and "signature does not hold" in state.doubts[0])
    finally:
        snapshot.write_bytes(whole)
