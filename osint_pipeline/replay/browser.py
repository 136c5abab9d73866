"""A Chromium whose only way out is the replaying proxy: for a person to look, and to see what a check compares."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from playwright.async_api import BrowserContext, Dialog, Page
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.fetch.browser import LOOKING_SECONDS, WORN_PAGES, first_line
from osint_pipeline.fetch.cdp_link import LinkFailed
from osint_pipeline.fetch.chromium import Chromium, Launch
from osint_pipeline.fetch.hand import Hand, HandFailed
from osint_pipeline.fetch.look import document_of, picture_of
from osint_pipeline.fetch.visit import QUIET_SECONDS, STEP_SECONDS, BrowserCrashed
from osint_pipeline.replay.again import Again, do_again
from osint_pipeline.replay.proxy import ReplayProxy

IDLE = "() => new Promise(done => requestIdleCallback(() => done(), {timeout: 2000}))"
_NOT_STARTED = (PlaywrightError, LinkFailed, OSError)
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
    """`async with ReplayBrowser(...) as browser:`; one page at a time, each in a context of its own.

    Chromium is started anew for the next page where it ended, or was put down because it did not answer for `hung_seconds`.
    """

    def __init__(
        self, proxy: ReplayProxy, executable: Path | None, *, headless: bool = True, hung_seconds: float = 30.0
    ) -> None:
        self.proxy, self.executable, self.headless, self.hung_seconds = proxy, executable, headless, hung_seconds
        self.version = ""  # which Chromium it is
        self._chromium: Chromium | None = None

    async def __aenter__(self) -> Self:
        """Start it. Raises BrowserMissing, NoDisplay; UserError where it does not start."""
        try:
            await self._running()
        except _NOT_STARTED as error:
            what, advice = f"Chromium did not start: {first_line(error)}", "start it by hand to see why"
            raise UserError(what, advice, Exit.FAILED) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def look(self, look: Look, timeout_seconds: float) -> View:
        """Load a page and do on it what live did, and give what is seen.

        Raises BrowserCrashed: Chromium did not start, ended or hung, so that nothing can be said of the page. PlaywrightError.
        """
        try:
            chromium = await self._running()
        except _NOT_STARTED as error:
            raise BrowserCrashed(look.url, f"it did not start: {first_line(error)}") from error
        chromium.pages += 1
        worn, most = True, timeout_seconds + look.again.bounds.seconds + LOOKING_SECONDS
        try:
            async with chromium.watched(hung_seconds=self.hung_seconds, at_most_seconds=most):
                view, answered = await self._looked(chromium, look, timeout_seconds)
                if not await chromium.lives():
                    raise BrowserCrashed(look.url, chromium.gone or "it ended before the page was seen")
            worn = not answered or chromium.pages >= WORN_PAGES
        except PlaywrightError as error:
            if chromium.alive:
                raise
            raise BrowserCrashed(look.url, chromium.gone or first_line(error)) from error
        finally:
            if worn:
                await self._end()
        return view

    async def _looked(self, chromium: Chromium, look: Look, timeout_seconds: float) -> tuple[View, bool]:
        """Give what is seen, and whether the page answered to the last."""
        context = await self._context(chromium, look)
        try:
            page = await context.new_page()
            page.on("dialog", _dismiss)
            looking = _Looking(page, self.proxy, look)
            view = await looking.view(timeout_seconds)
        finally:
            closed = await _closed(context)
        return view, closed and not looking.hung

    async def open(self, look: Look) -> None:
        """Show a page to a person until the window is closed."""
        context = await self._context(await self._running(), look)
        page = await context.new_page()
        with suppress(PlaywrightError):
            await page.goto(look.url)
        with suppress(PlaywrightError):
            while context.pages:
                await context.pages[0].wait_for_event("close", timeout=0)

    async def _context(self, chromium: Chromium, look: Look) -> BrowserContext:
        return await chromium.context(user_agent=look.user_agent, width=look.width, height=look.height)

    async def _running(self) -> Chromium:
        if self._chromium is None or not self._chromium.alive:
            await self._end()
            pin = f"--ignore-certificate-errors-spki-list={self.proxy.certificates.pin}"
            launch = Launch(executable=self.executable, headless=self.headless, proxy=self.proxy.url, flags=(pin,), recorded=False)  # fmt: skip
            self._chromium = await Chromium.start(launch)
            self.version = f"Chromium {self._chromium.handle.version}"
        return self._chromium

    async def _end(self) -> None:
        chromium, self._chromium = self._chromium, None
        if chromium is not None:
            await chromium.end()


class _Looking:
    def __init__(self, page: Page, proxy: ReplayProxy, look: Look) -> None:
        self.page, self.proxy, self.look = page, proxy, look
        self.trouble: list[str] = [look.again.trouble] if look.again.trouble else []
        self.hung = False  # it did not answer in time, and may be at it still

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
        picture = seen = None
        if (hand := await self._step("picture", lambda: Hand.of(self.page))) is not None:
            await do_again(self.look.again, self.page, hand, self.proxy)
            picture = await self._step("picture", lambda: picture_of(self.page, hand, lambda _: None))
            with suppress(TimeoutError, PlaywrightError):  # a page that goes on is looked at as it then is
                async with asyncio.timeout(3 * QUIET_SECONDS):
                    await self._quiet()
            seen = await self._step("DOM and text", lambda: document_of(hand))
        if seen is None:
            return View(html=None, text="", picture=picture, trouble=tuple(self.trouble))
        if seen.cut:
            self.trouble.append("DOM or text is longer than what is read of it; only its beginning is compared")
        return View(html=seen.html, text=seen.text, picture=picture, trouble=tuple(self.trouble))

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
        except TimeoutError:
            self.hung = True
            self.trouble.append(f"{name}: the page did not answer within {STEP_SECONDS:.0f} s")
        except (HandFailed, PlaywrightError) as error:
            self.trouble.append(f"{name}: {first_line(error)}")
        return None


async def _closed(context: BrowserContext) -> bool:
    """Close a context; whether it closed."""
    try:
        async with asyncio.timeout(STEP_SECONDS):
            await context.close()
    except (PlaywrightError, TimeoutError):
        return False
    return True


async def _dismiss(dialog: Dialog) -> None:
    with suppress(PlaywrightError):  # the page may have gone on
        await dialog.dismiss()
