"""Every saved real page, through the whole product: served, crawled, archived, found again, verified."""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from storage.catalog import Catalog
from storage.embedded_postgres import EmbeddedPostgres
from tests.commands import Osint
from tests.corpusserver import CorpusServer, load
from tests.rawserver import self_signed
from tests.test_news import f1, floor
from tests.test_telegram import ACCEPTED, KINDS

HERE = Path(__file__).parent
PINNED = tomllib.loads((HERE / "corpora.toml").read_text())
SPIDERS = {
    "telegram": "telegram",
    "telegram-without-posts": "telegram",
    "telegram-whole": "telegram",
    "cards": "telegram",
    "news": "page",
    "feeds": "page",
    "html": "page",
    "files": "page",
    "images": "page",
}
NOT_SHOWN = {
    "channel": "stands in the source and the address, not as a field of its own",
    "preview_url": "kept in the catalogue, not among the fields of --json",
    "preview_title": "kept in the catalogue, not among the fields of --json",
    "preview_description": "kept in the catalogue, not among the fields of --json",
    "preview_image_url": "kept in the catalogue, not among the fields of --json",
    "preview_site_name": "kept in the catalogue, not among the fields of --json",
}
"""What the saved answers name and `osint show --json` does not print; addresses of kind link are another such."""


@dataclass
class Crawls:
    """What the calls brought: by kind, the exit code and the summaries."""

    osint: Osint
    server: CorpusServer
    folder: Path
    codes: dict[str, int] = field(default_factory=dict)
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def call(self, name: str, *words: str, given: str) -> None:
        """Crawl a list of addresses given on standard input."""
        done = self.osint.run("crawl", "--render", "never", "--json", *words, "-", code=None, given=given)
        self.codes[name] = done.returncode
        self.runs[name] = [json.loads(line) for line in done.stdout.splitlines()]

    def one(self, kind: str) -> dict[str, Any]:
        """Give the only run of a kind."""
        (run,) = self.runs[kind]
        return run

    def asked(self, query: str) -> list[Any]:
        """Ask the catalogue itself."""
        postgres = EmbeddedPostgres(self.osint.home / "postgres")
        catalog = Catalog.open(postgres.start())
        try:
            with catalog.begin() as connection:
                return list(connection.execute(text(query)))
        finally:
            catalog.close()
            postgres.leave()


@pytest.fixture(scope="module")
def crawls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawls]:
    folder = os.environ.get("OSINT_CORPORA")
    if not folder:
        pytest.skip("OSINT_CORPORA is not set: the saved real pages are not at hand")
    home = tmp_path_factory.mktemp("corpora")
    with CorpusServer(load(Path(folder)), self_signed(home)[0]) as server:
        osint = Osint(home / "home", OSINT_PROXY=server.proxy_url)
        osint.run("up", "--servers")
        try:
            brought = Crawls(osint, server, Path(folder))
            brought.call("probe", "--spider", "page", given=server.url + "/probe")
            if not server.proxied:
                pytest.fail("OSINT_PROXY was passed by: no further, or saved pages would have their files fetched afar")
            for kind, spider in SPIDERS.items():
                brought.call(kind, "--spider", spider, given="\n".join(server.urls(kind)))
            some = server.urls("feeds")[::25]
            brought.call("feeds-followed", "--spider", "news", "--limit", "4", given="\n".join(some))
            yield brought
        finally:
            osint.run("down")


def test_the_folder_holds_what_the_expectations_were_made_for(crawls: Crawls) -> None:
    assert {kind: len(paths) for kind, paths in crawls.server.corpus.kinds.items()} == PINNED["pages"]


def test_every_page_was_asked_for(crawls: Crawls) -> None:
    pages = crawls.server.corpus.kinds
    missing = [one for paths in pages.values() for one in paths if not crawls.server.asked[one]]
    assert not missing, f"n={len(missing)}: {missing}"


def test_nothing_was_asked_of_any_other_machine(crawls: Crawls) -> None:
    """Each foreign address that a page names went to the proxy of the settings, and no name was looked up here."""
    assert sum(crawls.server.foreign.values()) > 400, "OSINT_PROXY was passed by"
    lost = crawls.asked("SELECT url, reason FROM captures WHERE reason LIKE '%NameUnknown%' OR reason LIKE '%resolve%'")
    assert not lost, f"n={len(lost)}: names were looked up here, with a proxy set"


def test_every_run_is_balanced(crawls: Crawls, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, runs in crawls.runs.items():
        for run in runs:
            assert run["wanted"] == run["captured"] + run["refused"] + run["truncated"] + run["failed"], (kind, run)
            assert run["warc_files"] == run["preserved"] > 0, (kind, run)
    with capsys.disabled():
        print()
        for kind, runs in crawls.runs.items():
            counts = {name: sum(run[name] for run in runs) for name in ("wanted", "captured", "refused", "failed")}
            n = len(crawls.server.corpus.kinds.get(kind, runs))
            print(f"{kind}: n={n}, runs {len(runs)}, exit code {crawls.codes[kind]}, {counts}")


def theirs(answer: dict[str, Any]) -> dict[str, Any]:
    """Leave of a saved answer what `osint show --json` prints."""
    kept = {name: value for name, value in answer.items() if name not in NOT_SHOWN and name not in ("_type", "type")}
    kept["urls"] = sorted(pair for pair in answer["urls"] if pair[0] != "link")
    return kept


def ours(post: dict[str, Any]) -> dict[str, Any]:
    """Name what the catalogue gives as the saved answers name it."""
    round_ = any(media["title"] == "round video" for media in post["media"])
    names = {"video": "round-video", "thumbnail-video": "thumbnail-roundvideo"}
    kinds = {kind.value: names.get(theirs, theirs) if round_ else theirs for kind, theirs in KINDS.items()}
    told = {
        "id": int(post["post_id"]),
        "created_at": post["published_at"],
        "author": post["author"],
        "edited": post["edited"],
        "text": post["text"] or None,
        "views": post["views"],
        "urls": sorted([kinds[media["kind"]], media["url"]] for media in post["media"]),
    }
    if post["forwarded_from"]:
        told |= {
            "forwarded_author": post["forwarded_from"]["name"],
            "forwarded_author_url": post["forwarded_from"]["url"],
        }
    if post["reply_to"]:
        told["reply_to_id"] = int(post["reply_to"]["url"].rpartition("/")[2])
    return told


def test_telegram_posts_come_out_as_their_saved_answers_say(crawls: Crawls) -> None:
    sources = {run["source"]: run["run"] for run in crawls.runs["telegram"]}
    posts = {row["run"]: row for row in crawls.osint.rows("find", "--kind", "post", "--limit", "100")}
    differing = set()
    for path in crawls.server.corpus.kinds["telegram"]:
        case = path.removeprefix("/s/")
        answer = theirs(json.loads((crawls.folder / "telegram" / "tchan" / f"{case}.expected.json").read_text()))
        found = posts[sources[crawls.server.url + path]]
        told = ours(found)
        differing |= {(case, name) for name in answer.keys() | told.keys() if answer.get(name) != told.get(name)}
    (shown,) = crawls.osint.rows("show", found["id"])
    assert shown["records"] and {**found, "records": None} == {**shown, "records": None}
    explained = {pair for pair in ACCEPTED if pair[1] != "urls"} | {("text_reply_to_video", "urls")}
    assert differing == explained, f"n={len(posts)}"


def test_each_telegram_page_is_captured_with_its_post_and_media(crawls: Crawls) -> None:
    assert crawls.codes["telegram"] == 0
    for run in crawls.runs["telegram"]:
        assert (run["outcome"], run["posts"]) == ("complete", 1), run
    for run in crawls.runs["telegram-without-posts"]:
        assert (run["outcome"], run["posts"], run["captured"]) == ("complete", 0, 1), run
    whole = crawls.one("telegram-whole")
    assert (whole["outcome"], whole["posts"], whole["gaps"]) == ("complete", 3, 6), whole


def test_cards_are_refusals_and_never_success(crawls: Crawls) -> None:
    assert crawls.codes["cards"] == 4
    for run in crawls.runs["cards"]:
        assert (run["outcome"], run["captured"], run["posts"]) == ("refused", 0, 0), run
        assert run["refused"] == run["wanted"] >= 1, run


def test_every_article_has_title_and_text_in_the_catalogue(crawls: Crawls, capsys: pytest.CaptureFixture[str]) -> None:
    by_path = read_from(crawls, "news")
    lacking = []
    for path in crawls.server.corpus.kinds["news"]:
        row = by_path.get(path)
        if row is None or not row["title"] or len(row["text"] or "") < 200:
            lacking.append((path, crawls.server.corpus.files[path].name, row and (row["kind"], row["title"])))
    with capsys.disabled():
        print(f"\nnews: n={len(by_path)}, lacking title or text: {len(lacking)}")
    assert not lacking, lacking


def read_from(crawls: Crawls, kind: str) -> dict[str, dict[str, Any]]:
    """Find what was read in a kind's run, by the path that was served: an article may bear its canonical address."""
    run = crawls.one(kind)["run"]
    paths = {
        str(id_): urlsplit(url).path
        for id_, url in crawls.asked(f"SELECT id, url FROM captures WHERE run_id = '{run}' AND kind = 'page'")
    }
    rows = crawls.osint.rows("find", "--kind", "article", "--limit", "1000")
    rows += crawls.osint.rows("find", "--kind", "page", "--limit", "1000")
    return {paths[row["capture"]]: row for row in rows if row["capture"] in paths and row["text"]}


def test_article_texts_in_the_catalogue_are_those_of_the_benchmark(
    crawls: Crawls, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((crawls.folder / "news/article-extraction-benchmark/ground-truth.json").read_text())
    found = read_from(crawls, "news")
    pairs = []
    for path, file in crawls.server.corpus.files.items():
        if path.startswith("/news/benchmark/"):
            row = found.get(path)
            pairs.append((truth[file.name.removesuffix(".html.gz")]["articleBody"], row["text"] if row else ""))
    with capsys.disabled():
        print(f"\narticle text out of the catalogue, n={len(pairs)}: F1 {f1(pairs):.4f}")
    assert len(pairs) == 50
    assert f1(pairs) >= floor("article_text")["f1"]


def test_title_authors_and_date_in_the_catalogue_are_those_expected(crawls: Crawls) -> None:
    found, right, pages = read_from(crawls, "news"), dict.fromkeys(("title", "authors", "date"), 0), 0
    for path, file in crawls.server.corpus.files.items():
        name, _, day = file.name.removesuffix(".html.gz").partition("_")
        told = file.with_name(f"{name}.json")
        if not path.startswith("/news/fundus/") or not told.exists():
            continue
        day = day.replace("_", "-")
        for one in json.loads(told.read_text()).values():
            if str(one["publishing_date"]).startswith(day):
                row = found[path]
                pages += 1
                right["title"] += row["title"] == one["title"]
                right["authors"] += (row["author"] or "").split(", ") == one["authors"]
                right["date"] += datetime.fromisoformat(row["published_at"]) == datetime.fromisoformat(
                    one["publishing_date"]
                )
                break
    pinned = floor("article_fields")
    assert pages == pinned["pages"]
    assert all(right[name] >= pinned[name] for name in right), right


def test_the_news_run_lacks_nothing_but_players_behind_a_certificate(crawls: Crawls) -> None:
    run = crawls.one("news")
    lost = crawls.asked(f"SELECT kind, reason FROM captures WHERE run_id = '{run['run']}' AND state <> 'captured'")
    assert {kind for kind, _ in lost} <= {"media"}, lost
    assert all("CERTIFICATE_VERIFY_FAILED" in reason for _, reason in lost), lost
    assert len(lost) == PINNED["news"]["players_refused"], lost


def test_no_feed_breaks_a_run(crawls: Crawls, capsys: pytest.CaptureFixture[str]) -> None:
    run = crawls.one("feeds")
    n = len(crawls.server.corpus.kinds["feeds"])
    assert (run["captured"], run["wanted"]) == (n, n), run
    verdicts = dict(
        crawls.asked(
            f"SELECT verdict, count(*) FROM captures WHERE run_id = '{run['run']}' AND kind = 'page' GROUP BY 1"
        )
    )
    with capsys.disabled():
        print(f"\nfeeds: n={n}: {verdicts}")
    assert verdicts["content"] >= PINNED["feeds"]["content"]
    for followed in crawls.runs["feeds-followed"]:
        assert followed["captured"] == followed["wanted"] > 0, followed


def test_no_picture_breaks_a_run(crawls: Crawls, capsys: pytest.CaptureFixture[str]) -> None:
    """A capture is kept whatever its picture does to the decoder, and the reason is noted where there is no hash."""
    run = crawls.one("images")
    n = len(crawls.server.corpus.kinds["images"])
    rows = crawls.asked(
        "SELECT count(*), count(hash), count(failure), count(*) FILTER (WHERE hash IS NULL AND failure IS NULL)"
        f" FROM fingerprints f JOIN captures c ON c.id = f.capture_id WHERE c.run_id = '{run['run']}'"
    )
    (pictures, hashed, failed, silent) = rows[0]
    reasons = crawls.asked("SELECT DISTINCT failure FROM fingerprints WHERE failure IS NOT NULL ORDER BY 1")
    with capsys.disabled():
        print(f"\nimages: n={n}, distinct {pictures}: hashed {hashed}, no hash {failed} for {len(reasons)} reasons")
    assert silent == 0 and hashed + failed == pictures
    assert hashed >= PINNED["images"]["hashed"] and failed > 0
    assert pictures >= 200, f"of n={n} served as image/*"
    lost = crawls.asked(f"SELECT url, reason FROM captures WHERE run_id = '{run['run']}' AND state <> 'captured'")
    assert not lost, f"n={len(lost)} of {n}: {lost}"


def test_hostile_html_and_files_are_captured(crawls: Crawls) -> None:
    for kind in ("html", "files"):
        run = crawls.one(kind)
        lost = crawls.asked(
            f"SELECT url, reason FROM captures WHERE run_id = '{run['run']}' AND kind = 'page' AND state <> 'captured'"
        )
        assert not lost, (kind, lost)


def test_payloads_have_the_digests_of_the_served_files(crawls: Crawls) -> None:
    served = {
        hashlib.sha256(one.body).hexdigest(): path
        for path, one in crawls.server.corpus.served.items()
        if one.status == 200 and one.body
    }
    archived = {
        bytes(digest).hex()
        for (digest,) in crawls.asked("SELECT DISTINCT payload_sha256 FROM records WHERE payload_sha256 IS NOT NULL")
    }
    missing = {path for digest, path in served.items() if digest not in archived}
    assert not missing, f"n={len(missing)} of {len(served)}: {missing}"


def test_everything_verifies(crawls: Crawls, capsys: pytest.CaptureFixture[str]) -> None:
    counts = crawls.osint.claims()
    with capsys.disabled():
        print(f"\nclaims: {counts}")
    assert counts["FAIL"] == counts["UNVERIFIABLE"] == 0 and counts["PASS"] > 50
