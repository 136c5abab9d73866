"""Our hand on a page: a script in a world of its own, real mouse clicks, pictures, and a watch on where the page goes.

The page's scripts do not see ours and share no object with it. Its methods stand in data/behaviours.js.
"""

import asyncio
import base64
from contextlib import suppress
from importlib.resources import files
from typing import Any, Self

from playwright.async_api import CDPSession, Page
from playwright.async_api import Error as PlaywrightError

WORLD = "osint"
# the getters of the prototype: a form of the page named `documentElement` stands in the way of the property
_DOCUMENT = """(limit => {
  const of = name => Object.getOwnPropertyDescriptor(Document.prototype, name).get.call(document);
  const [type, root, body] = [of('doctype'), of('documentElement'), of('body')];
  const html = (type ? new XMLSerializer().serializeToString(type) : '') + (root ? root.outerHTML : '');
  const text = body ? body.innerText || '' : '';
  return {url: location.href, html: html.slice(0, limit), text: text.slice(0, limit), longest: Math.max(html.length, text.length)};
})"""
_CALL = "function(name, ...given) { return globalThis.osint[name](...given); }"


class HandFailed(Exception):
    """Our script could not be run, or threw."""

    def __init__(self, method: str, why: str) -> None:
        super().__init__(f"{method}: {why}")
        self.method, self.why = method, why


class Hand:
    """`await Hand.of(page)`; `enter` before the first `call`.

    From the first click on no request for another document in the page's place is let out: `stopped` lists where it wanted to go.
    `left_for` is the document that it went to all the same, None while it stays; `moved` says that it went on by itself before any click.
    """

    def __init__(self, page: Page, session: CDPSession) -> None:
        self.page, self._session = page, session
        self.clicked = False
        self.calls = 0
        self.stopped: list[str] = []
        self.left_for: str | None = None
        self.moved = False
        self._frame = ""
        self._world: int | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def of(cls, page: Page) -> Self:
        """Attach to a page."""
        return cls(page, await page.context.new_cdp_session(page))

    async def enter(self) -> None:
        """Put our script beside the page's. Raises PlaywrightError."""
        self._session.on("Page.frameRequestedNavigation", self._wants_away)
        self._session.on("Page.frameNavigated", self._gone)
        _, tree = await asyncio.gather(self._send("Page.enable"), self._send("Page.getFrameTree"))
        self._frame = tree["frameTree"]["frame"]["id"]
        made = await self._send("Page.createIsolatedWorld", {"frameId": self._frame, "worldName": WORLD})
        self._world = made["executionContextId"]
        script = files("osint_pipeline.data").joinpath("behaviours.js").read_text("utf-8")
        _value("enter", await self._send("Runtime.evaluate", {"expression": script, "contextId": self._world}))

    async def call(self, method: str, *given: Any, gesture: bool = False) -> Any:
        """Call a method of our script and give what it returns; with `gesture` as if a person had asked for it.

        Raises HandFailed, PlaywrightError.
        """
        self.calls += 1
        asked = {
            "functionDeclaration": _CALL,
            "executionContextId": self._world,
            "arguments": [{"value": one} for one in (method, *given)],
            "returnByValue": True,
            "awaitPromise": True,
            "userGesture": gesture,
        }
        return _value(method, await self._send("Runtime.callFunctionOn", asked))

    async def click(self, x: float, y: float) -> None:
        """Click a point of the view as a mouse does. Raises PlaywrightError."""
        if not self.clicked:
            self._session.on("Fetch.requestPaused", self._asked)
            await self._send("Fetch.enable", {"patterns": [{"resourceType": "Document", "requestStage": "Request"}]})
            self.clicked = True
        await self.page.mouse.click(x, y)

    async def document(self, limit: int) -> dict[str, Any]:
        """Read `url`, `html` and `text` of the document, all at one moment, the two cut at `limit` characters; `longest` is uncut.

        Raises HandFailed, PlaywrightError.
        """
        tree = await self._send("Page.getFrameTree")
        made = await self._send("Page.createIsolatedWorld", {"frameId": tree["frameTree"]["frame"]["id"], "worldName": WORLD + "-look"})  # fmt: skip
        asked = {"expression": f"{_DOCUMENT}({limit})", "contextId": made["executionContextId"], "returnByValue": True}
        told: dict[str, Any] = _value("document", await self._send("Runtime.evaluate", asked))
        return told

    async def free(self) -> None:
        """End what the page's scripts are in the middle of, so that the page answers again."""
        await self._send("Runtime.terminateExecution")

    async def picture(self, width: int = 0, height: int = 0) -> bytes:
        """Take a PNG of the view, or of so much of the page from its top left corner. Raises PlaywrightError."""
        asked: dict[str, Any] = {"format": "png"}
        if width and height:
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            asked |= {"captureBeyondViewport": True, "clip": clip}
        return base64.b64decode((await self._send("Page.captureScreenshot", asked))["data"])

    async def extent(self) -> tuple[int, int]:
        """Measure the whole page, in CSS pixels: width, height."""
        size = (await self._send("Page.getLayoutMetrics"))["cssContentSize"]
        return int(size["width"]), int(size["height"])

    async def _send(self, method: str, params: dict[str, Any] | None = None) -> Any:
        return await self._session.send(method, params)

    def _wants_away(self, told: dict[str, Any]) -> None:
        if told["frameId"] != self._frame:
            return
        if not self.clicked:
            self.moved = True
        elif told.get("disposition", "currentTab") == "currentTab":
            self.stopped.append(told["url"])
            if not told["url"].startswith(("http:", "https:")):  # there will be no request that could be stopped
                self._start(self._quietly("Page.stopLoading"))

    def _asked(self, paused: dict[str, Any]) -> None:
        """Let out what a frame asks for, and nothing for the page itself: aborted, it stays as it is."""
        answer = {"requestId": paused["requestId"]}
        if paused["frameId"] != self._frame:
            return self._start(self._quietly("Fetch.continueRequest", answer))
        if (url := paused["request"]["url"]) not in self.stopped[-1:]:
            self.stopped.append(url)
        self._start(self._quietly("Fetch.failRequest", {**answer, "errorReason": "Aborted"}))

    async def _quietly(self, method: str, params: dict[str, Any] | None = None) -> None:
        with suppress(PlaywrightError):  # the page may have ended
            await self._send(method, params)

    def _gone(self, told: dict[str, Any]) -> None:
        if told["frame"]["id"] != self._frame:
            return
        if self.clicked:
            self.left_for = told["frame"]["url"]
        else:
            self.moved = True

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _value(method: str, answer: dict[str, Any]) -> Any:
    if thrown := answer.get("exceptionDetails"):
        told = thrown.get("exception", {}).get("description") or thrown.get("text", "it threw")
        raise HandFailed(method, str(told).splitlines()[0])
    return answer["result"].get("value")
