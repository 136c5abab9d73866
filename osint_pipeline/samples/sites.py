"""All sample sites together, each on its own port of 127.0.0.1."""

import threading
from types import TracebackType

from osint_pipeline.samples import channel, news, script_page, telegram, trouble, video
from osint_pipeline.samples.server import Served, Serving, Site

PORTS = ("telegram", "cdn", "news", "script", "video", "trouble")


class SampleSites:
    """Serves the sites from `start` (or `with`) to `close`. `first_port` 0 takes free ports, else six in a row.

    `visit` is 1 or 2 and may be set while serving. `log` holds every answer, noted before its first byte leaves.
    """

    def __init__(self, *, visit: int = 1, first_port: int = 0) -> None:
        self.log: list[Served] = []
        self._first_port, self._lock = first_port, threading.Lock()
        self._serving: dict[str, Serving] = {}
        self._trouble, self._video = trouble.Trouble(), video.Video()
        self._telegram, self._news = telegram.Telegram(lambda: self.visit), news.News(lambda: self.visit)
        self.visit = visit

    @property
    def visit(self) -> int:
        """Say which state the sites show."""
        return self._number

    @visit.setter
    def visit(self, number: int) -> None:
        if number not in (1, 2):
            raise ValueError(f"the sample sites know visits 1 and 2, not {number}")
        self._number = number
        self._trouble.reset()

    def start(self) -> "SampleSites":
        """Listen."""
        sites: tuple[Site, ...] = (
            self._telegram,
            telegram.files,
            self._news,
            script_page.site,
            self._video,
            self._trouble,
        )
        try:
            for place, (name, site) in enumerate(zip(PORTS, sites, strict=True)):
                port = self._first_port + place if self._first_port else 0
                self._serving[name] = Serving(site, self._note, port)
        except OSError:
            self.close()
            raise
        self._telegram.base, self._telegram.cdn = self.bases["telegram"], self.bases["cdn"]
        self._news.base, self._video.base = self.bases["news"], self.bases["video"]
        return self

    def close(self) -> None:
        """Stop listening and end every connection. May be called twice."""
        for one in self._serving.values():
            one.close()

    def _note(self, served: Served) -> None:
        with self._lock:
            self.log.append(served)

    @property
    def bases(self) -> dict[str, str]:
        """Give each site's address without a path."""
        return {name: one.url for name, one in self._serving.items()}

    @property
    def telegram(self) -> str:
        """Give the channel's preview page."""
        return f"{self.bases['telegram']}/s/{channel.CHANNEL}"

    @property
    def news(self) -> str:
        """Give the outlet's front page; /feed.xml, /sitemap.xml and /robots.txt stand beside it."""
        return self.bases["news"] + "/"

    @property
    def script_page(self) -> str:
        """Give a page that needs scripts."""
        return self.bases["script"] + "/story"

    @property
    def video(self) -> str:
        """Give a page with a film."""
        return self.bases["video"] + "/v/1"

    @property
    def trouble(self) -> str:
        """Give the list of addresses that go wrong."""
        return self.bases["trouble"] + "/"

    def troubled(self, name: str) -> str:
        """Give the address of one trouble, such as "chain" or "busy"."""
        return f"{self.bases['trouble']}/{name}"

    def __enter__(self) -> "SampleSites":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
