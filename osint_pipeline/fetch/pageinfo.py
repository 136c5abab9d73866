"""Writes what a visit was, resource by resource and step by step: the record urn:pageinfo. docs/page-info.md says its shape."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from storage.exchange import RecordRef, Resource

FORMAT = "osint.pageinfo/1"


def made_of(record: RecordRef, resource: Resource) -> dict[str, Any]:
    """Tell of one record that was made of the page, not received: the digest is of what was written."""
    body = resource.body if isinstance(resource.body, bytes) else b""
    return {
        "what": resource.url.split(":")[1],
        "url": resource.url,
        "record": str(record.record_id),
        "media_type": resource.media_type,
        "bytes": len(body),
        "sha256": record.block_sha256,
        "made_at": resource.made_at.isoformat(),
    }


def page_info(visit: Mapping[str, Any], *, started_at: datetime, ended_at: datetime, **lists: Sequence[Any]) -> bytes:
    """Write page info: what the visit was, then its lists, each in the order in which things happened."""
    times = {"started_at": started_at.isoformat(), "ended_at": ended_at.isoformat()}
    told = {"format": FORMAT, **visit, **times, **{name: list(one) for name, one in lists.items()}}
    return json.dumps(told, ensure_ascii=False, indent=1, default=str).encode("utf-8", "replace")
