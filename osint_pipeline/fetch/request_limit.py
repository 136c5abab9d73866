"""Holds a page to a number of requests: from the limit on none is sent, and the capture says so."""

from typing import Any

from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.cdp_link import Answer

_BOTH_STAGES = {"patterns": [{"urlPattern": "*", "requestStage": stage} for stage in ("Request", "Response")]}
_Event = tuple[str, str, Answer]


class RequestLimit:
    """Stands before a Recorder: give `event` to Link.listener. WebSockets are not counted.

    Only when the limit is reached is each request paused before it is sent, which would cost a round trip for every one.
    What was refused is not told to the recorder, so that a page that asks for ever cannot fill its memory.
    """

    def __init__(self, recorder: Recorder, limit: int) -> None:
        self.recorder, self.limit = recorder, limit
        self.reached = False
        self._let_out: set[str] = set()  # network ids
        self._held: dict[str, list[_Event]] = {}  # of requests that may have been refused
        self._sessions: dict[str, str] = {}  # session -> type of its target

    def event(self, session: str, method: str, params: Answer) -> None:
        """Take one event."""
        if method == "Target.detachedFromTarget":
            self._sessions.pop(params["sessionId"], None)
        key = params.get("networkId") or params.get("requestId")
        if method == "Network.requestWillBeSent" and not self.reached:
            self._count(params)
        if key is None or not self.reached or key in self._let_out:
            self.recorder.event(session, method, params)
        else:
            self._beyond(str(key), (session, method, params))
        if method == "Target.attachedToTarget":
            self._sessions[params["sessionId"]] = params["targetInfo"]["type"]
            if self.reached:
                self._shut(params["sessionId"])

    def _count(self, params: Answer) -> None:
        if not params["request"]["url"].startswith(("http:", "https:")):
            return
        self._let_out.add(params["requestId"])
        if len(self._let_out) >= self.limit:
            self.reached = True
            self.recorder.omit(f"the limit of {self.limit} requests was reached: no more were sent")
            for session in self._sessions:
                self._shut(session)

    def _shut(self, session: str) -> None:
        if self._sessions[session] != "worker":  # a dedicated worker's frame pauses for it
            self.recorder.link.send("Fetch.enable", _BOTH_STAGES, session)

    def _beyond(self, key: str, event: _Event) -> None:
        """Refuse a request beyond the limit; one that slipped out before it could be paused is recorded like any other."""
        session, method, params = event
        if method == "Fetch.requestPaused" and _unsent(params):
            refusal = {"requestId": params["requestId"], "errorReason": "BlockedByClient"}
            self.recorder.link.send("Fetch.failRequest", refusal, session)
        elif method == "Network.loadingFailed" and "BLOCKED_BY_CLIENT" in str(params.get("errorText")):
            self._held.pop(key, None)
        elif method == "Network.requestWillBeSent":
            self._held.setdefault(key, []).append(event)
        else:
            self._let_out.add(key)
            for one in [*self._held.pop(key, ()), event]:
                self.recorder.event(*one)


def _unsent(paused: dict[str, Any]) -> bool:
    return paused.get("responseStatusCode") is None and paused.get("responseErrorReason") is None
