"""Uploads and reads through a network that fails: nothing bad is ever reported as stored."""

import hashlib
import json
import os
import random
import signal
import threading
import time
from dataclasses import replace

import pytest

from storage.embedded_store import EmbeddedStore
from storage.errors import StoreDiffers, StoreUnavailable
from storage.objects import ObjectStore
from storage.upload import resume_file
from tests.faultproxy import Fault, FaultProxy

PART = 256 << 10


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


@pytest.fixture(scope="module", params=["rclone", "ceph"])
def direct(request, tmp_path_factory):
    small = {"part_bytes": PART, "threads": 2, "read_seconds": 5}
    if request.param == "ceph":
        config = replace(request.getfixturevalue("ceph_server").new_user("faults"), **small)
        with ObjectStore.open(config) as store:
            store.ensure_bucket()
        yield config
        return
    with EmbeddedStore(tmp_path_factory.mktemp("rclone") / "store") as embedded:
        config = replace(embedded.start(), **small)
        with ObjectStore.open(config) as store:
            store.ensure_bucket()
        yield config


def port_of(config):
    return int(config.endpoint.rpartition(":")[2])


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET, Fault.CUT_ANSWER, Fault.FLIP, Fault.SLOW])
def test_nothing_bad_is_stored_whatever_happens_to_uploads(direct, tmp_path, fault):
    rng = random.Random(fault.value)
    files = {f"{n:02d}": rng.randbytes(rng.randint(2000, 200_000)) for n in range(10)} | {
        "big": rng.randbytes(5 * PART + 7)
    }
    with (
        # a changed part costs rclone the whole upload: not each second one, or the large file never comes to its end
        FaultProxy(port_of(direct), fault, when=lambda n: n % 2 == 1 if n < 20 else n % 20 == 4) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint)) as store,
    ):
        for name, data in files.items():
            path = tmp_path / name
            path.write_bytes(data)
            stored = store.put_once(path, f"v1/{fault.name}/{name}", sha256(data))
            assert (stored.sha256, stored.size_bytes) == (sha256(data), len(data))
    assert proxy.hits >= 9
    with ObjectStore.open(direct) as store:
        found = {one.key: store.sha256_of(one.key) for one in store.list(f"v1/{fault.name}/")}
    assert found == {f"v1/{fault.name}/{name}": sha256(data) for name, data in files.items()}


def test_a_lost_answer_is_checked_and_not_repeated(direct):
    with (
        FaultProxy(port_of(direct), Fault.CUT_ANSWER, when=lambda n: True) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint)) as store,
    ):
        stored = store.put_bytes_once(b"heard or not", "v1/lost/answer")
    assert stored.sha256 == sha256(b"heard or not")
    assert proxy.seen == proxy.hits == 1


@pytest.mark.parametrize("fault", [Fault.HALF_ANSWER, Fault.FLIP_ANSWER])
def test_reads_survive_broken_answers(direct, fault):
    data = os.urandom(400_000)
    with ObjectStore.open(direct) as store:
        store.put_bytes_once(data, f"v1/reads/{fault.name}")
    with (
        FaultProxy(port_of(direct), fault, methods=("GET",)) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint)) as store,
    ):
        assert store.put_bytes_once(data, f"v1/reads/{fault.name}").was_there
    assert proxy.hits == 1


def test_bytes_that_always_change_on_the_way_are_never_reported_as_stored(direct, tmp_path):
    path, data = tmp_path / "one", os.urandom(PART * 3)
    path.write_bytes(data)
    for size, kind in ((1000, StoreUnavailable), (PART * 3, StoreUnavailable)):
        path.write_bytes(data[:size])
        with (
            FaultProxy(port_of(direct), Fault.FLIP, methods=("PUT",), when=lambda n: True) as proxy,
            ObjectStore.open(replace(direct, endpoint=proxy.endpoint, attempts=3)) as store,
            pytest.raises(kind),
        ):
            store.put_once(path, f"v1/flipped/{size}", sha256(data[:size]))
    with (
        FaultProxy(port_of(direct), Fault.FLIP_ANSWER, methods=("GET",), when=lambda n: True) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint)) as store,
        pytest.raises(StoreDiffers),
    ):
        store.put_bytes_once(data, "v1/flipped/answer")
    with ObjectStore.open(direct) as store:
        assert [one.key for one in store.list("v1/flipped/")] == ["v1/flipped/answer"]
        assert store.sha256_of("v1/flipped/answer") == sha256(data)


def test_a_silent_store_is_given_up_in_time(direct):
    config = replace(direct, read_seconds=0.3, attempts=3)
    with (
        FaultProxy(port_of(direct), Fault.SILENT, methods=("HEAD", "GET", "PUT"), when=lambda n: True) as proxy,
        ObjectStore.open(replace(config, endpoint=proxy.endpoint)) as store,
    ):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer in time"):
            store.head("v1/x")
        assert time.monotonic() - began < 5


def test_an_upload_that_was_cut_off_goes_on_where_it_stopped(direct, tmp_path):
    path, data = tmp_path / "big", os.urandom(6 * PART)
    path.write_bytes(data)
    with (
        FaultProxy(port_of(direct), Fault.SLOW_DOWN, methods=("PUT",), when=lambda n: n > 3) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint, attempts=2, threads=1)) as store,
        pytest.raises(StoreUnavailable, match="slow down"),
    ):
        store.put_once(path, "v1/resumed", sha256(data))
    kept = json.loads(resume_file(path).read_text())
    assert (kept["key"], kept["sha256"]) == ("v1/resumed", sha256(data))
    with (
        FaultProxy(port_of(direct), methods=("PUT",)) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint)) as store,
    ):
        assert store.put_once(path, "v1/resumed", sha256(data)).sha256 == sha256(data)
    assert proxy.seen == 3  # of six parts
    assert not resume_file(path).exists()


def test_an_upload_whose_completion_was_not_heard_is_found_complete(direct, tmp_path):
    path, data = tmp_path / "big", os.urandom(3 * PART)
    path.write_bytes(data)
    with (
        FaultProxy(port_of(direct), Fault.CUT_ANSWER, methods=("POST",), when=lambda n: n == 2) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint)) as store,
    ):
        assert store.put_once(path, "v1/unheard", sha256(data)).sha256 == sha256(data)
    assert proxy.hits == 1
    assert not resume_file(path).exists()


def test_a_store_killed_during_an_upload_gets_it_from_the_start(tmp_path):
    path, data = tmp_path / "big", os.urandom(8 * PART)
    path.write_bytes(data)
    embedded = EmbeddedStore(tmp_path / "store")
    try:
        config = replace(embedded.start(), part_bytes=PART, attempts=3)
        with FaultProxy(port_of(config), Fault.SLOW, methods=("PUT",), when=lambda n: n > 2) as proxy:
            failed = []
            with ObjectStore.open(replace(config, endpoint=proxy.endpoint)) as store:
                store.ensure_bucket()

                def put():
                    try:
                        store.put_once(path, "v1/killed", sha256(data))
                    except StoreUnavailable as error:
                        failed.append(error)

                thread = threading.Thread(target=put)
                thread.start()
                until(lambda: proxy.hits >= 2)
                os.kill(embedded.pid(), signal.SIGKILL)
                thread.join(20)
        assert failed and resume_file(path).exists()
        again = replace(embedded.start(), part_bytes=PART)
        assert again.endpoint == config.endpoint
        with ObjectStore.open(again) as store:
            assert store.head("v1/killed") is None
            assert store.put_once(path, "v1/killed", sha256(data)).sha256 == sha256(data)
            assert [one.key for one in store.list()] == ["v1/killed"]
        assert not resume_file(path).exists()
        assert embedded.sweep() == 1 and embedded.sweep() == 0
    finally:
        embedded.stop()
