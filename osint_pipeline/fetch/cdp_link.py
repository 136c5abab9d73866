"""CDP sessions of ours beside Playwright's: the whole browser's, and those of its targets that are attached through it."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

from osint_pipeline.fetch.cdp_pipe import FIRST_ID, Pipe

Answer = dict[str, Any]
Listener = Callable[[str, str, Answer], None]  # session ("" is the browser), method, params


class LinkFailed(Exception):
    """A CDP command was refused, or the browser is gone."""

    def __init__(self, method: str, why: str) -> None:
        super().__init__(f"{method}: {why}")
        self.method, self.why = method, why


class _Sent(NamedTuple):
    method: str
    session: str
    answer: asyncio.Future[Answer]


class Link:
    """Commands go out in the order of `send`; events arrive at `listener`."""

    def __init__(self, pipe: Pipe) -> None:
        self.listener: Listener | None = None
        self._pipe, self._session = pipe, ""
        self._last = FIRST_ID - 1
        self._waiting: dict[int, _Sent] = {}
        self._lost: str | None = "the browser is gone" if pipe.ended else None
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
        self._waiting[self._last] = _Sent(method, session, future)
        self._pipe.send(json.dumps(message).encode())
        return future

    def lose(self, why: str) -> None:
        """Fail every command that waits and every later one."""
        self._lost = why
        self._fail(list(self._waiting), why)

    def _fail(self, numbers: Iterable[int], why: str) -> None:
        for number in numbers:
            method, _, future = self._waiting.pop(number)
            if not future.done():
                future.set_exception(LinkFailed(method, why))

    def _received(self, raw: bytes, session: str) -> None:
        message = json.loads(raw)
        if "id" not in message:
            method, params = message["method"], message["params"]
            if method == "Target.attachedToTarget":
                self._pipe.own(params["sessionId"])
            elif method == "Target.detachedFromTarget":  # what waits there is not answered any more
                gone = params["sessionId"]
                self._fail(
                    [number for number, one in self._waiting.items() if one.session == gone], "its target has gone"
                )
            if self.listener is not None:
                self.listener("" if session == self._session else session, method, params)
            return
        if (sent := self._waiting.pop(message["id"], None)) is None:
            return
        method, _, future = sent
        if method == "Target.attachToBrowserTarget" and "result" in message:
            self._pipe.own(message["result"]["sessionId"])
        if future.done():
            return
        if "error" in message:
            future.set_exception(LinkFailed(method, str(message["error"].get("message"))))
        else:
            future.set_result(message["result"])


def _seen(future: asyncio.Future[Answer]) -> None:
    """Mark a failure as seen, so that one that nobody awaits is not reported when it is collected."""
    if not future.cancelled():
        future.exception()
