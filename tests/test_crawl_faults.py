"""Bad input and faults at the command line: the right exit code, one sentence and one of advice, nothing lost."""

import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_store import EmbeddedStore
from tests.commands import ROOT, Osint, kill_group
from tests.rawserver import RawServer, Request, answer, holding

TEXT = "<html><head><title>Суд</title></head><body><p>У Мінску судзяць траіх чалавек, старонка {}.</p>{}</body></html>"
COMPLETE, FAILED, BAD_INPUT, PARTIAL, REFUSED, STORE, DATABASE, DISK, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130
STOP_SECONDS = 10.0
PATIENCE_SECONDS = 60.0


def page(number: int, filling_bytes: int = 0) -> bytes:
    """Make a page with a text of its own, and with filling that does not compress well."""
    filling = random.Random(number).randbytes(filling_bytes // 2).hex()
    return answer(TEXT.format(number, filling).encode())


def pages(count: int, filling_bytes: int = 0) -> dict[str, Any]:
    """Make numbered pages."""
    return {f"/{number}": page(number, filling_bytes) for number in range(count)}


def crawl_words(*more: str) -> tuple[str, ...]:
    return ("crawl", "--spider", "page", "--render", "never", "--json", *more)


def balanced(run: dict[str, Any]) -> bool:
    wanted: int = run["wanted"]
    return wanted == run["captured"] + run["refused"] + run["truncated"] + run["failed"]


@dataclass
class Base:
    """A data folder whose servers run, with one captured page in it."""

    osint: Osint
    server: RawServer
    run: dict[str, Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    osint = Osint(tmp_path_factory.mktemp("faults") / "home")
    robots = answer(b"User-agent: *\nDisallow: /closed\n")
    with RawServer(pages(3) | {"/closed": page(7), "/robots.txt": robots, "/mute": holding(b"")}) as server:
        osint.run("up", "--servers")
        try:
            (run,) = osint.rows("crawl", "--spider", "page", "--render", "never", f"{server.url}/0")
            yield Base(osint, server, run)
        finally:
            osint.run("down")


def assert_said(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """A fault is one sentence and one of advice (a usage error: click's own three lines), and no traceback."""
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert 1 <= len(lines) <= 4, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


# --- what cannot be done as it was written ---


@pytest.mark.parametrize(
    "words",
    [
        ("not-a-url",),
        ("ftp://files.example/a",),
        ("http://",),
        ("http://[::1",),
        ("http://host.example:99999/",),
        ("--spider", "page", "@name"),
        ("--spider", "vk", "https://outlet.example/"),
        ("--since", "yesterday", "https://outlet.example/"),
        ("--since", "2026-13-01", "https://outlet.example/"),
        ("--limit", "0", "https://outlet.example/"),
        ("--limit", "many", "https://outlet.example/"),
        ("--render", "sometimes", "https://outlet.example/"),
        ("--file", "/does/not/exist", "https://outlet.example/"),
        ("--no-such-option",),
        (),
    ],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_a_crawl_that_cannot_be_meant_is_bad_input(base: Base, words: tuple[str, ...]) -> None:
    before = len(base.osint.rows("runs", "--limit", "1000"))
    assert_said(base.osint.run("crawl", *words, code=None), BAD_INPUT)
    assert len(base.osint.rows("runs", "--limit", "1000")) == before


@pytest.mark.parametrize("given", ["", "\n \n", "# only a remark\n"])
def test_an_empty_list_is_bad_input(base: Base, tmp_path: Path, given: str) -> None:
    assert_said(base.osint.run("crawl", "-", code=None, given=given), BAD_INPUT, "no URL")
    listed = tmp_path / "urls.txt"
    listed.write_text(given)
    assert_said(base.osint.run("crawl", "--file", str(listed), code=None), BAD_INPUT, "no URL")


def test_a_list_that_is_no_text_is_bad_input(base: Base, tmp_path: Path) -> None:
    listed = tmp_path / "urls.txt"
    listed.write_bytes(b"https://outlet.example/\xff\xfe\x00\n")
    assert_said(base.osint.run("crawl", "--file", str(listed), code=None), BAD_INPUT)


def test_one_bad_line_in_a_list_stops_it_before_anything_is_fetched(base: Base) -> None:
    asked = len(base.server.requests)
    done = base.osint.run("crawl", "-", code=None, given=f"{base.server.url}/1\nnot a url\n")
    assert_said(done, BAD_INPUT, "not a url")
    assert len(base.server.requests) == asked


@pytest.mark.parametrize("command", ["show", "pull", "verify", "runs", "similar"])
@pytest.mark.parametrize("id_", [str(uuid4()), "no-id", ""], ids=["unknown", "none", "empty"])
def test_an_id_of_nothing_is_bad_input(base: Base, tmp_path: Path, command: str, id_: str) -> None:
    out = ("--out", str(tmp_path)) if command == "pull" else ()
    assert_said(base.osint.run(command, id_, *out, code=None), BAD_INPUT)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_picture_or_no_warc_is_told(base: Base, tmp_path: Path) -> None:
    prose = tmp_path / "prose.txt"
    prose.write_text("no picture, no archive\n")
    assert_said(base.osint.run("similar", str(prose), code=None), BAD_INPUT)
    rows = base.osint.rows("verify", str(prose), code=FAILED)
    assert rows and not [row for row in rows if row["result"] == "PASS"], rows


def test_pull_overwrites_nothing(base: Base, tmp_path: Path) -> None:
    (found,) = base.osint.rows("find", "--kind", "page", "--limit", "1", "--url", f"{base.server.url}/0")
    base.osint.run("pull", found["id"], "--out", str(tmp_path))
    assert_said(base.osint.run("pull", found["id"], "--out", str(tmp_path), code=None), BAD_INPUT, "exists")
    assert_said(base.osint.run("pull", found["id"], "--out", "/proc/none", code=None), BAD_INPUT)


def test_an_unknown_setting_is_named(base: Base) -> None:
    assert_said(Osint(base.osint.home, OSINT_TIMEOUTS="5").run("runs", code=None), BAD_INPUT, "OSINT_TIMEOUTS")
    bad = Osint(base.osint.home, OSINT_DELAY_SECONDS="soon")
    assert_said(bad.run("runs", code=None), BAD_INPUT, "OSINT_DELAY_SECONDS")


def test_a_data_folder_that_is_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    done = subprocess_of(Osint(tmp_path / "home"), "runs")
    assert_said(done, BAD_INPUT, str(tmp_path / "home"))


def subprocess_of(osint: Osint, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end without any assertion."""
    process = osint.start(*words, stdin=subprocess.DEVNULL)
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        kill_group(process)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


# --- servers that are not there ---


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://mira:geheim-4711@127.0.0.1:9/osint",
        "postgresql://mira:geheim-4711@127.0.0.1:9/osint",
        "postgresql+psycopg://mira:geheim-4711@/osint?host=/does/not/exist",
        "sqlite:///somewhere.db",
        "geheim-4711",
    ],
    ids=["nobody-listens", "short-scheme", "no-socket", "other-database", "no-url"],
)
def test_a_database_that_cannot_be_used_is_code_6(tmp_path: Path, url: str) -> None:
    osint = Osint(tmp_path / "home", OSINT_DATABASE_URL=url)
    for words in (("runs",), crawl_words("http://127.0.0.1:9/")):
        done = subprocess_of(osint, *words)
        assert_said(done, DATABASE, "OSINT_DATABASE_URL")
        assert "geheim" not in done.stderr + done.stdout


def test_wrong_keys_of_the_store_are_code_5_and_lose_nothing(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    with RawServer(pages(3)) as server:
        osint.run("up", "--servers")
        store = EmbeddedStore(osint.home / "store", "osint")
        try:
            endpoint = store.start().endpoint
            keys = {"OSINT_S3_ACCESS_KEY": "nobody", "OSINT_S3_SECRET_KEY": "geheim-4711"}
            wrong = Osint(osint.home, OSINT_S3_ENDPOINT=endpoint, OSINT_STORE_PATIENCE_SECONDS="2", **keys)
            done = wrong.run(*crawl_words("-"), code=STORE, given="\n".join(server.url + path for path in pages(3)))
            (run,) = [json.loads(line) for line in done.stdout.splitlines()]
            assert (run["outcome"], run["captured"], run["preserved"]) == ("complete", 3, 0)
            assert "osint upload" in done.stderr and "geheim" not in done.stderr
            assert_said(wrong.run("upload", code=None), STORE)
            counts = claims(osint)
            assert counts["FAIL"] == 0
            osint.run("upload")
            (row,) = osint.rows("runs")
            assert row["preserved"] == row["warc_files"] == 1
            assert claims(osint)["UNVERIFIABLE"] == 0
        finally:
            store.leave()
            osint.run("down")


def claims(osint: Osint) -> dict[str, int]:
    """Verify everything; no claim may fail."""
    counts = osint.claims()
    assert counts["PASS"] > 0
    return counts


# --- stopped midway ---


class Gate:
    """Answers pages until `opened` of them were sent, then holds every request until the client goes away."""

    def __init__(self, opened: int) -> None:
        self.left, self.held = opened, threading.Event()
        self._lock = threading.Lock()

    def __call__(self, sock: socket.socket, request: Request) -> bool:
        with self._lock:
            self.left -= 1
            sent = self.left >= 0
        if sent:
            sock.sendall(page(int(request.target[1:])))
            return True
        self.held.set()
        sock.recv(1)
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_crawl_soon_and_keeps_what_it_has(tmp_path: Path, number: signal.Signals) -> None:
    osint, gate = Osint(tmp_path / "home"), Gate(20)
    with RawServer({f"/{at}": gate for at in range(60)}) as server:
        listed = tmp_path / "urls.txt"
        listed.write_text("\n".join(f"{server.url}/{at}" for at in range(60)))
        osint.run("up", "--servers")
        crawl = osint.start(*crawl_words("--file", str(listed)))
        try:
            assert gate.held.wait(PATIENCE_SECONDS)
            began = time.monotonic()
            os.kill(crawl.pid, number)
            out, err = crawl.communicate(timeout=PATIENCE_SECONDS)
            took = time.monotonic() - began
            assert "Traceback" not in err, err
            (run,) = [json.loads(line) for line in out.splitlines()]
            (row,) = osint.rows("runs")
            assert row["outcome"] == run["outcome"] == "partial" and row["ended_at"], row
            assert row["captured"] == run["captured"] == 20 and balanced(row), row
            assert "interrupted" in row["reason"]
            assert not osint.rows("recover"), "an orderly end leaves nothing to mend"
            assert claims(osint)["UNVERIFIABLE"] == 0
            assert len(osint.rows("find", "--kind", "page", "--limit", "100", "старонка")) == 20
            assert took < STOP_SECONDS, f"{took:.1f} s"
            assert crawl.returncode == INTERRUPTED, "README.md: 130 is interrupted"
        finally:
            kill_group(crawl)
            osint.run("down")


def test_what_arrives_after_the_end_of_a_run_leaves_no_open_file(tmp_path: Path) -> None:
    """Open requests are answered while the run is being ended: its WARCs are sealed, its row cannot be written yet."""
    osint, go = Osint(tmp_path / "home", OSINT_STOP_SECONDS="0.2"), threading.Event()

    def when_told(sock: socket.socket, request: Request) -> bool:
        go.wait(PATIENCE_SECONDS)
        sock.sendall(page(9))
        return True

    with RawServer({"/0": page(0), "/late": when_told}) as server:
        osint.run("up", "--servers")
        postgres = EmbeddedPostgres(osint.home / "postgres")
        url = postgres.start().replace("postgresql+psycopg://", "postgresql://")
        crawl = osint.start(*crawl_words(f"{server.url}/0", f"{server.url}/late"))
        try:
            wait_until(lambda: server.asked("/late"))
            with psycopg.connect(url) as connection:
                connection.execute("LOCK TABLE runs IN SHARE MODE")
                os.kill(crawl.pid, signal.SIGTERM)
                wait_until(lambda: list((osint.home / "spool" / "sealed").glob("*.manifest.json")))
                go.set()
                with contextlib.suppress(AssertionError):
                    wait_until(lambda: list((osint.home / "spool" / "open").glob("*.open")), 2)
            out, err = crawl.communicate(timeout=PATIENCE_SECONDS)
            assert "Traceback" not in err, err
            assert out, f"no summary, exit code {crawl.returncode}: {err}"
            run = json.loads(out)
            assert balanced(run) and run["captured"] == 1, run
            assert not osint.rows("recover"), "an orderly end leaves nothing to mend"
            assert claims(osint)["UNVERIFIABLE"] == 0
        finally:
            go.set()
            kill_group(crawl)
            postgres.leave()
            osint.run("down")


def test_a_signal_before_the_first_answer_ends_the_run_too(base: Base) -> None:
    asked = len(base.server.asked("/mute"))
    crawl = base.osint.start(*crawl_words(f"{base.server.url}/mute"))
    try:
        wait_until(lambda: len(base.server.asked("/mute")) > asked)
        began = time.monotonic()
        os.kill(crawl.pid, signal.SIGTERM)
        _, err = crawl.communicate(timeout=PATIENCE_SECONDS)
        assert time.monotonic() - began < STOP_SECONDS
        assert "Traceback" not in err, err
        row = base.osint.rows("runs", "--limit", "1")[0]
        assert row["outcome"] == "failed" and row["captured"] == 0 and balanced(row) and row["ended_at"], row
        assert crawl.returncode == INTERRUPTED
    finally:
        kill_group(crawl)


def wait_until(true: Any, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + patience_seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Osint, dict[str, Any], Any]]:
    """A data folder whose spool takes 1 MiB: the settings, what limits a child's files, and what gives space again."""
    osint = Osint(tmp_path / "home", OSINT_SPOOL_FREE_BYTES="0")
    spool = osint.home / "spool"
    spool.mkdir(parents=True, mode=0o700)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(spool)]
    mounted = os.geteuid() == 0 and subprocess.run(mounting, capture_output=True).returncode == 0
    osint.run("up", "--servers")
    try:
        if mounted:
            yield osint, {}, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(spool)], check=True)
        else:
            small = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))}
            yield osint, small, lambda: None
    finally:
        osint.run("down")
        if mounted:
            subprocess.run(["umount", str(spool)], check=True)


def test_a_full_disk_is_code_7_and_loses_nothing_that_was_reported(
    small_disk: tuple[Osint, dict[str, Any], Any], tmp_path: Path
) -> None:
    osint, limits, give_space = small_disk
    with RawServer(pages(80, filling_bytes=60_000)) as server:
        listed = tmp_path / "urls.txt"
        listed.write_text("\n".join(server.url + path for path in pages(80)))
        crawl = osint.start(*crawl_words("--file", str(listed)), **limits)
        try:
            out, err = crawl.communicate(timeout=120)
        finally:
            kill_group(crawl)
        assert "Traceback" not in err, err
        assert crawl.returncode == DISK, f"{crawl.returncode}: {out}{err}"
        (run,) = [json.loads(line) for line in out.splitlines()]
        assert run["outcome"] in ("partial", "failed") and balanced(run), run
        give_space()
        osint.run("recover")
        osint.run("upload")
        assert claims(osint)["UNVERIFIABLE"] == 0
        (row,) = osint.rows("runs")
        assert row["captured"] >= run["captured"] > 0, (row, run)
        found = osint.rows("find", "--kind", "page", "--limit", "200", "старонка")
        assert len(found) == row["captured"]
        for claim in osint.rows("verify", run["run"]):
            assert claim["result"] == "PASS"
        assert row["preserved"] == row["warc_files"] > 0, row
        after = osint.rows("crawl", "--spider", "page", "--render", "never", f"{server.url}/0")
        assert after[0]["outcome"] == "complete"


# --- servers that do not give what was asked for ---


def test_a_server_that_never_answers_is_given_up(base: Base) -> None:
    osint = Osint(base.osint.home, OSINT_TIMEOUT_SECONDS="2", OSINT_RETRIES="1")
    began = time.monotonic()
    done = osint.run(*crawl_words(f"{base.server.url}/mute"), code=FAILED)
    assert time.monotonic() - began < 25
    run = json.loads(done.stdout)
    assert (run["outcome"], run["wanted"], run["failed"]) == ("failed", 1, 1), run
    assert claims(osint)["UNVERIFIABLE"] == 0


def test_a_private_address_is_refused_and_not_asked(base: Base) -> None:
    asked = len(base.server.requests)
    osint = Osint(base.osint.home, OSINT_ALLOW_NETWORKS="")
    hosts = (base.server.url, base.server.url.replace("127.0.0.1", "localhost"), "http://169.254.169.254")
    done = osint.run(*crawl_words(*(f"{host}/1" for host in hosts)), code=REFUSED)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) == len(hosts)
    for run in runs:
        assert (run["outcome"], run["wanted"], run["refused"]) == ("refused", 1, 1), run
    assert len(base.server.requests) == asked


def test_what_robots_txt_closes_is_refused_and_not_asked(base: Base) -> None:
    run = json.loads(base.osint.run(*crawl_words(f"{base.server.url}/closed"), code=REFUSED).stdout)
    assert (run["outcome"], run["wanted"], run["refused"]) == ("refused", 1, 1), run
    assert not base.server.asked("/closed")
    ignoring = Osint(base.osint.home, OSINT_ROBOTS="ignore:evidence of a crime")
    run = json.loads(ignoring.run(*crawl_words(f"{base.server.url}/closed")).stdout)
    assert run["outcome"] == "complete" and base.server.asked("/closed")


# --- pipes, neighbours, servers, settings ---


@pytest.mark.parametrize(
    "words", [("find", "--json"), ("find",), ("runs",), ("config",), ("verify", "--all", "--json")]
)
def test_a_reader_that_goes_away_is_no_fault(base: Base, words: tuple[str, ...]) -> None:
    process = base.osint.start(*words)
    try:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
        unread_check = words[0] == "verify"  # nobody saw its answer: never "complete"
        assert process.wait(PATIENCE_SECONDS) == (PARTIAL if unread_check else COMPLETE), said
        assert said == ""
    finally:
        kill_group(process)


def test_find_into_head_prints_one_line(base: Base) -> None:
    line = f"set -o pipefail; {sys.executable} -m osint_pipeline find --json | head -1"
    done = subprocess.run(
        ["bash", "-c", line], env=base.osint.environ, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kind"] == "page"


@pytest.mark.parametrize("servers", ["up", "none"])
def test_two_crawls_at_once_in_one_folder(tmp_path: Path, servers: str) -> None:
    osint = Osint(tmp_path / "home")
    both = {name: {f"/{name}{path[1:]}": sent for path, sent in pages(40).items()} for name in ("one", "two")}
    with RawServer(both["one"]) as one, RawServer(both["two"]) as two:
        if servers == "up":
            osint.run("up", "--servers")
        crawls = []
        try:
            for server, name in ((one, "one"), (two, "two")):
                listed = tmp_path / name
                listed.write_text("\n".join(server.url + path for path in both[name]))
                crawls.append(osint.start(*crawl_words("--file", str(listed))))
            for crawl in crawls:
                out, err = crawl.communicate(timeout=120)
                assert crawl.returncode == COMPLETE, f"{crawl.returncode}: {out}{err}"
                run = json.loads(out)
                assert (run["captured"], run["preserved"]) == (40, run["warc_files"]), run
            rows = osint.rows("runs")
            assert [row["outcome"] for row in rows] == ["complete"] * 2
            assert len(osint.rows("find", "--kind", "page", "--limit", "200")) == 80
            assert claims(osint)["UNVERIFIABLE"] == 0
        finally:
            for crawl in crawls:
                kill_group(crawl)
            osint.run("down")


def test_down_while_nothing_runs_is_no_fault(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    osint.run("down")
    osint.run("up", "--servers")
    osint.run("down")
    osint.run("down")


def test_down_fails_while_a_crawl_is_under_way(tmp_path: Path) -> None:
    """As its help says. The crawl goes on and is complete."""
    osint, go = Osint(tmp_path / "home"), threading.Event()

    def when_told(sock: socket.socket, request: Request) -> bool:
        go.wait(PATIENCE_SECONDS)
        sock.sendall(page(1))
        return True

    with RawServer({"/1": when_told}) as server:
        osint.run("up", "--servers")
        crawl = osint.start(*crawl_words(f"{server.url}/1"))
        try:
            wait_until(lambda: server.asked("/1"))
            done = osint.run("down", code=None)
            go.set()
            out, err = crawl.communicate(timeout=PATIENCE_SECONDS)
            assert crawl.returncode == COMPLETE, f"{crawl.returncode}: {out}{err}"
            assert done.returncode != COMPLETE and len(done.stderr.splitlines()) == 2, done
        finally:
            go.set()
            kill_group(crawl)
            with contextlib.suppress(AssertionError):
                osint.run("down")


def test_config_masks_every_secret(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("geheim-4711-file\n")
    osint = Osint(
        tmp_path / "home",
        OSINT_DATABASE_URL="postgresql+psycopg://mira:geheim-4711@db.example:5432/osint?password=geheim-4711",
        OSINT_S3_ENDPOINT="https://s3.example",
        OSINT_S3_ACCESS_KEY="geheim-4711-key",
        OSINT_S3_SECRET_KEY_FILE=str(key),
        OSINT_PROXY="http://mira:geheim-4711@proxy.example:3128",
    )
    for words in (("config",), ("config", "--json")):
        done = osint.run(*words)
        assert "geheim" not in done.stdout + done.stderr
    rows = {row["setting"]: row for row in osint.rows("config")}
    assert rows["OSINT_S3_SECRET_KEY"]["from"] == "OSINT_S3_SECRET_KEY_FILE"
    assert "db.example" in rows["OSINT_DATABASE_URL"]["value"]
    odd = Osint(tmp_path / "home", OSINT_PROXY="mira:geheim-4711@proxy.example:3128")
    done = odd.run("config", code=None)
    assert "geheim" not in done.stdout + done.stderr
