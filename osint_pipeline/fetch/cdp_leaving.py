"""Leaves a page for about:blank, with every request paused: what it sends while it goes is told of by no other means."""

import asyncio

from osint_pipeline.fetch.cdp_link import Answer, Link
from osint_pipeline.fetch.cdp_targets import Targets

BLANK = "about:blank"


class Leaving:
    """The end of one page. `begun`: it is being left."""

    def __init__(self, link: Link, targets: Targets) -> None:
        self.link, self.targets = link, targets
        self.begun = False
        self._blank = False  # the blank document is on its way
        self._gone = asyncio.Event()

    async def go(self) -> None:
        """Leave the page, and wait until it has gone: a context that is closed while its page unloads hangs for 10 s (Chromium 156).

        Raises LinkFailed.
        """
        self.begun = True
        self.link.send("Page.enable", {}, self.targets.page)  # a page that is busy does not answer it
        await asyncio.gather(*self.targets.pause_all(requests=True))
        await self.link.send("Page.navigate", {"url": BLANK}, self.targets.page)
        await self._gone.wait()

    def navigating(self, _: str, params: Answer) -> None:
        """Take Page.frameStartedNavigating."""
        if self.begun and params["frameId"] == self.targets.main and params["url"] == BLANK:
            self._blank = True

    def stopped(self, _: str, params: Answer) -> None:
        """Take Page.frameStoppedLoading; a page that took Page.enable too late tells of this alone."""
        if self._blank and params["frameId"] == self.targets.main:
            self._gone.set()

    def navigated(self, _: str, params: Answer) -> None:
        """Take Page.frameNavigated."""
        if self.begun and params["frame"]["url"] == BLANK and "parentId" not in params["frame"]:
            self._gone.set()
