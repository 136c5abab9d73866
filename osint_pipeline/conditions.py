"""Conditional requests: what a run sends along (RFC 9110 13), what a 304 refers to, what answers are known by next time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from scrapy import Request

from osint_pipeline.fetch.taped import bare_url
from storage.catalog import Catalog
from storage.drafts import NOT_MODIFIED_STATUS
from storage.exchange import Original, RecordRef, RecordType
from storage.http import Head
from storage.rows import CaptureRow
from storage.validators import (
    LIMIT_CHARACTERS,
    Condition,
    Validators,
    condition_of,
    forget_validators,
    keep_validators,
)

HEADERS = ("If-None-Match", "If-Modified-Since")
OTHER_ETAG = "status 304 naming another ETag than was asked about"
UNASKED = "status 304 to a request without conditions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The validators of an answer, as they stand in its head."""

    etag: str | None = None
    last_modified: str | None = None


def given(etag: bytes | None, last_modified: bytes | None) -> Given:
    """Read the validators of an answer; one that is too long or holds what no header should is none."""
    return Given(etag=_plain(etag), last_modified=_plain(last_modified))


class Conditions:
    """Those of one run. `stands` says whether a record can be relied on.

    Nothing is sent where the earlier answer is damaged, missing from the catalogue, or older than `since`; to a list of
    links, whose links must be seen now and then, where it is older than `lists_since`. None: nothing at all.
    """

    def __init__(
        self,
        catalog: Catalog,
        source_id: UUID,
        *,
        since: datetime | None,
        lists_since: datetime | None,
        stands: Callable[[UUID], bool],
    ) -> None:
        self.catalog, self.source_id, self._stands = catalog, source_id, stands
        self.since, self.lists_since = since, lists_since
        self._sent: dict[tuple[UUID, str], Condition] = {}
        self._found: dict[UUID, Validators] = {}

    def put_on(self, request: Request, capture: UUID | None) -> None:
        """Write the conditions of a request's own address into it; those of an address that led here are taken off."""
        for name in HEADERS:
            request.headers.pop(name, None)
        wire = request.meta.get("osint_fetch", "wire") == "wire"
        since = self.since if request.meta.get("osint_leaf") else self.lists_since
        if since is None or capture is None or not wire or request.method != "GET":
            return
        condition = condition_of(self.catalog, self.source_id, request.url, since=since)
        if condition is None or not self._stands(condition.original.record_id):
            return
        for name, value in zip(HEADERS, (condition.etag, condition.last_modified), strict=True):
            if value is not None:
                request.headers[name] = value.encode("latin-1")
        self._sent[capture, bare_url(request.url)] = condition

    def original(self, capture: UUID | None, url: str, head: Head | None) -> Original | None:
        """Give what a 304 refers to; None where it answers no condition of ours, or names another ETag."""
        if capture is None or head is None or head.status != NOT_MODIFIED_STATUS:
            return None
        condition = self._sent.get((capture, url))
        if condition is None or _contradicts(condition, head):
            return None
        return condition.original

    def sent(self, capture: UUID, url: str) -> bool:
        """Tell whether conditions went to an address for a capture."""
        return (capture, bare_url(url)) in self._sent

    def answered_304(self, capture: UUID, url: str, refs: list[RecordRef]) -> tuple[bool, str]:
        """Tell whether a 304 stands for an archived answer, and say so; one that does not is never believed again."""
        condition = self._sent.pop((capture, bare_url(url)), None)
        if condition and refs and refs[-1].type is RecordType.REVISIT:
            return True, f"not modified since {condition.original.date}"
        forget_validators(self.catalog, self.source_id, url)
        return False, OTHER_ETAG if condition else UNASKED

    def note(self, capture: UUID, validators: Validators) -> None:
        """Keep what an answer is known by until its capture is in the catalogue."""
        self._found[capture] = validators

    def committed(self, rows: Iterable[CaptureRow]) -> None:
        """Write what the answers of captures are known by that the catalogue has by now."""
        found = [one for row in rows if (one := self._found.pop(row.id, None))]
        if found:
            keep_validators(self.catalog, self.source_id, found)


def _contradicts(condition: Condition, head: Head) -> bool:
    named = head.values("ETag")
    return bool(named and condition.etag and _weak(named[0].decode("latin-1")) != _weak(condition.etag))


def _weak(etag: str) -> str:
    return etag.strip().removeprefix("W/")


def _plain(value: bytes | None) -> str | None:
    text = (value or b"").decode("latin-1")
    return text if text.strip() and text.isprintable() and len(text) <= LIMIT_CHARACTERS else None
