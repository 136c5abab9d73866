"""What of a browser is listened to: the page with its frames and workers, each a CDP session, and what is paused in it.

A page's scripts, styles, pictures and fonts go by unpaused: the browser keeps their bodies for us (durable messages), also
after their frame or worker has gone. Everything else is paused when its answer comes; in shared and service workers, which
may end before their page, all is.
"""

import asyncio
from collections.abc import Callable

from osint_pipeline.fetch.cdp_link import Answer, Link, LinkFailed

TARGETS = ("page", "iframe", "worker", "shared_worker", "service_worker", "worklet")
FETCHLESS = ("worker", "worklet")  # without a Fetch domain of its own; the frame of a dedicated worker pauses for it
FILTER = [{"type": kind} for kind in TARGETS]
ATTACH = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True, "filter": FILTER}
LET_BY = ("page", "iframe")
PAUSED = (
    "Document",
    "Media",
    "XHR",
    "Fetch",
    "EventSource",
    "Ping",
    "CSPViolationReport",
    "Other",
)  # other kinds stand under these
RESOURCE_BYTES = 16 << 20  # the longest body that the browser keeps for us; a longer one is copied
TOTAL_BYTES = 96 << 20  # all that it keeps at a time


class Targets:
    """The sessions of one fetch. `page` is that of the page itself, "" until `ready`; `main` is its target's id."""

    def __init__(self, link: Link, block: tuple[str, ...], omit: Callable[[str], None]) -> None:
        self.link, self.block, self.omit = link, block, omit
        self.ready = asyncio.Event()
        self.page = self.main = ""
        self.windows: set[str] = set()  # sessions of what the page opened
        self.holds = False  # whether a form is held up before it is sent
        self._sessions: dict[str, str] = {}  # with a Fetch domain of their own, and their kind

    def attach(self, session: str, target: Answer) -> list[asyncio.Future[Answer]]:
        """Listen to a new target and let it run; give the answers to `attached`."""
        kind = target["type"]
        if kind == "service_worker":
            self.omit(f"{target['url']}: the browser's own later check for a newer version of it is not recorded")
        if kind == "worklet":
            self.omit(f"{target['url']}: what its worklets load is not recorded, or without its body")
        if kind == "page" and not self.main:
            self.page, self.main = session, target["targetId"]
        elif kind == "page":
            self.windows.add(session)
        # Nothing is awaited before the last command: a waiting service worker would stay stuck.
        room = {"maxTotalBufferSize": TOTAL_BYTES, "maxResourceBufferSize": RESOURCE_BYTES}
        sent = [self.link.send("Network.enable", {}, session), self.link.send("Network.configureDurableMessages", room, session)]  # fmt: skip
        if kind not in FETCHLESS:
            self._sessions[session] = kind
            sent.append(self.link.send("Fetch.enable", {"patterns": self._patterns(kind)}, session))
        sent.append(self.link.send("Target.setAutoAttach", ATTACH, session))
        sent.append(self.link.send("Runtime.runIfWaitingForDebugger", session=session))
        return sent

    async def attached(self, target: Answer, sent: list[asyncio.Future[Answer]]) -> None:
        """Wait for the answers to `attach`, and say what was refused."""
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, LinkFailed) and outcome.method in ("Network.enable", "Fetch.enable"):
                self.omit(f"{target['type']} {target['url']}: not recorded ({outcome.why})")
        if target["targetId"] == self.main:
            self.ready.set()

    def detach(self, session: str) -> None:
        """Forget a target that has gone."""
        self._sessions.pop(session, None)

    def pause_all(self, *, requests: bool = False) -> list[asyncio.Future[Answer]]:
        """Pause every answer from now on, in every session; with `requests` also every request."""
        stages = ("Request", "Response") if requests else ("Response",)
        patterns = [*self._blocked(), *({"urlPattern": "*", "requestStage": stage} for stage in stages)]
        return [self.link.send("Fetch.enable", {"patterns": patterns}, session) for session in self._sessions]

    async def hold(self, *, every_answer: bool) -> bool:
        """Pause from now on every document that is asked for, in every session; False where one of them does not take it."""
        if self.holds:
            return True
        self.holds = True
        kinds = dict.fromkeys(self._sessions, "") if every_answer else dict(self._sessions)
        sent = {session: self.link.send("Fetch.enable", {"patterns": self._patterns(kind)}, session) for session, kind in kinds.items()}  # fmt: skip
        outcomes = await asyncio.gather(*sent.values(), return_exceptions=True)
        refused = [session for session, one in zip(sent, outcomes, strict=True) if isinstance(one, LinkFailed)]
        self.holds = not any(session in self._sessions for session in refused)  # one that has gone sends nothing
        return self.holds

    def _patterns(self, kind: str) -> list[dict[str, str]]:
        if kind not in LET_BY:
            return [*self._blocked(), {"urlPattern": "*", "requestStage": "Response"}]
        paused = [{"urlPattern": "*", "resourceType": one, "requestStage": "Response"} for one in PAUSED]
        return [*self._blocked(), *paused]

    def _blocked(self) -> list[dict[str, str]]:
        documents = {"urlPattern": "*", "resourceType": "Document", "requestStage": "Request"}
        held = [documents] if self.holds else []
        return [*held, *({"urlPattern": pattern, "requestStage": "Request"} for pattern in self.block)]
