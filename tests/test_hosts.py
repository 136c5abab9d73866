"""One process at a time asks a host, one machine at a time bears a name."""

import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from osint_pipeline.hostlock import HostLock
from osint_pipeline.namesake import connection_name
from osint_pipeline.source import host_of
from tests.commands import ROOT, Osint
from tests.manychannels import ManyChannels
from tests.rawserver import RawServer
from tests.test_worker import PATIENCE, Held
from tests.watching import Cluster, wait_for


def test_a_crawl_by_hand_has_a_lingering_process_make_room(tmp_path: Path) -> None:
    """The host is asked by one process at a time, and a person does not wait until the other has nothing more to do."""
    with (
        ManyChannels(tmp_path / "channels", hosts=1, channels=1, every_seconds=3600) as channels,
        Cluster(tmp_path, OSINT_LINGER_SECONDS="600") as cluster,
    ):
        cluster.watch(channels.urls())
        cluster.start("m1")
        wait_for(cluster.ended, PATIENCE, cluster.visits)
        by_hand = cluster.machine("m2").run("crawl", channels.urls()[0], "--no-upload")
        assert "visited by another process: waiting" in by_hand.stderr
        assert "two processes at once" not in by_hand.stderr
        first, second = cluster.rows("SELECT started_at, ended_at FROM runs ORDER BY started_at")
        assert first["ended_at"] < second["started_at"]
        assert cluster.stop("m1") == 0


def test_a_crawl_by_hand_goes_on_beside_a_process_that_keeps_its_host(tmp_path: Path) -> None:
    """What may vanish is captured: the wait has an end, and the command says what that means."""
    with (
        ManyChannels(tmp_path / "channels", hosts=1, channels=1, every_seconds=3600) as channels,
        Cluster(tmp_path, OSINT_HOST_WAIT_SECONDS="1") as cluster,
    ):
        (url,) = channels.urls()
        with HostLock.take(cluster.catalog, host_of(url)) or pytest.fail("the host is free"):
            by_hand = cluster.machine("m1").run("crawl", url, "--no-upload")
        assert "two processes at once" in by_hand.stderr


def test_a_second_machine_of_one_name_is_refused_and_ends_nothing_of_the_first(tmp_path: Path) -> None:
    """A process in a pid namespace of its own cannot see that the first machine's processes live."""
    alone = ("unshare", "--pid", "--fork", "--mount-proc")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("unshare --pid is not permitted here: no second pid namespace")
    held = Held()
    with RawServer({"/slow": held}) as server, Cluster(tmp_path) as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        cluster.start("m1")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        other = Osint(tmp_path / "other", **{**cluster.named, "OSINT_MACHINE": "m1", "OSINT_NAME_WAIT_SECONDS": "1"})
        command = [*alone, sys.executable, "-m", "osint_pipeline", "recover"]
        refused = subprocess.run(command, env=other.environ, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2 and "another machine calls itself m1 too" in refused.stderr, refused
        with psycopg.connect(
            cluster.url.replace("+psycopg", ""), application_name=connection_name("m1")[:-12] + "0" * 12
        ):  # one that came later
            held.free = True
            wait_for(cluster.ended, PATIENCE, cluster.visits)
            cluster.machine("m1").run("recover")
        assert [one["outcome"] for one in cluster.visits()] == ["complete"]
        assert cluster.stop("m1") == 0
