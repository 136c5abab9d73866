"""Servers for tests: our own PostgreSQL, and Debian's where it is installed, a fresh database for each test; stores; a browser."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from storage.catalog import Catalog
from storage.embedded_postgres import EmbeddedPostgres
from storage.ids import new_id
from tests import cephserver, motoserver

if TYPE_CHECKING:
    from tests.browserlab import Lab

DEBIAN = Path("/usr/lib/postgresql")


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of our own server, in a folder of this session's."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    url = server.start()
    try:
        _forget_safety(url)
        _make_template(url)
        yield url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def debian_server() -> Iterator[str]:
    """URL of a server of Debian's package, which stands for "any PostgreSQL >= 15"."""
    found = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip(f"Debian's PostgreSQL is not installed: no {DEBIAN}/*/bin/initdb")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    who: dict[str, str] = {}
    if os.geteuid() == 0:
        who = {"user": "postgres", "group": "postgres"}
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    binaries, data = found[-1].parent, folder / "data"
    options = ["-U", "osint", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    subprocess.run([binaries / "initdb", "-D", data, *options], check=True, capture_output=True, cwd="/", **who)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"],
            cwd="/",
            stdout=log,
            stderr=log,
            **who,
        )
    try:
        url = f"postgresql+psycopg://osint@/postgres?host={folder}"
        _wait(url, server)
        _forget_safety(url)
        _make_template(url)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture(params=["embedded", "debian"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a fresh, migrated database, once on each server."""
    yield from _fresh(request.getfixturevalue(f"{request.param}_server"), "osint_template")


@pytest.fixture(params=["embedded", "debian"])
def empty_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database without a table, once on each server."""
    yield from _fresh(request.getfixturevalue(f"{request.param}_server"), "template0")


@pytest.fixture
def embedded_url(embedded_server: str) -> Iterator[str]:
    """URL of a fresh, migrated database on our own server alone."""
    yield from _fresh(embedded_server, "osint_template")


@pytest.fixture(scope="module")
def module_url(embedded_server: str) -> Iterator[str]:
    """URL of a migrated database on our own server that the tests of one module share."""
    yield from _fresh(embedded_server, "osint_template")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Lab"]:
    """A browser that the tests of one module share; nothing of it may be left."""
    from tests.browserlab import Lab, chromiums

    scratch = tmp_path_factory.mktemp("scratch")
    with Lab(scratch) as lab:
        yield lab
    assert chromiums() == []
    assert list(scratch.iterdir()) == []


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cephserver.CephServer]:
    """A tiny Ceph; its object store has no user yet."""
    if missing := cephserver.missing_packages():
        pytest.skip(f"Debian's packages are not installed: {' '.join(missing)}")
    with cephserver.CephServer(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[motoserver.MotoServer]:
    """A moto, for logic alone."""
    if missing := motoserver.missing_packages():
        pytest.skip(f"Python packages are not installed: {' '.join(missing)}")
    with motoserver.MotoServer(tmp_path_factory.mktemp("moto")) as server:
        yield server


def plain(url: str) -> str:
    """A URL as psycopg and libpq take it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def _fresh(server: str, template: str) -> Iterator[str]:
    name = f"t{new_id().hex}"
    with psycopg.connect(plain(server), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield server.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(plain(server), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _forget_safety(server: str) -> None:
    """Let the server skip fsync: most of the time that a fresh database takes. What must survive has its own server."""
    with psycopg.connect(plain(server), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def _make_template(server: str) -> None:
    with psycopg.connect(plain(server), autocommit=True) as connection:
        connection.execute("CREATE DATABASE osint_template")
    Catalog.open(server.replace("/postgres?", "/osint_template?")).close()


def _wait(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(plain(url)).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < deadline, "Debian's PostgreSQL did not start"
            time.sleep(0.02)
