"""Connects Scrapy's HTTP client through a SOCKS5 proxy, below the tap: what is recorded is what the origin gets and says."""

from collections.abc import Callable
from typing import Any

from scrapy.core.downloader.handlers.http11 import TunnelError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, _StandardEndpointFactory
from twisted.web.error import SchemeNotSupported
from zope.interface import implementer  # type: ignore[import-untyped]

from osint_pipeline.fetch.tunnel import TunnelFailed, talk
from settings.exits import Exit


class SocksFailed(TunnelFailed, TunnelError):
    """A tunnel that did not come about and may the next time: Scrapy tries again, as after a failed CONNECT."""


class _Talker(Protocol):
    """Holds the talk with the proxy, then gives the connection to the protocol that it was opened for."""

    transport: Any

    def __init__(self, exit: Exit, host: str, port: int, factory: Any) -> None:
        self._talk, self._factory = talk(exit, host, port), factory
        self._wanted_bytes, self._got = 0, b""
        self.done: Deferred[Any] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        self._go_on(lambda: next(self._talk))

    def dataReceived(self, data: bytes) -> None:
        self._got += data
        while len(self._got) >= self._wanted_bytes and not self.done.called:
            answer, self._got = self._got[: self._wanted_bytes], self._got[self._wanted_bytes :]
            self._go_on(lambda told=answer: self._talk.send(told))  # type: ignore[misc]

    def _go_on(self, step: Callable[[], tuple[bytes, int]]) -> None:
        try:
            data, self._wanted_bytes = step()
        except StopIteration:
            self._hand_over()
        except TunnelFailed as error:
            self.transport.abortConnection()
            self._fail(error)
        else:
            self.transport.write(data)

    def _hand_over(self) -> None:
        """Let the protocol take the place of this one: what comes goes to it directly."""
        made = self._factory.buildProtocol(self.transport.getPeer())
        self.dataReceived, self.connectionLost = made.dataReceived, made.connectionLost  # type: ignore[method-assign]
        made.makeConnection(self.transport)
        if self._got:
            made.dataReceived(self._got)
        self.done.callback(made)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self._fail(TunnelFailed("disconnect", "the proxy hung up before the tunnel stood"))

    def _fail(self, error: TunnelFailed) -> None:
        lasting = error.word == "login"  # asked again, it would lock us out
        self.done.errback(Failure(error if lasting else SocksFailed(error.word, error.why)))


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Opens a tunnel to one host; the proxy resolves its name."""

    def __init__(self, exit: Exit, host: str, port: int, to_proxy: Any) -> None:
        self._exit, self._host, self._port, self._to_proxy = exit, host, port, to_proxy

    def __repr__(self) -> str:
        return f"<TunnelEndpoint {self._host!r}:{self._port} by {self._exit.label}>"

    def connect(self, protocol_factory: Any) -> Deferred[Any]:
        factory: Any = Factory.forProtocol(lambda: _Talker(self._exit, self._host, self._port, protocol_factory))
        factory.noisy = False
        connected: Deferred[Any] = self._to_proxy.connect(factory)
        return connected.addCallback(lambda talker: talker.done)


class TunnelEndpoints(_StandardEndpointFactory):
    """Gives an Agent endpoints through a proxy in the place of its own."""

    def __init__(self, exit: Exit, standard: _StandardEndpointFactory) -> None:
        super().__init__(standard._reactor, standard._policyForHTTPS, standard._connectTimeout, standard._bindAddress)
        self._exit = exit

    def endpointForURI(self, uri: URI) -> Any:
        if uri.scheme not in (b"http", b"https"):
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        to_proxy = HostnameEndpoint(
            self._reactor,
            self._exit.host,
            self._exit.port,
            timeout=self._connectTimeout,
            bindAddress=self._bindAddress,
        )
        endpoint: Any = TunnelEndpoint(self._exit, uri.host.decode("ascii"), uri.port, to_proxy)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._policyForHTTPS.creatorForNetloc(uri.host.rstrip(b"."), uri.port), endpoint)
        return endpoint
