"""Connects Scrapy's HTTP client only to addresses that the guard allowed, after DNS."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from twisted.internet.address import IPv4Address as TxIPv4Address
from twisted.internet.address import IPv6Address as TxIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver, IStreamClientEndpoint
from twisted.web.client import URI, _StandardEndpointFactory
from twisted.web.error import SchemeNotSupported
from zope.interface import implementer  # type: ignore[import-untyped]

from osint_pipeline.fetch.guard import Guard, NameUnknown, literal


def lookup(reactor: Any, guard: Guard, host: str, port: int) -> Deferred[Sequence[Any]]:
    """Find a host's addresses with the reactor's resolver; every one of them must be allowed.

    Fails with AddressRefused or NameUnknown.
    """
    if address := literal(host):
        guard.check(host, address)
        return succeed((_endpoint_address(address, port),))
    done: Deferred[Sequence[Any]] = Deferred()
    try:
        reactor.nameResolver.resolveHostName(_Answers(done), host.rstrip("."), portNumber=port)
    except UnicodeError as error:
        raise NameUnknown(host, str(error)) from error
    return done.addCallback(_allowed, guard, host)


def _endpoint_address(address: IPv4Address | IPv6Address, port: int) -> Any:
    kind = TxIPv4Address if address.version == 4 else TxIPv6Address
    return kind("TCP", str(address), port)


def _allowed(found: Sequence[Any], guard: Guard, host: str) -> Sequence[Any]:
    if not found:
        raise NameUnknown(host, "the resolver found none")
    for one in found:
        guard.check(host, ip_address(one.host.partition("%")[0]))
    return found


@implementer(IResolutionReceiver)
class _Answers:
    """Collects what the resolver finds."""

    def __init__(self, done: Deferred[Sequence[Any]]) -> None:
        self._done = done
        self._found: list[Any] = []

    def resolutionBegan(self, resolution: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self._found.append(address)

    def resolutionComplete(self) -> None:
        self._done.callback(self._found)


@implementer(IHostnameResolver)
class _Found:
    """Answers each question with addresses that were looked up and allowed before."""

    def __init__(self, addresses: Sequence[Any]) -> None:
        self._addresses = addresses

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *_: Any, **__: Any) -> None:
        for one in self._addresses:
            receiver.addressResolved(one)
        receiver.resolutionComplete()


class _FoundEndpoint(HostnameEndpoint):
    """Tries the given addresses in turn and never asks the resolver again: its next answer may differ."""

    addresses: Sequence[Any] = ()

    def _getNameResolverAndMaybeWarn(self, reactor: object) -> Any:
        return _Found(self.addresses)


@implementer(IStreamClientEndpoint)
class GuardedEndpoint:
    """Looks a host up, asks the guard, connects to what was allowed; TLS is prepared only when it is needed."""

    def __init__(self, uri: URI, guard: Guard, factory: "GuardedEndpoints") -> None:
        self._uri, self._guard, self._made_by = uri, guard, factory

    def __repr__(self) -> str:
        return f"<GuardedEndpoint {self._uri.host!r}:{self._uri.port}>"

    def connect(self, protocol_factory: Any) -> Deferred[Any]:
        reactor = self._made_by._reactor
        found = maybeDeferred(lookup, reactor, self._guard, self._uri.host.decode("ascii"), self._uri.port)
        return found.addCallback(self._connect, protocol_factory)

    def _connect(self, addresses: Sequence[Any], protocol_factory: Any) -> Deferred[Any]:
        made_by, uri = self._made_by, self._uri
        endpoint: Any = _FoundEndpoint(
            made_by._reactor,
            uri.host.decode("ascii"),
            uri.port,
            timeout=made_by._connectTimeout,
            bindAddress=made_by._bindAddress,
        )
        endpoint.addresses = addresses
        if uri.scheme == b"https":
            # RFC 6066 3: a server name is sent without its trailing dot.
            creator = made_by._policyForHTTPS.creatorForNetloc(uri.host.rstrip(b"."), uri.port)
            endpoint = wrapClientTLS(creator, endpoint)
        return endpoint.connect(protocol_factory)


class GuardedEndpoints(_StandardEndpointFactory):
    """Gives an Agent guarded endpoints in the place of its own."""

    def __init__(self, guard: Guard, standard: _StandardEndpointFactory) -> None:
        super().__init__(standard._reactor, standard._policyForHTTPS, standard._connectTimeout, standard._bindAddress)
        self._guard = guard

    def endpointForURI(self, uri: URI) -> Any:
        if uri.scheme not in (b"http", b"https"):
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        return GuardedEndpoint(uri, self._guard, self)
