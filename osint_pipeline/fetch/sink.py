"""What a fetcher gives its exchanges to. The recorder of a run is one; a list in a contract test is another."""

from typing import Protocol
from uuid import UUID

from storage.exchange import Exchange, RecordRef, Resource


class Sink(Protocol):
    """Takes exchanges and resources of one capture. Safe to call from any thread; returns once appended, not yet synced.

    `capture` is the id of the capture that the record belongs to, None for what no capture asked for.
    """

    def exchange(self, exchange: Exchange, capture: UUID | None) -> RecordRef: ...

    def resource(self, resource: Resource, capture: UUID | None) -> RecordRef: ...
