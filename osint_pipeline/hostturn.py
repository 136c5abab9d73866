"""What a crawl by hand does about others who visit its hosts: it waits for its turn, and goes on without it where that takes long."""

import threading
from collections.abc import Callable

from osint_pipeline.hostlock import HostLock
from storage.catalog import Catalog


class HostTurn:
    """The host that a crawl is at. come_to() is called in a thread; stop() may be called from a signal's handler.

    `say` is told in one sentence what is waited for, and what is not waited for any longer.
    """

    def __init__(self, catalog: Catalog, wait_seconds: float, say: Callable[[str], None]) -> None:
        self._catalog, self._wait_seconds, self._say = catalog, wait_seconds, say
        self._stopped = threading.Event()
        self._host = ""
        self._lock: HostLock | None = None

    def come_to(self, host: str) -> bool:
        """Let the host before go and take this one; False where another process keeps it longer than is waited.

        Raises DatabaseUnavailable.
        """
        if host == self._host and (self._lock is None or self._lock.still_held()):
            return self._lock is not None
        self.leave()
        self._lock = HostLock.take(self._catalog, host)
        if self._lock is None and self._wait_seconds:
            self._say(f"{host} is being visited by another process: waiting up to {self._wait_seconds:g} s for it")
            seconds = self._wait_seconds
            self._lock = HostLock.take(self._catalog, host, seconds=seconds, wants=True, stopped=self._stopped)
        if self._lock is None and not self._stopped.is_set():
            self._say(f"{host} is asked by two processes at once: the pause between requests holds for each by itself")
        self._host = host
        return self._lock is not None

    def leave(self) -> None:
        """Let the host go; may be called twice."""
        lock, self._lock, self._host = self._lock, None, ""
        if lock is not None:
            lock.__exit__(None, None, None)

    def stop(self) -> None:
        """Wait no longer."""
        self._stopped.set()
