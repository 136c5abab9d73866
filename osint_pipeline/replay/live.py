"""What the capture keeps of how the page was seen live: picture, DOM, text, and what the browser asked for."""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from osint_pipeline.replay.again import again_of
from osint_pipeline.replay.alike import plain
from osint_pipeline.replay.browser import Look
from osint_pipeline.replay.recorded import Recorded
from storage.addressed import ANSWERS
from storage.exchange import RecordRef, RecordType
from storage.records import payload, read_record

ROBOTS = "/robots.txt"  # asked for by us beside the page, never by the browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """`html`, `text` and `picture` are None where the capture does not keep them. `answered` are plain addresses."""

    look: Look
    html: str | None
    text: str | None
    picture: bytes | None
    answered: frozenset[str]
    altered: tuple[str, ...] = field(default=())


def live_of(recorded: Recorded, url: str) -> Live:
    """Read it out of the capture's records, each proven by its digest. Raises DamagedWarc, UserError, StorageError."""
    made = made_by_browser(recorded.refs)
    info = _info(_read(recorded, made.get("pageinfo")))
    named = {str(one.get("record")) for one in info.get("resources", ()) if isinstance(one, dict) and one.get("record")}
    for one in info.get("resources", ()):
        if isinstance(one, dict) and one.get("failure"):
            recorded.failed.add(plain(str(one.get("url"))))
    answered = {
        plain(ref.url)
        for ref in recorded.refs
        if ref.type in ANSWERS and (str(ref.record_id) in named if named else not ref.url.endswith(ROBOTS))
    }
    html, text = _read(recorded, made.get("dom")), _read(recorded, made.get("text"))
    return Live(
        look=replace(_look(info, url), again=again_of(info, recorded.workspace.service.behaviour_file)),
        html=html.decode("utf-8", "replace") if html is not None else None,
        text=text.decode("utf-8", "replace") if text is not None else None,
        picture=_read(recorded, made.get("screenshot")),
        answered=frozenset(answered),
        altered=tuple(str(one) for one in info.get("alterations", ()) if isinstance(one, str)),
    )


def made_by_browser(refs: list[RecordRef]) -> dict[str, RecordRef]:
    """Name what the browser's look at a page left, by the word in its address: screenshot, dom, text, pageinfo and so on."""
    made = (ref for ref in refs if ref.type is RecordType.RESOURCE and ref.url.startswith("urn:"))
    return {ref.url.split(":", 2)[1]: ref for ref in made}


def _read(recorded: Recorded, ref: RecordRef | None) -> bytes | None:
    return payload(read_record(recorded.archive.member(ref))) if ref else None


def _info(body: bytes | None) -> dict[str, Any]:
    try:
        told = json.loads(body) if body else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _look(info: dict[str, Any], url: str) -> Look:
    """Read how it was looked at; what is not told is as the browser's default is."""
    agent = info.get("user_agent")
    size = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(info.get("viewport")))
    look = Look(url=url, user_agent=agent if isinstance(agent, str) and agent else None)
    return Look(url=url, user_agent=look.user_agent, width=int(size[1]), height=int(size[2])) if size else look
