"""The way out of whole crawls: names stay with the proxy, nothing goes another way, nothing of the proxy is archived."""

import base64
import gzip
import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from sqlalchemy import select

from osint_pipeline.samples import SampleSites
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.chapters import info_of
from storage.records import open_warc
from storage.runs import begun_run
from storage.schema import captures
from tests.commands import ROOT, Osint
from tests.proxyserver import HttpProxy, Socks
from tests.rawserver import RawServer, answer

LOGIN = ("mira-kunde-lt", "geheim-4711-k7")
BASIC = base64.b64encode(":".join(LOGIN).encode()).decode()
SITE, TELLER = "watched.example", "address.example"
ADDRESS = "203.0.113.77"
PAGE = (
    "<html><head><title>Хроніка</title></head><body><h1>Затрыманне ў Мінску</h1>"
    "<p>Учора ўвечары каля ратушы затрымалі траіх чалавек; дзе яны цяпер, невядома.</p></body></html>"
).encode()
TRACED = "-f --seccomp-bpf -e trace=connect,sendto,sendmmsg,sendmsg"
VISIT = """
import json, sys
from osint_pipeline.crawling import crawl_sources
from osint_pipeline.source import make_sources
from osint_pipeline.workspace import Workspace
from settings.service import load
with Workspace(load().service) as opened:
    asked = [word.split("=", 1) for word in sys.argv[1:]]
    made = [make_sources([url], spider="page", render="never", robots="obey", proxy=way)[0] for way, url in asked]
    for way, one in zip(asked, crawl_sources(opened, made), strict=True):
        print(json.dumps({**one.as_json(), "way": way[0]}))
"""


@dataclass
class World:
    """Servers, proxies and a data folder whose crawls look up no name."""

    home: Path
    server: RawServer
    socks: Socks
    http: HttpProxy
    silent: Socks
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def osint(self, **more: str) -> Osint:
        login = ":".join(LOGIN)
        exits = {
            "warsaw": self.socks.url,
            "vilnius": f"http://{login}@127.0.0.1:{self.http.port}",
            "shut": f"socks5://{login}@127.0.0.1:1",
            "silent": self.silent.url,
            "wrong": f"http://{login}x@127.0.0.1:{self.http.port}",
            "stranger": f"socks5://{login}x@127.0.0.1:{self.socks.port}",
        }
        settings = {
            "OSINT_EXITS": ",".join(f"{name}={url}" for name, url in exits.items()),
            "OSINT_PROXY": "warsaw",
            "OSINT_EXIT_CHECK_SECONDS": "2",
            "OSINT_ADDRESS_URL": f"http://{TELLER}:{self.server.port}/ip",
            "OSINT_ALLOW_NETWORKS": "",
            "PYTHONPATH": str(ROOT / "tests" / "deaf"),
            "LOOKUPS": str(self.home.parent / "lookups"),
        }
        return Osint(self.home, **(settings | more))

    def url(self, path: str) -> str:
        return f"http://{SITE}:{self.server.port}{path}"

    def lookups(self) -> list[str]:
        path = self.home.parent / "lookups"
        return path.read_text().splitlines() if path.exists() else []

    def detail(self, run: str) -> dict[str, Any]:
        with Workspace(load(self.osint().environ).service) as opened:
            found = begun_run(opened.catalog, UUID(run))
        assert found is not None
        return found[0].detail

    def reasons(self, name: str) -> list[str]:
        """Say why the captures of a run were none."""
        with Workspace(load(self.osint().environ).service) as opened, opened.catalog.begin() as connection:
            run = UUID(self.runs[name]["run"])
            return list(connection.scalars(select(captures.c.reason).where(captures.c.run_id == run)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    hosts = {SITE: "127.0.0.1", TELLER: "127.0.0.1"}
    pages = {f"/{one}": answer(PAGE + f"<!-- {one} -->".encode()) for one in ("a", "b", "direct", "http", "shown")}
    with ExitStack() as stack:
        server = stack.enter_context(RawServer({**pages, "/ip": answer(b'{"ip": "%s"}' % ADDRESS.encode())}))
        socks = stack.enter_context(Socks(login=LOGIN, hosts=hosts))
        http = stack.enter_context(HttpProxy(auth=f"Basic {BASIC}", hosts=hosts))
        silent = stack.enter_context(Socks(silent=True))
        world = World(tmp_path_factory.mktemp("egress") / "home", server, socks, http, silent)
        world.osint().run("up", "--servers")
        stack.callback(lambda: world.osint().run("down"))
        given = f"{world.url('/a')}\n{world.url('/b')}"
        done = world.osint().run("crawl", "--spider", "page", "--render", "never", "--json", "-", given=given)
        world.runs["socks"] = json.loads(done.stdout)
        yield world


def test_a_whole_crawl_leaves_every_name_to_the_proxy(world: World) -> None:
    assert world.runs["socks"]["outcome"] == "complete" and world.runs["socks"]["captured"] == 2
    assert world.lookups() == []
    assert {one[:2] for one in world.socks.asked} == {("name", SITE), ("name", TELLER)}
    paths = [one.target for one in world.server.requests]
    assert sorted(paths) == ["/a", "/b", "/ip", "/robots.txt"]
    assert len({one.connection for one in world.server.requests}) == len(world.socks.asked)


def test_a_run_notes_its_way_out_and_its_clock_from_its_begin(world: World) -> None:
    detail = world.detail(world.runs["socks"]["run"])
    assert detail["egress"] == {
        "way": "socks5",
        "exit": "warsaw",
        "names": "resolved by the proxy",
        "address": "sealed",
    }
    assert detail["proxy"] is True
    assert detail["clock"]["source"] in ("chrony", "kernel", "unknown")
    assert all(isinstance(one, str) for one in detail["clock"].values())
    (warc,) = (world.home / "spool").rglob("*.warc.gz")
    with open_warc(warc) as reader:
        first = reader.next()
        assert first is not None
        told = info_of(b"".join(first.pieces()))
    assert told["egress"] == "socks5 through exit warsaw; names resolved by the proxy"


def test_the_address_is_sealed_and_whoever_has_the_key_reads_it(world: World, tmp_path: Path) -> None:
    run = world.runs["socks"]["run"]
    assert world.osint().run("keys", "unseal", run).stdout == ADDRESS + "\n"
    other = world.home / "keys"
    other.rename(tmp_path / "away")
    try:
        refused = world.osint().run("keys", "unseal", run, code=2).stderr
    finally:
        for path in other.iterdir():
            path.unlink()
        other.rmdir()
        (tmp_path / "away").rename(other)
    assert "sealed for another key" in refused and ADDRESS not in refused


def test_what_is_noted_survives_the_loss_of_the_catalogue(world: World) -> None:
    checked = world.osint().run("rebuild", "--check", code=None)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_source_goes_its_own_way_or_none(world: World) -> None:
    before, asked = len(world.server.requests), len(world.http.requests)
    local = f"http://127.0.0.1:{world.server.port}"
    words = [f"{way}={world.url('/a')}" for way in ("lagos", "shut", "silent", "stranger")]
    words += [f"wrong=https://{SITE}/a", f"vilnius={world.url('/http')}", f"direct={local}/direct"]
    osint = world.osint(OSINT_ALLOW_NETWORKS="127.0.0.0/8")
    done = subprocess.run(
        [sys.executable, "-c", VISIT, *words], env=osint.environ, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    world.runs |= {row["way"]: row for row in map(json.loads, done.stdout.splitlines())}
    whys = {
        "lagos": "OSINT_EXITS names none like it",
        "shut": "nobody listens there",
        "silent": "it did not answer",
        "stranger": "the proxy lets us not in: Username and password authentication failure",
    }
    for name, why in whys.items():
        assert (world.runs[name]["outcome"], world.runs[name]["failed"]) == ("failed", 1)
        assert world.runs[name]["reason"].startswith(f"exit {name} cannot be used: {why}")
    assert [world.runs[name]["outcome"] for name in ("vilnius", "direct")] == ["complete", "complete"]
    (why,) = world.reasons("wrong")
    assert why.startswith("TunnelError: Could not open CONNECT tunnel with proxy ... [{'status': 407")
    new = [one.target for one in world.server.requests[before:]]
    assert sorted(new) == ["/direct", "/http", "/ip", "/robots.txt", "/robots.txt"]
    through = [one for one in world.http.requests[asked:] if BASIC.encode() in one]
    assert len(through) == 3 and all(SITE in str(one) or TELLER in str(one) for one in world.http.requests)
    assert world.lookups() == [TELLER]  # the operator's own server, asked for directly; no watched name


def test_the_ways_are_declared(world: World) -> None:
    told = {name: world.detail(row["run"])["egress"] for name, row in world.runs.items()}
    assert [told[one]["way"] for one in ("lagos", "shut", "vilnius", "direct")] == [
        "none",
        "socks5",
        "http-proxy",
        "direct",
    ]
    assert [told[one]["exit"] for one in ("lagos", "shut", "vilnius", "direct")] == ["lagos", "shut", "vilnius", None]
    assert told["shut"]["address"] == "unknown" and told["vilnius"]["address"] == "sealed"
    assert world.osint().run("keys", "unseal", world.runs["shut"]["run"], code=2).stderr.startswith("osint: the run's")


def test_the_browser_leaves_every_name_to_the_proxy(world: World) -> None:
    asked, lookups = len(world.socks.asked), world.lookups()
    crawl = ("crawl", "--spider", "page", "--render", "always", "--no-upload", "--json")
    command = [sys.executable, "-m", "osint_pipeline", *crawl, world.url("/shown")]
    trace = world.home.parent / "trace"
    if subprocess.run(["/bin/sh", "-c", f"strace {TRACED} -o /dev/null true"], capture_output=True).returncode == 0:
        command = ["strace", *TRACED.split(), "-o", str(trace), *command]
    done = subprocess.run(command, env=world.osint().environ, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout)["outcome"] == "complete", done.stdout + done.stderr
    assert world.server.asked("/shown") and world.lookups() == lookups
    assert {one[1] for one in world.socks.asked[asked:]} == {SITE, TELLER}, "Chromium asks for more than the page"
    if trace.exists():  # Chromium's own lookups are no Python's
        told = trace.read_text("utf-8", "replace")
        assert "sin_port=htons(53)" not in told and "sin_port=htons" in told


def test_scrapys_own_command_goes_the_same_way(world: World) -> None:
    asked, environ = len(world.socks.asked), world.osint(OSINT_ADDRESS_URL="").environ
    command = [
        sys.executable,
        "-m",
        "scrapy",
        "crawl",
        "page",
        "-a",
        f"url={world.url('/scrapy')}",
        "-a",
        "render=never",
    ]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert world.server.asked("/scrapy") and len(world.socks.asked) == asked + 1
    assert TELLER not in str(world.socks.asked[asked:])


def test_media_leave_every_name_to_the_proxy(world: World) -> None:
    asked, lookups = len(world.socks.asked), world.lookups()
    with SampleSites() as sites:
        port = urlsplit(sites.video).port
        osint = world.osint(OSINT_ALLOW_NETWORKS="127.0.0.0/8", OSINT_KEY_PASSPHRASE="not that of the key")
        words = ("crawl", "--spider", "video", "--no-upload", "--json", f"http://{SITE}:{port}/v/1")
        row = json.loads(osint.run(*words).stdout)
    assert row["outcome"] == "complete", row
    assert len([one for one in world.socks.asked[asked:] if one[2] == port]) >= 3
    assert (
        world.detail(row["run"])["egress"]["address"] == "unknown"
    )  # no key to seal it for, and no reason not to capture
    assert world.lookups() == lookups


def test_exits_are_listed_and_checked(world: World) -> None:
    rows = {row["exit"]: row for row in world.osint().rows("exits", code=1)}
    assert {name: row["usable"] for name, row in rows.items()} == {
        "wrong": True,  # an HTTP proxy asks who we are only once it hears a target
        "warsaw": True,
        "vilnius": True,
        "shut": False,
        "silent": False,
        "stranger": False,
    }
    assert rows["warsaw"]["way"] == "socks5" and rows["warsaw"]["place"] == f"127.0.0.1:{world.socks.port}"
    (row,) = world.osint().rows("exits", "vilnius", "--address")
    assert row["address"] == ADDRESS
    assert "there is no exit lagos" in world.osint().run("exits", "lagos", code=2).stderr
    assert "OSINT_ADDRESS_URL" in world.osint(OSINT_ADDRESS_URL="").run("exits", "--address", code=2).stderr


def test_no_byte_holds_a_secret_of_an_exit(world: World) -> None:
    """Runs last: spool, store, database with its log, keys, and what is shown."""
    world.osint().run("down")
    hidden = [*LOGIN, BASIC, ADDRESS, *(f"127.0.0.1:{one.port}" for one in (world.socks, world.http, world.silent))]
    found = []
    for path in world.home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            data += gzip.decompress(data) if path.suffix == ".gz" else b""
            found += [(str(path), word) for word in hidden if word.encode() in data]
    assert not found
    shown = "".join(
        world.osint().run(*words, code=None).stdout
        for words in (("config",), ("config", "--json"), ("runs", "--json"), ("runs", world.runs["socks"]["run"]))
    )
    assert "warsaw=socks5://********@127.0.0.1" in shown
    assert not [word for word in hidden[:4] if word in shown]
