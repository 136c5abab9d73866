"""A machine that is gone for good: its runs end, its visits go to others, and if its disk turns up nothing of it is lost."""

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.commands import kill_group
from tests.rawserver import RawServer, Request, answer
from tests.watching import Cluster, wait_for

PATIENCE = 90.0
PAGE = answer(
    b"<html><head><title>t</title></head><body><article>"
    + "Затрымалі чалавека. ".encode() * 40
    + b"</article></body></html>"
)
SILENT = {"OSINT_WORKER_GONE_SECONDS": "1"}  # so that four seconds of silence are enough


def never(sock: Any, request: Request) -> bool:
    """Answer nothing until the other side is gone."""
    with suppress(OSError):
        sock.settimeout(PATIENCE)
        sock.recv(1)
    return True


def cut_power(process: "psutil.Popen | Any") -> None:
    """kill -9 a process and all that it started, in whatever groups."""
    found = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in found:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    kill_group(process)


def retired(cluster: Cluster, by: str, name: str) -> dict[str, Any]:
    """Retire a machine as soon as that is allowed."""

    def tried() -> dict[str, Any] | None:
        rows = cluster.machine(by).rows("machine", "retire", name, "--why", "its disk burned", code=None)
        return rows[0] if rows else None

    found: dict[str, Any] = wait_for(tried, PATIENCE)
    return found


def test_a_retired_machines_run_ends_and_what_it_kept_comes_in_when_it_is_back(tmp_path: Path) -> None:
    with RawServer({"/one": PAGE, "/slow": never}) as server, Cluster(tmp_path, **SILENT) as cluster:
        m1, m2 = cluster.machine("m1"), cluster.machine("m2")
        crawl = m1.start("crawl", "--spider", "page", f"{server.url}/one", f"{server.url}/slow")
        wait_for(lambda: cluster.rows("SELECT 1 FROM captures WHERE state = 'captured'"), PATIENCE)
        assert server.asked("/slow")
        cut_power(crawl)
        m2.run("recover")
        assert [run["outcome"] for run in m2.rows("runs")] == [None], "the run of another machine is its own affair"
        assert [(row["name"], row["unfinished_runs"]) for row in m2.rows("machine", "list")] == [("m1", 1)]

        assert retired(cluster, "m2", "m1") == {"name": "m1", "runs": 1, "visits": 0}
        (run,) = m2.rows("runs")
        assert (run["outcome"], run["reason"]) == ("partial", "its machine was retired: its disk burned"), run
        before = run["captured"]
        assert before and m2.rows("machine", "list") == []
        claims = m2.rows("verify", "--all", code=1)
        lost = [one for one in claims if one["result"] == "FAIL"]
        assert {one["claim"] for one in lost} == {"catalogue-warc"}, "what its disk alone held is named"
        (event,) = cluster.rows("SELECT subject, detail FROM events WHERE kind = 'machine retired'")
        assert event["subject"] == "m1" and event["detail"]["runs"] == [run["run"]], event

        m2.run("upload")
        m1.run("recover")
        m1.run("upload")
        (run,) = m1.rows("runs")
        assert run["captured"] >= before and run["reason"] == "its machine was retired: its disk burned", run
        assert run["wanted"] == run["captured"] + run["refused"] + run["truncated"] + run["failed"]
        counted = cluster.rows("SELECT count(*) AS n FROM captures")[0]["n"]
        assert run["wanted"] == counted
        assert m1.claims()["FAIL"] == 0
        assert "nothing to mend" in m1.run("recover").stdout
        assert sum(row["differing"] for row in m1.rows("rebuild", "--check")) == 0


def test_a_retired_machines_visit_is_made_by_another(tmp_path: Path) -> None:
    with RawServer({"/slow": never}) as server, Cluster(tmp_path, **SILENT) as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        worker = cluster.start("m1", "--queues", "crawl,clock")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        m2 = cluster.machine("m2")
        refused = m2.run("machine", "retire", "m1", "--why", "x", code=2)
        assert "it is not gone" in refused.stderr and "stop it" in refused.stderr
        assert "is this machine" in m2.run("machine", "retire", "m2", "--why", "x", code=2).stderr
        assert "no machine m9" in m2.run("machine", "retire", "m9", "--why", "x", code=2).stderr
        cut_power(worker)
        del cluster.workers["m1"]
        assert retired(cluster, "m2", "m1") == {"name": "m1", "runs": 1, "visits": 1}
        (visit,) = cluster.visits()
        assert (visit["state"], visit["worker"], visit["reason"]) == (
            "due",
            None,
            "its machine was retired: its disk burned",
        )
        assert len(visit["detail"]["runs"]) == 1
        (run,) = m2.rows("runs")
        assert run["outcome"] == "failed", run
