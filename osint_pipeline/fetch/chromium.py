"""One Chromium with its driver: started with nothing of ours, ended with all that it started, killed when it answers no more."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
from playwright.async_api import Browser as Handle
from playwright.async_api import BrowserContext, CDPSession, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.cdp import ATTACH
from osint_pipeline.fetch.cdp_link import Link, LinkFailed
from osint_pipeline.fetch.cdp_pipe import LAUNCHER, Handover, Pipe
from osint_pipeline.fetch.display import NEEDED, check_display
from osint_pipeline.fetch.leash import Leash, remove_folder

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
LAUNCH_SECONDS = 60.0  # 0.4 s on an idle machine, above 10 s on one with ten times more to do than it can
CLOSE_SECONDS = 3.0  # for an end in order; what has not ended then is killed
LOOK_SECONDS = 2.0  # between two questions whether it still answers


class BrowserMissing(Exception):
    """No Chromium was found."""

    def __init__(self, looked_for: tuple[str, ...]) -> None:
        super().__init__(f"no Chromium that may be run at {', '.join(looked_for)}; OSINT_CHROMIUM names one")
        self.looked_for = looked_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a Chromium is started: `proxy` is its only way out, `flags` stand beside FLAGS.

    `recorded`: each target waits for a Recorder to let it go on.
    """

    executable: Path | None
    headless: bool
    proxy: str
    flags: tuple[str, ...] = ()
    recorded: bool = True


class Chromium:
    """A running Chromium. Each has a driver of its own: the driver is one thread, and takes its browser with it when it dies.

    `gone` says why it was put down, None while nobody did.
    """

    def __init__(self, playwright: Playwright, handle: Handle, pipe: Pipe, link: Link, leash: Leash, driver: int) -> None:  # fmt: skip
        self.handle, self.link, self._pipe = handle, link, pipe
        self.gone: str | None = None
        self.pages = 0
        self._asking: CDPSession | None = None
        self._playwright, self._leash, self._driver = playwright, leash, driver
        handle.on("disconnected", lambda _: link.lose("the browser is gone"))

    @classmethod
    async def start(cls, launch: Launch) -> Self:
        """Start one. Raises BrowserMissing, NoDisplay, PlaywrightError, LinkFailed, TimeoutError."""
        if not launch.headless:
            check_display()
        # not in the scratch folder: Chromium's sockets lie in it, and a socket's path may have 107 bytes
        home = Path(tempfile.mkdtemp(prefix=f"osint-browser-{os.getpid()}-"))
        try:
            async with asyncio.timeout(LAUNCH_SECONDS):
                return await cls._started(launch, home)
        except BaseException:
            _kill_at(home)
            remove_folder(home)
            raise

    @classmethod
    async def _started(cls, launch: Launch, home: Path) -> Self:
        playwright, pipe = await async_playwright().start(), None
        try:
            executable = find_chromium(launch.executable, playwright)
            args = [*FLAGS, f"--proxy-server={launch.proxy}", *launch.flags]
            handle, pipe = await launched(playwright, executable, home, headless=launch.headless, args=args)
            link = await Link.open(pipe)
            told = await link.send("SystemInfo.getProcessInfo")
            main = next(one["id"] for one in told["processInfo"] if one["type"] == "browser")
            driver = psutil.Process(os.getpgid(main)).ppid()
            made = cls(playwright, handle, pipe, link, Leash(os.getpgid(main), home), driver)
            if launch.recorded:
                await link.send("Target.setAutoAttach", ATTACH)
        except BaseException as error:
            _kill_at(home)
            if pipe is not None:
                pipe.abort()
            await _stopped(playwright)
            if type(error) is Exception:  # Playwright's own for a driver that ended
                raise PlaywrightError(str(error)) from error
            raise
        return made

    async def context(
        self, *, user_agent: str | None, width: int, height: int, storage_state: Any = None
    ) -> BrowserContext:
        """Make a context for one page: a view of this many pixels, nothing of another page's in it. Raises PlaywrightError."""
        return await self.handle.new_context(
            user_agent=user_agent,
            viewport={"width": width, "height": height},
            accept_downloads=False,
            locale="en-US",
            storage_state=storage_state,
        )

    @property
    def alive(self) -> bool:
        """Whether a page may be asked of it."""
        return self.gone is None and self.handle.is_connected()

    async def lives(self) -> bool:
        """Ask whether it still lives: what was asked of a page fails sooner than its browser is known to be gone.

        To be awaited inside watched(), which ends the wait for one that hangs.
        """
        try:
            await self.link.send("Browser.getVersion")
        except LinkFailed:
            return False
        return self.alive

    @asynccontextmanager
    async def watched(self, *, hung_seconds: float, at_most_seconds: float) -> AsyncIterator[None]:
        """Put it down if it does not answer for `hung_seconds`, or if the work inside takes longer than `at_most_seconds`."""
        watch = asyncio.create_task(self._watch(hung_seconds, at_most_seconds))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _watch(self, hung_seconds: float, at_most_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + at_most_seconds
        while loop.time() < until:
            if not await self._answers(hung_seconds):
                self.put_down(f"it did not answer within {hung_seconds:.0f} s")
                return
            await asyncio.sleep(min(LOOK_SECONDS, hung_seconds))
        self.put_down(f"the visit had not ended after {at_most_seconds:.0f} s")

    async def _answers(self, seconds: float) -> bool:
        asked = asyncio.create_task(self._ask())
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        for _ in range(2):  # in halves: where this process itself was held up, the answer lies here unread
            done, _ = await asyncio.wait({asked}, timeout=seconds / 2)
            if done:
                return True  # also where it is gone: whoever uses it hears so
        asked.cancel()
        return False

    async def _ask(self) -> None:
        """Ask through the driver, which may hang alone."""
        if self._asking is None:
            self._asking = await self.handle.new_browser_cdp_session()
        await self._asking.send("Browser.getVersion")

    def put_down(self, why: str) -> None:
        """Kill it with all its processes and its driver; whatever waits for an answer of it fails."""
        self.gone = self.gone or why
        self._leash.kill()
        with suppress(psutil.Error):
            driver = psutil.Process(self._driver)
            if driver.ppid() == os.getpid():  # its number may be another's by now
                driver.kill()
        self.link.lose(why)

    async def end(self) -> None:
        """End it in order within CLOSE_SECONDS, otherwise by force. Nothing of it is left: no process, no folder."""
        killed, self.gone = self.gone is not None, self.gone or "it was ended"
        try:
            if not killed:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self.handle.close()
        except (PlaywrightError, TimeoutError):
            pass  # it had ended before, or is killed now
        finally:
            self._leash.let_go()
            self._pipe.abort()
            if not await _stopped(self._playwright):
                self.put_down("its driver did not end")


async def launched(
    playwright: Playwright, executable: Path, home: Path, *, headless: bool, args: list[str]
) -> tuple[Handle, Pipe]:
    """Launch a Chromium whose debugging pipe is shared with Playwright. Raises PlaywrightError, HandoverFailed."""
    handover = Handover(executable, home)
    coming = asyncio.create_task(handover.pipe())
    try:
        handle = await playwright.chromium.launch(
            executable_path=LAUNCHER,
            headless=headless,
            chromium_sandbox=os.geteuid() != 0,
            args=args,
            env={**environment(home, headless), **handover.environment},
            timeout=0,  # start() holds it to its time
        )
        return handle, await coming
    except BaseException:
        coming.cancel()
        await asyncio.wait({coming})
        if not coming.cancelled() and coming.exception() is None:
            coming.result().abort()
        raise


def _kill_at(home: Path) -> None:
    """Kill the Chromium that was started with a folder as its home, before it is known by its number."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.environ().get("HOME") == str(home):
                process.kill()


async def _stopped(playwright: Playwright) -> bool:
    """Stop a driver; whether it stopped."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await playwright.stop()
    except TimeoutError:
        return False
    except PlaywrightError:
        pass  # it had ended
    return True


def find_chromium(executable: Path | None, playwright: Playwright) -> Path:
    """Find the Chromium to start: the one that is named, else the first that is there. Raises BrowserMissing."""
    if executable is not None:
        looked_for = [str(executable)]
    else:
        found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
        looked_for = [playwright.chromium.executable_path, *(path for path in found if path)]
    for path in looked_for:
        if Path(path).is_file() and os.access(path, os.X_OK):
            return Path(path)
    raise BrowserMissing(tuple(looked_for))


def environment(home: Path, headless: bool) -> dict[str, str | float | bool]:
    """Give Chromium nothing of ours: no secret, and a home that goes away with it."""
    names = ("PATH", "LD_LIBRARY_PATH", "FONTCONFIG_PATH", *(() if headless else NEEDED))
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}
