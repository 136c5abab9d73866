"""CDP sessions of ours beside Playwright's: the whole browser's, and those of its targets that are attached through it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

from osint_pipeline.fetch.cdp_pipe import FIRST_ID, Pipe

Answer = dict[str, Any]
Listener = Callable[[str, str, Answer], None]  # session ("" is the browser), method, params


class LinkFailed(Exception):
    """A CDP command was refused, or the browser is gone."""

    def __init__(self, method: str, why: str) -> None:
        super().__init__(f"{method}: {why}")
        self.method, self.why = method, why


class Link:
    """Commands go out in the order of `send`; events arrive at `listener`."""

    def __init__(self, pipe: Pipe) -> None:
        self.listener: Listener | None = None
        self._pipe, self._session = pipe, ""
        self._last = FIRST_ID - 1
        self._waiting: dict[int, tuple[str, asyncio.Future[Answer]]] = {}
        self._lost: str | None = None
        pipe.received, pipe.lost = self._received, lambda: self.lose("the browser is gone")

    @classmethod
    async def open(cls, pipe: Pipe) -> Self:
        """Attach to a running browser. Raises LinkFailed."""
        link = cls(pipe)
        link._session = str((await link.send("Target.attachToBrowserTarget"))["sessionId"])
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
        if session := session or self._session:
            message["sessionId"] = session
        self._waiting[self._last] = (method, future)
        self._pipe.send(json.dumps(message).encode())
        return future

    def lose(self, why: str) -> None:
        """Fail every command that waits and every later one."""
        self._lost = why
        waiting, self._waiting = self._waiting, {}
        for method, future in waiting.values():
            if not future.done():
                future.set_exception(LinkFailed(method, why))

    def _received(self, raw: bytes, session: str) -> None:
        message = json.loads(raw)
        if "id" not in message:
            method, params = message["method"], message["params"]
            if method == "Target.attachedToTarget":
                self._pipe.own(params["sessionId"])
            if self.listener is not None:
                self.listener("" if session == self._session else session, method, params)
            return
        method, future = self._waiting.pop(message["id"], ("", None))
        if "sessionId" in message.get("result", ()) and method == "Target.attachToBrowserTarget":
            self._pipe.own(message["result"]["sessionId"])
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
