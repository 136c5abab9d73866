"""Holds a page to a number of requests, WebSockets counted: from the limit on none is sent, and the capture says so."""

import asyncio
from typing import Any

from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.cdp_link import Answer

_BOTH_STAGES = {"patterns": [{"urlPattern": "*", "requestStage": stage} for stage in ("Request", "Response")]}
# Nothing pauses or blocks a WebSocket (Fetch, Network.setBlockedURLs). This lets none be opened and holds up what is written
# to open ones; HTTP, which no pattern matches, goes on as it was (Chromium 156).
_NO_SOCKETS = {
    "offline": True,
    "matchedNetworkConditions": [
        {"urlPattern": pattern, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        for pattern in ("ws://*:*/*", "wss://*:*/*")
    ],
}
_BEGUN = ("Network.requestWillBeSent", "Network.webSocketCreated")
_UNOPENED = ("Network.webSocketFrameError", "Network.webSocketClosed")  # where no handshake was told before
_Event = tuple[str, str, Answer]


class RequestLimit:
    """Stands before a Recorder, whose `ending` it takes: give `event` to Link.listener.

    Only when the limit is reached is each request paused before it is sent, which would cost a round trip for every one.
    WebSockets are cut off when one is opened beyond the limit: pages that open none keep theirs to the end.
    What was refused is not told to the recorder, so that a page that asks for ever cannot fill its memory.
    """

    def __init__(self, recorder: Recorder, limit: int) -> None:
        self.recorder, self.limit = recorder, limit
        self.reached = self.cut_off = False
        self._let_out: set[str] = set()  # network ids
        self._held: dict[str, list[_Event]] = {}  # of requests that may have been refused
        self._sessions: dict[str, str] = {}  # session -> type of its target
        self._cut: set[str] = set()  # sessions whose open WebSockets are cut off
        recorder.ending = self._end

    def event(self, session: str, method: str, params: Answer) -> None:
        """Take one event."""
        try:
            self._take(session, method, params)
        except Exception as error:  # noqa: BLE001 - whatever a browser tells, the others are taken
            self.recorder.untaken(method, error)

    def _take(self, session: str, method: str, params: Answer) -> None:
        if method == "Target.detachedFromTarget":
            self._sessions.pop(params["sessionId"], None)
            self._cut.discard(params["sessionId"])
        key = params.get("networkId") or params.get("requestId")
        if method in _BEGUN and not self.reached:
            self._count(params)
        if key is not None and self.reached and key not in self._let_out:
            self._beyond(str(key), (session, method, params))
        elif not (session in self._cut and method == "Network.webSocketFrameSent"):
            self.recorder.event(session, method, params)
        if method == "Target.attachedToTarget":
            self._sessions[params["sessionId"]] = params["targetInfo"]["type"]
            self._shut(params["sessionId"])

    def _count(self, params: Answer) -> None:
        url = params.get("request", params)["url"]
        if not url.startswith(("http:", "https:", "ws:", "wss:")):
            return
        self._let_out.add(params["requestId"])
        if len(self._let_out) >= self.limit:
            self.reached = True
            self.recorder.omit(f"the limit of {self.limit} requests was reached: no more were sent")
            for session in self._sessions:
                self._shut(session)

    def _disconnect(self) -> None:
        self.cut_off = True
        self.recorder.omit("a WebSocket beyond the limit of requests: open ones were cut off; what the page wrote to them from then on was held up and is not recorded, the last that is recorded as sent may have been")  # fmt: skip
        for session in self._sessions:
            self._shut(session)

    def _end(self) -> None:
        """Say of how many the browser told no end: one of these may have reached its server."""
        if self._held:
            self.recorder.omit(
                f"{len(self._held)} requests beyond the limit: the browser did not tell whether they were sent"
            )

    def _shut(self, session: str) -> None:
        if self.reached and self._sessions[session] != "worker":  # a dedicated worker's frame pauses for it
            self.recorder.link.send("Fetch.enable", _BOTH_STAGES, session)
        if self.cut_off:
            answer = self.recorder.link.send("Network.emulateNetworkConditionsByRule", _NO_SOCKETS, session)
            answer.add_done_callback(lambda told: self._is_cut(session, told))

    def _is_cut(self, session: str, told: asyncio.Future[Answer]) -> None:
        if session not in self._sessions or told.cancelled():
            return
        if (error := told.exception()) is None:
            self._cut.add(session)
        else:
            self.recorder.omit(f"WebSockets beyond the limit of requests could not be cut off ({error})")

    def _beyond(self, key: str, event: _Event) -> None:
        """Refuse a request beyond the limit; one that slipped out before it could be paused is recorded like any other."""
        session, method, params = event
        if method == "Fetch.requestPaused" and _unsent(params):
            refusal = {"requestId": params["requestId"], "errorReason": "BlockedByClient"}
            self.recorder.link.send("Fetch.failRequest", refusal, session)
        elif method in _UNOPENED or (method == "Network.loadingFailed" and _unasked(params)):
            self._held.pop(key, None)
        elif method in _BEGUN:
            self._held.setdefault(key, []).append(event)
            if method == "Network.webSocketCreated" and not self.cut_off:
                self._disconnect()
        else:
            self._let_out.add(key)
            for one in [*self._held.pop(key, ()), event]:
                self.recorder.event(*one)


def _unsent(paused: dict[str, Any]) -> bool:
    return paused.get("responseStatusCode") is None and paused.get("responseErrorReason") is None


def _unasked(failed: dict[str, Any]) -> bool:
    """Whether the end of a request whose head was never told says that it was not sent: refused by us, given up, forbidden."""
    ours = "BLOCKED_BY_CLIENT" in str(failed.get("errorText"))
    return bool(ours or failed.get("canceled") or failed.get("blockedReason"))
