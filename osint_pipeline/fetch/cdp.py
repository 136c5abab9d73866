"""Records every exchange of one page over CDP: its frames, workers and service workers included.

Each response is paused (Fetch domain), its body read, and let go; what the Network domain tells (raw heads, cookies,
protocol) is joined by network id. Bodies that must not be held up are copied while the page reads them.
"""

import asyncio
import fnmatch
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from osint_pipeline.fetch.cdp_body import Bodies
from osint_pipeline.fetch.cdp_exchange import Flight, Hop, exchange_of, failed_exchange, from_cache, hop_of
from osint_pipeline.fetch.cdp_link import Answer, Link, LinkFailed
from osint_pipeline.fetch.guard import AddressRefused
from osint_pipeline.fetch.relay import Relay
from osint_pipeline.fetch.sink import Sink
from storage.exchange import RecordRef, Truncated

TARGETS = ("page", "iframe", "worker", "shared_worker", "service_worker")
FILTER = [{"type": kind} for kind in TARGETS]
ATTACH = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True, "filter": FILTER}
PAUSE_SECONDS = 30.0
STALLED_SECONDS = 5.0


class Recorder:
    """Takes the events of one fetch and gives its exchanges to the sink. `finish` once, at the end.

    `block` are URL patterns (fnmatch) of requests that are not let out. `done` are the flights kept so far.
    """

    def __init__(self, link: Link, relay: Relay, sink: Sink, capture: UUID, folder: Path, *, limit_bytes: int, block: tuple[str, ...]) -> None:  # fmt: skip
        self.link, self.relay, self.sink, self.capture, self.folder = link, relay, sink, capture, folder
        self.block = block
        self.bodies = Bodies(link, folder, limit_bytes, self.omit)
        self.records: list[RecordRef] = []
        self.main: tuple[RecordRef, Hop] | None = None
        self.refused_page: AddressRefused | None = None
        self.resources: list[dict[str, Any]] = []
        self.omissions: list[str] = []
        self.alterations: list[str] = []
        self.ready = asyncio.Event()
        self._main_target = ""
        self._flights: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writing = asyncio.Lock()
        self._refused, self._failed = len(relay.refused), len(relay.failed)
        self._last_event = asyncio.get_running_loop().time()
        self._handlers: dict[str, Callable[[str, Answer], None]] = {
            "Target.attachedToTarget": self._attached,
            "Fetch.requestPaused": self._paused,
            "Network.requestWillBeSent": self._will_be_sent,
            "Network.requestWillBeSentExtraInfo": self._sent_extra,
            "Network.responseReceivedExtraInfo": self._received_extra,
            "Network.responseReceived": self._response,
            "Network.dataReceived": self._data,
            "Network.loadingFinished": lambda _, p: self._finished(p, None),
            "Network.loadingFailed": lambda _, p: self._finished(p, p),
            "Network.webSocketCreated": lambda _, p: self.omit(f"{p['url']}: frames of a WebSocket are not recorded"),
        }

    def event(self, session: str, method: str, params: Answer) -> None:
        """Take one event; give this to Link.listener."""
        if handler := self._handlers.get(method):
            self._last_event = asyncio.get_running_loop().time()
            handler(session, params)

    def omit(self, what: str) -> None:
        """Say once that something is missing from the capture."""
        if what not in self.omissions:
            self.omissions.append(what)

    @property
    def quiet_seconds(self) -> float:
        """How long nothing has been under way; requests that have been silent for STALLED_SECONDS do not count."""
        silent = asyncio.get_running_loop().time() - self._last_event
        busy = any(self._busy(one) for one in self._flights.values())
        return silent if not busy or silent >= STALLED_SECONDS else 0.0

    def _busy(self, flight: Flight) -> bool:
        """A body that was read and let go needs no more of the network, whether or not its end is told (workers' scripts)."""
        if flight.pauses:
            return True
        waits = len(flight.begun) > len(flight.hops) or any(self.bodies.tapped(hop) for hop in flight.hops)
        return waits and not flight.finished and flight.kind != "EventSource"

    async def finish(self, why: Truncated) -> None:
        """Keep what is left, `why` being the reason for what has not ended by itself. Raises what the sink raised."""
        await self._drain()
        for flight in self._flights.values():
            for hop in flight.hops:
                if self.bodies.tapped(hop):
                    self.bodies.end_tap(hop, why)
            if not flight.finished and len(flight.begun) > len(flight.hops) and flight.sent:
                flight.failure = f"no answer when the page was left ({why})"
            self._keep(flight)
        await self._drain()

    async def _drain(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks)

    # targets

    def _attached(self, _: str, params: Answer) -> None:
        session, target = params["sessionId"], params["targetInfo"]
        if target["type"] == "service_worker":
            self.omit(f"{target['url']}: the browser's own later check for a newer version of it is not recorded")
        if target["type"] == "page" and not self._main_target:
            self._main_target = target["targetId"]
        # Nothing is awaited before the last command: a waiting service worker would stay stuck.
        sent = [self.link.send("Network.enable", {}, session)]
        if target["type"] != "worker":  # a dedicated worker has no Fetch domain, its frame pauses for it
            sent.append(self.link.send("Fetch.enable", {"patterns": self._patterns()}, session))
        sent.append(self.link.send("Target.setAutoAttach", ATTACH, session))
        sent.append(self.link.send("Runtime.runIfWaitingForDebugger", session=session))
        self._start(self._watched(target, sent))

    async def _watched(self, target: Answer, sent: list[asyncio.Future[Answer]]) -> None:
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, LinkFailed) and outcome.method in ("Network.enable", "Fetch.enable"):
                self.omit(f"{target['type']} {target['url']}: not recorded ({outcome.why})")
        if target["targetId"] == self._main_target:
            self.ready.set()

    def _patterns(self) -> list[dict[str, str]]:
        blocked = [{"urlPattern": pattern, "requestStage": "Request"} for pattern in self.block]
        return [*blocked, {"urlPattern": "*", "requestStage": "Response"}]

    # what the Network domain tells

    def _flight(self, params: Answer) -> Flight:
        key = params.get("networkId") or params["requestId"]
        return self._flights.setdefault(key, Flight(key=key))

    def _will_be_sent(self, session: str, params: Answer) -> None:
        request = params["request"]
        if not request["url"].startswith(("http:", "https:")):
            return
        flight = self._flight(params)
        if not flight.heard_first("begun", session):
            return
        flight.session, flight.url, flight.method = session, request["url"], request["method"]
        flight.kind, flight.request_headers = params.get("type", ""), request["headers"]
        flight.main_frame = params.get("frameId") == self._main_target
        flight.begun.append(datetime.fromtimestamp(params["wallTime"], UTC))
        if params.get("redirectResponse"):
            flight.redirects.append(params["redirectResponse"])
        flight.told.set()

    def _sent_extra(self, session: str, params: Answer) -> None:
        flight = self._flight(params)
        if flight.heard_first("sent", session):
            flight.sent.append(params)

    def _received_extra(self, session: str, params: Answer) -> None:
        flight = self._flight(params)
        if flight.heard_first("received", session):
            flight.received.append(params)
            self._settle(flight)

    def _response(self, _: str, params: Answer) -> None:
        flight = self._flight(params)
        flight.response, flight.wants_extra = params["response"], bool(params.get("hasExtraInfo"))

    def _finished(self, params: Answer, failed: Answer | None) -> None:
        flight = self._flight(params)
        flight.finished = True
        if failed is not None:
            flight.failure = str(failed.get("errorText", "failed"))
        for hop in flight.hops:
            if self.bodies.tapped(hop):
                self.bodies.end_tap(hop, Truncated.DISCONNECT if failed else None)
        self._settle(flight)

    # paused requests

    def _paused(self, session: str, params: Answer) -> None:
        flight = self._flight(params)
        flight.pauses += 1
        self._start(self._answer(session, flight, params))

    async def _answer(self, session: str, flight: Flight, params: Answer) -> None:
        """Read a paused response and let it go, whatever happens."""
        response = params.get("responseStatusCode") is not None
        verdict, extra = "Fetch.continueResponse" if response else "Fetch.continueRequest", {}
        try:
            if response:
                # A service worker is attached by the browser and by its page: the second pause is only let go.
                if not flight.heard_first("paused", session):
                    return
                hop = hop_of(params, self._main_target)
                flight.hops.append(hop)
                async with asyncio.timeout(PAUSE_SECONDS):
                    if not await self.bodies.read(session, flight, hop, params):
                        verdict, extra = "Fetch.failRequest", {"errorReason": "Aborted"}
            elif params.get("responseErrorReason") is None and self._blocked(params["request"]["url"]):
                verdict, extra = "Fetch.failRequest", {"errorReason": "BlockedByClient"}
        except TimeoutError:
            verdict, extra = "Fetch.failRequest", {"errorReason": "TimedOut"}
            self.bodies.cut(hop, Truncated.TIME, f"no whole body within {PAUSE_SECONDS:.0f} s")
        except LinkFailed as error:
            self.bodies.cut(hop, Truncated.UNSPECIFIED, error.why)
        finally:
            released = self.link.send(verdict, {"requestId": params["requestId"], **extra}, session)
            flight.pauses -= 1
        with suppress(LinkFailed):  # the target may be gone: then there is nobody left to wait
            await released
        self._settle(flight)

    def _blocked(self, url: str) -> bool:
        if any(fnmatch.fnmatchcase(url, pattern) for pattern in self.block):
            self.alterations.append(f"{url}: blocked, the request was not sent")
            return True
        return False

    def _data(self, _: str, params: Answer) -> None:
        flight = self._flights.get(params["requestId"])
        if params.get("data") and flight is not None and flight.hops:
            self.bodies.pour(flight.hops[-1], params["data"])

    # keeping

    def _settle(self, flight: Flight) -> None:
        if flight.complete:
            self._keep(flight)

    def _keep(self, flight: Flight) -> None:
        first, flight.emitted = flight.emitted, len(flight.hops)
        for index in range(first, len(flight.hops)):
            if not from_cache(flight, index):
                self._start(self._write(flight, index))
        if flight.failure and len(flight.begun) > len(flight.hops):
            failure, flight.failure = flight.failure, None
            self._fail(flight, failure)

    def _fail(self, flight: Flight, failure: str) -> None:
        self.resources.append({"url": flight.url, "method": flight.method, "kind": flight.kind, "failure": failure})
        if refused := self.refusal(flight.url):
            self.omit(f"{flight.url}: refused, {refused.address} {refused.why}")
            if flight.kind == "Document" and flight.main_frame:
                self.refused_page = refused
        elif "BLOCKED_BY_CLIENT" in failure:
            return
        elif failure != "net::ERR_ABORTED" or flight.sent:
            failure += self._why_not_dialled(flight.url)
            self.omit(f"{flight.url}: no answer ({failure})")
            self._start(self._write_failure(flight, failure))

    def refusal(self, url: str) -> AddressRefused | None:
        """What Guard said of a URL's host during this fetch, None if nothing."""
        host = (urlsplit(url).hostname or "").lower()
        return next((one for one in self.relay.refused[self._refused :] if one.host.lower() == host), None)

    def _why_not_dialled(self, url: str) -> str:
        host = (urlsplit(url).hostname or "").lower()
        found = [one for one in self.relay.failed[self._failed :] if one.host.lower() == host]
        return f" ({found[-1].why})" if found else ""

    async def _write(self, flight: Flight, index: int) -> None:
        hop = flight.hops[index]
        async with self._writing:
            exchange = await asyncio.to_thread(exchange_of, flight, index, self.relay.addresses, self.folder)
            record = await asyncio.to_thread(self.sink.exchange, exchange, self.capture)
        self.records.append(record)
        if hop.main_frame and not hop.redirects:
            self.main = (record, hop)
        self.resources.append(_told(hop, record))

    async def _write_failure(self, flight: Flight, failure: str) -> None:
        exchange = failed_exchange(flight, failure, datetime.now(UTC), self.relay.addresses)
        async with self._writing:
            self.records.append(await asyncio.to_thread(self.sink.exchange, exchange, self.capture))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Forget what went well; a failure stays, for `finish` to raise."""
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)


def _told(hop: Hop, record: RecordRef) -> dict[str, Any]:
    return {
        "url": hop.url,
        "method": hop.method,
        "status": hop.status,
        "kind": hop.kind,
        "body": hop.how,
        "truncated": hop.truncated,
        "record": str(record.record_id),
    }
