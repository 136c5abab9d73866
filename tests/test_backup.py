"""A backup is whole or not there, is read back before it counts, and gives the same archive when it is restored."""

import hashlib
import os
import signal
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest
from conftest import plain
from sqlalchemy import text

from storage.catalog import Catalog
from storage.dumping import dump, find_programs, read_dump, restore, server_major
from storage.embedded_postgres import EmbeddedPostgres
from storage.errors import DumpImpossible
from storage.events import add_event
from storage.ids import new_id
from storage.scratch import open_scratch
from tests.commands import Osint, kill_group
from tests.rawserver import RawServer, answer
from tests.watching import Cluster, wait_for

PATIENCE = 60.0
FACTS = ("run", "source", "outcome", "reason", "wanted", "captured", "revisits", "posts", "started_at", "ended_at")
PAGE = answer(
    b"<html><head><title>t</title></head><body><article>"
    + "Затрымалі чалавека. ".encode() * 40
    + b"</article></body></html>"
)


def test_a_dump_is_restored_on_the_server_that_it_is_of(database_url: str, tmp_path: Path) -> None:
    """On ours and on Debian's, each with its own programs; what is thrown away anyway is left out."""
    with Catalog.open(database_url) as catalog:
        add_event(catalog, "tried", "Ў")
        with open_scratch(catalog):
            major = server_major(database_url)
            programs = find_programs(major)
            assert programs.major == major
            dump(database_url, tmp_path / "dump", programs)
        facts = read_dump(tmp_path / "dump")
        assert facts.entries > 100 and facts.server.startswith(f"{major}.") and facts.program.startswith(f"{major}.")
        with pytest.raises(DumpImpossible, match="is not empty"):
            restore(database_url, tmp_path / "dump")
    name, server = f"t{new_id().hex}", database_url.rpartition("?")
    fresh = f"{server[0].rpartition('/')[0]}/{name}?{server[2]}"
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            restore(fresh, tmp_path / "dump")
            with Catalog.open(fresh) as other, other.begin() as rows:
                assert rows.scalar(text("SELECT subject FROM events WHERE kind = 'tried'")) == "Ў"
                assert not rows.scalars(text("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'scratch%'")).all()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_programs_that_are_too_old_or_not_there_are_said(tmp_path: Path) -> None:
    folders = []
    for major in (15, 18, 16):
        folder = tmp_path / str(major)
        folder.mkdir()
        (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {major}.4 (Debian)'\n")
        (folder / "pg_dump").chmod(0o700)
        (folder / "pg_restore").touch()
        folders.append(folder)
    assert find_programs(15, folders=folders).major == 15
    assert find_programs(17, folders=folders).major == 18, "the nearest newer one"
    with pytest.raises(
        DumpImpossible, match="is PostgreSQL 19, and the newest pg_dump here is of PostgreSQL 18"
    ) as told:
        find_programs(19, folders=folders)
    assert "postgresql-client-19" in told.value.advice
    with pytest.raises(DumpImpossible, match="no pg_dump is here"):
        find_programs(15, folders=[tmp_path])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Osint:
    """An archive of one page, its servers stopped."""
    osint = Osint(tmp_path_factory.mktemp("backup") / "home")
    with RawServer({"/one": PAGE}) as server:
        osint.run("crawl", "--spider", "page", f"{server.url}/one")
    return osint


def test_a_backup_is_private_read_back_and_kept_in_number(archive: Osint, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    old = ["osint-catalogue-{}-20200101T00000{}Z.dump".format("{}", n) for n in range(3)]
    (row,) = archive.rows("backup", str(folder))
    made = Path(row["file"])
    mine = made.name.split("-")[2]
    for name in old:
        (folder / name.format(mine)).touch()
        (folder / f"{name.format(mine)}.sha256").touch()
    (folder / old[0].format("0" * 8)).touch()
    for path in (folder, made, made.with_name(f"{made.name}.sha256")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path == folder else 0o600)
    subprocess.run(["sha256sum", "--check", f"{made.name}.sha256"], cwd=folder, check=True, capture_output=True)
    (second,) = archive.rows("backup", str(folder), "--keep", "3")
    assert second["deleted"] == [name.format(mine) for name in old[:2]], second
    left = sorted(path.name for path in folder.glob("*.dump"))
    assert left == sorted([old[0].format("0" * 8), old[2].format(mine), made.name, Path(second["file"]).name])
    server = EmbeddedPostgres(archive.home / "postgres")
    with Catalog.open(server.start()) as catalog, catalog.begin() as connection:
        told = connection.execute(text("SELECT subject, encode(sha256, 'hex') FROM events WHERE kind = 'backed up'"))
        assert [tuple(one) for one in told] == [(Path(one["file"]).name, one["sha256"]) for one in (row, second)]
    server.leave()


def test_what_a_backup_may_not_do_is_said(archive: Osint, tmp_path: Path) -> None:
    spool = archive.home / "spool"
    assert "not for backups" in archive.run("backup", str(spool / "sealed"), code=2).stderr
    assert "not for backups" in archive.run("backup", "--out", str(spool / "a.dump"), code=2).stderr
    link = tmp_path / "link"
    link.symlink_to(spool)
    assert "not for backups" in archive.run("backup", str(link), code=2).stderr
    (tmp_path / "a.dump").write_text("mine")
    assert "exists" in archive.run("backup", "--out", str(tmp_path / "a.dump"), code=2).stderr
    assert (tmp_path / "a.dump").read_text() == "mine"
    assert "cannot be made" in archive.run("backup", str(tmp_path / "not" / "there"), code=2).stderr
    assert "without a folder" in archive.run("backup", "--check", "x", "--keep", "2", code=2).stderr
    assert "cannot be read" in archive.run("backup", "--check", str(tmp_path / "none"), code=2).stderr


@pytest.fixture(scope="module")
def backed_up(archive: Osint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the archive."""
    path = tmp_path_factory.mktemp("backed-up") / "a.dump"
    archive.run("backup", "--out", str(path))
    return path


def test_a_backup_that_was_changed_or_cut_is_found(archive: Osint, backed_up: Path, tmp_path: Path) -> None:
    assert "is whole" in archive.run("backup", "--check", str(backed_up)).stdout
    data = backed_up.read_bytes()
    path = tmp_path / "a.dump"
    for what, bad in {"changed": data[:-999] + b"x" + data[-998:], "cut": data[: len(data) * 3 // 4]}.items():
        path.write_bytes(bad)
        path.with_name("a.dump.sha256").write_bytes(backed_up.with_name("a.dump.sha256").read_bytes())
        assert "keep an older one" in archive.run("backup", "--check", str(path), code=1).stderr, what
    path.with_name("a.dump.sha256").write_text(f"{hashlib.sha256(bad).hexdigest()}  a.dump\n")
    assert "no whole dump" in archive.run("backup", "--check", str(path), code=1).stderr, "cut before it was hashed"
    path.with_name("a.dump.sha256").unlink()
    assert "nothing says what" in archive.run("backup", "--check", str(path), code=1).stderr


def test_a_restored_backup_is_the_same_archive(archive: Osint, backed_up: Path, tmp_path: Path) -> None:
    before = archive.rows("runs")
    with RawServer({"/two": PAGE}) as server_:
        archive.run("crawl", "--spider", "page", f"{server_.url}/two")  # after the backup
    runs = archive.rows("runs")
    assert len(before) == 1 and len(runs) == 2
    server = EmbeddedPostgres(tmp_path / "postgres")
    url = server.start()
    archive.run("up", "--servers")
    try:
        restored = Osint(archive.home, OSINT_DATABASE_URL=url)
        done = restored.run("backup", "--restore", str(backed_up))
        assert "is restored" in done.stdout and "osint spool adopt" in done.stderr
        assert "another archive" in restored.run("recover", code=2).stderr
        restored.run("spool", "adopt")
        assert restored.rows("runs") == before
        assert "is in the catalogue now" in restored.run("recover").stdout
        restored.run("upload")
        mended = restored.rows("runs")
        assert [{name: one[name] for name in FACTS} for one in mended] == [{n: one[n] for n in FACTS} for one in runs]
        assert restored.claims()["FAIL"] == 0, "what came after the backup was in the spool"
        assert "nothing to mend" in restored.run("recover").stdout
    finally:
        server.stop()
        archive.run("spool", "adopt")
        archive.run("down")


def test_a_backup_that_is_stopped_leaves_nothing(archive: Osint, tmp_path: Path) -> None:
    server = EmbeddedPostgres(archive.home / "postgres")
    url = server.start()
    try:
        with psycopg.connect(plain(url)) as connection:
            connection.execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
            backup = archive.start("backup", str(tmp_path / "backups"))
            waiting = "SELECT 1 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT l.granted AND a.application_name = 'pg_dump'"
            with psycopg.connect(plain(url), autocommit=True) as other:
                wait_for(lambda: other.execute(waiting).fetchone(), PATIENCE)
            os.kill(backup.pid, signal.SIGTERM)
            _, err = backup.communicate(timeout=30)
            assert backup.returncode == 130 and "Traceback" not in err, err
        kill_group(backup)
        assert list((tmp_path / "backups").iterdir()) == []
    finally:
        server.leave()


def test_a_worker_backs_up_what_is_due(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    with Cluster(tmp_path, OSINT_BACKUP_FOLDER=str(folder)) as cluster:
        for _ in range(2):
            cluster.start("m1", "--queues", "clock")
            began = cluster.rows("SELECT now() AS at")[0]["at"]
            wait_for(lambda: list(folder.glob("*.dump")), PATIENCE, lambda: cluster.said("m1"))
            wait_for(
                lambda began=began: cluster.rows("SELECT 1 FROM machines WHERE seen_at > :at", at=began),
                PATIENCE,
            )
            assert cluster.stop("m1") == 0, cluster.said("m1")
        (made,) = folder.glob("*.dump")
        assert "is whole" in cluster.machine("m1").run("backup", "--check", str(made)).stdout
