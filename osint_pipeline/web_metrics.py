"""The HTTP endpoint for machines that watch: /metrics, /healthz, /readyz. It tells no address and no word of a page."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from osint_pipeline.errors import UserError, for_the_archive
from osint_pipeline.logs import logger
from osint_pipeline.measures import Measures, measure, snapshot
from osint_pipeline.metrics import render
from osint_pipeline.workspace import Workspace
from settings.errors import SettingError
from settings.service import Service
from storage.errors import SchemaTooNew, StorageError
from storage.migrating import known
from storage.schema import machines

log = logger(__name__)
SEEN_WITHIN = timedelta(seconds=60)
_CACHED_SECONDS = 5.0
_PATIENCE_SECONDS = 15.0  # for the scrape of another client
_CLIENTS = 16
_IDLE_SECONDS = 10.0  # of a client that says nothing
_TROUBLES = (StorageError, UserError, SettingError, SQLAlchemyError, OSError)


class Watcher:
    """Answers from one workspace, for several threads: a scrape at a time, kept for some seconds."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._workspace: Workspace | None = None
        self._lock = threading.Lock()
        self._page, self._until = b"", 0.0

    def metrics(self) -> bytes | None:
        """Give the text of /metrics; None where another scrape takes too long."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            return None
        try:
            if time.monotonic() >= self._until:
                self._page = render(self._measure)
                self._until = time.monotonic() + _CACHED_SECONDS
            return self._page
        finally:
            self._lock.release()

    def not_ready(self) -> str | None:
        """Say why no work is done here: the database is away, its schema is not ours, no worker was seen; None: all is well."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            return "the database answers too slowly"
        try:
            with snapshot(self._open().catalog) as connection:
                schema = connection.scalar(text("SELECT max(version_num) FROM alembic_version"))
                seen = connection.scalar(select(func.max(machines.c.seen_at)))
        except _TROUBLES as error:
            return _short(error)
        finally:
            self._lock.release()
        if schema != known()[-1]:
            return f"the database has schema {schema}, this program needs {known()[-1]}"
        if seen is None:
            return "no worker was ever seen"
        away = datetime.now(UTC) - seen
        return f"no worker was seen for {away.total_seconds():.0f} s" if away > SEEN_WITHIN else None

    def close(self) -> None:
        """Leave the database."""
        if self._workspace:
            self._workspace.close()
            self._workspace = None

    def _open(self) -> Workspace:
        if self._workspace is None:
            self._workspace = Workspace(self.service).__enter__()
        return self._workspace

    def _measure(self) -> Measures | None:
        try:
            return measure(
                self._open().catalog, silent_hours=self.service.alert_silent_hours, wall_hours=self.service.wall_hours
            )
        except _TROUBLES as error:
            log.warning("nothing can be measured", why=_short(error))
            return None


class _Answers(BaseHTTPRequestHandler):
    timeout = _IDLE_SECONDS
    server: "_Server"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            page = self.server.watcher.metrics()
            self._answer(200 if page else 503, page or b"another scrape takes too long\n", CONTENT_TYPE_LATEST)
        elif path == "/healthz":
            self._answer(200, b"alive\n")
        elif path == "/readyz":
            why = self.server.watcher.not_ready()
            self._answer(503 if why else 200, f"{why or 'ready'}\n".encode())
        else:
            self._answer(404, b"/metrics, /healthz, /readyz\n")

    do_HEAD = do_GET

    def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind if code == 200 else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Name the program, not its versions."""
        return "osint-pipeline"

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format % args, client=self.client_address[0])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = _CLIENTS

    def __init__(self, address: tuple[str, int], watcher: Watcher) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.watcher = watcher
        self._clients = threading.BoundedSemaphore(_CLIENTS)
        super().__init__(address, _Answers)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; a client too many is turned away."""
        if not self._clients.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._clients.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell of."""
        log.debug("a client of /metrics was not answered", exc_info=True)


def serve(service: Service, stop: threading.Event) -> None:
    """Answer until `stop` is set. Returns at once where OSINT_METRICS_LISTEN is off; raises UserError if it is taken."""
    with listening(service) as address:
        if address:
            stop.wait()


@contextmanager
def listening(service: Service) -> Iterator[str | None]:
    """Answer in threads while the block runs; gives the address, None where it is switched off.

    A port of 0 is any that is free. Raises UserError where the address cannot be had.
    """
    if service.metrics_listen == "off":
        yield None
        return
    watcher = Watcher(service)
    server = _listen(service, watcher)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        host, port = server.server_address[:2]
        yield f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        watcher.close()


def _listen(service: Service, watcher: Watcher) -> _Server:
    host, _, port = service.metrics_listen.rpartition(":")
    try:
        return _Server((host.strip("[]"), int(port)), watcher)
    except OSError as error:
        what = f"cannot listen on {service.metrics_listen}: {error.strerror or error}"
        raise UserError(what, "another process does already? set OSINT_METRICS_LISTEN, or to off") from error


def _short(error: BaseException) -> str:
    """Say it without an address of ours."""
    if isinstance(error, (UserError, SchemaTooNew)):
        return str(error)
    return for_the_archive(error) if isinstance(error, (StorageError, OSError)) else type(error).__name__
