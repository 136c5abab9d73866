"""Hands what was recorded to the sink: in order, in a thread, as many at a time as have come together."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from osint_pipeline.fetch.sink import Sink
from storage.exchange import Exchange, RecordRef, Resource

Make = Callable[[], Exchange | Resource]
Then = Callable[[RecordRef], None]


class Keeper:
    """`put` what is to be written, `drain` at the end. After a failure of the sink nothing more is written."""

    def __init__(self, sink: Sink, capture: UUID) -> None:
        self.sink, self.capture = sink, capture
        self._waiting: list[tuple[Make, Then]] = []
        self._work: asyncio.Task[None] | None = None
        self._error: Exception | None = None

    def put(self, make: Make, then: Then) -> None:
        """Write what `make` gives (it runs in the thread), and call `then` in the loop with its record."""
        self._waiting.append((make, then))
        if self._work is None and self._error is None:
            self._work = asyncio.create_task(self._run())

    async def drain(self) -> None:
        """Wait until all is written. Raises what the sink raised."""
        while self._work is not None:
            await asyncio.wait({self._work})
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        try:
            while self._waiting and self._error is None:
                batch, self._waiting = self._waiting, []
                written = await asyncio.to_thread(self._write, batch)
                for (_, then), record in zip(batch, written, strict=False):
                    then(record)
        finally:
            self._work = None

    def _write(self, batch: list[tuple[Make, Then]]) -> list[RecordRef]:
        written: list[RecordRef] = []
        try:
            for make, _ in batch:
                what = make()
                if isinstance(what, Exchange):
                    written.append(self.sink.exchange(what, self.capture))
                else:
                    written.append(self.sink.resource(what, self.capture))
        except Exception as error:  # noqa: BLE001 - `drain` raises it
            self._error = error
        return written
