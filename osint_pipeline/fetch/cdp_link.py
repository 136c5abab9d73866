"""A CDP session on the whole browser that reaches the sessions of its targets, without a debugging port.

Playwright's own CDPSession drops messages of flat child sessions. A session attached to the browser target with
flatten=False inside it carries them as text, so no port stands open to other users of the machine.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

from playwright.async_api import Browser as Chromium
from playwright.async_api import CDPSession
from playwright.async_api import Error as PlaywrightError

Answer = dict[str, Any]
Listener = Callable[[str, str, Answer], None]  # session ("" is the browser), method, params


class LinkFailed(Exception):
    """A CDP command was refused, or the browser is gone."""

    def __init__(self, method: str, why: str) -> None:
        super().__init__(f"{method}: {why}")
        self.method, self.why = method, why


class Link:
    """Commands go out in the order of `send`; events arrive at `listener`."""

    def __init__(self, outer: CDPSession, session: str) -> None:
        self.listener: Listener | None = None
        self._outer, self._session = outer, session
        self._last = 0
        self._waiting: dict[int, tuple[str, asyncio.Future[Answer]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: str | None = None

    @classmethod
    async def open(cls, browser: Chromium) -> Self:
        """Attach to a running browser."""
        outer = await browser.new_browser_cdp_session()
        target = (await outer.send("Target.getTargetInfo"))["targetInfo"]["targetId"]
        got = await outer.send("Target.attachToTarget", {"targetId": target, "flatten": False})
        link = cls(outer, got["sessionId"])
        outer.on("Target.receivedMessageFromTarget", link._received)
        return link

    def send(self, method: str, params: Answer | None = None, session: str = "") -> asyncio.Future[Answer]:
        """Send a command; the future gives its result or LinkFailed. It need not be awaited."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        if self._lost is not None:
            future.set_exception(LinkFailed(method, self._lost))
            return future
        self._last += 1
        message: Answer = {"id": self._last, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        self._waiting[self._last] = (method, future)
        task = asyncio.create_task(self._post(self._last, json.dumps(message)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return future

    def lose(self, why: str) -> None:
        """Fail every command that waits and every later one."""
        self._lost = why
        waiting, self._waiting = self._waiting, {}
        for method, future in waiting.values():
            if not future.done():
                future.set_exception(LinkFailed(method, why))

    async def _post(self, number: int, message: str) -> None:
        try:
            await self._outer.send("Target.sendMessageToTarget", {"sessionId": self._session, "message": message})
        except PlaywrightError as error:
            method, future = self._waiting.pop(number, ("", None))
            if future is not None and not future.done():
                future.set_exception(LinkFailed(method, error.message))

    def _received(self, params: Answer) -> None:
        message = json.loads(params["message"])
        if "id" not in message:
            if self.listener is not None:
                self.listener(message.get("sessionId", ""), message["method"], message["params"])
            return
        method, future = self._waiting.pop(message["id"], ("", None))
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(LinkFailed(method, str(message["error"].get("message"))))
        else:
            future.set_result(message["result"])


def _seen(future: asyncio.Future[Answer]) -> None:
    """Mark a failure as seen, so that one that nobody awaits is not reported when it is collected."""
    if not future.cancelled():
        future.exception()
