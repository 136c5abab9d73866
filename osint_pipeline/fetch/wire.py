"""The wire fetcher: Scrapy's HTTP/1.1 handler, guarded, that records each exchange before Scrapy sees the answer."""

import errno
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from scrapy.core.downloader.handlers.http11 import (
    HTTP11DownloadHandler,
    _BindAddressAgent,
    _ResponseReader,
    _ScrapyAgent,
    _TunnelingAgent,
)
from scrapy.crawler import Crawler
from scrapy.exceptions import DownloadCancelledError
from scrapy.http import Request, Response
from scrapy.responsetypes import responsetypes
from scrapy.utils._download_handlers import wrap_twisted_exceptions
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.httpobj import urlparse_cached
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from osint_pipeline.fetch.guard import AddressRefused, Guard
from osint_pipeline.fetch.resolve import GuardedEndpoints
from osint_pipeline.fetch.sink import Sink
from osint_pipeline.fetch.tap import Fetch, FetchHeaders, Tape, TapFactory, WireLimits
from osint_pipeline.fetch.taped import VIA, bare_url, exchange_of, unanswered, word_for
from osint_pipeline.fetch.through import TunnelEndpoints
from settings.exits import Exit
from storage.errors import SpoolFull
from storage.exchange import Exchange, Truncated

CAPTURE = "osint_capture"  # meta: UUID of the capture that a request belongs to
RECORDS = "osint_records"  # meta: list of RecordRef, those of earlier hops and tries first


class WireFetcher(HTTP11DownloadHandler):
    """Downloads for Scrapy; whatever crosses the wire goes to the sink first.

    A failed download raises what Scrapy's own handler raises, or AddressRefused, NameUnknown, TunnelFailed,
    or the error with which the sink refused. An HTTP proxy stands in request.meta["proxy"]; `exit` is a SOCKS5 proxy
    that every request goes through.
    """

    lazy = False

    def __init__(
        self, crawler: Crawler, *, guard: Guard, sink: Sink, limits: WireLimits, scratch: Path, exit: Exit | None = None
    ) -> None:
        super().__init__(crawler)
        self._pool._factory = TapFactory
        self._guard, self._sink, self._limits, self._scratch = guard, sink, limits, scratch
        self._exit = exit if exit is not None and exit.scheme == "socks5" else None
        self._check_site = lru_cache(maxsize=1024)(guard.check_url)  # what it refuses is not kept, it raises each time

    async def download_request(self, request: Request) -> Response:
        """Fetch one answer; its records stand in request.meta["osint_records"] when this returns or raises."""
        parts = urlparse_cached(request)
        self._check_site(f"{parts.scheme}://{parts.netloc}/")
        fetch = Fetch(self._limits, self._scratch)
        if self._exit is not None:
            request.meta[VIA], request.meta["proxy"] = self._exit.way, None
        agent = _WireAgent(
            fetch,
            self._guard,
            self._exit,
            contextFactory=self._contextFactory,
            connectTimeout=self._limits.timeout_seconds,
            bindAddress=self._bind_address,
            pool=self._pool,
            fail_on_dataloss=self._fail_on_dataloss,
            crawler=self._crawler,
        )
        answer = agent.download_request(without_userinfo(request))
        answer.addBoth(self._record, fetch, request)
        with wrap_twisted_exceptions():
            return await maybe_deferred_to_future(answer)

    async def close(self) -> None:
        """Close idle connections."""
        await super().close()

    def _record(self, result: Response | Failure, fetch: Fetch, request: Request) -> Response | Failure:
        """Give what crossed the wire to the sink, then pass the result on."""
        for tape in fetch.tapes:
            if tape.owner is not None:
                tape.owner.give_up()
        if fetch.tapes:
            self._record_tapes(fetch.tapes, request)
        elif isinstance(result, Failure) and not result.check(AddressRefused):
            self._hand_over(unanswered(fetch, request, word_for(result)), request)
        if isinstance(result, Failure) and fetch.tapes and fetch.tapes[-1].truncated is Truncated.LENGTH:
            return Failure(DownloadCancelledError(f"{request.url}: the head of the answer has no end"))
        return result

    def _record_tapes(self, tapes: list[Tape], request: Request) -> None:
        try:
            for tape in tapes:
                if tape.error is not None:
                    raise _explained(tape.error, tape)
                self._hand_over(exchange_of(tape, request), request)
        except BaseException:
            for tape in tapes:
                tape.discard()
            raise

    def _hand_over(self, exchange: Exchange, request: Request) -> None:
        ref = self._sink.exchange(exchange, request.meta.get(CAPTURE))
        request.meta[RECORDS] = [*request.meta.get(RECORDS, ()), ref]


def _explained(error: OSError, tape: Tape) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return SpoolFull(str(tape.path), tape.size_bytes)
    return error


class _WireAgent(_ScrapyAgent):
    """Scrapy's agent for one request, with guarded endpoints, a tagged request and a leaner reader.

    The signals headers_received and bytes_received are not sent: nothing of ours listens, and they cost a call a chunk.
    """

    def __init__(self, fetch: Fetch, guard: Guard, exit: Exit | None, **scrapys: Any) -> None:
        super().__init__(**scrapys)
        self._fetch, self._guard, self._exit = fetch, guard, exit

    def _get_agent(self, request: Request, timeout: float) -> Any:
        agent = super()._get_agent(request, timeout)
        if self._exit is not None:
            agent._endpointFactory = TunnelEndpoints(self._exit, agent._endpointFactory)
        elif type(agent) is _BindAddressAgent:  # through a proxy, names are the proxy's business
            agent._endpointFactory = GuardedEndpoints(self._guard, agent._endpointFactory)
        return _TaggingAgent(agent, self._fetch)

    def _cb_bodyready(self, txresponse: Any, request: Request) -> Any:
        if txresponse.length == 0:  # also of 204, 304 and HEAD
            return {
                "txresponse": txresponse,
                "certificate": getattr(txresponse, "_scrapy_certificate", None),
                "ip_address": getattr(txresponse, "_scrapy_ip_address", None),
            }
        finished: Deferred[Any] = Deferred(partial(self._cancel, txresponse=txresponse))
        reader = _Reader(
            finished=finished,
            txresponse=txresponse,
            request=request,
            maxsize=0,
            warnsize=0,
            fail_on_dataloss=request.meta.get("download_fail_on_dataloss", self._fail_on_dataloss),
            crawler=self._crawler,
        )
        reader.attach(self._fetch)
        txresponse.deliverBody(reader)
        self._txresponse = txresponse
        return finished

    def _cb_bodydone(self, result: Any, url: str) -> Response:
        """Make Scrapy's response; a plain one where the body is coded.

        Scrapy would guess a text class from the URL, and its decompression then looks for a charset in coded bytes (2.3x slower).
        """
        headers = self._headers_from_twisted_response(result["txresponse"])
        flags = [*(result.get("flags") or ()), *self._fetch.flags]
        body = result.get("body", b"")
        if self._fetch.flags:
            body = b""
            headers.pop("Content-Encoding", None)  # there is nothing to decode
        plain = self._fetch.flags or b"Content-Encoding" in headers
        kind = Response if plain else responsetypes.from_args(headers=headers, url=url, body=body)
        protocol, major, minor = result["txresponse"].version
        return kind(
            url=url,
            status=int(result["txresponse"].code),
            headers=headers,
            body=body,
            flags=flags,
            certificate=result.get("certificate"),
            ip_address=result.get("ip_address"),
            protocol=f"{protocol.decode('latin-1')}/{major}.{minor}",
        )


class _TaggingAgent:
    """Tags each request's headers with its Fetch, so that the protocol knows whose bytes it carries."""

    def __init__(self, agent: Any, fetch: Fetch) -> None:
        self._agent, self._fetch = agent, fetch

    def request(self, method: bytes, uri: bytes, headers: Any, body: Any = None) -> Any:
        if isinstance(self._agent, _TunnelingAgent):
            headers.removeHeader(b"Proxy-Authorization")  # meant for the proxy, which got it with CONNECT
        return self._agent.request(method, uri, FetchHeaders.of(headers, self._fetch), body)


class _Reader(_ResponseReader):
    """Keeps the body's decoded chunks for Scrapy, unless the answer is stored."""

    def attach(self, fetch: Fetch) -> None:
        """Read for this fetch; a length that is declared too large goes to disk from the start."""
        self._fetch = fetch
        self._parts: list[bytes] = []
        self.dataReceived = self._parts.append  # type: ignore[method-assign, assignment]
        tape = fetch.tapes[-1]
        length = self._txresponse.length
        if isinstance(length, int) and length > fetch.limits.memory_body_bytes and tape.file is None:
            tape.spill()
        if tape.file is not None:
            self._drop()
        else:
            tape.on_spill = self._drop

    def _drop(self) -> None:
        self._parts.clear()
        self.dataReceived = _ignore  # type: ignore[method-assign]

    def connectionMade(self) -> None:
        self._certificate = getattr(self._txresponse, "_scrapy_certificate", None)
        self._ip_address = getattr(self._txresponse, "_scrapy_ip_address", None)

    def _finish_response(self, flags: list[str] | None = None, stop_download: Any = None) -> None:
        self._bodybuf.write(b"".join(self._parts))
        super()._finish_response(flags)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._fetch.tapes[-1].truncated is Truncated.LENGTH and not self._finished.called:
            self._parts.clear()
            self._finish_response()
        else:
            super().connectionLost(reason)


def _ignore(data: bytes) -> None:
    return None


def without_userinfo(request: Request) -> Request:
    """Return the request as it goes out: user and password in a URL are not sent."""
    parts = urlparse_cached(request)
    if "@" not in parts.netloc:
        return request
    sent = request.replace(url=bare_url(request.url))
    sent._meta = request.meta  # Scrapy notes latency there
    return sent
