"""Large files in parts, and the store's bad days: what is left behind is ours to abort, what is refused has a sentence."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.embedded_store import EmbeddedStore
from storage.errors import StoreDiffers, StoreUnavailable
from storage.ids import new_id
from storage.objects import S3, ObjectStore
from storage.upload import _write_synced, resume_file
from tests.cephserver import CephServer
from tests.faultproxy import Fault, FaultProxy

PART = 256 << 10
SMALL = {"part_bytes": PART, "threads": 1, "attempts": 2, "read_seconds": 5}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module", params=["rclone", "ceph"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if request.param == "ceph":
        yield replace(new_user(request.getfixturevalue("ceph_server")), **SMALL)
    else:
        with EmbeddedStore(tmp_path_factory.mktemp("rclone") / "store") as embedded:
            yield replace(embedded.start(), **SMALL)


@pytest.fixture
def store(config: S3) -> Iterator[ObjectStore]:
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        yield store


def new_user(server: CephServer, **more: int) -> S3:
    return server.new_user(f"upload-{new_id().hex[-12:]}", **more)


def uploads(store: ObjectStore, key: str) -> list[str]:
    return [one["UploadId"] for one in store.wire.call("list_multipart_uploads", Prefix=key).get("Uploads", ())]


def cut_off(config: S3, path: Path, key: str, after_parts: int) -> None:
    """Send this many parts of a file, and no more."""
    with (
        FaultProxy(port_of(config), Fault.SLOW_DOWN, methods=("PUT",), when=lambda n: n > after_parts) as proxy,
        ObjectStore.open(replace(config, endpoint=proxy.endpoint)) as store,
        pytest.raises(StoreUnavailable),
    ):
        store.put_once(path, key, sha256(path.read_bytes()))
    assert resume_file(path).exists()


def port_of(config: S3) -> int:
    return int(config.endpoint.rpartition(":")[2])


def big_file(tmp_path: Path, parts: int = 3) -> tuple[Path, bytes]:
    path, data = tmp_path / "big", os.urandom(parts * PART + 1)
    path.write_bytes(data)
    return path, data


def test_our_own_stale_upload_is_aborted_and_nobody_elses(config: S3, store: ObjectStore, tmp_path: Path) -> None:
    path, data = big_file(tmp_path)
    cut_off(config, path, "v1/stale", 2)
    (stale,) = uploads(store, "v1/stale")
    others = str(store.wire.call("create_multipart_upload", Key="v1/stale")["UploadId"])
    with ObjectStore.open(replace(config, part_bytes=2 * PART)) as other_parts:  # it cannot go on with the first
        assert other_parts.put_once(path, "v1/stale", sha256(data)).sha256 == sha256(data)
    assert stale not in uploads(store, "v1/stale") and others in uploads(store, "v1/stale")
    assert not resume_file(path).exists()


def test_an_upload_is_aborted_where_the_key_was_taken_meanwhile(config: S3, store: ObjectStore, tmp_path: Path) -> None:
    path, data = big_file(tmp_path)
    cut_off(config, path, "v1/taken", 2)
    store.put_bytes_once(b"somebody was first", "v1/taken")
    with pytest.raises(StoreDiffers) as differs:
        store.put_once(path, "v1/taken", sha256(data))
    assert differs.value.got_sha256 == sha256(b"somebody was first")
    assert uploads(store, "v1/taken") == [] and not resume_file(path).exists()


def test_a_key_taken_during_the_upload_is_never_overwritten_by_its_completion(
    config: S3, store: ObjectStore, tmp_path: Path
) -> None:
    path, data = big_file(tmp_path)

    def taken(number: int) -> bool:
        if number == 4:  # the last part is on its way; neither server keeps If-None-Match at the completion
            store.put_bytes_once(b"somebody was first", "v1/overtaken")
        return False

    with (
        FaultProxy(port_of(config), Fault.SLOW, methods=("PUT",), when=taken) as proxy,
        ObjectStore.open(replace(config, endpoint=proxy.endpoint)) as slow,
        pytest.raises(StoreDiffers),
    ):
        slow.put_once(path, "v1/overtaken", sha256(data))
    assert b"".join(store.read("v1/overtaken")) == b"somebody was first"
    assert uploads(store, "v1/overtaken") == []


def test_an_upload_that_the_store_forgot_is_begun_anew(config: S3, store: ObjectStore, tmp_path: Path) -> None:
    path, data = big_file(tmp_path)
    cut_off(config, path, "v1/forgotten", 2)
    (forgotten,) = uploads(store, "v1/forgotten")
    store.wire.call("abort_multipart_upload", Key="v1/forgotten", UploadId=forgotten)
    assert store.put_once(path, "v1/forgotten", sha256(data)).sha256 == sha256(data)


def test_halted_calls_end_and_go_on_later(store: ObjectStore) -> None:
    store.wire.halt()
    with pytest.raises(StoreUnavailable, match="this program is stopping"):
        store.put_bytes_once(b"x", "v1/halted")
    store.wire.go_on()
    assert not store.put_bytes_once(b"x", "v1/halted").was_there


@pytest.mark.parametrize("parts", [0, 3])
def test_a_quota_that_is_used_up_is_named_and_the_upload_goes_on_later(
    ceph_server: CephServer, tmp_path: Path, parts: int
) -> None:
    name = f"quota-{new_id().hex[-12:]}"
    config = replace(ceph_server.new_user(name, quota_bytes=PART), **SMALL)
    path, data = big_file(tmp_path, parts) if parts else (tmp_path / "one", os.urandom(PART - 1))
    path.write_bytes(data)
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        store.put_bytes_once(os.urandom(PART // 2), "v1/first")
        with pytest.raises(StoreUnavailable, match="our quota is used up"):
            store.put_once(path, "v1/second", sha256(data))
        assert path.read_bytes() == data and store.head("v1/second") is None
        ceph_server.admin("quota", "disable", "--quota-scope=bucket", f"--uid={name}")
        assert store.put_once(path, "v1/second", sha256(data)).sha256 == sha256(data)


def test_a_key_that_is_revoked_and_a_bucket_that_is_gone_are_named(ceph_server: CephServer, tmp_path: Path) -> None:
    name = f"revoked-{new_id().hex[-12:]}"
    config = replace(ceph_server.new_user(name), **SMALL)
    path, data = big_file(tmp_path)
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        cut_off(config, path, "v1/big", 2)
        ceph_server.admin("user", "suspend", f"--uid={name}")
        with pytest.raises(StoreUnavailable, match="our access key is suspended"):
            store.put_once(path, "v1/big", sha256(data))
        ceph_server.admin("user", "enable", f"--uid={name}")
        assert store.put_once(path, "v1/big", sha256(data)).sha256 == sha256(data)
        ceph_server.admin("bucket", "rm", f"--bucket={config.bucket}", "--purge-objects")
        for size in (1000, len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(StoreUnavailable, match=f"the bucket '{config.bucket}' does not exist"):
                store.put_once(path, f"v1/gone/{size}", sha256(data[:size]))
            assert path.read_bytes() == data[:size]


def test_a_locked_object_is_read_by_the_version_that_was_put(ceph_server: CephServer, tmp_path: Path) -> None:
    config = replace(new_user(ceph_server), **SMALL)
    path, data = big_file(tmp_path)
    with ObjectStore.open(config) as store:
        store.wire.call("create_bucket", ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
        lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        store.wire.call("put_object_lock_configuration", ObjectLockConfiguration=lock)
        big = store.put_once(path, "v1/big", sha256(data))
        small = store.put_bytes_once(b"small", "v1/small")
        assert big.version_id and small.version_id
        for key in ("v1/big", "v1/small"):
            store.wire.call("put_object", Key=key, Body=b"forged", ChecksumAlgorithm="SHA256")
        assert store.sha256_of("v1/big", big.version_id) == sha256(data)
        for key in ("v1/big", "v1/small"):
            store.wire.call("delete_object", Key=key)
        assert store.head("v1/big") is None
        assert store.sha256_of("v1/big", big.version_id) == sha256(data)
        assert store.sha256_of("v1/small", small.version_id) == sha256(b"small")
        assert store.read_range("v1/big", PART, 10, big.version_id) == data[PART : PART + 10]


def test_two_uploads_of_one_file_do_not_take_each_others_notes_away(tmp_path: Path) -> None:
    kept = resume_file(tmp_path / "x.warc.gz")
    (tmp_path / f"{kept.name}-killed.new").write_text("half")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _write_synced(kept, str(number)), range(200)))
    assert [path.name for path in tmp_path.iterdir()] == [kept.name] and kept.read_text().isdecimal()
