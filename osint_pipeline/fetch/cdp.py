"""Records every exchange of one page over CDP: its frames, workers and service workers included.

Answers are paused (Fetch domain), their bodies read, and let go; those that the browser keeps for us go by unpaused and are
asked back when they have ended (cdp_targets says which). What the Network domain tells (raw heads, cookies, protocol) is
joined by network id. Bodies that must not be held up are copied while the page reads them.
"""

import asyncio
import fnmatch
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from osint_pipeline.fetch.cdp_body import Bodies, bodiless
from osint_pipeline.fetch.cdp_certificate import Certificates
from osint_pipeline.fetch.cdp_exchange import exchange_of, failed_exchange
from osint_pipeline.fetch.cdp_flights import Flights
from osint_pipeline.fetch.cdp_hop import Flight, Hop, hop_hidden, hop_of, posted_in, severed, source_of
from osint_pipeline.fetch.cdp_info import answered, failed, join_earlier
from osint_pipeline.fetch.cdp_keep import Keeper
from osint_pipeline.fetch.cdp_leaving import Leaving
from osint_pipeline.fetch.cdp_link import Answer, Link, LinkFailed
from osint_pipeline.fetch.cdp_socket import Sockets
from osint_pipeline.fetch.cdp_targets import ATTACH, Targets
from osint_pipeline.fetch.guard import AddressRefused
from osint_pipeline.fetch.refusals import Refusals
from osint_pipeline.fetch.relay import Relay
from osint_pipeline.fetch.sink import Sink
from storage.exchange import RecordRef, Truncated

PAUSE_SECONDS = 30.0
STALLED_SECONDS = 5.0
HEAD_SECONDS = 1.0  # how long a failure waits for the head of an answer that the browser kept from the page
READ_SECONDS = 5.0  # how long bodies that are being read are waited for before the page is left
LEAVE_SECONDS = 5.0  # how long what a page sends while it is left is waited for
LEFT_QUIET_SECONDS = 0.1
READERS = 4  # bodies asked back at a time


class Recorder:
    """Takes the events of one fetch and gives its exchanges to the sink. `leave` before the page is closed, `finish` once, at the end.

    `block` are URL patterns (fnmatch) of requests that are not let out. `certified` names the certificate chains that are
    kept already; give the same set to each fetch of a run.
    """

    def __init__(self, link: Link, relay: Relay, sink: Sink, capture: UUID, folder: Path, *, limit_bytes: int, block: tuple[str, ...], certified: set[str] | None = None) -> None:  # fmt: skip
        self.link, self.relay, self.folder, self.block = link, relay, folder, block
        self.records: list[RecordRef] = []
        self.main: tuple[RecordRef, Hop] | None = None
        self.refused_page: AddressRefused | None = None
        self.resources: list[dict[str, Any]] = []
        self.omissions: list[str] = []
        self.alterations: list[str] = []
        self.ending: Callable[[], None] = lambda: None  # called before what is left is kept
        self.held: list[str] = []  # documents that were not let out, since `hold`
        self.refusals = Refusals(relay)
        self.targets = Targets(link, block, self.omit)
        self.bodies = Bodies(link, folder, limit_bytes, self.omit)
        self.sockets = Sockets(folder, self.bodies.take, self.omit)
        self.certificates = Certificates(link, certified if certified is not None else set(), self.omit)
        self.ready = self.targets.ready
        self._keeper = Keeper(sink, capture)
        self._flights = Flights(self.targets, self._pass, self._certify)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving = Leaving(link, self.targets)
        self._readers = asyncio.Semaphore(READERS)
        self._seen_bytes = 0
        self._pauses_all = False
        self._last_event = asyncio.get_running_loop().time()
        self._handlers: dict[str, Callable[[str, Answer], None]] = {
            "Target.attachedToTarget": self._attached,
            "Page.frameNavigated": self._leaving.navigated,
            "Page.frameStartedNavigating": self._leaving.navigating,
            "Page.frameStoppedLoading": self._leaving.stopped,
            "Target.detachedFromTarget": lambda _, p: self.targets.detach(p["sessionId"]),
            "Fetch.requestPaused": self._paused,
            "Network.requestWillBeSent": self._flights.will_be_sent,
            "Network.requestWillBeSentExtraInfo": self._flights.sent_extra,
            "Network.requestServedFromCache": self._flights.cached,
            "Network.responseReceivedExtraInfo": self._received_extra,
            "Network.responseReceived": self._flights.response,
            "Network.dataReceived": self._data,
            "Network.loadingFinished": lambda s, p: self._finished(s, p, None),
            "Network.loadingFailed": lambda s, p: self._finished(s, p, p),
        }

    def event(self, session: str, method: str, params: Answer) -> None:
        """Take one event; give this to Link.listener. One that cannot be taken is declared, and costs no other."""
        try:
            self._take(session, method, params)
        except Exception as error:  # noqa: BLE001 - whatever a browser tells, the others are taken
            self.untaken(method, error)

    def untaken(self, method: str, error: Exception) -> None:
        """Say that an event could not be taken."""
        self.omit(f"{method}: what the browser told was not taken: {type(error).__name__}: {str(error)[:200]}")

    def _take(self, session: str, method: str, params: Answer) -> None:
        if handler := self._handlers.get(method):
            if not (method == "Network.dataReceived" and self._chats(params)):
                self._last_event = asyncio.get_running_loop().time()
            handler(session, params)
        elif method.startswith("Network.webSocket"):
            self.sockets.event(session, method, params)

    def _chats(self, params: Answer) -> bool:
        """Whether data belongs to a stream of messages, which may never be quiet (a WebSocket's are not counted either)."""
        flight = self._flights.known(params)
        return flight is not None and flight.kind == "EventSource"

    def omit(self, what: str) -> None:
        """Say once that something is missing from the capture."""
        if what not in self.omissions:
            self.omissions.append(what)

    async def hold(self) -> bool:
        """Let out no form from now on, in any frame, and nothing for a window that opens; False where that cannot be had."""
        return await self.targets.hold(every_answer=self._pauses_all)

    @property
    def quiet_seconds(self) -> float:
        """How long nothing has been under way; requests that have been silent for STALLED_SECONDS do not count."""
        silent = asyncio.get_running_loop().time() - self._last_event
        busy = any(self._busy(one) for one in self._flights)
        return silent if not busy or silent >= STALLED_SECONDS else 0.0

    def _busy(self, flight: Flight) -> bool:
        """A body that was read and let go needs no more of the network, whether or not its end is told."""
        if flight.pauses:
            return True
        waits = len(flight.begun) > len(flight.hops) or any(self.bodies.tapped(hop) or not hop.paused for hop in flight.hops)  # fmt: skip
        return waits and not flight.finished and flight.kind != "EventSource"

    async def leave(self) -> None:
        """Read what has ended, then leave the page and record what it sends meanwhile (beacons). The page is gone after this."""
        with suppress(LinkFailed):
            await self._read_ended()
            await self._go()

    async def _read_ended(self) -> None:
        with suppress(TimeoutError):  # what is read longer than this goes on while the page is left
            async with asyncio.timeout(READ_SECONDS):
                while any(flight.pauses for flight in self._flights) and self._tasks:
                    await asyncio.wait(self._tasks, timeout=LEFT_QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    async def _go(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._leaving.go()
                self._last_event = asyncio.get_running_loop().time()
                while self._under_way() or self.quiet_seconds < LEFT_QUIET_SECONDS:
                    await asyncio.sleep(LEFT_QUIET_SECONDS / 2)
        except TimeoutError:
            self.omit(
                f"what the page sent while it was left may be missing: not all had ended within {LEAVE_SECONDS:g} s"
            )

    def _under_way(self) -> bool:
        return any(one.pauses or (one.left and not one.hops) for one in self._flights)

    async def finish(self, why: Truncated) -> None:
        """Keep what is left, `why` being the reason for what has not ended by itself. Raises what the sink raised."""
        await self._drain()
        self.ending()
        for flight in self._flights:
            for hop in flight.hops:
                if self.bodies.tapped(hop):
                    self.bodies.end_tap(hop, why)
                elif not hop.paused and hop.body is None and not flight.finished and source_of(flight, flight.hops.index(hop)) is None:  # fmt: skip
                    self.bodies.cut(hop, why, "the page was left before it had come")
            self._give_up(flight, why)
            self._keep(flight)
        await self._keeper.drain()
        self._keep_made()
        await self._drain()
        await self._keeper.drain()
        join_earlier(self.resources)

    def _give_up(self, flight: Flight, why: Truncated) -> None:
        """Say how far a request came that had not ended when the page was left: the browser may have had its head."""
        index = len(flight.hops)
        if flight.finished or len(flight.begun) <= index:
            return
        if flight.heard(index):
            flight.hops.append(hop_hidden(flight, "the page was left before the browser gave the body to anybody", why))
            self.omit(f"{flight.url}: body cut (the page was left before it had come, {why})")
        elif flight.asked(index) or flight.left:
            flight.failure = f"no answer when the page was left ({why})"

    def _keep_made(self) -> None:
        about = self.main[0].record_id if self.main else None
        for resource, entry in self.sockets.finish(about):
            self.resources.append(entry)
            self._keeper.put(partial(replace, resource), self.records.append)
        for resource in self.certificates.finish(about):
            self._keeper.put(partial(replace, resource), self.records.append)

    async def _drain(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _attached(self, _: str, params: Answer) -> None:
        sent = self.targets.attach(params["sessionId"], params["targetInfo"])
        self._start(self.targets.attached(params["targetInfo"], sent))

    # answers that go by unpaused

    def _received_extra(self, session: str, params: Answer) -> None:
        if flight := self._flights.received_extra(session, params):
            self._settle(flight)

    def _pass(self, session: str, flight: Flight, hop: Hop) -> None:
        """Take an answer that was not paused; where a worker is told of its own script, that is another session."""
        flight.hops.append(hop)
        if not bodiless(hop):
            self._start(self.bodies.copy(hop, flight, session))

    def _certify(self, answer: Answer) -> None:
        if origin := self.certificates.new(answer["url"], answer):
            self._start(self.certificates.read(origin, self.targets.page))

    def _data(self, session: str, params: Answer) -> None:
        flight = self._flights.known(params)
        if flight is None or not flight.hops or not flight.heard_first("data", session):
            return
        flight.data_bytes += params["dataLength"]
        self._seen_bytes += params["dataLength"]
        if params.get("data"):
            self.bodies.pour(flight.hops[-1], params["data"])
        if self._seen_bytes > self.bodies.limit_bytes and not self._pauses_all:
            self._pauses_all = True
            self.targets.pause_all()

    def _finished(self, session: str, params: Answer, told: Answer | None) -> None:
        flight = self._flights.known(params)
        if flight is None or not flight.heard_first("finished", session):
            return
        flight.finished, why = True, None
        if told is not None:
            why = str(told.get("errorText", "failed"))
            answered_hop = flight.hops and len(flight.hops) >= len(flight.begun)
            flight.broke, flight.failure = (why, None) if answered_hop else (None, why)
            flight.severed = severed(told)
        flight.wire_bytes = params.get("encodedDataLength")
        for hop in flight.hops:
            if self.bodies.tapped(hop):
                self.bodies.end_tap(hop, Truncated.DISCONNECT if told else None)
            elif hop.body is None:
                hop.ended_at = flight.day(params.get("timestamp"))
        flight.pauses += 1
        self._start(self._complete(flight))

    async def _complete(self, flight: Flight) -> None:
        """Ask back what went by unpaused; wait a moment for the head of an answer that the page was not given."""
        try:
            if flight.failure and flight.asked(len(flight.hops)) and not flight.heard(len(flight.hops)):
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEAD_SECONDS):
                        await flight.headed.wait()
            if flight.failure and len(flight.begun) > len(flight.hops) and flight.heard(len(flight.hops)):
                flight.hops.append(hop_hidden(flight, "the browser kept the body from the page, and from us"))
                flight.broke, flight.failure = flight.failure, None
                self.omit(f"{flight.url}: the browser kept the body from the page, and from us ({flight.broke})")
            if flight.hops and self._to_recall(flight):
                async with self._readers:
                    await self.bodies.recall(self.targets.page, flight, flight.hops[-1])
            self._check_end(flight)
        finally:
            flight.pauses -= 1
        self._settle(flight)

    def _check_end(self, flight: Flight) -> None:
        """Say that an answer broke off on the wire; by the way that its body was had this is not told."""
        hop = flight.hops[-1] if flight.hops else None
        if hop is None or hop.truncated is not None or bodiless(hop) or source_of(flight, len(flight.hops) - 1):
            return
        if flight.broke and flight.severed:
            self.bodies.cut(hop, Truncated.DISCONNECT, flight.broke)
        elif not hop.paused and (short := flight.short_bytes) is None:
            hop.notes.append(("OSINT-Omission", "the browser gave up on it: whether all of the body came is not known"))
        elif not hop.paused and short:
            self.bodies.cut(hop, Truncated.DISCONNECT, f"{short} of {hop.declared_bytes} bytes on the wire did not come")  # fmt: skip

    def _to_recall(self, flight: Flight) -> bool:
        hop = flight.hops[-1]
        if hop.paused or bodiless(hop) or hop.truncated is not None or source_of(flight, len(flight.hops) - 1):
            return False
        return hop.body is None or hop.body_bytes < flight.data_bytes

    # paused requests

    def _paused(self, session: str, params: Answer) -> None:
        flight = self._flights.of(params)
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
                hop = hop_of(params, self.targets.main)
                flight.hops.append(hop)
                async with asyncio.timeout(PAUSE_SECONDS):
                    if not await self.bodies.read(session, flight, hop, params):
                        verdict, extra = "Fetch.failRequest", {"errorReason": "Aborted"}
            elif params.get("responseErrorReason") is None:
                verdict, extra = self._judge(session, flight, params)
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

    def _judge(self, session: str, flight: Flight, params: Answer) -> tuple[str, Answer]:
        """Let a request out, unless it is one of those that are blocked."""
        request = params["request"]
        if any(fnmatch.fnmatchcase(request["url"], pattern) for pattern in self.block):
            self.alterations.append(f"{request['url']}: blocked, the request was not sent")
            return "Fetch.failRequest", {"errorReason": "BlockedByClient"}
        if self.targets.holds and params.get("resourceType") == "Document" and (request["method"] != "GET" or session in self.targets.windows):  # fmt: skip
            self.held.append(f"{request['method']} {request['url']}")
            self.alterations.append(
                f"{self.held[-1]}: a document asked for after a click or gesture of ours, not let out"
            )
            return "Fetch.failRequest", {"errorReason": "Aborted"}
        if self._leaving.begun and flight.heard_first("begun", "fetch"):
            flight.left, flight.url, flight.method = True, request["url"], request["method"]
            flight.kind, flight.request_headers = params.get("resourceType", ""), request["headers"]
            flight.posts, flight.posted = bool(request.get("hasPostData")), posted_in(request)
            flight.begun.append(datetime.now(UTC))
        return "Fetch.continueRequest", {}

    # keeping

    def _settle(self, flight: Flight) -> None:
        if flight.complete:
            self._keep(flight)

    def _keep(self, flight: Flight) -> None:
        first, flight.emitted = flight.emitted, len(flight.hops)
        for index in range(first, len(flight.hops)):
            source = source_of(flight, index)
            self.resources.append(answered(flight, index, source))
            if source is None:
                make = partial(exchange_of, flight, index, self.relay.dialled, self.folder)
                self._keeper.put(make, partial(self._written, flight.hops[index]))
        if flight.failure and len(flight.begun) > len(flight.hops):
            failure, flight.failure = flight.failure, None
            self._fail(flight, failure)

    def _written(self, hop: Hop, record: RecordRef) -> None:
        self.records.append(record)
        if hop.main_frame and not hop.redirects:
            self.main = (record, hop)

    def _fail(self, flight: Flight, failure: str) -> None:
        self.resources.append(failed(flight, failure))
        if refused := self.refusals.of(flight.url):
            self.omit(f"{flight.url}: refused, {refused.address} {refused.why}")
            if flight.kind == "Document" and flight.main_frame:
                self.refused_page = refused
        elif "BLOCKED_BY_CLIENT" in failure:
            return
        elif failure != "net::ERR_ABORTED" or flight.asked(len(flight.hops)):
            failure += self.refusals.not_dialled(flight.url)
            self.omit(f"{flight.url}: no answer ({failure})")
            make = partial(failed_exchange, flight, failure, datetime.now(UTC), self.relay.dialled)
            self._keeper.put(make, self.records.append)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Forget what has ended; one answer that cannot be taken must not cost the others."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.omit(f"an answer was not recorded whole: {type(error).__name__}: {str(error)[:200]}")


__all__ = ["ATTACH", "Recorder"]
