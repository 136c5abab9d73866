"""The embedded store: started by its first user, shared, stopped by its last one, whatever is killed in between."""

import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from storage import supervise
from storage.embedded_store import EmbeddedStore
from storage.errors import StoreUnavailable
from storage.objects import ObjectStore
from storage.users import GateBusy, Users

USER = """
import sys
from pathlib import Path
from storage.embedded_store import EmbeddedStore
embedded = EmbeddedStore(Path(sys.argv[1]))
config = embedded.start()
print(config.endpoint, embedded.pid(), flush=True)
sys.stdin.read()
print("stopped" if embedded.leave() else "left", flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "store"
    EmbeddedStore(tmp_path / "store").stop()


class Other:
    """Another process that uses the store until it is told to leave."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", USER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def started(self):
        endpoint, pid = self.process.stdout.readline().split()
        return endpoint, int(pid)

    def leave(self):
        out, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        return out.strip()

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=20)


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_last_user_stops_the_server(folder):
    one, two = EmbeddedStore(folder), EmbeddedStore(folder)
    config = one.start()
    pid = one.pid()
    assert two.start() == config and two.start() == config and two.pid() == pid
    assert one.leave() is False and two.is_running()
    assert two.leave() is True and not two.is_running() and gone(pid)
    assert two.leave() is True  # there is nothing to stop


def test_objects_and_address_survive_a_restart(folder):
    embedded = EmbeddedStore(folder)
    config = embedded.start()
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        store.put_bytes_once(b"kept", "v1/kept")
    embedded.leave()
    assert (folder / "data" / "osint" / "v1" / "kept").read_bytes() == b"kept"
    assert embedded.start() == config
    with ObjectStore.open(config) as store:
        assert store.sha256_of("v1/kept") == hashlib.sha256(b"kept").hexdigest()


def test_the_address_changes_only_if_somebody_else_has_taken_it(folder):
    embedded = EmbeddedStore(folder)
    port = int(embedded.start().endpoint.rpartition(":")[2])
    embedded.leave()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        assert not embedded.is_running()
        other = embedded.start()
    assert int(other.endpoint.rpartition(":")[2]) != port
    with ObjectStore.open(other) as store:
        store.ensure_bucket()


def test_nobody_else_can_read_the_keys_or_the_data(folder):
    embedded = EmbeddedStore(folder)
    config = embedded.start()
    pid = embedded.pid()
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    assert "rclone" in command and "127.0.0.1" in command
    for secret in (config.access_key, config.secret_key):
        assert len(secret) >= 20 and secret not in command and secret not in (folder / "rclone.log").read_text()
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        store.put_bytes_once(b"private", "v1/private")
    for path in (folder, *folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert stat.S_IMODE((folder / "keys.json").stat().st_mode) == 0o600
    assert set(json.loads((folder / "keys.json").read_text())) == {"access_key", "secret_key"}


def test_the_folders_above_are_left_as_they_are(tmp_path, folder):
    tmp_path.chmod(0o755)
    with EmbeddedStore(folder):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_second_process_uses_the_same_server_and_a_killed_one_does_not_count(folder):
    first, second = Other(folder), Other(folder)
    endpoint, pid = first.started()
    assert second.started() == (endpoint, pid)
    first.kill()
    assert not gone(pid)
    assert second.leave() == "stopped" and gone(pid)


def test_the_next_start_takes_over_what_a_killed_user_left(folder):
    other = Other(folder)
    endpoint, pid = other.started()
    other.kill()
    embedded = EmbeddedStore(folder)
    assert embedded.is_running()
    assert embedded.start().endpoint == endpoint and embedded.pid() == pid
    assert embedded.leave() is True and gone(pid)


def test_many_that_start_at_once_get_one_server(folder):
    pids, all_ready = [], threading.Barrier(6)

    def use():
        embedded = EmbeddedStore(folder)
        all_ready.wait(20)
        embedded.start()
        pids.append(embedded.pid())
        all_ready.wait(20)
        embedded.leave()

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(pids) == 6 and len(set(pids)) == 1
    assert gone(pids[0])


def test_a_killed_server_is_started_again_by_whoever_needs_it(folder):
    embedded = EmbeddedStore(folder)
    config, pid = embedded.start(), embedded.pid()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while embedded.is_running():
        assert time.monotonic() < deadline
    assert embedded.start() == config and embedded.pid() != pid
    assert embedded.leave() is True


def test_a_pinned_server_stays_until_it_is_stopped(folder):
    embedded = EmbeddedStore(folder)
    embedded.start()
    embedded.users.pin()
    pid = embedded.pid()
    assert embedded.leave() is False and embedded.is_running()
    EmbeddedStore(folder).stop()
    assert not embedded.is_running() and gone(pid) and not embedded.users.pinned


def test_a_stale_identity_is_not_taken_for_the_server_and_its_owner_is_not_killed(folder):
    folder.mkdir(mode=0o700)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        fields = Path(f"/proc/{stranger.pid}/stat").read_text().split()
        fields[21] = str(int(fields[21]) - 1)  # another start time
        (folder / "server.stat").write_text(" ".join(fields))
        embedded = EmbeddedStore(folder)
        assert embedded.pid() is None and not embedded.is_running()
        embedded.start()
        assert embedded.pid() not in (None, stranger.pid)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("left", ["", "x", "1", "99999999 (x) S 1"])
def test_a_damaged_identity_is_nobody(tmp_path, left):
    (tmp_path / "kept").write_text(left)
    assert supervise.living(tmp_path / "kept") is None
    supervise.stop(tmp_path / "kept")


def test_what_is_just_being_launched_has_not_ended(tmp_path):
    kept = tmp_path / "kept"
    assert not supervise.ended(kept)
    kept.write_text("")
    assert not supervise.ended(kept)
    supervise.launch(["/bin/true"], {}, tmp_path / "log", kept)
    deadline = time.monotonic() + 10
    while not supervise.ended(kept):
        assert time.monotonic() < deadline


def test_the_server_holds_none_of_our_files(folder):
    embedded = EmbeddedStore(folder)
    embedded.start()
    held = set()
    for path in Path(f"/proc/{embedded.pid()}/fd").iterdir():
        with suppress(FileNotFoundError):  # it opens and closes while we look
            held.add(str(path.readlink()))
    assert "/dev/null" in held
    assert not [name for name in held if name.endswith((".lock", "pinned"))]
    assert Path(f"/proc/{embedded.pid()}/cwd").readlink() == Path("/")


def test_a_server_that_cannot_start_says_why_and_counts_nobody(folder):
    embedded = EmbeddedStore(folder)
    folder.mkdir()
    (folder / "keys.json").write_text("{}")
    with pytest.raises(StoreUnavailable, match=r"keys\.json is damaged"):
        embedded.start()
    assert not embedded.users.in_use() and embedded.pid() is None


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/store cannot be used"):
        EmbeddedStore(tmp_path / "file" / "store").start()


@pytest.mark.parametrize("name", ["with space", "co:lon", "сховішча ё", "$(id)", "-n"])
def test_any_name_of_a_folder_will_do(tmp_path, name):
    with EmbeddedStore(tmp_path / name) as embedded, ObjectStore.open(embedded.start()) as store:
        store.ensure_bucket()
        store.put_bytes_once(b"x", "v1/x")
        assert (tmp_path / name / "data" / "osint" / "v1" / "x").read_bytes() == b"x"


def test_a_file_and_its_copy_in_the_store_can_share_the_disk(folder, tmp_path):
    path, data = tmp_path / "one", os.urandom(100_000)
    path.write_bytes(data)
    with EmbeddedStore(folder) as embedded, ObjectStore.open(embedded.start()) as store:
        store.ensure_bucket()
        store.put_once(path, "v1/one", hashlib.sha256(data).hexdigest())
        assert path.stat().st_nlink == 1
        assert embedded.share(path, "v1/one") and embedded.share(path, "v1/one")
        assert path.stat().st_nlink == 2 and path.samefile(embedded.data / "osint" / "v1" / "one")
        assert [one.key for one in store.list()] == ["v1/one"]
        assert store.sha256_of("v1/one") == hashlib.sha256(data).hexdigest()
        path.unlink()
        assert store.read_range("v1/one", 5, 10) == data[5:15]
        (tmp_path / "other").write_bytes(b"other")
        with pytest.raises(StoreUnavailable, match="is not the copy"):
            embedded.share(tmp_path / "other", "v1/one")
    assert sorted(path.name for path in (folder / "data" / "osint" / "v1").iterdir()) == ["one"]


def test_whoever_waits_too_long_at_the_gate_is_told(tmp_path):
    users = Users(tmp_path / "users")
    with users.gate(), pytest.raises(GateBusy) as error, Users(tmp_path / "users").gate(timeout_seconds=0.1):
        pass
    assert error.value.waited_seconds == 0.1
    with users.gate(timeout_seconds=0.1):
        pass


def test_users_are_counted_by_the_kernel(tmp_path):
    one, two = Users(tmp_path / "users"), Users(tmp_path / "users")
    assert not one.in_use()
    one.join()
    one.join()
    two.join()
    assert one.leave() is False and two.in_use()
    assert two.leave() is True and not two.in_use()
    with one:
        one.pin()
        one.pin()
    assert one.leave() is False and one.pinned
    one.unpin()
    one.unpin()
    assert one.leave() is True
