"""Visits sources by fork from a process that has imported everything: a visit costs no start.

python -m tests.visiting FD      reads a JSON line for each visit from the socket FD, answers with the child's pid
"""

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from osint_pipeline.source import Source, make_sources

ROOT = Path(__file__).parent.parent
MODULES = (
    "osint_pipeline.crawl", "osint_pipeline.crawling", "osint_pipeline.preserve", "osint_pipeline.recovery", "storage.catalog",
    "storage.embedded_store", "boto3", "scrapy.crawler", "spiders.channels", "spiders.outlets", "osint_pipeline.fetch.handler",
)  # fmt: skip


class Visitor:
    """Use it in a with statement. Each visit is a process of its own, with a data folder and database as `environ` says."""

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.visiting", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._socket, self._answers = ours, ours.makefile("r")
        assert self._answers.readline() == "ready\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait(30)

    def start(self, environ: Mapping[str, str], url: str, spider: str, **more: Any) -> int:
        """Begin a visit; its process. `upload`: bring what it captured to the store; the rest are fields of Source."""
        order = {"environ": dict(environ), "url": url, "spider": spider, "more": more}
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        return int(self._answers.readline())

    def ended(self) -> dict[str, Any]:
        """Wait for the visit that was begun last: its summary, with its code (0, or the signal that ended it)."""
        self._socket.sendall(b"{}\n")
        return dict(json.loads(self._answers.readline()))

    def visit(self, environ: Mapping[str, str], url: str, spider: str, **more: Any) -> dict[str, Any]:
        """Visit a source and give the summary of its run."""
        self.start(environ, url, spider, **more)
        summary = self.ended()
        assert summary["code"] == 0, summary
        return summary

    def kill(self, pid: int) -> None:
        """Kill a visit, as a power cut would."""
        os.killpg(pid, signal.SIGKILL)
        assert self.ended()["code"] == -signal.SIGKILL


def source_of(url: str, spider: str, more: Mapping[str, Any]) -> Source:
    """Make the source of a visit."""
    from dataclasses import replace

    (made,) = make_sources([url], spider=spider, render="never", robots="obey", proxy=None, new=True)
    changed = {**more, "continues": tuple(UUID(one) for one in more.get("continues", ()))}
    return replace(made, **changed)


def serve(connection: socket.socket) -> None:
    """Fork a child for each order until the other side closes."""
    from importlib import import_module

    for name in MODULES:
        import_module(name)
    assert "twisted.internet.reactor" not in sys.modules, "the child installs its own"
    connection.sendall(b"ready\n")
    pid, result = 0, -1
    for line in connection.makefile("r"):
        if order := json.loads(line):
            result, written = os.pipe()
            pid = _fork(connection, order, written)
            os.close(written)
            connection.sendall(f"{pid}\n".encode())
            continue
        with os.fdopen(result, "rb") as told:
            text = told.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(json.dumps({**json.loads(text or b"{}"), "code": code}).encode() + b"\n")


def _fork(connection: socket.socket, order: Mapping[str, Any], written: int) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        connection.close()
        os.environ.clear()
        os.environ.update(order["environ"])
        with os.fdopen(written, "w") as told:
            json.dump(_visit(order), told)
        code = 0
    except BaseException:  # noqa: BLE001 - what a program prints that ends so
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def _visit(order: Mapping[str, Any]) -> dict[str, Any]:
    from osint_pipeline.crawling import crawl_and_preserve, crawl_sources
    from osint_pipeline.recovery import recover
    from osint_pipeline.workspace import Workspace
    from settings.service import load

    more = dict(order["more"])
    upload = more.pop("upload", False)
    source = source_of(order["url"], order["spider"], more)
    with Workspace(load().service) as workspace:
        list(recover(workspace))
        if not upload:
            (summary,) = crawl_sources(workspace, [source])
        else:
            (summary,), trouble = crawl_and_preserve(workspace, [source])
            assert trouble is None, trouble
    return summary.as_json()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(inherited)
