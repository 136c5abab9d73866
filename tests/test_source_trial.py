"""`osint source test` reads one page as a crawl would, and nothing anywhere is other than before."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import plain
from sqlalchemy import inspect, text

from osint_pipeline.samples import SampleSites
from osint_pipeline.samples.server import Answer, Asked, Serving, html
from storage.catalog import Catalog
from tests.commands import Inside, Osint
from tests.zygote import Zygote

NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"
ARTICLE = (
    "<html><head><title>Навіна</title></head><body><article><h1>Навіна</h1><p>"
    + "Сёння затрымалі траіх. " * 30
    + "</p></article></body></html>"
)


@pytest.fixture(scope="module")
def sites() -> Iterator[SampleSites]:
    with SampleSites() as sites:
        yield sites


class Trials:
    """Calls `osint source test` in processes that need not import everything first."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self.zygote, self.folder, self.number = zygote, folder, 0

    def say(self, *words: str, code: int | None = 0, **more: str) -> str:
        """Run it to its end, and give all that it printed."""
        self.number += 1
        self.zygote.log = self.folder / f"{self.number}.log"
        returned = self.zygote.run("source", "test", *words, seconds=120, **more)
        said = self.zygote.log.read_text("utf-8")
        assert code is None or returned == code, f"{words}: {returned}\n{said}"
        return said

    def __call__(self, *words: str, code: int | None = 0, **more: str) -> Any:
        """Run it with --json; nothing else may be printed."""
        return json.loads(self.say(*words, "--json", code=code, **more))


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """No database can be reached and no store, and there is no data folder: an address needs none of them."""
    folder = tmp_path_factory.mktemp("trial")
    environ = Osint(folder / "home", OSINT_DATABASE_URL=NOWHERE, OSINT_LOG_LEVEL="error").environ
    with Zygote(environ, folder / "log") as zygote:
        yield Trials(zygote, folder)
    assert not (folder / "home").exists()


def everything(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


def rows(url: str) -> dict[str, list[str]]:
    with Catalog.open(url) as catalog, catalog.begin() as connection:
        names = inspect(connection).get_table_names()
        return {name: sorted(str(row) for row in connection.execute(text(f'SELECT * FROM "{name}"'))) for name in names}


def test_a_channel_is_read_without_a_database_and_without_a_data_folder(trial: Trials, sites: SampleSites) -> None:
    row = trial(sites.telegram, "--spider", "telegram")
    assert (row["verdict"], row["status"], len(row["posts"])) == ("content", 200, 20)
    assert all(post["published_at"] for post in row["posts"])
    assert all(post["language"] for post in row["posts"] if post["text"])
    assert [link["kind"] for link in row["links"]] == ["older"] and any(
        "does not offer" in one for one in row["unread"]
    )


def test_a_watched_source_is_tried_as_it_is_watched_and_nothing_is_stored(
    trial: Trials, tmp_path: Path, embedded_url: str, sites: SampleSites
) -> None:
    inside = Inside(tmp_path / "home", OSINT_DATABASE_URL=plain(embedded_url))
    inside.run("source", "add", sites.news, "--spider", "news", "--every", "*/5 * * * *")
    (watched,) = inside.rows("source", "list")
    (tmp_path / "tmp").mkdir()
    before = rows(embedded_url), everything(tmp_path)
    asked = len(sites.log)
    given = {name: inside.environ[name] for name in ("OSINT_HOME", "OSINT_DATABASE_URL")}
    given["TMPDIR"] = str(tmp_path / "tmp")
    row = trial(watched["source"], **given)
    assert row["spider"] == "news" and len(row["links"]) > 5
    assert [one.path for one in sites.log[asked:]] == ["/robots.txt", "/"], "one page, and what robots.txt says of it"
    assert (rows(embedded_url), everything(tmp_path)) == before
    assert list((tmp_path / "tmp").iterdir()) == []
    assert before[0]["watches"] and before[0]["due"] and before[1]


@pytest.mark.parametrize(
    ("name", "verdict", "code"),
    [
        ("login", "login_wall", 4),
        ("forbidden", "refused", 4),
        ("missing", "gone", 1),
        ("cut", "content", 3),
        ("inside", "refused", 4),
    ],
)
def test_the_exit_code_tells_the_verdict(trial: Trials, sites: SampleSites, name: str, verdict: str, code: int) -> None:
    assert trial(sites.troubled(name), "--render", "never", code=code)["verdict"] == verdict


def test_what_is_too_large_to_be_read_is_not_fetched_to_its_end(trial: Trials) -> None:
    page = Serving(lambda asked: html("x" * 3_000_000), lambda served: None)
    try:
        row = trial(
            f"{page.url}/", "--spider", "page", "--robots", "ignore:a test", code=3, OSINT_MEMORY_BODY_BYTES="10000"
        )
    finally:
        page.close()
    assert "OSINT_MEMORY_BODY_BYTES" in row["why"] and row["bytes"] == 0 and row["posts"] == []


def test_robots_txt_is_obeyed_unless_a_reason_is_given(trial: Trials, sites: SampleSites) -> None:
    closed = f"{sites.bases['news']}/zakryta/redakcyja.html"
    row = trial(closed, code=4)
    assert row["why"] == "robots.txt forbids it" and closed not in [f"http://{one.host}{one.path}" for one in sites.log]
    row = trial(closed, "--robots", "ignore:a test", code=None)
    assert row["status"] is not None


def test_a_page_that_needs_scripts_is_looked_at_by_the_browser(trial: Trials, sites: SampleSites) -> None:
    row = trial(sites.script_page)
    assert row["rendered"] and row["verdict"] == "content" and len(row["posts"]) == 1


def test_names_are_the_proxys_business_and_an_unknown_exit_is_never_replaced(trial: Trials) -> None:
    asked: list[str] = []

    def site(request: Asked) -> Answer:
        asked.append(request.target)
        return html(ARTICLE) if "robots" not in request.target else html("", status=404)

    proxy = Serving(site, lambda served: None)
    try:
        through = {"OSINT_PROXY": proxy.url}
        url = "http://name-that-no-resolver-knows.invalid/an-article-of-some-length"
        row = trial(url, **through)
        assert row["verdict"] == "content" and "затрымалі" in row["posts"][0]["text"]
        assert url in asked
        asked.clear()
        assert "no exit called exit-1" in trial.say(url, "--proxy", "exit-1", code=2, **through) and asked == []
        row = trial(url, "--proxy", "direct", code=1, **through)
        assert row["verdict"] == "failed" and asked == []
    finally:
        proxy.close()
