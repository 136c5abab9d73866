"""Fetches a page with Chromium, records every exchange of it, and keeps how it looked: picture, DOM, text, page info."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Dialog, Download, Page, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.cdp import ATTACH, Recorder
from osint_pipeline.fetch.cdp_link import Link, LinkFailed
from osint_pipeline.fetch.guard import AddressRefused, Guard
from osint_pipeline.fetch.relay import Relay
from osint_pipeline.fetch.sink import Sink
from storage.exchange import RecordRef, Resource, Truncated

VIEW_COUNTERS = ("http*://t.me/v/*", "http*://telegram.me/v/*")  # the preview's script reports each view there
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--dns-prefetch-disable",
    "--no-pings",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
QUIET_SECONDS = 0.5
STEP_SECONDS = 10.0
LAUNCH_SECONDS = 30.0
PICTURE_PIXELS = 16_000  # Chromium draws no taller picture reliably

T = TypeVar("T")


class BrowserMissing(Exception):
    """No Chromium was found."""

    def __init__(self, looked_for: tuple[str, ...]) -> None:
        super().__init__(f"no Chromium at {', '.join(looked_for)}; OSINT_CHROMIUM names one")
        self.looked_for = looked_for


class BrowserCrashed(Exception):
    """Chromium, or the page's process, ended in the middle of a fetch; what came before is in `records`."""

    def __init__(self, url: str, why: str, records: tuple[RecordRef, ...] = ()) -> None:
        super().__init__(f"{url}: the browser ended ({why})")
        self.url, self.why, self.records = url, why, records


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A fetched page. `main` is the response that the page was made from, `status` its status; None where none came.

    `failure` says why the page could not be opened, None when it was. `timed_out`: not everything had come when the time was up.
    """

    final_url: str
    status: int | None
    html: str
    text: str
    records: tuple[RecordRef, ...]
    main: RecordRef | None
    screenshot: RecordRef | None
    omissions: tuple[str, ...]
    alterations: tuple[str, ...]
    failure: str | None = None
    timed_out: bool = False


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
        upstream_proxy: str | None = None,
        block: tuple[str, ...] = VIEW_COUNTERS,
        width: int = 1280,
        height: int = 800,
    ) -> None:
        self.executable, self.guard, self.scratch = executable, guard, scratch
        self.user_agent, self.headless, self.block = user_agent, headless, block
        self.viewport = (width, height)
        self.relay = Relay(guard, upstream_proxy)
        self._stack = AsyncExitStack()
        self._one = asyncio.Lock()
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None
        self._link: Link | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.relay)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=self.scratch, prefix="browser-", ignore_cleanup_errors=True)))  # fmt: skip
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
            folder = Path(tempfile.mkdtemp(dir=self._home, prefix="fetch-"))
            recorder = Recorder(link, self.relay, sink, capture, folder, limit_bytes=limit_bytes, block=self.block)
            link.listener = recorder.event
            try:
                visit = _Visit(url, capture, sink, recorder, self._facts(chromium))
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


class _Visit:
    """One page from its address to its records."""

    def __init__(self, url: str, capture: UUID, sink: Sink, recorder: Recorder, facts: dict[str, Any]) -> None:
        self.url, self.capture, self.sink, self.recorder, self.facts = url, capture, sink, recorder, facts
        self.started_at = datetime.now(UTC)
        self.failure: str | None = None
        self.timed_out = False
        self.crashed = asyncio.Event()
        self.html = self.text = ""
        self.final_url = url
        self.screenshot: RecordRef | None = None
        self.made: list[tuple[str, str, bytes]] = []

    async def make(self, context_of: Callable[[], Awaitable[BrowserContext]], timeout_seconds: float) -> Rendered:
        """Visit the page and keep it."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            context = await context_of()
            try:
                page = await context.new_page()
                self._watch(page)
                await self._open(page, deadline)
                if self.failure is None:
                    await self._look(page)
            finally:
                async with asyncio.timeout(STEP_SECONDS):
                    await context.close()
        except (PlaywrightError, LinkFailed, TimeoutError) as error:
            await self._crash(str(error).splitlines()[0] if str(error) else type(error).__name__)
        if self.crashed.is_set():
            await self._crash("the page's process ended")
        await self.recorder.finish(Truncated.TIME if self.timed_out else Truncated.DISCONNECT)
        self._check_refused()
        return await self._kept()

    async def _crash(self, why: str) -> None:
        self.recorder.link.lose(why)
        await self.recorder.finish(Truncated.DISCONNECT)
        raise BrowserCrashed(self.url, why, tuple(self.recorder.records))

    def _watch(self, page: Page) -> None:
        page.on("crash", lambda _: self.crashed.set())
        page.on("dialog", self._dismiss)
        page.on("download", self._refuse)

    async def _dismiss(self, dialog: Dialog) -> None:
        self.recorder.alterations.append(f"a dialog of the page was dismissed ({dialog.type})")
        with suppress(PlaywrightError):  # the page may have gone on
            await dialog.dismiss()

    async def _refuse(self, download: Download) -> None:
        self.recorder.omit(f"{download.url}: a download was refused")
        with suppress(PlaywrightError):
            await download.cancel()

    async def _open(self, page: Page, deadline: float) -> None:
        async with asyncio.timeout(STEP_SECONDS):
            await self.recorder.ready.wait()
        try:
            async with asyncio.timeout_at(deadline):
                going = asyncio.ensure_future(page.goto(self.url, wait_until="load", timeout=0))
                await self._first(going)
                await self._quiet()
        except TimeoutError:
            self.timed_out = True
            self.recorder.omit("timed out: not everything had come when the time was up")
        except PlaywrightError as error:
            if self.crashed.is_set() or not _connected(page):
                raise
            self.failure = error.message.splitlines()[0]

    async def _first(self, going: asyncio.Future[Any]) -> None:
        """Wait for the page's load, or for the end of its process."""
        ended = asyncio.ensure_future(self.crashed.wait())
        try:
            await asyncio.wait({going, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            if not going.done():
                going.cancel()
        if going.done() and not going.cancelled():
            going.result()

    async def _quiet(self) -> None:
        while (silent := self.recorder.quiet_seconds) < QUIET_SECONDS and not self.crashed.is_set():
            await asyncio.sleep(max(0.02, QUIET_SECONDS - silent))

    async def _look(self, page: Page) -> None:
        """Take the picture, the DOM and the text; a page that answers no more gives what it gave."""
        self.final_url = page.url
        picture = await self._step("screenshot", self._picture(page))
        with suppress(TimeoutError):
            async with asyncio.timeout(3 * QUIET_SECONDS):
                await self._quiet()  # the picture made the page as tall as it is: late images came into view
        self.html = await self._step("DOM", page.content()) or ""
        self.text = await self._step("text", page.inner_text("body", timeout=STEP_SECONDS * 1000)) or ""
        if picture:
            self.made.append(("urn:screenshot:", "image/png", picture))
        if self.html:
            self.made.append(("urn:dom:", "text/html; charset=utf-8", self.html.encode("utf-8", "replace")))
        self.made.append(("urn:text:", "text/plain; charset=utf-8", self.text.encode("utf-8", "replace")))

    async def _picture(self, page: Page) -> bytes:
        size = await page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")  # fmt: skip
        if size[1] <= PICTURE_PIXELS:
            return await page.screenshot(full_page=True, timeout=STEP_SECONDS * 1000)
        self.recorder.omit(f"screenshot ends at {PICTURE_PIXELS} of {size[1]} pixels")
        clip = {"x": 0.0, "y": 0.0, "width": float(page.viewport_size["width"]), "height": float(PICTURE_PIXELS)}  # type: ignore[index]
        return await page.screenshot(full_page=True, clip=clip, timeout=STEP_SECONDS * 1000)  # type: ignore[arg-type]

    async def _step(self, name: str, work: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await work
        except TimeoutError:
            self.recorder.omit(f"{name}: the page did not answer within {STEP_SECONDS:.0f} s")
        except PlaywrightError as error:
            self.recorder.omit(f"{name}: {error.message.splitlines()[0]}")
        return None

    def _check_refused(self) -> None:
        """Raise AddressRefused if the page itself, not a part of it, was refused."""
        if self.failure is not None and self.recorder.main is None and (refused := self.recorder.refused_page):
            raise refused

    async def _kept(self) -> Rendered:
        recorder, now = self.recorder, datetime.now(UTC)
        main, hop = recorder.main or (None, None)
        for prefix, media_type, body in [*self.made, ("urn:pageinfo:", "application/json", self._info())]:
            resource = Resource(url=prefix + self.url, made_at=now, media_type=media_type, body=body, about=main.record_id if main else None)  # fmt: skip
            record = await asyncio.to_thread(self.sink.resource, resource, self.capture)
            recorder.records.append(record)
            if prefix == "urn:screenshot:":
                self.screenshot = record
        return Rendered(
            final_url=self.final_url,
            status=hop.status if hop else None,
            html=self.html,
            text=self.text,
            records=tuple(recorder.records),
            main=main,
            screenshot=self.screenshot,
            omissions=tuple(recorder.omissions),
            alterations=tuple(recorder.alterations),
            failure=self.failure,
            timed_out=self.timed_out,
        )

    def _info(self) -> bytes:
        told = {
            "url": self.url,
            "final_url": self.final_url,
            "started_at": self.started_at.isoformat(),
            "ended_at": datetime.now(UTC).isoformat(),
            "failure": self.failure,
            "timed_out": self.timed_out,
            **self.facts,
            "resources": self.recorder.resources,
            "omissions": self.recorder.omissions,
            "alterations": self.recorder.alterations,
        }
        return json.dumps(told, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _connected(page: Page) -> bool:
    browser = page.context.browser
    return browser is not None and browser.is_connected()


__all__ = ["AddressRefused", "Browser", "BrowserCrashed", "BrowserMissing", "Rendered"]
