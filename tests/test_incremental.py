"""A visit asks for what the archive does not have: nothing twice without need, nothing missed without a visible gap."""

import hashlib
import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import plain
from sqlalchemy import text
from visiting import Visitor

from osint_pipeline.history import History, tries_of
from osint_pipeline.known import PageTimes
from osint_pipeline.preserve import manifest_path
from osint_pipeline.rebuild import beside, rebuild
from osint_pipeline.reconcile import missing, totals
from osint_pipeline.recovery import recover
from osint_pipeline.retrieve import pull
from osint_pipeline.sameness import compare
from osint_pipeline.samples import SampleSites, channel
from osint_pipeline.samples.server import Answer, Asked, Serving
from osint_pipeline.verify import verify_all
from osint_pipeline.workspace import Workspace
from settings.service import load
from spiders.span import Span
from storage.check import Result, check_warc
from storage.earlier import SeenGap
from storage.records import open_warc
from storage.scratch import open_scratch

ARTICLE = "<html><head><title>Вымысел</title></head><body><article><h1>Вымысел</h1>" + "<p>Слова пра вымысел.</p>" * 40


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    with Visitor() as opened:
        yield opened


@pytest.fixture(scope="module")
def sites() -> Iterator[SampleSites]:
    with SampleSites() as serving:
        yield serving


@dataclass
class Place:
    """A data folder and a database of its own, and the sites that are watched."""

    visitor: Visitor
    sites: SampleSites
    environ: dict[str, str]

    def visit(self, url: str, spider: str, environ: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
        """Visit a source; the log holds what this visit asked for."""
        self.sites.log.clear()
        return self.visitor.visit({**self.environ, **(environ or {})}, url, spider, **more)

    def channel(self, **more: Any) -> dict[str, Any]:
        return self.visit(self.sites.telegram, "telegram", **more)

    def outlet(self, **more: Any) -> dict[str, Any]:
        return self.visit(self.sites.news, "news", **more)

    def asked(self, status: int | None = None) -> list[str]:
        """List what was asked for but robots.txt, the avatar left out."""
        return [
            one.path
            for one in self.sites.log
            if one.path != "/robots.txt" and status in (None, one.status) and "avatar" not in one.path
        ]

    def workspace(self) -> Workspace:
        return Workspace(load(self.environ).service)

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.workspace() as opened, opened.catalog.begin() as connection:
            return list(connection.execute(text(query), values))

    def change(self, statement: str, at_least: int = 1, **values: Any) -> None:
        with self.workspace() as opened, opened.catalog.begin() as connection:
            assert connection.execute(text(statement), values).rowcount >= at_least


@pytest.fixture
def place(visitor: Visitor, sites: SampleSites, tmp_path: Path, embedded_url: str) -> Place:
    sites.visit = 1
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "OSINT_HOME": str(tmp_path / "home"),
        "OSINT_DATABASE_URL": plain(embedded_url),
        "OSINT_ALLOW_NETWORKS": "127.0.0.0/8",
        "OSINT_DELAY_SECONDS": "0",
        "OSINT_CONCURRENCY_PER_HOST": "8",
        "OSINT_GAP_PAGES": "0",
    }
    return Place(visitor, sites, environ)


def pages(paths: list[str]) -> list[str]:
    return [path for path in paths if "/s/" in path]


def test_an_unchanged_channel_is_asked_for_two_pages_and_no_files(place: Place) -> None:
    first = place.channel(limit_pages=4)
    assert (first["outcome"], len(pages(place.asked()))) == ("complete", 4)
    again = place.channel()
    assert len(pages(place.asked())) == 2 == len(place.asked())
    assert (again["outcome"], again["captured"], again["wanted"]) == ("complete", 2, 2)
    assert place.channel(environ={"OSINT_OVERLAP_PAGES": "0"})["captured"] == 1
    assert len(place.asked()) == 1


def test_new_posts_and_edits_are_found_and_only_their_files_are_asked_for(place: Place) -> None:
    place.channel(limit_pages=5)
    place.sites.visit = 2
    second = place.channel()
    fresh = [one for one in channel.posts(2) if one.id > channel.posts(1)[-1].ids[-1]]
    assert len([path for path in place.asked() if "/file/" in path]) == len(fresh) == 3
    assert second["edited"] == 2
    rows = place.rows("SELECT state, count(*) FROM media WHERE url IS NOT NULL GROUP BY state")
    assert [row.state for row in rows] == ["captured"]  # those of the edited posts' new versions too
    lost = place.rows("SELECT 1 FROM media LEFT JOIN captures ON captures.id = file_capture_id WHERE captures.id IS NULL AND media.url IS NOT NULL")  # fmt: skip
    assert lost == []


def test_a_file_that_failed_is_asked_for_again_and_then_given_up(place: Place) -> None:
    place.channel(limit_pages=2)
    photo = place.rows("SELECT id, url, file_capture_id AS file FROM media WHERE kind = 'photo' AND url LIKE '%/photo-%' LIMIT 1")[0]  # fmt: skip
    place.change("UPDATE media SET state = 'failed' WHERE file_capture_id = :file", file=photo.file)
    place.change(
        "UPDATE captures SET state = 'failed', reason = 'status 500', status = 500 WHERE id = :file", file=photo.file
    )
    place.channel()
    assert [path for path in place.asked() if "/file/" in path] == [photo.url.partition(place.sites.bases["cdn"])[2]]
    assert place.rows("SELECT state FROM media WHERE id = :id", id=photo.id)[0].state == "captured"
    place.change("UPDATE captures SET state = 'failed', status = 500 WHERE url = :url", url=photo.url)
    place.change("UPDATE media SET state = 'failed' WHERE id = :id", id=photo.id)
    place.channel(environ={"OSINT_MISSING_TRIES": "2"})
    assert [path for path in place.asked() if "/file/" in path] == []


def test_what_was_new_beyond_the_limit_is_a_hole_that_the_next_visit_fills(place: Place) -> None:
    place.channel(limit_pages=2)
    last = channel.posts(1)[-1].ids[-1]
    covered = json.dumps({"covered": {channel.CHANNEL: [[1, last - 120]]}})
    place.change("UPDATE runs SET detail = CAST(:detail AS jsonb)", detail=covered)
    place.change("DELETE FROM version_captures")
    place.channel(limit_pages=2)
    assert len(pages(place.asked())) == 2
    third = place.channel()
    asked = pages(place.asked())
    assert asked[0].endswith(channel.CHANNEL) and len(asked) >= 5, asked
    (spans,) = place.rows(
        "SELECT detail->'covered'->:name AS spans FROM runs WHERE id = :id", name=channel.CHANNEL, id=third["run"]
    )
    assert spans.spans == [[1, last]]
    place.channel()
    assert len(pages(place.asked())) == 2


def test_gaps_are_looked_at_a_few_times_and_then_confirmed(place: Place) -> None:
    place.environ["OSINT_GAP_TRIES"] = "2"
    place.channel(limit_pages=4)
    with place.workspace() as opened:
        source = UUID(str(place.rows("SELECT id FROM sources")[0].id))
        history = History(opened.catalog, opened.service, source)
        few = history.open_gaps(channel.CHANNEL)
        assert few and not history.confirmed_gaps(channel.CHANNEL)
    counts = []
    for _ in range(6):
        run = place.channel(environ={"OSINT_GAP_PAGES": "10"})
        assert run["gaps"] > 0 and run["outcome"] == "complete"
        counts.append(len(pages(place.asked())))
        if counts[-1] == 2:
            break
    assert counts[0] > 2 == counts[-1] and len(counts) <= 5, counts
    tries = place.rows("SELECT first, last, count(DISTINCT run_id) AS tries FROM gaps GROUP BY first, last")
    assert max(row.tries for row in tries) == 2
    with place.workspace() as opened:
        history = History(opened.catalog, opened.service, source)
        assert history.open_gaps(channel.CHANNEL) == []
        assert set(few) <= set(history.confirmed_gaps(channel.CHANNEL))


def test_a_gap_is_cut_where_runs_differ() -> None:
    one, two = UUID(int=1), UUID(int=2)
    seen = [SeenGap(one, "k", 5, 20), SeenGap(two, "k", 10, 12), SeenGap(two, "k", 30, 30), SeenGap(two, "k", 10, 12)]
    assert tries_of(seen) == [(Span(5, 9), 1), (Span(10, 12), 2), (Span(13, 20), 1), (Span(30, 30), 1)]


def test_the_past_is_read_in_slices_until_the_beginning(place: Place) -> None:
    place.channel(limit_pages=8)
    reached = []
    for _ in range(2):
        run = place.channel(backfill_pages=2)
        reached.append(place.rows("SELECT detail->'covered' AS c FROM runs WHERE id = :id", id=run["run"])[0].c[channel.CHANNEL][0][0])  # fmt: skip
        assert len(pages(place.asked())) <= 4
    assert reached[0] > 1 and reached[-1] == 1
    place.channel(backfill_pages=2)
    assert len(pages(place.asked())) == 2
    ids = {int(row.post_id) for row in place.rows("SELECT post_id FROM posts")}
    assert ids == {one.id for one in channel.posts(1)}


def test_an_outlet_is_asked_conditionally_for_its_lists_and_for_what_is_new(place: Place) -> None:
    place.outlet()
    again = place.outlet(limit_pages=3)
    assert set(place.asked()) == {"/", "/feed.xml", "/sitemap.xml"} == set(place.asked(304))
    assert (again["outcome"], again["captured"], again["revisits"]) == ("complete", 3, 4)
    rows = place.rows("SELECT reason, verdict, payload_bytes FROM captures WHERE status = 304")
    assert len(rows) == 3 and all(
        row.reason.startswith("not modified since 20") and row.verdict is None for row in rows
    )
    assert all(row.payload_bytes > 0 for row in rows)
    place.sites.visit = 2
    second = place.outlet()
    articles = [path for path in place.asked() if "/navina-" in path]
    assert len(articles) == 2 and second["outcome"] == "complete"
    assert [path for path in place.asked() if path.startswith("/?page")] == ["/?page=2"]  # nothing on it is new
    assert place.asked(304) == ["/?page=2"] or place.asked(304) == []


def test_conditions_are_sent_as_given_and_are_a_mere_cache(place: Place) -> None:
    place.outlet()
    kept = {row.url.partition(place.sites.bases["news"])[2]: row for row in place.rows("SELECT * FROM validators")}
    assert kept["/feed.xml"].etag.startswith('W/"') and kept["/feed.xml"].last_modified is None
    assert any(row.last_modified and row.last_modified.endswith(" GMT") for row in kept.values())
    place.outlet(new=False, limit_pages=1)
    place.outlet(environ={"OSINT_VALIDATOR_HOURS": "0"}, limit_pages=1)
    assert place.asked() == place.asked(200) == ["/"]
    place.change("DELETE FROM validators")
    run = place.outlet()
    assert place.asked(304) == [] and run["outcome"] == "complete" and run["revisits"] >= 3
    rows = place.rows("SELECT etag, record_id FROM validators WHERE url LIKE '%/feed.xml'")
    assert [(row.etag, row.record_id) for row in rows] == [(kept["/feed.xml"].etag, kept["/feed.xml"].record_id)]


def test_an_article_is_asked_again_after_the_window_or_when_its_site_says_so(place: Place) -> None:
    place.outlet()
    asked = [path for path in place.asked() if "/navina-" in path]
    place.sites.visit = 2
    place.change("UPDATE captures SET captured_at = '2026-11-18T22:00:00Z'")
    run = place.outlet(environ={"OSINT_AGAIN_HOURS": "100000"})
    assert run["edited"] == 1  # the one whose lastmod in the sitemap is later than its capture
    assert len([path for path in place.asked() if "/navina-" in path]) < 8
    place.outlet(environ={"OSINT_AGAIN_HOURS": "0"}, limit_pages=60)
    again = [path for path in place.asked() if "/navina-" in path]
    assert len(again) >= len(asked)
    assert len([path for path in place.asked(304) if "/navina-" in path]) > 10  # those with validators


def test_nothing_is_sent_where_the_original_is_damaged_or_unknown(place: Place) -> None:
    place.outlet()
    feed = place.rows("SELECT r.* FROM validators v JOIN records r ON r.id = v.record_id WHERE v.url LIKE '%/feed.xml'")[0]  # fmt: skip
    warc = next(Path(place.environ["OSINT_HOME"]).glob(f"spool/sealed/{feed.warc}"))
    data = bytearray(warc.read_bytes())
    data[feed.offset_bytes + feed.length_bytes // 2] ^= 1
    warc.write_bytes(data)
    place.change("DELETE FROM records WHERE id IN (SELECT record_id FROM validators WHERE url LIKE '%/sitemap.xml')")
    place.outlet(limit_pages=3)
    assert place.asked(304) == ["/"]
    assert sorted(place.asked(200)) == ["/feed.xml", "/sitemap.xml"]


def test_a_server_that_says_304_to_everything_does_no_harm(place: Place) -> None:
    def stubborn(asked: Asked) -> Answer:
        if asked.path == "/robots.txt":
            return Answer(status=404)
        told = (("ETag", '"other"'),) if asked.path == "/other" and "if-none-match" in asked.headers else ()
        first = asked.path in ("/fine", "/other") and "if-none-match" not in asked.headers
        if not first:
            return Answer(status=304, headers=told, media_type="")
        return Answer(body=ARTICLE.encode(), headers=(("ETag", '"one"'),))

    with Serving(stubborn, lambda _: None) as server:
        never = place.visit(server.url + "/never", "page")
        assert (never["outcome"], never["failed"]) == ("failed", 1)
        reason = "SELECT reason, state FROM captures WHERE url LIKE :url ORDER BY captured_at DESC LIMIT 1"
        assert place.rows(reason, url="%/never")[0].reason == "status 304 to a request without conditions"
        place.visit(server.url + "/other", "page")
        place.visit(server.url + "/other", "page")
        assert "another ETag" in place.rows(reason, url="%/other")[0].reason
        assert place.visit(server.url + "/other", "page")["captured"] >= 1  # asked without conditions now
    with place.workspace() as opened:
        paths = list(opened.spool.sealed_paths())
        faults = [one for path in paths for one in check_warc(path, manifest_path(path)) if one.result is Result.FAIL]
    assert len(paths) >= 4 and faults == []


def test_what_failed_is_asked_again_a_few_times(place: Place) -> None:
    broken = {"/b", "/c.jpg"}

    def site(asked: Asked) -> Answer:
        if asked.path in broken or asked.path == "/gone":
            return Answer(status=404 if asked.path == "/gone" else 500, body=b"no")
        if asked.path == "/c.jpg":
            return Answer(body=b"\xff\xd8 no picture", media_type="image/jpeg")
        links = f'<a href="/2026/11/20/b-1.html">Навіна пра затрыманне</a><img src="/c.jpg">{ARTICLE}'
        return Answer(body=links.encode()) if asked.path == "/" else Answer(status=404)

    with Serving(site, lambda one: place.sites.log.append(one)) as server:
        environ = {"OSINT_RETRIES": "0", "OSINT_MISSING_TRIES": "2"}
        place.visit(server.url + "/", "page", environ)
        source = UUID(str(place.rows("SELECT id FROM sources")[0].id))
        with place.workspace() as opened:
            (one,) = missing(opened.catalog, source)
            assert (one.url, one.kind, one.tries, one.last_reason) == (server.url + "/c.jpg", "file", 1, "status 500")
        media = place.rows("SELECT state FROM media WHERE url LIKE '%/c.jpg'")
        assert [row.state for row in media] == ["failed"]
        place.visit(server.url + "/", "page", environ)
        assert "/c.jpg" in place.asked(500)
        place.visit(server.url + "/", "page", environ)
        assert "/c.jpg" not in place.asked()  # asked twice in vain
        with place.workspace() as opened:
            assert totals(opened.catalog, source, tries=2).given_up == 1
        broken.clear()
        place.visit(server.url + "/", "page", {**environ, "OSINT_MISSING_TRIES": "3"})
        assert "/c.jpg" in place.asked(200)
        assert {row.state for row in place.rows("SELECT state FROM media WHERE url LIKE '%/c.jpg'")} == {"captured"}
        with place.workspace() as opened:
            assert missing(opened.catalog, source) == []


@pytest.mark.parametrize(("limit", "word"), [({"limit_bytes": 20_000}, "bytes"), ({"limit_seconds": 1}, "time")])
def test_a_visit_ends_in_order_at_its_limit_and_the_next_goes_on(
    place: Place, limit: dict[str, int], word: str
) -> None:
    slow = {"OSINT_DELAY_SECONDS": "0.15", "OSINT_SYNC_SECONDS": "0.1", "OSINT_CONCURRENCY_PER_HOST": "1"}
    cut = place.visit(place.sites.news, "news", slow, **limit)
    assert cut["outcome"] == "partial" and f"limit of {word}" in cut["reason"]
    assert cut["wanted"] == cut["captured"] + cut["failed"] + cut["refused"] and cut["captured"] >= 1
    left = place.rows("SELECT url FROM captures WHERE reason LIKE 'not reached: stopped at the limit%'")
    assert left
    rest = place.outlet()
    asked = {place.sites.bases["news"] + path for path in place.asked()}
    assert {row.url for row in left if "zakryta" not in row.url} <= asked and rest["outcome"] == "complete"


def run_of_death(place: Place, after: int, **more: Any) -> str:
    """Begin a visit and kill it once the server has answered so many requests and some are committed; its run."""
    place.sites.log.clear()
    slow = {"OSINT_DELAY_SECONDS": "0.1", "OSINT_SYNC_SECONDS": "0.05", "OSINT_CONCURRENCY_PER_HOST": "1"}
    pid = place.visitor.start({**place.environ, **slow}, **more)
    deadline = time.monotonic() + 30
    while len(place.sites.log) < after:
        assert time.monotonic() < deadline, "the visit did not come that far"
        time.sleep(0.02)
    place.visitor.kill(pid)
    with place.workspace() as opened:
        list(recover(opened))
    return str(place.rows("SELECT id FROM runs ORDER BY started_at DESC LIMIT 1")[0].id)


def test_a_killed_visit_of_a_channel_is_gone_on_with_from_where_it_ended(place: Place) -> None:
    died = run_of_death(place, 40, url=place.sites.telegram, spider="telegram")
    read = {row.url for row in place.rows("SELECT url FROM captures WHERE state = 'captured' AND kind = 'page'")}
    files = {row.url for row in place.rows("SELECT url FROM captures WHERE state = 'captured' AND kind = 'file'")}
    run = place.channel(continues=[died])
    asked = {place.sites.bases["telegram"] + path for path in pages(place.asked())}
    assert len(asked & read) <= 2 < len(read) - 1, asked & read  # the newest, and one whose files were under way
    assert not {place.sites.bases["cdn"] + path for path in place.asked() if "/file/" in path} & files
    assert place.rows("SELECT detail->'continues' AS c FROM runs WHERE id = :id", id=run["run"])[0].c == [died]
    ids = [int(row.post_id) for row in place.rows("SELECT post_id FROM posts")]
    assert sorted(ids) == [one.id for one in channel.posts(1)]
    left = place.rows("SELECT DISTINCT state FROM media WHERE url IS NOT NULL")
    assert [row.state for row in left] == ["captured"]


def test_a_killed_visit_of_an_outlet_is_gone_on_with_whatever_the_window(place: Place) -> None:
    died = run_of_death(place, 30, url=place.sites.news, spider="news")
    query = "SELECT c.url FROM captures c WHERE c.state = 'captured' AND c.url LIKE '%/navina-%'"
    have = {row.url for row in place.rows(query)}
    waiting = "SELECT 1 FROM version_captures v JOIN media m ON m.post_version_id = v.version_id WHERE v.capture_id = c.id AND m.state = 'offered'"  # fmt: skip
    unfinished = {row.url for row in place.rows(f"{query} AND EXISTS ({waiting})")}
    run = place.outlet(environ={"OSINT_AGAIN_HOURS": "0"}, continues=[died], limit_pages=60)
    asked = {place.sites.bases["news"] + path for path in place.asked()}
    assert run["outcome"] == "complete" and asked & have == unfinished < have
    left = place.rows("SELECT DISTINCT state FROM media WHERE url IS NOT NULL")
    assert [row.state for row in left] == ["captured"]
    assert len(place.rows("SELECT 1 FROM posts WHERE kind = 'article'")) == 36


def test_incremental_visits_verify_and_are_rebuilt_and_a_304_brings_its_original(place: Place, tmp_path: Path) -> None:
    for number in (1, 2):
        place.visit(place.sites.news, "news", upload=True, limit_pages=4)
        place.sites.visit = number
        place.channel(upload=True, limit_pages=2)
        place.sites.visit = 1
    with place.workspace() as opened:
        claims = list(verify_all(opened))
        assert len(claims) > 20 and [one for one in claims if one.result.value != "PASS"] == []
        with open_scratch(opened.catalog) as fresh, beside(opened, fresh) as other:
            assert rebuild(other, lock=False).troubles == []
            rows = list(compare(opened.catalog, fresh))
        assert {row.table: row.first for row in rows if row.differing} == {}
        one = place.rows("SELECT c.id, r.refers_to, c.payload_sha256 FROM captures c JOIN records r ON r.capture_id = c.id AND r.type = 'revisit' WHERE c.status = 304 LIMIT 1")[0]  # fmt: skip
        path, count = pull(opened, one.id, tmp_path)
    assert count == 4  # both answers with their requests
    with open_warc(path) as reader:
        found = {}
        while streamed := reader.next():
            found[streamed.header.record_id] = (streamed.header.type, hashlib.sha256(b"".join(streamed.pieces())))
    assert found[one.refers_to][0] == "response" and [kind for kind, _ in found.values()].count("revisit") == 1
    assert [one for one in check_warc(path) if one.result is Result.FAIL] == []


def test_the_known_addresses_of_a_large_outlet_take_little_memory() -> None:
    tracemalloc.start()
    times = PageTimes((f"https://outlet.example/2026/11/{n}-detained.html", float(n)) for n in range(100_000))
    taken = tracemalloc.get_traced_memory()[1]  # at most, while they were read
    tracemalloc.stop()
    assert taken < 8 << 20 and len(times) == 100_000
    assert times.last("https://outlet.example/2026/11/99999-detained.html") == 99999.0
    assert times.last("https://outlet.example/2026/11/100000-detained.html") is None
