"""Tells people, by apprise: mail, chat, webhook. Nothing is fetched from anywhere, nothing is kept on disk."""

from dataclasses import dataclass

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
    if not service.alerts:
        return 0, 0
    known = Apprise(asset=asset)
    whole = known.add(",".join(service.alerts))  # an address may hold commas: apprise takes the list apart
    took = 0
    for number, server in enumerate(list(known)[:_ADDRESSES]):
        sent = bool(server.notify(body=message.body, title=message.title, notify_type=message.kind))
        took += sent
        if not sent:
            log.warning("an alert could not be sent", address=number + 1, service=type(server).__name__)
    if not whole:
        log.warning("an address of OSINT_ALERTS cannot be read", readable=len(known))
    return took, max(len(known) + (not whole), 1)
