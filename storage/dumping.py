"""Dumps of a database by PostgreSQL's own pg_dump and pg_restore: made, read back, restored."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from storage.errors import DatabaseUnavailable, DumpImpossible
from storage.postgres_account import own_programs

DEBIAN = Path("/usr/lib/postgresql")
MARK = " TABLE DATA public alembic_version "  # in the list of a dump of ours
_POLL_SECONDS = 0.2
_FACTS = {
    "entries": r"TOC Entries: (\d+)",
    "server": r"Dumped from database version: (\S+)",
    "program": r"Dumped by pg_dump version: (\S+)",
}
_TABLES = """SELECT count(*) FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpFacts:
    """What a dump says of itself: how many entries its list has, the server's version and pg_dump's."""

    entries: int
    server: str
    program: str


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with pg_dump and pg_restore, and of which major version they are."""

    folder: Path
    major: int


def find_programs(server: int, *, folders: Sequence[Path] | None = None) -> Programs:
    """Find programs for a server of a major version: of the same one, else of the nearest newer one.

    Raises DumpImpossible where there are none or only older ones, which refuse such a server.
    """
    found = [one for folder in (_folders() if folders is None else folders) if (one := _programs(folder))]
    fitting = [one for one in found if one.major >= server]
    if fitting:
        return min(fitting, key=lambda one: one.major)
    newest = max((one.major for one in found), default=None)
    why = "no pg_dump is here" if newest is None else f"the newest pg_dump here is of PostgreSQL {newest}"
    advice = f"install postgresql-client-{server} (or newer) on this machine, or make it on the server's"
    raise DumpImpossible(f"the server is PostgreSQL {server}, and {why}", advice)


def server_major(url: str) -> int:
    """Ask a server for its major version. Raises DatabaseUnavailable."""
    return int(_ask(url, "SHOW server_version_num")) // 10000


def dump(url: str, path: Path, programs: Programs, *, halt: threading.Event | None = None) -> None:
    """Write a database as it is at this moment, in the custom format, synced; only we may read it; schemas that are thrown away anyway are left out.

    Raises DumpImpossible where pg_dump fails, or was ended because of `halt`.
    """
    address, environ = _address(url)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    command = [str(programs.folder / "pg_dump"), "--format=custom", "--no-owner", "--no-privileges"]
    command += ["--exclude-schema=scratch_*", "--lock-wait-timeout=60s", f"--dbname={address}"]
    command += [f"--file={path}"]  # to its output it would write its list twice
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ
    ) as running:
        try:
            said = _wait(running, halt)
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        advice = "look at the database and at the disk; earlier backups stay as they are"
        raise DumpImpossible(f"{address} cannot be dumped: {_last_words(said)}", advice)


def read_dump(path: Path) -> DumpFacts:
    """Read a dump from its first byte to its last, as a restore would; raises DumpImpossible where it is not whole or not ours."""
    program = find_programs(0, folders=_newest_first()).folder / "pg_restore"
    listed = _run([str(program), "--list", str(path)])
    if listed.returncode:
        raise DumpImpossible(f"{path} is no whole dump: {_last_words(listed.stderr)}", "keep an older one")
    if MARK not in listed.stdout:
        raise DumpImpossible(f"{path} is no dump of a catalogue", "name a file that `osint backup` wrote")
    whole = _run([str(program), "--file=/dev/null", str(path)])
    if whole.returncode:
        raise DumpImpossible(f"{path} is no whole dump: {_last_words(whole.stderr)}", "keep an older one")
    said = {name: match[1] if (match := re.search(how, listed.stdout)) else "0" for name, how in _FACTS.items()}
    return DumpFacts(entries=int(said["entries"]), server=said["server"], program=said["program"])


def restore(url: str, path: Path) -> None:
    """Restore a dump into an empty database, as a whole or not at all.

    Raises DumpImpossible where the database is not empty or the dump does not fit it, and DatabaseUnavailable.
    """
    address, environ = _address(url)
    if tables := int(_ask(url, _TABLES)):
        raise DumpImpossible(f"the database {address} is not empty: it has {tables} tables", "name an empty one")
    program = find_programs(server_major(url)).folder / "pg_restore"
    command = [str(program), "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
    done = _run([*command, f"--dbname={address}", str(path)], environ)
    if done.returncode:
        advice = "use a server and a pg_restore of the version that made it, or newer"
        raise DumpImpossible(f"{path} cannot be restored: {_last_words(done.stderr)}", advice)


def _folders() -> list[Path]:
    """List where programs may be: the wheel's, Debian's, those on the path."""
    own, named = own_programs(), shutil.which("pg_dump")
    debian = sorted(DEBIAN.glob("*/bin"))
    return [*([own] if own else []), *debian, *([Path(named).parent] if named else [])]


def _newest_first() -> list[Path]:
    found = [one for folder in _folders() if (one := _programs(folder))]
    return [one.folder for one in sorted(found, key=lambda one: -one.major)][:1]


def _programs(folder: Path) -> Programs | None:
    try:
        said = _run([str(folder / "pg_dump"), "--version"]).stdout
    except OSError:
        return None
    match = re.search(r"\) (\d+)", said)
    return Programs(folder, int(match[1])) if match and (folder / "pg_restore").exists() else None


def _address(url: str) -> tuple[str, dict[str, str]]:
    """Give a database's address without its password, and an environment that holds this: nobody reads it in a list of processes."""
    parsed = make_url(url)
    environ = _environ()
    if parsed.password is not None:
        environ["PGPASSWORD"] = str(parsed.password)
    return parsed._replace(drivername="postgresql", password=None).render_as_string(), environ


def _environ() -> dict[str, str]:
    kept = {name: value for name in ("PATH", "HOME", "TMPDIR") if (value := os.environ.get(name))}
    return {**kept, "LC_ALL": "C.UTF-8"}


def _ask(url: str, question: str) -> str:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(address, connect_timeout=10) as connection:
            row = connection.execute(question.encode()).fetchone()
    except psycopg.Error as error:
        raise DatabaseUnavailable(_address(url)[0], str(error).strip()) from error
    return str(row[0]) if row else ""


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    environ = _environ() if environ is None else dict(environ)
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ)


def _wait(running: "subprocess.Popen[bytes]", halt: threading.Event | None) -> str:
    """Wait for a program to end, and end it where we are told to stop; what it said."""
    while True:
        try:
            return running.communicate(timeout=_POLL_SECONDS)[1].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            if halt is not None and halt.is_set():
                running.terminate()


def _last_words(said: str) -> str:
    return " ".join(" ".join(said.strip().splitlines()[-3:]).split())[:300] or "it said nothing"
