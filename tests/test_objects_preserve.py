"""Sealed WARCs come to the store several at once; what differs there is set aside; nothing local is ever lost."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_warc import INFO, exchange

from osint_pipeline.claims import Claim
from osint_pipeline.claims import Result as ClaimResult
from osint_pipeline.errors import Exit
from osint_pipeline.preserve import cdxj_path, key_of, manifest_path, quarantine_key_of, upload
from osint_pipeline.registering import register_sealed
from osint_pipeline.verify import verify_warc
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.digest import file_sha256
from storage.embedded_store import EmbeddedStore
from storage.errors import StoreUnavailable
from storage.finding import check_events, list_events
from storage.ids import new_id
from storage.objects import S3, ObjectStore
from storage.rows import RunRow, SourceRow, WarcState
from storage.runs import begin_run
from storage.sources import ensure_source
from storage.warc import OpenWarc
from storage.warc_files import list_warcs
from tests.cephserver import CephServer
from tests.commands import Osint, kill_group
from tests.faultproxy import Fault, FaultProxy

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass
class Home:
    """A data folder with sealed WARCs in its spool, and the store that they are meant for."""

    folder: Path
    database_url: str
    config: S3

    def settings(self, **more: str) -> dict[str, str]:
        named = {
            "OSINT_DATABASE_URL": self.database_url,
            "OSINT_S3_ENDPOINT": self.config.endpoint,
            "OSINT_S3_BUCKET": self.config.bucket,
            "OSINT_S3_ACCESS_KEY": self.config.access_key,
            "OSINT_S3_SECRET_KEY": self.config.secret_key,
            "OSINT_STORE_PATIENCE_SECONDS": "0.5",
        }
        return named | more

    def workspace(self, **more: str) -> Workspace:
        named = {"HOME": str(self.folder), "OSINT_HOME": str(self.folder)}
        return Workspace(load(named | self.settings(**more)).service)

    def osint(self, **more: str) -> Osint:
        return Osint(self.folder, **self.settings(**more))

    def seal(self, count: int, size_bytes: int = 3000) -> list[str]:
        """Seal this many WARCs, each in a run of its own; their names, oldest first."""
        with self.workspace() as opened:
            source = ensure_source(
                opened.catalog, SourceRow(slug="kanal", url="https://t.me/s/kanal", spider="telegram", created_at=NOON)
            )
            return [self._seal(opened, source.id, number, size_bytes) for number in range(count)]

    def _seal(self, opened: Workspace, source: Any, number: int, size_bytes: int) -> str:
        run = RunRow(source_id=source, started_at=NOON, versions={"osint-pipeline": "0.1.0"}, process="1@host")
        begin_run(opened.catalog, run)
        spool = opened.spool
        name = f"osint-{9 - number}-{run.id}"  # the oldest is not the first by name
        warc = OpenWarc.create(spool.open_folder, name, INFO, sealed=spool.sealed_folder)
        warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n" + os.urandom(size_bytes)))
        sealed = replace(warc.seal(), sealed_at=NOON + timedelta(minutes=number))
        register_sealed(opened.catalog, sealed, run.id)
        return sealed.path.name


@pytest.fixture(params=["rclone", "ceph"])
def home(request: pytest.FixtureRequest, tmp_path: Path, embedded_url: str) -> Iterator[Home]:
    if request.param == "ceph":
        yield Home(tmp_path / "home", embedded_url, new_user(request.getfixturevalue("ceph_server")))
    else:
        with EmbeddedStore(tmp_path / "store") as embedded:
            yield Home(tmp_path / "home", embedded_url, embedded.start())


@pytest.fixture
def ceph_home(tmp_path: Path, embedded_url: str, ceph_server: CephServer) -> Home:
    return Home(tmp_path / "home", embedded_url, new_user(ceph_server))


def new_user(server: CephServer) -> S3:
    return server.new_user(f"preserve-{new_id().hex[-12:]}")


def states(opened: Workspace) -> dict[str, WarcState]:
    return {one.name: one.state for one in list_warcs(opened.catalog)}


def proxied(home: Home, proxy: FaultProxy) -> dict[str, str]:
    return {"OSINT_S3_ENDPOINT": proxy.endpoint}


def port_of(config: S3) -> int:
    return int(config.endpoint.rpartition(":")[2])


def test_warcs_are_brought_several_at_once_oldest_first(home: Home) -> None:
    names = home.seal(9)
    begun: list[str] = []
    with home.workspace() as opened:
        done = list(upload(opened, progress=lambda name, *_: begun.append(name)))
        assert begun == names
        assert sorted(one.name for one in done) == sorted(names) and not any(one.why for one in done)
        for one in done:
            local = opened.local_copy(one.name)
            assert local and opened.store.sha256_of(one.key) == file_sha256(local)
            for beside in (cdxj_path(Path(one.key)), manifest_path(Path(one.key))):
                assert opened.store.head(str(beside))
        assert set(states(opened).values()) == {WarcState.PRESERVED}
        assert check_events(opened.catalog) is None
        assert list(upload(opened)) == []


def test_a_store_that_goes_away_ends_it_cleanly_and_the_rest_waits(home: Home) -> None:
    names = home.seal(8)
    with FaultProxy(port_of(home.config), Fault.SLOW_DOWN, methods=("PUT",), when=lambda n: n > 14) as proxy:
        done = []
        with home.workspace(**proxied(home, proxy)) as opened, pytest.raises(StoreUnavailable, match="slow down"):
            for one in upload(opened):
                done.append(one.name)
        assert 2 <= len(done) <= 4
    with home.workspace() as opened:
        assert {name for name, state in states(opened).items() if state == WarcState.PRESERVED} == set(done)
        assert sorted(one.name for one in upload(opened)) == sorted(set(names) - set(done))


def test_leaving_in_the_middle_ends_what_is_under_way(home: Home) -> None:
    home.seal(6, size_bytes=2_000_000)
    with (
        FaultProxy(port_of(home.config), Fault.SLOW, methods=("PUT",), when=lambda n: n > 3) as proxy,
        home.workspace(**proxied(home, proxy), OSINT_UPLOAD_THREADS="2") as opened,
    ):
        with closing(upload(opened)) as drained:
            assert not next(drained).why
            began = time.monotonic()
        assert time.monotonic() - began < 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("preserve")]
    with home.workspace() as opened:
        left = {name for name, state in states(opened).items() if state == WarcState.SEALED}
        assert len(left) >= 3 and {one.name for one in upload(opened)} == left


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CUT_ANSWER, Fault.FLIP, Fault.SLOW_DOWN])
def test_several_at_once_through_a_bad_network_lose_nothing(home: Home, fault: Fault) -> None:
    names = home.seal(8)
    with (
        FaultProxy(port_of(home.config), fault, methods=("PUT",), when=lambda n: n % 3 == 0) as proxy,
        home.workspace(**proxied(home, proxy), OSINT_STORE_PATIENCE_SECONDS="20") as opened,
    ):
        assert sorted(one.name for one in upload(opened) if not one.why) == sorted(names)
    assert proxy.hits >= 8
    with home.workspace() as opened:
        for warc in list_warcs(opened.catalog):
            local = opened.local_copy(warc.name)
            assert local and warc.key and opened.store.sha256_of(warc.key) == file_sha256(local) == warc.sha256


def test_an_upload_of_several_that_is_killed_goes_on(home: Home) -> None:
    names = home.seal(8, size_bytes=300_000)
    with FaultProxy(port_of(home.config), Fault.SLOW, methods=("PUT",), when=lambda n: n > 6) as proxy:
        process = home.osint(**proxied(home, proxy)).start("upload")
        assert process.stdout and process.stdout.readline().startswith("preserved ")
        kill_group(process)
    rows = home.osint().rows("upload")
    assert rows and all(row["preserved"] for row in rows) and len(rows) < len(names)
    with home.workspace() as opened:
        assert set(states(opened).values()) == {WarcState.PRESERVED}
        for warc in list_warcs(opened.catalog):
            assert warc.key and opened.store.sha256_of(warc.key) == warc.sha256
        assert check_events(opened.catalog) is None


@pytest.mark.parametrize("which", ["warc", "manifest"])
def test_what_differs_in_the_store_is_set_aside_and_waits_for_a_person(home: Home, which: str) -> None:
    names = home.seal(3)
    with home.workspace() as opened:
        (warc,) = list_warcs(opened.catalog, names=[names[1]])
        local = opened.local_copy(warc.name)
        assert local
        key, ours = key_of(warc, "kanal"), local
        if which == "manifest":
            key, ours = str(manifest_path(Path(key))), manifest_path(local)
        opened.store.put_bytes_once(b"forged", key)
        done = {one.name: one for one in upload(opened)}
        assert not done[names[0]].why and not done[names[2]].why
        held = done[warc.name]
        aside = quarantine_key_of(warc, ours.name, file_sha256(ours))
        assert held.quarantined == aside and aside.startswith(f"v1/quarantine/2026-11-20/{warc.name}/")
        assert opened.store.sha256_of(aside) == file_sha256(ours)
        assert b"".join(opened.store.read(key)) == b"forged"
        assert states(opened)[warc.name] == WarcState.SEALED and local.exists()
        (said,) = [one for one in verify_warc(opened, warc) if one.result is ClaimResult.FAIL]
        assert said.claim == "store-sha256" and said.subject == key and aside in said.why
        (event,) = list_events(opened.catalog, subject=warc.name)
        assert event.kind == "quarantined" and event.sha256 == file_sha256(ours)
        assert event.detail["ours_sha256"] == file_sha256(ours)
        assert event.detail["found_sha256"] != file_sha256(ours) and event.detail["quarantine"] == aside
    again = home.osint().run("upload", code=Exit.STORE)
    assert f"quarantined {warc.name}" in again.stderr and aside in again.stderr
    with home.workspace() as opened:
        assert len(list_events(opened.catalog, subject=warc.name)) == 1
        opened.store.wire.call("delete_object", Key=key)  # the person's decision
    (row,) = home.osint().rows("upload")
    assert row["preserved"] and row["warc"] == warc.name
    with home.workspace() as opened:
        (warc,) = list_warcs(opened.catalog, names=[warc.name])
        assert not [one for one in verify_warc(opened, warc) if one.result is ClaimResult.FAIL]


def test_a_later_overwrite_or_deletion_does_not_fool_verify(ceph_home: Home) -> None:
    (name,) = ceph_home.seal(1)
    with ObjectStore.open(ceph_home.config) as store:
        store.wire.call("create_bucket", ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        store.wire.call("put_object_lock_configuration", ObjectLockConfiguration=lock)
    with ceph_home.workspace() as opened:
        (done,) = upload(opened)
        (warc,) = list_warcs(opened.catalog)
        assert warc.version_id and warc.key == done.key
        (opened.spool.sealed_folder / name).rename(opened.folder / "away")

        def claims() -> dict[str, Claim]:
            found = {one.claim: one for one in verify_warc(opened, warc)}
            return {name: found[name] for name in ("store-sha256", "store-newest")}

        def results() -> list[str]:
            return [one.result.value for one in claims().values()]

        assert results() == ["PASS", "PASS"]
        answer = opened.store.wire.call("put_object", Key=done.key, Body=b"forged", ChecksumAlgorithm="SHA256")
        assert results() == ["PASS", "FAIL"] and answer["VersionId"] in claims()["store-newest"].why
        answer = opened.store.wire.call("delete_object", Key=done.key)
        assert results() == ["PASS", "FAIL"] and answer["VersionId"] in claims()["store-newest"].why
        opened.store.wire.call("delete_object", Key=done.key, VersionId=answer["VersionId"])
        ours = opened.store.read_range(done.key, 0, warc.size_bytes or 0, warc.version_id)
        opened.store.wire.call("put_object", Key=done.key, Body=ours, ChecksumAlgorithm="SHA256")
        assert results() == ["PASS", "PASS"]  # the same bytes again do no harm
        opened.store.wire.call("delete_object", Key=done.key, VersionId=warc.version_id, BypassGovernanceRetention=True)
        assert results() == ["FAIL", "PASS"]


def test_upload_waits_for_a_store_that_is_away_where_it_is_told_to(tmp_path: Path, embedded_url: str) -> None:
    embedded = EmbeddedStore(tmp_path / "store")
    home = Home(tmp_path / "home", embedded_url, embedded.start())
    home.seal(2)
    embedded.stop()
    refused = home.osint().run("upload", code=Exit.STORE)
    assert "cannot be connected to" in refused.stderr
    refused = home.osint(OSINT_UPLOAD_WAIT_SECONDS="4").run("upload", code=Exit.STORE)
    assert refused.stderr.count("waiting: ") == 1
    process = home.osint().start("upload", "--wait")
    try:
        assert process.stderr and process.stderr.readline().startswith("waiting: object store")
        assert embedded.start().endpoint == home.config.endpoint
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "2 preserved, 0 held back" in out
    finally:
        process.kill()
        embedded.stop()
