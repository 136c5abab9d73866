"""What the Network domain tells of requests and their answers, put together by network id."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from osint_pipeline.fetch.cdp_hop import Flight, Hop, hop_told, posted_in
from osint_pipeline.fetch.cdp_link import Answer
from osint_pipeline.fetch.cdp_targets import Targets

Passed = Callable[[str, Flight, Hop], None]


class Flights:
    """Every request heard of. `passed` is told of each answer that was not paused, `answered` of each Network Response."""

    def __init__(self, targets: Targets, passed: Passed, answered: Callable[[Answer], None]) -> None:
        self.targets, self.passed, self.answered = targets, passed, answered
        self._all: dict[str, Flight] = {}
        self._secured: dict[tuple[int, str], Answer] = {}  # TLS of a connection, by its number and its host

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._all.values()))

    def of(self, params: Answer) -> Flight:
        """The flight that an event belongs to, begun where it is the first of it."""
        key = params.get("networkId") or params["requestId"]
        return self._all.setdefault(key, Flight(key=key))

    def known(self, params: Answer) -> Flight | None:
        """The same, None where it would be the first."""
        return self._all.get(params["requestId"])

    def will_be_sent(self, session: str, params: Answer) -> None:
        """A request, or the next hop of one."""
        request = params["request"]
        if not request["url"].startswith(("http:", "https:")):
            return
        flight = self.of(params)
        if not flight.heard_first("begun", session):
            return
        if redirect := params.get("redirectResponse"):
            self._secure(redirect)
            if len(flight.hops) < len(flight.begun):
                self.passed(session, flight, hop_told(flight, redirect))
            flight.redirects.append(redirect)
            flight.extras.append(bool(params.get("redirectHasExtraInfo")))
            flight.headed.clear()
            self.answered(redirect)
        _begin(flight, session, params, self.targets.main)

    def sent_extra(self, session: str, params: Answer) -> None:
        """The head of a request as it was sent."""
        flight = self.of(params)
        if flight.heard_first("sent", session):
            flight.sent.append(params)

    def received_extra(self, session: str, params: Answer) -> Flight | None:
        """The head of an answer as it came; its flight where it is news."""
        flight = self.of(params)
        if not flight.heard_first("received", session):
            return None
        flight.received.append(params)
        flight.headed.set()
        return flight

    def cached(self, _: str, params: Answer) -> None:
        """An answer out of the page's memory."""
        self.of(params).cached = True

    def response(self, session: str, params: Answer) -> None:
        """The answer as the page sees it."""
        flight = self.known(params)
        if flight is None or not flight.begun or not flight.heard_first("response", session):
            return
        self._secure(params["response"])
        flight.response = params["response"]
        flight.extras.append(bool(params.get("hasExtraInfo")))
        flight.answered_at = flight.day(params.get("timestamp"))
        if len(flight.hops) < len(flight.begun):
            self.passed(session, flight, hop_told(flight, params["response"]))
        self.answered(params["response"])

    def _secure(self, answer: Answer) -> None:
        """Give an answer the TLS of its connection: after a redirect the browser may not tell it again (Chromium 156)."""
        place = (int(answer.get("connectionId") or 0), urlsplit(answer["url"]).netloc)
        if details := answer.get("securityDetails"):
            self._secured[place] = details
        elif place[0] and place in self._secured:
            answer["securityDetails"] = self._secured[place]


def _begin(flight: Flight, session: str, params: Answer, main: str) -> None:
    request = params["request"]
    flight.session, flight.url, flight.method = session, request["url"], request["method"]
    flight.kind, flight.request_headers = params.get("type", ""), request["headers"]
    flight.posts, flight.posted = bool(request.get("hasPostData")), posted_in(request)
    flight.frame, flight.document = params.get("frameId", ""), params.get("documentURL", "")
    flight.main_frame = flight.frame == main
    flight.clock = params["wallTime"] - params["timestamp"]
    flight.begun.append(datetime.fromtimestamp(params["wallTime"], UTC))
    flight.initiators.append(params.get("initiator") or {})
    flight.told.set()
