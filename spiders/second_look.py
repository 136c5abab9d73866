"""Which pages the browser looks at after the wire: shells at once; of a host's walls one first, the others when that one opened."""

from typing import Protocol
from urllib.parse import urlsplit

from spiders.page import Page, Verdict
from spiders.verdict import needs_browser


class Walls(Protocol):
    """What is known of walls that the browser met."""

    def in_vain(self, url: str) -> bool:
        """Tell whether the browser met a wall at this address or host so lately that it is not asked again yet."""
        ...


class NoWalls:
    """Nothing is known: the browser may always be asked."""

    def in_vain(self, url: str) -> bool:
        return False


class SecondLook:
    """Decides for one crawl. The browser loads a page as it is, once; nothing is solved."""

    def __init__(self) -> None:
        self.walls: Walls = NoWalls()
        self.has_login = False  # whether the browser has one for this source
        self._asked: set[str] = set()
        self._telling: dict[
            str, str
        ] = {}  # the walled page of each host that is with the browser, and tells for the others
        self._waiting: dict[str, list[str]] = {}  # those others
        self._open: set[str] = set()  # hosts whose walls opened for the browser
        self._shut: set[str] = set()

    def asked(self, url: str) -> bool:
        """Tell whether the browser was asked for an address."""
        return url in self._asked

    def note(self, url: str) -> None:
        """Note that the browser is asked for an address."""
        self._asked.add(url)

    def helps(self, page: Page) -> bool:
        """Tell whether the browser may see more of a page than the wire did."""
        return needs_browser(page) or (self.has_login and page.verdict in (Verdict.LOGIN_WALL, Verdict.NO_PREVIEW))

    def wanted(self, url: str, page: Page) -> bool:
        """Tell whether to ask the browser now for a page that the wire saw as a shell or a wall."""
        host = _host(url)
        if url in self._asked or self.walls.in_vain(url):
            return False
        if page.verdict is Verdict.SHELL or host in self._open:
            return True
        if host in self._shut:
            return False
        if host in self._telling:
            self._waiting[host].append(url)
            return False
        self._telling[host], self._waiting[host] = url, []
        return True

    def came(self, url: str, *, well: bool) -> list[str]:
        """Take what the browser saw; give the addresses of the host that are to be asked now.

        Only the page that tells for the host decides: another that the browser saw may have had no wall before it.
        """
        host = _host(url)
        if self._telling.get(host) != url:
            return []
        del self._telling[host]
        held = self._waiting.pop(host)
        (self._open if well else self._shut).add(host)
        return held if well else []

    def failed(self, url: str) -> list[str]:
        """The browser brought nothing: the next one may tell."""
        host = _host(url)
        if self._telling.get(host) != url:
            return []
        if held := self._waiting[host]:
            self._telling[host] = held.pop(0)
            return [self._telling[host]]
        del self._telling[host], self._waiting[host]
        return []


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()
