"""A Chromium whose only way out is the replaying proxy: for a person to look, and to see what a check compares."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Dialog, Page, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.chromium import FLAGS, LAUNCH_SECONDS, environment, find_chromium
from osint_pipeline.fetch.hand import Hand
from osint_pipeline.fetch.look import picture_of
from osint_pipeline.fetch.visit import QUIET_SECONDS, STEP_SECONDS
from osint_pipeline.replay.again import Again, do_again
from osint_pipeline.replay.proxy import ReplayProxy

IDLE = "() => new Promise(done => requestIdleCallback(() => done(), {timeout: 2000}))"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How live looked at the page: the same is done again."""

    url: str
    width: int = 1280
    height: int = 800
    user_agent: str | None = None
    again: Again = field(default_factory=Again)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was seen; `html` and `picture` are None where the page did not give them. `trouble` says what went wrong."""

    html: str | None
    text: str
    picture: bytes | None
    trouble: tuple[str, ...]


class ReplayBrowser:
    """`async with ReplayBrowser(...) as browser:`; one page at a time, each in a context of its own."""

    def __init__(self, proxy: ReplayProxy, executable: Path | None, *, headless: bool = True) -> None:
        self.proxy, self.executable, self.headless = proxy, executable, headless
        self._stack = AsyncExitStack()
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None  # started anew for the next page where it has ended

    async def __aenter__(self) -> Self:
        try:
            self._playwright = await self._stack.enter_async_context(async_playwright())
            self._chromium = await self._launch(self._playwright)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._chromium is not None:
            with suppress(PlaywrightError):
                await self._chromium.close()
        await self._stack.aclose()

    async def _launch(self, playwright: Playwright) -> Chromium:
        # not under the data folder: Chromium's sockets lie in it, and a socket's path may have 107 bytes
        home = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="osint-replay-", ignore_cleanup_errors=True)
        )
        pin = f"--ignore-certificate-errors-spki-list={self.proxy.certificates.pin}"
        return await playwright.chromium.launch(
            executable_path=find_chromium(self.executable, playwright),
            headless=self.headless,
            chromium_sandbox=os.geteuid() != 0,
            args=[*FLAGS, f"--proxy-server={self.proxy.url}", pin],
            env=environment(Path(home), self.headless),
            timeout=LAUNCH_SECONDS * 1000,
        )

    @property
    def version(self) -> str:
        """Which Chromium it is."""
        return f"Chromium {self._chromium.version}" if self._chromium else ""

    async def look(self, look: Look, timeout_seconds: float) -> View:
        """Load a page and do on it what live did, and give what is seen."""
        context = await self._context(look)
        try:
            page = await context.new_page()
            page.on("dialog", _dismiss)
            return await _Looking(page, self.proxy, look).view(timeout_seconds)
        finally:
            with suppress(PlaywrightError, TimeoutError):
                async with asyncio.timeout(STEP_SECONDS):
                    await context.close()

    async def open(self, look: Look) -> None:
        """Show a page to a person until the window is closed."""
        context = await self._context(look)
        page = await context.new_page()
        with suppress(PlaywrightError):
            await page.goto(look.url)
        with suppress(PlaywrightError):
            while context.pages:
                await context.pages[0].wait_for_event("close", timeout=0)

    async def _context(self, look: Look) -> BrowserContext:
        assert self._chromium is not None and self._playwright is not None, "use `async with`"
        if not self._chromium.is_connected():
            self._chromium = await self._launch(self._playwright)
        return await self._chromium.new_context(
            user_agent=look.user_agent,
            viewport={"width": look.width, "height": look.height},
            accept_downloads=False,
            locale="en-US",
        )


class _Looking:
    def __init__(self, page: Page, proxy: ReplayProxy, look: Look) -> None:
        self.page, self.proxy, self.look = page, proxy, look
        self.trouble: list[str] = [look.again.trouble] if look.again.trouble else []

    async def view(self, timeout_seconds: float) -> View:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.page.goto(self.look.url, wait_until="load", timeout=0)
                await self._quiet()
        except TimeoutError:
            self.trouble.append(f"not everything had come after {timeout_seconds:.0f} s")
        except PlaywrightError as error:
            self.trouble.append(error.message.splitlines()[0])
            return View(html=None, text="", picture=None, trouble=tuple(self.trouble))
        picture = None
        if (hand := await self._step("picture", lambda: Hand.of(self.page))) is not None:
            await do_again(self.look.again, self.page, hand, self.proxy)
            picture = await self._step("picture", lambda: picture_of(self.page, hand, lambda _: None))
        with suppress(TimeoutError, PlaywrightError):  # a page that goes on is looked at as it then is
            async with asyncio.timeout(3 * QUIET_SECONDS):
                await self._quiet()
        html = await self._step("DOM", self.page.content)
        text = await self._step("text", lambda: self.page.inner_text("body", timeout=STEP_SECONDS * 1000))
        return View(html=html, text=text or "", picture=picture, trouble=tuple(self.trouble))

    async def _quiet(self) -> None:
        """Wait until nothing is asked, and the page's scripts have nothing to do that they may ask something after."""
        while True:
            while (silent := self.proxy.quiet_seconds()) < QUIET_SECONDS:
                await asyncio.sleep(max(0.02, QUIET_SECONDS - silent))
            await self.page.evaluate(IDLE)
            if self.proxy.quiet_seconds() >= QUIET_SECONDS:
                return

    async def _step(self, name: str, work: Callable[[], Awaitable[T]]) -> T | None:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await work()
        except (TimeoutError, PlaywrightError) as error:
            self.trouble.append(f"{name}: {str(error).splitlines()[0] if str(error) else 'the page did not answer'}")
        return None


async def _dismiss(dialog: Dialog) -> None:
    with suppress(PlaywrightError):  # the page may have gone on
        await dialog.dismiss()
