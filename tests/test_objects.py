"""The object store client against real servers: put once, read back, read by range, refusals in clear sentences."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from storage.embedded_store import EmbeddedStore
from storage.errors import StoreDiffers, StoreUnavailable
from storage.ids import new_id
from storage.objects import S3, FileDiffers, ObjectMissing, ObjectStore, RangeShort


def sha256(data):
    return hashlib.sha256(data).hexdigest()


SMALL = {"part_bytes": 256 << 10, "threads": 2, "attempts": 3}


def opened(request, tmp_path_factory):
    if request.param == "rclone":
        with EmbeddedStore(tmp_path_factory.mktemp("rclone") / "store") as embedded:
            yield replace(embedded.start(), **SMALL)
    else:
        server = request.getfixturevalue(f"{request.param}_server")
        yield replace(server.new_user(f"objects-{new_id().hex[-8:]}"), **SMALL)


@pytest.fixture(scope="module", params=["rclone", "ceph", "moto"])
def config(request, tmp_path_factory):
    yield from opened(request, tmp_path_factory)


@pytest.fixture(scope="module", params=["rclone", "ceph"])
def guarded(request, tmp_path_factory):
    """Only servers that look at keys, clocks and the names of buckets."""
    yield from opened(request, tmp_path_factory)


@pytest.fixture
def store(config):
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        yield store


@pytest.mark.parametrize("size", [0, 1, 1000, 256 << 10, (256 << 10) + 1, 1_500_000])
def test_a_file_is_put_read_back_and_listed(store, tmp_path, size):
    path, data, key = tmp_path / "one.warc.gz", os.urandom(size), f"v1/sizes/{size}"
    path.write_bytes(data)
    stored = store.put_once(path, key, sha256(data))
    assert (stored.key, stored.size_bytes, stored.sha256, stored.was_there) == (key, size, sha256(data), False)
    assert stored.version_id is None
    assert b"".join(store.read(key)) == data
    assert store.sha256_of(key) == sha256(data)
    assert store.head(key).size_bytes == size
    assert [(one.key, one.size_bytes) for one in store.list(key)] == [(key, size)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.warc.gz"]


def test_the_same_bytes_again_are_fine_and_others_never_replace_them(store, tmp_path):
    path, data = tmp_path / "one", os.urandom(1000)
    path.write_bytes(data)
    assert not store.put_once(path, "v1/again", sha256(data)).was_there
    assert store.put_once(path, "v1/again", sha256(data)).was_there
    for other in (os.urandom(1000), os.urandom(600_000)):
        path.write_bytes(other)
        with pytest.raises(StoreDiffers) as error:
            store.put_once(path, "v1/again", sha256(other))
        assert (error.value.wanted_sha256, error.value.got_sha256) == (sha256(other), sha256(data))
    assert b"".join(store.read("v1/again")) == data


@pytest.mark.parametrize("there", [b"", b"short", b"x" * 999, b"x" * 1000, b"x" * 1001])
def test_other_bytes_of_any_length_are_found_to_differ(store, there):
    key, ours = f"v1/differs/{len(there)}", b"y" * 1000
    store.put_bytes_once(there, key)
    with pytest.raises(StoreDiffers) as error:
        store.put_bytes_once(ours, key)
    assert error.value.got_sha256 == sha256(there)


def test_a_small_object_is_put_from_memory(store):
    stored = store.put_bytes_once(b'{"a": 1}', "v1/a.manifest.json", media_type="application/json")
    assert stored.sha256 == sha256(b'{"a": 1}') and not stored.was_there
    assert store.put_bytes_once(b'{"a": 1}', "v1/a.manifest.json").was_there
    with pytest.raises(StoreDiffers):
        store.put_bytes_once(b'{"a": 2}', "v1/a.manifest.json")
    with pytest.raises(FileDiffers):
        store.put_bytes_once(b"x", "v1/b", sha256=sha256(b"y"))


def test_a_file_that_is_not_what_was_said_is_not_sent(store, tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b"damaged")
    with pytest.raises(FileDiffers) as error:
        store.put_once(path, "v1/damaged", sha256(b"whole"))
    assert error.value.got_sha256 == sha256(b"damaged")
    assert store.head("v1/damaged") is None


def test_ranges_are_exact_or_an_error(store):
    data = os.urandom(5000)
    store.put_bytes_once(data, "v1/range")
    assert store.read_range("v1/range", 0, 5000) == data
    assert store.read_range("v1/range", 4990, 10) == data[4990:]
    assert store.read_range("v1/range", 17, 1) == data[17:18]
    assert store.read_range("v1/range", 17, 0) == b""
    with pytest.raises(RangeShort) as short:
        store.read_range("v1/range", 4990, 11)
    assert (short.value.wanted_bytes, short.value.got_bytes) == (11, 10)
    with pytest.raises(RangeShort):
        store.read_range("v1/range", 5000, 1)


def test_what_is_not_there_is_said_to_be_missing(store):
    assert store.head("v1/nothing") is None
    assert list(store.list("v1/nothing")) == []
    with pytest.raises(ObjectMissing):
        store.read_range("v1/nothing", 0, 1)
    with pytest.raises(ObjectMissing):
        store.sha256_of("v1/nothing")


def test_more_keys_than_one_page_of_a_listing(store):
    keys = [f"v1/many/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.wire.call("put_object", Key=key, Body=b"x"), keys))
    assert [one.key for one in store.list("v1/many/")] == keys


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"secret_key": "wrong"}, "secret key is wrong"),
        ({"access_key": "unknown"}, "does not know our access key"),
        ({"bucket": "not-there"}, "'not-there' does not exist"),
        ({"bucket": "x"}, "refused|does not exist|no name for a bucket"),
        ({"endpoint": "http://127.0.0.1:1"}, "cannot be connected to"),
        ({"endpoint": "nonsense"}, "cannot be addressed"),
    ],
)
def test_each_reason_why_the_store_cannot_be_used_is_a_sentence(guarded, change, sentence):
    with (
        ObjectStore.open(replace(guarded, **change)) as store,
        pytest.raises(StoreUnavailable, match=sentence) as error,
    ):
        store.put_bytes_once(b"x", "v1/x")
    assert guarded.secret_key not in str(error.value)


def test_a_missing_bucket_is_not_taken_for_a_missing_object(guarded):
    with ObjectStore.open(replace(guarded, bucket="not-there")) as store:
        for ask in (lambda: store.read_range("a", 0, 1), lambda: store.sha256_of("a"), lambda: list(store.list())):
            with pytest.raises(StoreUnavailable, match="'not-there' does not exist"):
                ask()


def test_a_bucket_is_made_once(guarded):
    with ObjectStore.open(replace(guarded, bucket="made-here")) as store:
        store.ensure_bucket()
        store.ensure_bucket()
        store.put_bytes_once(b"x", "v1/x")
    with (
        ObjectStore.open(replace(guarded, secret_key="wrong")) as store,
        pytest.raises(StoreUnavailable, match="secret key is wrong"),
    ):
        store.ensure_bucket()


def test_secrets_do_not_show_and_boto3_is_not_imported_before_it_is_needed(config):
    assert config.secret_key not in repr(config) and config.access_key not in repr(config)
    code = "import sys, storage.objects, storage.doctor, storage.embedded_store; sys.exit(bool({'boto3', 'botocore'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_what_the_user_keeps_for_other_stores_is_not_used(config, tmp_path, monkeypatch):
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:1\nregion = mars-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not-ours")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with ObjectStore.open(config) as store:
        assert store.put_bytes_once(b"x", "v1/profile").sha256 == sha256(b"x")


def test_a_wrong_clock_is_named(guarded, monkeypatch):
    import botocore.auth

    now, clock = datetime.now(UTC), time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 7200)
    monkeypatch.setattr(
        botocore.auth,
        "get_current_datetime",
        lambda remove_tzinfo=True: (now - timedelta(hours=2)).replace(tzinfo=None),
    )
    with (
        ObjectStore.open(guarded) as store,
        pytest.raises(StoreUnavailable, match=r"clock is 7[12][0-9][0-9] s behind the store's"),
    ):
        store.put_bytes_once(b"x", "v1/clock")


@pytest.mark.parametrize(
    "status, code, sentence",
    [
        (400, "ExpiredToken", "our credentials have expired"),
        (403, "RequestTimeTooSkewed", "this machine's clock differs too much from the store's"),
        (403, "AccessDenied", "our key has no right to do this"),
        (403, "QuotaExceeded", "our quota is used up"),
        (507, "XMinioStorageFull", "the store is full"),
        (503, "SlowDown", "is out of service for now"),
    ],
)
def test_what_our_servers_cannot_be_brought_to_say_has_its_sentence_too(status, code, sentence):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command != "HEAD" else b"")

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        config = S3(
            endpoint=f"http://127.0.0.1:{server.server_port}",
            bucket="captures",
            access_key="a",
            secret_key="b",
            attempts=2,
        )
        with ObjectStore.open(config) as store, pytest.raises(StoreUnavailable, match=sentence):
            store.put_bytes_once(b"x", "v1/x")
        server.shutdown()


def test_a_server_that_knows_no_ranges_is_read_all_the_same(config, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / config.bucket).mkdir()
    (tmp_path / config.bucket / "whole").write_bytes(data)

    class Plain(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Plain, directory=tmp_path)) as plain:
        threading.Thread(target=plain.serve_forever, args=(0.02,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{plain.server_port}"
        with ObjectStore.open(replace(config, endpoint=endpoint)) as store:
            assert store.read_range("whole", 2_000_000, 1000) == data[2_000_000:2_001_000]
            with pytest.raises(RangeShort):
                store.read_range("whole", 2_999_999, 2)
        plain.shutdown()
