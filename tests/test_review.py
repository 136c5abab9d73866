"""What a hostile reader broke once, and does not break again."""

import signal
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from osint_pipeline.samples.server import Answer, Asked, Serving, html, redirect
from storage.errors import DamagedWarc
from storage.records import open_warc
from tests.commands import Osint, kill_group

TEXT = "<p>" + "У горадзе затрымалі чалавека каля рынку, сведкі расказалі пра гэта нашай рэдакцыі. " * 12 + "</p>"
ARTICLE = (
    f"<html><head><title>Затрыманне</title></head><body><article><h1>Затрыманне</h1>{TEXT}</article></body></html>"
)
LOGIN = '<html><body><h1>Увайдзіце</h1><form action="/login" method="post"><input name="login"><input type="password"></form></body></html>'


def site(asked: Asked) -> Answer:
    """Answer with walls, a cookie check, a page too large to read, and plain articles."""
    if asked.path.startswith("/wall"):
        return redirect("/login")
    if asked.path == "/login":
        return html(LOGIN)
    if asked.path == "/cookie":
        if "seen=1" in asked.headers.get("cookie", asked.headers.get("Cookie", "")):
            return html(ARTICLE)
        return Answer(status=302, headers=(("Location", "/cookie"), ("Set-Cookie", "seen=1; Path=/")))
    if asked.path == "/large":
        return html(ARTICLE + "<!-- " + "x" * 200_000 + " -->")
    if asked.path.startswith("/slow"):
        time.sleep(3)
    return (
        html(ARTICLE.replace("Затрыманне", f"Затрыманне {asked.path}"))
        if asked.path != "/robots.txt"
        else html("", status=404)
    )


@pytest.fixture(scope="module")
def osint(tmp_path_factory: pytest.TempPathFactory):
    osint = Osint(tmp_path_factory.mktemp("review") / "home")
    osint.run("up", "--servers")
    yield osint
    osint.run("down")


@pytest.fixture(scope="module")
def base():
    served = Serving(site, lambda _: None, 0)
    yield served.url
    served.close()


def test_a_redirect_to_a_login_wall_is_refused_each_time(osint: Osint, base: str) -> None:
    urls = [f"{base}/wall/{number}" for number in range(3)]
    (run,) = osint.rows("crawl", "--spider", "page", f"{base}/login", *urls, code=4)
    assert (run["wanted"], run["captured"], run["refused"], run["outcome"]) == (4, 0, 4, "refused")


def test_a_redirect_to_itself_with_a_cookie_is_followed(osint: Osint, base: str) -> None:
    (run,) = osint.rows("crawl", "--spider", "page", f"{base}/cookie")
    assert (run["outcome"], run["posts"]) == ("complete", 1)


def test_a_page_too_large_to_be_read_is_not_complete(osint: Osint, base: str) -> None:
    small = Osint(osint.home, OSINT_MEMORY_BODY_BYTES="100000")
    (run,) = small.rows("crawl", "--spider", "page", f"{base}/large", code=3)
    assert (run["outcome"], run["captured"]) == ("partial", 1) and "too large" in run["reason"]


def test_an_interrupted_crawl_is_not_complete_and_names_what_it_did_not_reach(osint: Osint, base: str) -> None:
    import json

    crawl = osint.start("crawl", "--json", "--spider", "news", f"{base}/slow/1", f"{base}/slow/2")
    deadline = time.monotonic() + 60
    while not list(osint.home.glob("spool/open/*.open")):  # the first answer, robots.txt, has come
        assert time.monotonic() < deadline and crawl.poll() is None
        time.sleep(0.05)
    crawl.send_signal(signal.SIGINT)
    out, _ = crawl.communicate(timeout=30)
    rows = [json.loads(line) for line in out.splitlines()]
    assert crawl.returncode == 130
    assert [row["outcome"] for row in rows] == ["failed", "failed"] or rows[0]["outcome"] == "partial"
    assert len(rows) == 2 and rows[1]["reason"] == "interrupted" and rows[1]["wanted"] == rows[1]["failed"] == 1


@pytest.mark.parametrize(
    "url", ["http://[x", "http://a b/", "http://me:secret@127.0.0.1/", "ftp://127.0.0.1/", "http://127.0.0.1:port/"]
)
def test_an_unusable_address_is_one_sentence(osint: Osint, url: str) -> None:
    done = osint.run("crawl", url, code=2)
    assert done.stderr.count("\n") == 2 and "secret" not in done.stderr


def test_a_list_that_is_no_text_is_one_sentence(osint: Osint, tmp_path: Path) -> None:
    (tmp_path / "urls").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in osint.run("crawl", "--file", str(tmp_path / "urls"), code=2).stderr


def test_recover_leaves_a_living_crawl_alone(osint: Osint, base: str, tmp_path: Path) -> None:
    (tmp_path / "urls").write_text("".join(f"{base}/a/{number}\n" for number in range(120)))
    small = Osint(osint.home, OSINT_WARC_LIMIT_BYTES="20000", OSINT_SYNC_SECONDS="1")
    crawl = small.start("crawl", "--json", "--spider", "page", "--file", str(tmp_path / "urls"))
    while crawl.poll() is None:
        osint.run("recover")
    out, errors = crawl.communicate()
    assert crawl.returncode == 0, errors
    import json

    run = json.loads(out.splitlines()[-1])
    assert run["captured"] == run["posts"] == 120
    found = osint.rows("find", "--url", f"{base}/a/*", "--limit", "500")
    assert len(found) == 120


def test_what_the_catalogue_lost_is_made_again_from_the_warcs(base: str, tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    urls = [f"{base}/b/{number}" for number in range(3)]
    (run,) = osint.rows("crawl", "--spider", "page", *urls)
    (osint.home / "postgres").rename(tmp_path / "lost")
    assert "osint spool adopt" in osint.run("recover", code=2).stderr  # it might be another archive's
    osint.run("spool", "adopt")
    osint.run("recover")
    (again,) = osint.rows("runs")
    assert again["run"] == run["run"]
    found = osint.rows("find", "--url", f"{base}/b/*")
    assert {row["url"] for row in found} == set(urls) and all(row["text"] for row in found)
    assert osint.rows("verify", found[0]["id"])[0]["result"] == "PASS"


def test_a_damaged_original_is_not_referred_to(base: str, tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    osint.rows("crawl", "--no-upload", "--spider", "page", f"{base}/c/1")
    (warc,) = osint.home.glob("spool/sealed/*.warc.gz")
    (place,) = [one for one in osint.rows("show", run_page(osint, base))[0]["records"] if one["type"] == "response"]
    data = bytearray(warc.read_bytes())
    data[place["offset"] + place["length"] // 2] ^= 1
    warc.write_bytes(data)
    (run,) = osint.rows("crawl", "--spider", "page", f"{base}/c/1", code=None)
    assert run["revisits"] <= 1  # robots.txt, whose record is whole, may be one
    kinds = [record["type"] for record in osint.rows("show", run_page(osint, base))[0]["records"]]
    assert kinds.count("response") == 2


def run_page(osint: Osint, base: str) -> str:
    (row,) = osint.rows("find", "--url", f"{base}/c/1")
    return str(row["id"])


def test_the_environments_proxy_is_not_used(osint: Osint, base: str) -> None:
    other = Osint(osint.home, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    (run,) = other.rows("crawl", "--spider", "page", f"{base}/d/1")
    assert run["outcome"] == "complete"


def test_a_folder_with_other_files_is_not_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "somebodys").touch()
    assert "other files" in Osint(folder).run("crawl", "https://example.org/", code=2).stderr
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_demo_deletes_no_captures_of_others(tmp_path: Path) -> None:
    from osint_pipeline.demo import MARK, run_demo
    from osint_pipeline.errors import UserError

    home = tmp_path / "home"
    (home / "spool" / "sealed").mkdir(parents=True)
    (home / MARK).touch()
    kept = home / "spool" / "sealed" / "t-me-s-channel-20261101T000000Z-0-1-00000.warc.gz"
    kept.touch()
    with pytest.raises(UserError, match="no demo made"):
        run_demo(home, print)
    assert kept.exists()


def test_recover_survives_turned_warcs_and_pages_that_break_a_parser(base: str, tmp_path: Path) -> None:
    served = Serving(hostile, lambda _: None, 0)
    osint = Osint(
        tmp_path / "home",
        OSINT_WARC_LIMIT_BYTES="4000",
        OSINT_SYNC_SECONDS="30",  # nothing is committed in time
    )
    try:
        urls = [f"{served.url}/{name}" for name in ("rot", "hex", "chain", "plain", "empty", "wall")]
        crawl = osint.start("crawl", "--spider", "page", *urls, f"{served.url}/never")
        deadline = time.monotonic() + 60
        answered = {"/rot", "/hex", "/chain", "/end", "/plain", "/empty", "/wall"}
        while "/never" not in hostile_asked or not recorded(osint) >= answered:
            assert time.monotonic() < deadline and crawl.poll() is None
            time.sleep(0.05)
        kill_group(crawl)
        osint.run("recover")
        assert "nothing to mend" in osint.run("recover").stdout
        (run,) = osint.rows("runs")
        assert run["outcome"] == "partial"
        assert run["wanted"] == run["captured"] + run["refused"] + run["truncated"] + run["failed"]
        found = {row["url"].rsplit("/", 1)[-1]: row for row in osint.rows("find", "--limit", "50")}
        assert found["plain"]["text"], [
            (name, row["kind"], row["verdict"], bool(row["text"])) for name, row in found.items()
        ]
        verdicts = {name: row["verdict"] for name, row in found.items()}
        assert verdicts["rot"] is None and verdicts["empty"] is None, (
            verdicts
        )  # what no reader can read is not captured
        assert run["captured"] == 3 and run["refused"] == 1, verdicts  # plain, the chain's end, hex; the wall
        assert osint.claims()["FAIL"] == 0
    finally:
        served.close()
        osint.run("down")  # the killed crawl left its store running, and no later command used it


def recorded(osint: Osint) -> set[str]:
    """The paths of all answers that stand in WARCs of the spool, sealed or not."""
    found = set()
    for warc in [*osint.home.glob("spool/sealed/*.warc.gz"), *osint.home.glob("spool/open/*.open")]:
        with suppress(DamagedWarc, FileNotFoundError), open_warc(warc) as reader:  # it is being written
            while streamed := reader.next():
                if streamed.header.type in ("response", "revisit"):
                    found.add(urlsplit(streamed.header.url).path)
    return found


hostile_asked: list[str] = []


def hostile(asked: Asked) -> Answer:
    """Answer with charsets that are none, redirects, an empty page, a wall, and at last nothing for long."""
    hostile_asked.append(asked.path)
    if asked.path == "/rot":
        return Answer(body=b"<html><head><meta charset=rot13></head><body>x</body></html>")
    if asked.path == "/hex":
        return Answer(body=b"<html><body>x</body></html>", media_type="text/html; charset=hex")
    if asked.path == "/chain":
        return redirect("/end")
    if asked.path == "/wall":
        return html(LOGIN)
    if asked.path == "/never":
        time.sleep(20)
    return html("" if asked.path == "/empty" else ARTICLE, status=404 if asked.path == "/robots.txt" else 200)


def test_a_reader_that_goes_away_does_not_make_a_failure_complete(osint: Osint, base: str) -> None:
    import subprocess

    for words, code in (
        (("crawl", "--json", "--spider", "page", f"{base}/login"), 4),
        (("verify", "--all", "--json"), 3),
    ):
        done = osint.start(*words, stderr=subprocess.DEVNULL)
        assert done.stdout is not None
        done.stdout.close()
        assert done.wait(60) == code, words
