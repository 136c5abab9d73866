"""SIGTERM ends every command in order within ten seconds, a second one at once; nothing is lost either way."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_crawl_faults import INTERRUPTED, PATIENCE_SECONDS, STOP_SECONDS, balanced, page, wait_until

from storage.series import WarcSeries
from storage.spool import Spool
from tests.commands import Osint, kill_group
from tests.rawserver import Listener, RawServer, Request, answer, endless, holding
from tests.test_warc import INFO, exchange

VIDEO_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 900000000\r\n\r\n\0\0\0\x18ftypmp42"
AT_ONCE_SECONDS = 3.0


@pytest.fixture
def osint(tmp_path: Path) -> Iterator[Osint]:
    osint = Osint(tmp_path / "home")
    osint.run("up", "--servers")
    try:
        yield osint
    finally:
        osint.run("down")


def stopped(process: "subprocess.Popen[str]", ready: Callable[[], Any], signals: int = 1) -> tuple[str, str, float]:
    """Send SIGTERM once something is under way; what was printed, and how long the end took. Nothing outlives it."""
    try:
        wait_until(ready)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        for _ in range(signals - 1):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            os.kill(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        took = time.monotonic() - began
        assert "Traceback" not in err, err
        assert process.returncode == INTERRUPTED, f"{process.returncode}: {out}{err}"
        wait_until(lambda: not group(process.pid), 5)
        return out, err, took
    finally:
        kill_group(process)


def group(pgid: int) -> list[str]:
    """List the living processes of a group, by name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if int(fields[2]) == pgid and fields[0] != "Z":
            found.append(name)
    return found


def trickling(head: bytes) -> Callable[[socket.socket, Request], bool]:
    """Send the head, then a little for ever."""

    def answer(sock: socket.socket, request: Request) -> bool:
        sock.sendall(head)
        while True:
            sock.sendall(os.urandom(1000))
            time.sleep(0.05)

    return answer


def lost_nothing(osint: Osint, run: dict[str, Any]) -> None:
    (row,) = osint.rows("runs")
    assert row["outcome"] == run["outcome"] and row["ended_at"] and balanced(row), row
    assert row["captured"] == run["captured"], (row, run)
    assert not osint.rows("recover"), "an orderly end leaves nothing to mend"
    osint.claims()


def test_a_crawl_stops_while_the_wire_waits(osint: Osint) -> None:
    with RawServer(
        {"/0": page(0), "/slow": trickling(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")}
    ) as server:
        words = ("crawl", "--json", "--spider", "page", "--render", "never", f"{server.url}/0", f"{server.url}/slow")
        out, err, took = stopped(osint.start(*words), lambda: server.asked("/slow"))
    run = json.loads(out)
    assert took < STOP_SECONDS and run["captured"] == 1 and run["wanted"] == 2, (took, run)
    assert "waits in the spool" in err
    lost_nothing(osint, run)


def test_a_crawl_stops_while_the_browser_waits(osint: Osint) -> None:
    script = answer(b"<html><script src=/mute></script><p>\xd1\x81\xd1\x83\xd0\xb4</p></html>")
    with RawServer({"/0": script, "/mute": holding(b"")}) as server:
        words = ("crawl", "--json", "--spider", "page", "--render", "always", f"{server.url}/0")
        out, _, took = stopped(osint.start(*words), lambda: server.asked("/mute"))
    run = json.loads(out)
    assert took < STOP_SECONDS and balanced(run), (took, run)
    lost_nothing(osint, run)


def test_a_crawl_stops_while_a_video_comes_slowly(osint: Osint) -> None:
    with RawServer({"/film.mp4": trickling(VIDEO_HEAD)}) as server:
        words = ("crawl", "--json", "--spider", "video", f"{server.url}/film.mp4")
        out, _, took = stopped(osint.start(*words), lambda: len(server.asked("/film.mp4")) > 1)
    run = json.loads(out)
    assert took < STOP_SECONDS and balanced(run), (took, run)
    lost_nothing(osint, run)


def test_a_second_signal_ends_a_crawl_at_once(osint: Osint) -> None:
    with RawServer({"/0": page(0), "/mute": holding(b"")}) as server:
        words = ("crawl", "--json", "--spider", "page", "--render", "never", f"{server.url}/0", f"{server.url}/mute")
        out, _, took = stopped(osint.start(*words), lambda: server.asked("/mute"), signals=2)
    assert took < AT_ONCE_SECONDS, took
    if out:
        lost_nothing(osint, json.loads(out))


class Mute(Listener):
    """Takes connections and what they send, and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Event()

    def serve(self, sock: socket.socket, number: int) -> None:
        while sock.recv(1 << 20):
            self.heard.set()


@pytest.mark.parametrize("command", [("upload",), ("verify", "--all")], ids=["upload", "verify"])
def test_a_command_stops_while_the_store_does_not_answer(osint: Osint, command: tuple[str, ...]) -> None:
    upload = ("--no-upload",) if command == ("upload",) else ()
    with RawServer({"/0": page(0)}) as server:
        osint.run("crawl", "--spider", "page", "--render", "never", *upload, f"{server.url}/0")
    with Mute() as store:
        away = {"OSINT_S3_ENDPOINT": f"http://127.0.0.1:{store.port}"}
        keys = {"OSINT_S3_ACCESS_KEY": "mute", "OSINT_S3_SECRET_KEY": "mute"}
        waiting = Osint(osint.home, **away, **keys, OSINT_STORE_PATIENCE_SECONDS="300")
        _, err, took = stopped(waiting.start(*command), store.heard.is_set)
    assert took < STOP_SECONDS and "stopped" in err, (took, err)
    assert not osint.rows("recover")
    osint.run("upload")
    assert osint.claims()["UNVERIFIABLE"] == 0


def left_open(osint: Osint, records: int) -> Path:
    """Leave an open WARC of a process that is gone; its path."""
    spool = Spool.open(osint.home / "spool")
    series = WarcSeries(spool, "left", 1, INFO, 10**10)
    for _ in range(records):
        series.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n" + random.randbytes(2_000_000)))
    series.sync()
    (path,) = spool.open_folder.glob("*.open")
    kept = path.with_name("kept")
    os.link(path, kept)
    series._files.current.close()  # type: ignore[union-attr]
    series._scratch.close()
    kept.unlink()
    return path


def test_recover_stops_and_is_finished_by_the_next(osint: Osint) -> None:
    osint.run("recover")
    path = left_open(osint, 250)
    index = osint.home / "spool" / "sealed"
    _, _, took = stopped(osint.start("recover"), lambda: list(index.glob("*.tmp")))
    assert took < STOP_SECONDS, took
    assert path.exists() or list(index.glob("left-*.warc.gz"))
    osint.run("recover")
    assert not osint.rows("recover") and not path.exists()
    osint.claims()


@pytest.mark.parametrize("piece_bytes", [1_000, pytest.param(50_000, marks=pytest.mark.soak)])
def test_endless_answers_do_not_hold_an_end_up(piece_bytes: int, osint: Osint) -> None:
    """The larger pieces come as fast as the disk takes them: then the end, which waits for that disk, is at times cut short."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    with RawServer({"/endless": endless(head, random.randbytes(piece_bytes))}) as server:
        words = ("crawl", "--json", "--spider", "page", "--render", "never", f"{server.url}/endless")
        out, _, took = stopped(osint.start(*words), lambda: server.asked("/endless"))
    assert took < STOP_SECONDS, took
    lost_nothing(osint, json.loads(out))
