"""Fetches a page with Chromium, records every exchange of it, and keeps how it looked: picture, DOM, text, page info."""

import asyncio
import os
import shutil
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.behaving import Behaving
from osint_pipeline.fetch.cdp import ATTACH, Recorder
from osint_pipeline.fetch.cdp_link import Link
from osint_pipeline.fetch.guard import Guard
from osint_pipeline.fetch.relay import Relay
from osint_pipeline.fetch.sink import Sink
from osint_pipeline.fetch.visit import BrowserCrashed, Rendered, Visit
from settings.exits import Exit

VIEW_COUNTERS = ("http*://t.me/v/*", "http*://telegram.me/v/*")  # the preview's script reports each view there
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--component-updater=url-source=https://127.0.0.1:9/",  # else its maker is asked for updates all the same (Chromium 156)
    "--gaia-url=https://127.0.0.1:9/",  # and whether somebody is signed in there
    "--autofill-server-url=https://127.0.0.1:9/",  # and what the fields of a page's forms are for
    "--disable-sync",
    "--disable-domain-reliability",
    "--dns-prefetch-disable",
    "--no-pings",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
LAUNCH_SECONDS = 30.0


class BrowserMissing(Exception):
    """No Chromium was found."""

    def __init__(self, looked_for: tuple[str, ...]) -> None:
        super().__init__(f"no Chromium at {', '.join(looked_for)}; OSINT_CHROMIUM names one")
        self.looked_for = looked_for


class Browser:
    """`async with Browser(...) as browser:` starts Chromium at the first fetch, and again after it ended by itself.

    One page at a time. `scratch` is a folder for bodies and Chromium's own temporary files; nothing stays in it. Chromium's sandbox is
    on unless this process is root, where Chromium cannot have one.
    """

    def __init__(
        self,
        executable: Path | None,
        guard: Guard,
        *,
        scratch: Path,
        user_agent: str | None = None,
        headless: bool = True,
        exit: Exit | None = None,
        block: tuple[str, ...] = VIEW_COUNTERS,
        width: int = 1280,
        height: int = 800,
        behaving: Behaving | None = None,
    ) -> None:
        self.executable, self.guard, self.scratch = executable, guard, scratch
        self.user_agent, self.headless, self.block = user_agent, headless, block
        self.viewport = (width, height)
        self.behaving = behaving or Behaving()
        self.relay = Relay(guard, exit)
        self._stack = AsyncExitStack()
        self._one = asyncio.Lock()
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None
        self._link: Link | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.relay)
        self.scratch.mkdir(parents=True, exist_ok=True)
        # not in scratch: Chromium's sockets lie in it, and a socket's path may have 107 bytes
        self._home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="osint-browser-", ignore_cleanup_errors=True)))  # fmt: skip
        self._playwright = await self._stack.enter_async_context(async_playwright())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()
        await self._stack.aclose()

    @property
    def version(self) -> str:
        """The version of the Chromium that runs, "" before the first fetch."""
        return self._chromium.version if self._chromium is not None else ""

    async def fetch(self, url: str, capture: UUID, sink: Sink, *, timeout_seconds: float, limit_bytes: int) -> Rendered:
        """Open a page, wait until its network is quiet, keep it.

        Raises AddressRefused when the address, or one it redirects to, may not be reached, and BrowserCrashed; what the sink raises
        passes through.
        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"not an http address: {url}")
        self.guard.check_url(url)
        async with self._one:
            chromium, link = await self._running()
            folder = Path(tempfile.mkdtemp(dir=self.scratch, prefix="fetch-"))
            recorder = Recorder(link, self.relay, sink, capture, folder, limit_bytes=limit_bytes, block=self.block)
            link.listener = recorder.event
            try:
                visit = Visit(url, capture, sink, recorder, self._facts(chromium), self.behaving)
                return await visit.make(lambda: self._context(chromium), timeout_seconds)
            except BrowserCrashed:
                await self._end()
                raise
            finally:
                link.listener = None
                shutil.rmtree(folder, ignore_errors=True)

    def _facts(self, chromium: Chromium) -> dict[str, Any]:
        width, height = self.viewport
        return {"browser": f"Chromium {chromium.version}", "user_agent": self.user_agent, "viewport": f"{width}x{height}"}  # fmt: skip

    async def _context(self, chromium: Chromium) -> BrowserContext:
        width, height = self.viewport
        return await chromium.new_context(
            user_agent=self.user_agent,
            viewport={"width": width, "height": height},
            accept_downloads=False,
            locale="en-US",
        )

    async def _running(self) -> tuple[Chromium, Link]:
        if self._chromium is not None and self._chromium.is_connected() and self._link is not None:
            return self._chromium, self._link
        await self._end()
        assert self._playwright is not None, "use `async with`"
        chromium = await self._playwright.chromium.launch(
            executable_path=self._find(self._playwright),
            headless=self.headless,
            chromium_sandbox=os.geteuid() != 0,
            args=[*FLAGS, f"--proxy-server={self.relay.url}"],
            env=self._environment(),
            timeout=LAUNCH_SECONDS * 1000,
        )
        link = await Link.open(chromium)
        chromium.on("disconnected", lambda _: link.lose("the browser is gone"))
        await link.send("Target.setAutoAttach", ATTACH)
        self._chromium, self._link = chromium, link
        return chromium, link

    def _find(self, playwright: Playwright) -> Path:
        if self.executable is not None:
            looked_for = [str(self.executable)]
        else:
            found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
            looked_for = [playwright.chromium.executable_path, *(path for path in found if path)]
        for path in looked_for:
            if Path(path).is_file():
                return Path(path)
        raise BrowserMissing(tuple(looked_for))

    def _environment(self) -> dict[str, str | float | bool]:
        """Give Chromium nothing of ours: no secret, and a home that goes away with us."""
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "DISPLAY", "FONTCONFIG_PATH") if name in os.environ}  # fmt: skip
        return {**kept, "HOME": str(self._home), "TMPDIR": str(self._home), "LANG": "C.UTF-8", "TZ": "UTC"}

    async def _end(self) -> None:
        chromium, self._chromium, self._link = self._chromium, None, None
        if chromium is not None:
            with suppress(PlaywrightError):  # it may have ended before us
                await chromium.close()


__all__ = ["Browser", "BrowserCrashed", "BrowserMissing", "Rendered"]
