"""Asks the server that OSINT_ADDRESS_URL names at which address an exit comes out; without that setting nobody is asked."""

import http.client
import json
import logging
import socket
import ssl
import time
from ipaddress import ip_address
from urllib.parse import urlsplit

from osint_pipeline.fetch.tunnel import TunnelFailed, dial, talk
from settings.exits import Exit
from settings.service import Service

ANSWER_BYTES = 4096
RETRY_SECONDS = 60.0
log = logging.getLogger(__name__)
_known: dict[tuple[str, Exit | None], tuple[float, str | None]] = {}


def own_address(service: Service, exit: Exit | None) -> str | None:
    """Tell at which address we come out (blocking); asked at most each OSINT_ADDRESS_HOURS, None if it cannot be known."""
    if not service.address_url:
        return None
    when, address = _known.get((service.address_url, exit), (0.0, None))
    kept_seconds = service.address_hours * 3600 if address else RETRY_SECONDS
    if not when or time.monotonic() - when > kept_seconds:
        address = ask_address(service, exit)
        _known[service.address_url, exit] = (time.monotonic(), address)
    return address


def ask_address(service: Service, exit: Exit | None) -> str | None:
    """Ask now; None where there is no answer that is an address. Redirects are not followed, certificates are checked."""
    try:
        with _connected(service.address_url or "", exit, service.exit_check_seconds) as sock:
            return read_address(_asked(sock, service.address_url or "", service.user_agent))
    except (OSError, TunnelFailed, http.client.HTTPException, ValueError) as error:
        log.warning("the egress address is unknown: OSINT_ADDRESS_URL gave no answer (%s)", type(error).__name__)
        return None


def read_address(answer: bytes) -> str:
    """Read an address that stands there as text or as {"ip": ...}. Raises ValueError."""
    text = answer.decode("ascii").strip()
    if text.startswith("{"):
        text = str(json.loads(text).get("ip", ""))
    return str(ip_address(text))


def _connected(url: str, exit: Exit | None, seconds: float) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    plain = (
        socket.create_connection((host, port), seconds)
        if exit is None
        else dial(exit, talk(exit, host, port), seconds=seconds)
    )
    plain.settimeout(seconds)
    if parts.scheme != "https":
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except OSError:
        plain.close()
        raise


def _asked(sock: socket.socket, url: str, user_agent: str) -> bytes:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.sock = sock
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"User-Agent": user_agent, "Connection": "close"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise ValueError(f"status {answer.status}")
    return answer.read(ANSWER_BYTES)
