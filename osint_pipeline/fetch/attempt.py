"""A try to fetch a page that was lost with its browser: what was recorded of it stays, and is declared."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.exchange import RecordRef, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTry:
    """`number` counts from 1; `why` says how the browser ended; `records` are in the archive, of the same capture."""

    number: int
    started_at: datetime
    ended_at: datetime
    why: str
    records: tuple[RecordRef, ...]

    def told(self) -> dict[str, Any]:
        """Say it for JSON."""
        return {
            "attempt": self.number,
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "lost_because": self.why,
            "records": [str(one.record_id) for one in self.records],
        }

    def resource(self, url: str) -> Resource:
        """Make the record that declares it: urn:attempt:<URL>, JSON."""
        body = json.dumps({"url": url, **self.told()}, ensure_ascii=False, indent=1).encode("utf-8", "replace")
        return Resource(url=f"urn:attempt:{url}", made_at=self.ended_at, media_type="application/json", body=body)

    @property
    def sentence(self) -> str:
        """Say it among a later try's alterations."""
        return f"the page was asked for again: try {self.number} was lost ({self.why}), its {len(self.records)} records are kept"
