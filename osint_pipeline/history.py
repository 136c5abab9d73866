"""How far a channel's history was looked at by earlier visits, and what of it is still open: holes, gaps, files, the past."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any
from uuid import UUID

from osint_pipeline.reconcile import missing
from settings.service import Service
from spiders import telegram
from spiders.known import Slice
from spiders.span import Span, cursor, holes, inside, merged, without
from storage.catalog import Catalog
from storage.earlier import SeenGap, details_of_runs, failed_post_files, gaps_seen, ids_seen, pages_read, tries_of_files

COVERED = "covered"  # in a run's detail: for each channel the ids that were looked at by then, as [first, last]
PAGE_IDS = 20  # that a page of Telegram's preview holds
SPANS = 200  # of one channel that are kept; with more, the lowest are looked at again


class History:
    """Of one source. `continues` are runs of earlier attempts that died: what they read counts as looked at."""

    def __init__(
        self,
        catalog: Catalog,
        service: Service,
        source_id: UUID,
        *,
        continues: tuple[UUID, ...] = (),
        new: bool = True,
        backfill_pages: int = 0,
    ) -> None:
        self.catalog, self.service, self.source_id = catalog, service, source_id
        self.continues, self.new, self.backfill_pages = continues, new, backfill_pages

    @cached_property
    def before(self) -> dict[str, tuple[Span, ...]]:
        """The ids that ended runs looked at, by the channel's name in small letters."""
        found = next(iter(details_of_runs(self.catalog, self.source_id, COVERED)), {})
        return {name: merged(_spans(spans)) for name, spans in dict(found.get(COVERED, {})).items()}

    @cached_property
    def taken_over(self) -> dict[str, tuple[Span, ...]]:
        """The ids that died runs read pages of."""
        spans: dict[str, list[Span]] = {}
        for url, channel, ids in pages_read(self.catalog, self.continues) if self.continues else ():
            before = cursor(url, "before")
            if ids and "/s/" in url:
                last = before - 1 if before and before > max(ids) else max(ids)
                spans.setdefault(channel.lower(), []).append(Span(min(ids), last))
        return {name: merged(found) for name, found in spans.items()}

    def covered(self, channel: str | None) -> tuple[Span, ...]:
        """Give the ids of a channel that were looked at before this visit."""
        name = (channel or "").lower()
        old = self.before.get(name, ()) if self.new else ()
        return merged((*old, *self.taken_over.get(name, ())))

    def slices(self, channel: str, looked: Sequence[Span]) -> list[Slice]:
        """List what is open: pages that failed, holes between what was looked at, gaps, files that failed, the past."""
        known = self.covered(channel)
        every = merged((*known, *looked))
        found = [Slice(before=hole.last + 1) for hole in reversed(holes(every))]
        if self._cut_short(channel, known):
            found.append(Slice(before=known[0].first))
        if self.new:
            found = [*self._failed_pages(channel), *found, *self._singles(channel, every, merged(looked))]
            if self.backfill_pages and every and every[0].first > 1:
                found.append(Slice(before=every[0].first, pages=self.backfill_pages))
        return found

    def _cut_short(self, channel: str, known: tuple[Span, ...]) -> bool:
        """Tell whether a died run read the lowest page of all: then nobody knows how far it would have gone."""
        taken = self.taken_over.get(channel.lower(), ())
        return bool(taken and known and taken[0].first == known[0].first > 1)

    def _failed_pages(self, channel: str) -> list[Slice]:
        """Find pages that an earlier visit wanted to read on from and did not get."""
        wanted = [one for one in missing(self.catalog, self.source_id) if one.tries < self.service.missing_tries]
        named = [one.url for one in wanted if (telegram.wanted(one.url).name or "").lower() == channel.lower()]
        cursors = {before for url in named if (before := cursor(url, "before"))}
        return [Slice(before=before) for before in sorted(cursors, reverse=True)]

    def _singles(self, channel: str, known: tuple[Span, ...], looked: tuple[Span, ...]) -> list[Slice]:
        """List single pages to look at once more: of gaps, and of posts whose files failed; at most OSINT_GAP_PAGES."""
        ends = [gap.last + 1 for gap in self.open_gaps(channel)] + [post + 1 for post in self._posts_to_mend(channel)]
        chosen: list[int] = []
        for end in sorted(set(ends), reverse=True):
            there = Span(end - 1, end - 1)
            shown = chosen and chosen[-1] - end < PAGE_IDS  # on the page that is asked for already
            if inside(there, known) and not inside(there, looked) and not shown:
                chosen.append(end)
        return [Slice(before=end, pages=1, aside=True) for end in chosen[: self.service.gap_pages]]

    def confirmed_gaps(self, channel: str) -> tuple[Span, ...]:
        """Find the ids that as many runs as OSINT_GAP_TRIES looked for and did not see. Never a proof of deletion."""
        mine = [
            one for one in gaps_seen(self.catalog, self.source_id) if (one.channel or "").lower() == channel.lower()
        ]
        return merged(span for span, tries in tries_of(mine) if tries >= self.service.gap_tries)

    def open_gaps(self, channel: str) -> list[Span]:
        """Find the gaps that no post fills and that were looked for in fewer runs than OSINT_GAP_TRIES, newest first."""
        mine = [
            one for one in gaps_seen(self.catalog, self.source_id) if (one.channel or "").lower() == channel.lower()
        ]
        few = [span for span, tries in tries_of(mine) if tries < self.service.gap_tries]
        if not few:
            return []
        seen = ids_seen(self.catalog, self.source_id, channel, few[0].first, few[-1].last)
        return list(reversed(merged(without(few, seen))))

    def _posts_to_mend(self, channel: str) -> list[int]:
        failed = failed_post_files(self.catalog, self.source_id, "telegram", 200)
        mine = [(int(post), url) for name, post, url in failed if name.lower() == channel.lower() and post.isdecimal()]
        tries = tries_of_files(self.catalog, self.source_id, [(url or "").partition("?")[0] for _, url in mine])
        most = self.service.missing_tries
        return [post for post, url in mine if tries.get((url or "").partition("?")[0], 0) < most]


def tries_of(seen: Iterable[SeenGap]) -> list[tuple[Span, int]]:
    """Cut gaps into pieces that the same runs saw, lowest first, each with the number of those runs."""
    rows = list(seen)
    edges = sorted({edge for one in rows for edge in (one.first, one.last + 1)})
    begin: dict[int, list[UUID]] = {}
    end: dict[int, list[UUID]] = {}
    for one in rows:
        begin.setdefault(one.first, []).append(one.run_id)
        end.setdefault(one.last + 1, []).append(one.run_id)
    open_runs: list[UUID] = []
    pieces = []
    for low, high in pairwise(edges):
        for run in end.get(low, ()):
            open_runs.remove(run)
        open_runs += begin.get(low, ())
        if open_runs:
            pieces.append((Span(low, high - 1), len(set(open_runs))))
    return pieces


def as_detail(spans: Iterable[Span]) -> list[list[int]]:
    """Write spans as a run's detail keeps them."""
    return [[one.first, one.last] for one in merged(spans)[-SPANS:]]


def _spans(plain: Any) -> list[Span]:
    return [Span(int(first), int(last)) for first, last in plain]
