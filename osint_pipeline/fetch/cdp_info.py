"""What the page info says of each request: where it came from, when, how it ended and where its record is."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from osint_pipeline.fetch.cdp_hop import Flight

Entry = dict[str, Any]


def answered(flight: Flight, index: int, source: str | None) -> Entry:
    """Tell of one hop; `source` says where in the browser it came from, None if it came over the wire."""
    hop = flight.hops[index]
    last = index == len(flight.hops) - 1
    return {
        "url": hop.url,
        "method": hop.method,
        "status": hop.status,
        "kind": hop.kind,
        **_asked(flight, index),
        "answered_at": _iso(flight.answered_at if last and flight.answered_at else hop.started_at),
        "ended_at": _iso(hop.ended_at),
        "body": "not kept" if source else hop.how,
        "truncated": hop.truncated,
        "from": source,
        "failure": flight.broke if last else None,
        "record": None if source else str(hop.record_id),
    }


def failed(flight: Flight, failure: str) -> Entry:
    """Tell of a request that got no answer."""
    index = len(flight.hops)
    asked = {"url": flight.url, "method": flight.method, "status": None, "kind": flight.kind}
    return {**asked, **_asked(flight, index), "from": None, "failure": failure, "record": None}


def join_earlier(entries: Iterable[Entry]) -> None:
    """Give what came out of the browser the record of the last earlier answer of the same URL, where there was one."""
    by_url: dict[str, str] = {}
    for entry in sorted(entries, key=lambda one: one.get("answered_at") or ""):
        if entry.get("from") == "cache" and entry["record"] is None:
            entry["record"] = by_url.get(entry["url"])
        elif entry.get("record") and entry.get("status"):
            by_url[entry["url"]] = entry["record"]


def _asked(flight: Flight, index: int) -> Entry:
    begun = flight.begun[index] if index < len(flight.begun) else None
    initiator = flight.initiators[index] if index < len(flight.initiators) else {}
    return {
        "initiator": _initiator(initiator),
        "frame": {"id": flight.frame, "url": flight.document},
        "started_at": _iso(begun),
    }


def _initiator(told: Mapping[str, Any]) -> Entry:
    """Tell the kind of an initiator, and the place in a document or script where it stands (lines count from 0)."""
    frames: list[Mapping[str, Any]] = (told.get("stack") or {}).get("callFrames") or [{}]
    url, line = told.get("url") or frames[0].get("url"), told.get("lineNumber", frames[0].get("lineNumber"))
    return {"type": told.get("type"), "url": url, "line": line}


def _iso(when: datetime | None) -> str | None:
    return when.isoformat() if when else None
