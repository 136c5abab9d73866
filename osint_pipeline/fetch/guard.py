"""Keeps every fetcher off private networks, after DNS and at each redirect."""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
NOT_PUBLIC: tuple[Network, ...] = (  # besides those that ipaddress knows
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments; holds a cloud's metadata address
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 7526)
    ipaddress.IPv6Network("3fff::/20"),  # documentation (RFC 9637)
    ipaddress.IPv6Network("fec0::/10"),  # site-local (RFC 3879)
)
# holds a cloud's metadata address; ipaddress calls parts global


class AddressRefused(Exception):
    """A host is, or resolves to, an address that no public source has."""

    def __init__(self, host: str, address: str, why: str) -> None:
        super().__init__(
            f"{host} leads to {address}, {why}; OSINT_ALLOW_NETWORKS opens networks that you mean to reach"
        )
        self.host, self.address, self.why = host, address, why


class NameUnknown(Exception):
    """A host name has no address."""

    def __init__(self, host: str, why: str) -> None:
        super().__init__(f"{host} has no address: {why}")
        self.host, self.why = host, why


def literal(host: str) -> Address | None:
    """Read a host as an address as browsers and inet_aton do: dotted, decimal, octal, hex, short; None for a name."""
    bare = host.strip("[]").rstrip(".").split("%")[0]
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare)) if bare and bare[0].isdigit() else None
    except OSError:
        return None


def embedded(address: Address) -> tuple[Address, ...]:
    """List the addresses an address stands for: itself and any IPv4 carried inside an IPv6 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    inner = [address.ipv4_mapped, address.sixtofour]
    if address.teredo:
        inner += list(address.teredo)
    if address in NAT64 or int(address) >> 32 == 0:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return (address, *(one for one in inner if one is not None))


def _check_name(host: str) -> None:
    """Raise NameUnknown for what no resolver can be asked: a label that is empty or above 63 letters (RFC 1035 2.3.4)."""
    try:
        host.rstrip(".").encode("idna")
    except UnicodeError as error:
        raise NameUnknown(host[:100], str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Decides which addresses may be reached. `allow` are networks that the operator opened."""

    allow: tuple[Network, ...] = ()

    def check(self, host: str, address: Address) -> None:
        """Raise AddressRefused unless the address is public or opened."""
        if any(address.version == net.version and address in net for net in self.allow):
            return
        for one in embedded(address):
            if any(one.version == net.version and one in net for net in self.allow):
                return
        for one in embedded(address):
            special = any(one.version == net.version and one in net for net in NOT_PUBLIC)
            if special or not one.is_global or one.is_multicast or one.is_reserved:
                raise AddressRefused(host, str(address), "which is not a public address")

    def check_url(self, url: str) -> None:
        """Raise AddressRefused if the URL's host is written as a refused address, whatever the notation."""
        host = urlsplit(url).hostname or ""
        if address := literal(host):
            self.check(host, address)
        elif host.rstrip(".").lower() == "localhost" or host.rstrip(".").lower().endswith(".localhost"):
            self.check(host, ipaddress.IPv4Address("127.0.0.1"))
        else:
            _check_name(host)

    def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Look a host up (blocking) and return its addresses; every one of them must be allowed.

        Connect to what this returns, never to the name again: the next answer may differ.
        """
        if address := literal(host):
            self.check(host, address)
            return (str(address),)
        try:
            found = socket.getaddrinfo(host.rstrip("."), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameUnknown(host, str(error)) from error
        addresses = tuple(dict.fromkeys(str(info[4][0]).split("%")[0] for info in found))
        for text in addresses:
            self.check(host, ipaddress.ip_address(text))
        return addresses


def read_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Read CIDRs as OSINT_ALLOW_NETWORKS gives them; host bits are ignored."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
