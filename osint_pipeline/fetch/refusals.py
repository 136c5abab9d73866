"""What the relay refused, and where it could not dial, during one fetch."""

from urllib.parse import urlsplit

from osint_pipeline.fetch.guard import AddressRefused
from osint_pipeline.fetch.relay import Relay

PORTS = {"https": 443, "wss": 443}


class Refusals:
    """Begins with what the relay says from now on."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._refused, self._failed = len(relay.refused), len(relay.failed)

    def of(self, url: str) -> AddressRefused | None:
        """What Guard said of a URL's host, None if nothing."""
        host = (urlsplit(url).hostname or "").lower()
        return next((one for one in self._relay.refused[self._refused :] if one.host.lower() == host), None)

    def not_dialled(self, url: str) -> str:
        """Why a URL's host was not dialled, in brackets; "" where it was, or nobody tried."""
        parts = urlsplit(url)
        place = ((parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 80))
        found = [one for one in self._relay.failed[self._failed :] if (one.host.lower(), one.port) == place]
        return f" ({found[-1].why})" if found else ""
