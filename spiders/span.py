"""Which ids of a channel were looked at: a page shows all that is there between two ids, what it skips included."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

from spiders.page import LinkKind, Page, Verdict

_HISTORY = re.compile(r"/s/\w+/?$")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Ids from `first` to `last`, both included."""

    first: int
    last: int


def cursor(url: str, key: str) -> int | None:
    """Read the id that an address names as before or after; None where it names none."""
    found = re.search(rf"[?&]{key}=([1-9]\d{{0,14}})(?!\d)", url)
    return int(found[1]) if found else None


def looked_at(page: Page) -> Span | None:
    """Say which ids one page of a channel's history shows; None for any other page.

    A page without a way to older ones begins with id 1. A page that was cut off, or whose cursor was not heeded, says no
    more than its own ids.
    """
    if not _HISTORY.search(urlsplit(page.url).path) or re.search(r"[?&]q=", page.url):
        return None
    ids = [int(one) for post in page.posts for one in (post.post_id, *post.post_ids) if one.isdecimal()]
    before, after = cursor(page.url, "before"), cursor(page.url, "after")
    if not ids:
        return Span(1, before - 1) if page.verdict is Verdict.EMPTY and before and before > 1 else None
    first, last = min(ids), max(ids)
    if any(name == "cut_off" for name, _ in page.extra) or (before and last >= before):
        return Span(first, last)
    if after and after < first:
        first = after + 1
    elif not any(link.kind is LinkKind.OLDER for link in page.links):
        first = 1
    return Span(first, before - 1 if before else last)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Join spans that touch or overlap, lowest first."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.first <= joined[-1].last + 1:
            joined[-1] = Span(joined[-1].first, max(joined[-1].last, span.last))
        else:
            joined.append(span)
    return tuple(joined)


def holes(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Find what lies between spans, lowest first."""
    return tuple(Span(left.last + 1, right.first - 1) for left, right in pairwise(merged(spans)))


def without(spans: Iterable[Span], ids: Iterable[int]) -> tuple[Span, ...]:
    """Take ids out of spans."""
    out = sorted(set(ids))
    left: list[Span] = []
    for span in spans:
        edges = [span.first - 1, *(one for one in out if span.first <= one <= span.last), span.last + 1]
        left += [Span(low + 1, high - 1) for low, high in pairwise(edges) if high - low > 1]
    return tuple(left)


def minus(spans: Iterable[Span], others: Iterable[Span]) -> tuple[Span, ...]:
    """Take spans out of others; both must be merged."""
    left = list(spans)
    for out in others:
        left = [
            piece
            for one in left
            for piece in (
                Span(one.first, min(one.last, out.first - 1)),
                Span(max(one.first, out.last + 1), one.last),
            )
            if piece.first <= piece.last
        ]
    return tuple(left)


def common(spans: Iterable[Span], others: Iterable[Span]) -> tuple[Span, ...]:
    """Give the parts of spans that lie within others."""
    parts = (Span(max(one.first, two.first), min(one.last, two.last)) for one in spans for two in tuple(others))
    return tuple(part for part in parts if part.first <= part.last)


def inside(span: Span, spans: Iterable[Span]) -> bool:
    """Tell whether a span lies wholly within one of others, which must be merged."""
    return any(one.first <= span.first and span.last <= one.last for one in spans)
