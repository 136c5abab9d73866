"""Keeps the certificate chain of each TLS server once: as PEM, leaf first (RFC 8555 9.1)."""

import asyncio
import base64
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from osint_pipeline.fetch.cdp_link import Answer, Link, LinkFailed
from storage.exchange import Resource

READ_SECONDS = 10.0
MEDIA_TYPE = "application/pem-certificate-chain"


class Certificates:
    """`known` names the chains that the run has already; give the same set to each fetch of a run."""

    def __init__(self, link: Link, known: set[str], omit: Callable[[str], None]) -> None:
        self.link, self.known, self.omit = link, known, omit
        self._chains: list[tuple[str, str, datetime]] = []

    def new(self, url: str, answer: Answer) -> str | None:
        """The origin of an answer whose chain is not known yet, None if there is none or it is."""
        security = answer.get("securityDetails")
        if not security:
            return None
        parts = urlsplit(url)
        told = (security.get(name) for name in ("subjectName", "issuer", "validFrom", "validTo"))
        key = " ".join(str(one) for one in (parts.netloc, *told))
        if key in self.known:
            return None
        self.known.add(key)
        return f"https://{parts.netloc}"

    async def read(self, origin: str, session: str) -> None:
        """Ask the browser for the chain of an origin; say so where it gives none."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                got = await self.link.send("Network.getCertificate", {"origin": origin}, session)
        except (LinkFailed, TimeoutError) as error:
            got = {"tableNames": [], "why": str(error) or "no answer"}
        if not got["tableNames"]:
            self.omit(f"{origin}: its certificate chain is not kept ({got.get('why', 'the browser gave none')})")
            return
        self._chains.append((origin, "".join(_pem(one) for one in got["tableNames"]), datetime.now(UTC)))

    def finish(self, about: UUID | None) -> list[Resource]:
        """Give a record for each new chain. `about` is the record of the page."""
        return [_resource(*one, about) for one in self._chains]


def _resource(origin: str, pem: str, at: datetime, about: UUID | None) -> Resource:
    values: dict[str, Any] = {"url": f"urn:certificate:{origin}", "media_type": MEDIA_TYPE, "body": pem.encode()}
    return Resource(**values, made_at=at, about=about)


def _pem(text: str) -> str:
    lines = "\n".join(textwrap.wrap(base64.b64encode(base64.b64decode(text)).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
