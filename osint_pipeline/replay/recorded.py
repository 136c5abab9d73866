"""Finds the records that answer a request, for one capture: its own, then those of its run, then those of a like address."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from osint_pipeline.replay.alike import bare, both_schemes, most_alike, plain
from osint_pipeline.retrieve import Archive
from osint_pipeline.workspace import Workspace
from storage.addressed import Answered, answers_at, paired, run_of
from storage.exchange import RecordRef, RecordType
from storage.finding import records_of
from storage.records import read_record


class How(StrEnum):
    """By which way a request was answered."""

    EXACT = "exact"  # the capture's own record of this method, address and body
    RUN = "run"  # the same, recorded with another capture of the run: a browser keeps files from page to page
    ALIKE = "alike"  # a record of a like address or body, by the rule of docs/replay.md
    MADE = "made"  # we made it: permission for a cross-origin request that is recorded without its own
    FAILED = "failed"  # live got no answer either: the connection is ended
    MISSING = "missing"  # not in the archive
    DAMAGED = "damaged"  # in the archive, and its bytes do not have their digest any more


FOUND = frozenset({How.EXACT, How.RUN, How.ALIKE, How.MADE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request of the replaying browser; `range` is its Range field, `origin` and `wanted` those of a preflight."""

    method: str
    url: str
    body: bytes = b""
    range: str | None = None
    origin: str | None = None
    wanted: str | None = None
    document: bool = False  # for a page or a frame

    @property
    def body_sha256(self) -> str | None:
        """The digest that a record has of such a body; None for none."""
        return sha256(self.body).hexdigest() if self.body else None


@dataclass(frozen=True, slots=True)
class Match:
    """A record that may answer a request, and by which way it was found."""

    ref: RecordRef
    how: How


class Recorded:
    """What can be shown of one capture. Safe to use from several threads.

    `failed` are addresses that live asked in vain. An address that was answered several times gives its answers in the order
    in which they were recorded, the last one for ever; `restart` begins again.
    """

    def __init__(self, workspace: Workspace, capture: UUID) -> None:
        self.workspace, self.capture, self.archive = workspace, capture, Archive(workspace)
        self.refs = [ref for ref in records_of(workspace.catalog, capture) if ref.capture == capture]
        with workspace.catalog.begin() as connection:
            self.run = run_of(connection, capture)
        self.own = paired(self.refs)
        self.failed = {plain(ref.url) for ref in self.refs if ref.type is RecordType.REQUEST and not ref.concurrent_to}
        self._of_run: dict[str, list[Answered]] = {}
        self._methods: dict[UUID, str] = {}
        self._given: Counter[tuple[str, str, str | None]] = Counter()
        self._lock = threading.Lock()

    def restart(self) -> None:
        """Give again the first answer to everything: the page is loaded anew."""
        with self._lock:
            self._given.clear()

    def find(self, asked: Asked) -> list[Match]:
        """List the records that may answer, the best first; none where nothing is recorded. Raises DamagedWarc."""
        url = plain(asked.url)
        with self._lock:
            for answered, how in self._ways(url):
                if same := [one for one in answered if self._fits(one, asked)]:
                    return [Match(one.ref, how) for one in self._in_turn(same, asked, url)]
            return [Match(one.ref, How.ALIKE) for one in self._alike(asked, url)]

    def asked_in_vain(self, url: str) -> bool:
        """Whether live got no answer from an address either."""
        return plain(url) in self.failed

    def permitted(self, method: str, url: str) -> bool:
        """Whether a request of this method and address is recorded, whatever its body."""
        with self._lock:
            found = [one for answered, _ in self._ways(plain(url)) for one in answered]
            return any(self._method(one) == method for one in found)

    def _ways(self, url: str) -> Iterator[tuple[list[Answered], How]]:
        yield [one for one in self.own if plain(one.ref.url) == url], How.EXACT
        yield [one for one in self._elsewhere(url) if plain(one.ref.url) == url], How.RUN

    def _elsewhere(self, url: str) -> list[Answered]:
        """List what other captures of the run have under an address and either scheme, any query, nearest in time first."""
        if self.run is None:
            return []
        key = bare(url).partition("://")[2]
        if key not in self._of_run:
            spelled = {one.removesuffix("/") if one.count("/") == 3 else one for one in both_schemes(bare(url))}
            with self.workspace.catalog.begin() as connection:
                found = answers_at(connection, self.run, {*both_schemes(bare(url)), *spelled})
            self._of_run[key] = [one for one in found if one.ref.capture != self.capture]
        return self._of_run[key]

    def _alike(self, asked: Asked, url: str) -> list[Answered]:
        """List records of the same address with another body, else of the address most alike."""
        every = [*self.own, *self._elsewhere(url)]
        method = "GET" if asked.method == "HEAD" else asked.method
        same = [one for one in every if self._near(one, url) and self._method(one) == method]
        if chosen := [one for one in same if plain(one.ref.url) == url]:
            return list(self._in_turn(chosen, asked, url))
        times = [time.time(), *(datetime.fromisoformat(ref.date).timestamp() for ref in self.refs[:1])]
        best = most_alike(url, [plain(one.ref.url) for one in same], times=times, document=asked.document)
        return list(self._in_turn([one for one in same if plain(one.ref.url) == best], asked, url))

    def _near(self, one: Answered, url: str) -> bool:
        return bare(plain(one.ref.url)).partition("://")[2] == bare(url).partition("://")[2]

    def _fits(self, one: Answered, asked: Asked) -> bool:
        if self._method(one) != asked.method:
            return False
        return (one.request.payload_sha256 if one.request else None) == asked.body_sha256

    def _method(self, one: Answered) -> str:
        """Read a request's method; GET where no request was written."""
        if one.request is None:
            return "GET"
        known = self._methods.get(one.request.record_id)
        if known is None:
            block = read_record(self.archive.member(one.request)).block
            known = block.partition(b" ")[0].decode("latin-1").upper()
            self._methods[one.request.record_id] = known
        return known

    def _in_turn(self, found: list[Answered], asked: Asked, url: str) -> Iterator[Answered]:
        """Begin with the answer whose turn it is; whole answers before parts where no part is asked for."""
        if not found:
            return
        key = asked.method, url, asked.body_sha256
        turn = min(self._given[key], len(found) - 1) if asked.range is None else 0
        self._given[key] += asked.range is None
        if asked.range is None:
            found = sorted(found, key=lambda one: one.ref.status == 206 or one.ref.truncated is not None)
        yield found[turn]
        yield from (one for place, one in enumerate(found) if place != turn)
