"""Ten thousand objects through eight faults, to each of two servers: none lost, none bad, none twice."""

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.embedded_store import EmbeddedStore
from storage.objects import S3, ObjectStore
from tests.faultproxy import Fault, FaultProxy

OBJECTS = 10_000
FAULTS = [fault for fault in Fault if fault is not Fault.NONE]
METHODS = {Fault.FLIP_ANSWER: ("GET",), Fault.HALF_ANSWER: ("GET",), Fault.SILENT: ("PUT", "GET", "HEAD")}
ONE_IN = {
    Fault.SILENT: 40,  # each costs a second
    Fault.SLOW: 20,
    Fault.FLIP_ANSWER: 40,  # always the same bit: three in a row look like a store that differs, and are told as one
}
pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module", params=["rclone", "ceph"])
def direct(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    small = {"read_seconds": 1.0, "patience_seconds": 60.0, "attempts": 50}
    if request.param == "ceph":
        config = replace(request.getfixturevalue("ceph_server").new_user("soak"), **small)
    else:
        embedded = EmbeddedStore(tmp_path_factory.mktemp("rclone") / "store")
        request.addfinalizer(embedded.stop)
        config = replace(embedded.start(), **small)
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
    yield config


def content(fault: Fault, number: int) -> bytes:
    dice = random.Random(f"{fault.name}{number}")
    return dice.randbytes(dice.randint(1, 20_000))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_none_is_lost_bad_or_doubled(direct: S3, fault: Fault, tmp_path: Path) -> None:
    count, one_in, dice = OBJECTS // len(FAULTS), ONE_IN.get(fault, 4), random.Random(fault.name)

    def put(number: int) -> str:
        path, data = tmp_path / str(number), content(fault, number)
        path.write_bytes(data)
        key, digest = f"v1/soak/{fault.name}/{number:05}", hashlib.sha256(data).hexdigest()
        for _ in range(1 + (number % 5 == 0)):  # some are put again, as after a crash
            assert store.put_once(path, key, digest).sha256 == digest
        path.unlink()
        return key

    with (
        FaultProxy(
            int(direct.endpoint.rpartition(":")[2]),
            fault,
            methods=METHODS.get(fault, ("PUT", "POST")),
            when=lambda n: dice.randrange(one_in) == 0,
        ) as proxy,
        ObjectStore.open(replace(direct, endpoint=proxy.endpoint)) as store,
        ThreadPoolExecutor(4) as pool,
    ):
        keys = list(pool.map(put, range(count)))
    assert proxy.hits > count // (2 * one_in)
    with ObjectStore.open(direct) as store, ThreadPoolExecutor(4) as pool:
        listed = [one.key for one in store.list(f"v1/soak/{fault.name}/")]
        assert listed == sorted(keys) and len(set(keys)) == count
        digests = list(pool.map(store.sha256_of, keys))
    assert digests == [hashlib.sha256(content(fault, number)).hexdigest() for number in range(count)]
    print(f"{fault.name}: {count} objects, {proxy.hits} faults")
