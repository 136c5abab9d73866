"""Tells people, by apprise: mail, chat, webhook. Nothing is fetched from anywhere, nothing is kept on disk."""

import warnings
from dataclasses import dataclass
from typing import Any

from osint_pipeline.logs import logger
from settings.service import Service

log = logger(__name__)
_ADDRESSES = 20  # that are told at most
_TITLE = "osint-pipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message; `kind` is apprise's: failure, warning, success or info."""

    title: str
    body: str
    kind: str


def tell(service: Service, message: Message) -> tuple[int, int]:
    """Send a message to every address of OSINT_ALERTS; how many took it, and how many there are.

    An address that cannot be read counts as one that did not take it. Each may take some ten seconds.
    """
    if not service.alerts:
        return 0, 0
    whole, servers = _addresses(service)
    took = 0
    for number, server in enumerate(servers[:_ADDRESSES]):
        sent = bool(server.notify(body=message.body, title=message.title, notify_type=message.kind))
        took += sent
        if not sent:
            log.warning("an alert could not be sent", address=number + 1, service=type(server).__name__)
    if not whole:
        log.warning("an address of OSINT_ALERTS cannot be read", readable=len(servers))
    return took, max(len(servers) + (not whole), 1)


def _addresses(service: Service) -> tuple[bool, list[Any]]:
    """Read the addresses; whether all of them can be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # apprise looks for modules that Python is about to drop
        from apprise import Apprise, AppriseAsset

        asset = AppriseAsset(
            app_id=_TITLE,
            app_desc=_TITLE,
            app_url="",
            image_url_mask="",
            image_url_logo="",
            storage_mode="memory",
            async_mode=False,
        )
        known = Apprise(asset=asset)
        whole = known.add(",".join(service.alerts))  # an address may hold commas: apprise takes the list apart
    return bool(whole), list(known)
