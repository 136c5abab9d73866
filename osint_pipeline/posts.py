"""Turns what a parser read into the catalogue's rows, and keeps the ids that a channel showed."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from spiders.page import Media, MediaKind, Origin, Page, Post
from spiders.span import Span, common, looked_at, merged, without
from storage.rows import Batch, GapRow, MediaRow, MediaState, PageMediaRow, PostRow


def page_batch(page: Page, *, capture: UUID, source_id: UUID, seen_at: datetime) -> Batch:
    """Make the rows of a page's posts and media; every post names the capture that it was read from."""
    return Batch(
        posts=tuple(post_row(post, capture=capture, source_id=source_id, seen_at=seen_at) for post in page.posts),
        media=tuple(
            PageMediaRow(capture_id=capture, media=media_row(media))
            for media in page.media
            if media.kind is not MediaKind.AVATAR
        ),
    )


def post_row(post: Post, *, capture: UUID, source_id: UUID, seen_at: datetime) -> PostRow:
    """Make the row of one post."""
    return PostRow(
        source_id=source_id,
        capture_id=capture,
        seen_at=seen_at,
        kind=post.kind.value,
        platform=post.platform,
        post_id=post.post_id,
        url=post.url,
        channel=post.channel,
        channel_id=post.channel_id,
        author=post.author,
        title=post.title,
        text=post.text,
        language=post.language,
        published_at=post.published_at,
        published_raw=post.published_raw,
        edited=post.edited,
        views=post.views,
        views_raw=post.views_raw,
        forwarded_from=_origin(post.forwarded_from),
        reply_to=_origin(post.reply_to),
        links=post.links,
        service=post.service,
        post_ids=post.post_ids,
        extra=dict(post.extra),
        media=tuple(media_row(media) for media in post.media),
    )


def media_row(media: Media) -> MediaRow:
    """Make the row of one file that a page names."""
    return MediaRow(
        kind=media.kind.value,
        state=MediaState.OFFERED if media.url else MediaState.NOT_OFFERED,
        url=media.url,
        item_id=media.post_id,
        why=media.why,
        duration_seconds=media.duration_seconds,
        title=media.title,
    )


def _origin(origin: Origin | None) -> dict[str, str | None] | None:
    return asdict(origin) if origin else None


class ChannelIds:
    """Collects the ids that a run looked at, and says which of them it did not see."""

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}
        self._skipped: dict[str, list[Span]] = {}
        self._looked: dict[str, list[Span]] = {}

    def saw(self, page: Page, within: Sequence[Span] | None = None) -> None:
        """Note the ids of a page that knows its channel; those of albums are all counted.

        `within`: the page was looked at once more, and says nothing new of what lies outside of these ids.
        """
        if page.channel is None:
            return
        ids = self._seen.setdefault(page.channel, set())
        for post in page.posts:
            ids.update(int(one) for one in (post.post_id, *post.post_ids) if one.isdecimal())
        skipped: Iterable[Span] = (Span(gap.first, gap.last) for gap in page.gaps)
        self._skipped.setdefault(page.channel, []).extend(skipped if within is None else common(skipped, within))
        if within is None and (span := looked_at(page)):
            self._looked.setdefault(page.channel.lower(), []).append(span)

    @property
    def looked(self) -> dict[str, tuple[Span, ...]]:
        """Say which ids of each channel the run's pages cover, by the channel's name in small letters."""
        return {channel: merged(spans) for channel, spans in self._looked.items()}

    def gaps(self) -> dict[str, tuple[Span, ...]]:
        """List what the pages skip and no other page shows. Never a proof of deletion."""
        found = {channel: without(merged(spans), self._seen[channel]) for channel, spans in self._skipped.items()}
        return {channel: spans for channel, spans in found.items() if spans}


def gap_rows(run_id: UUID, source_id: UUID, channel: str, spans: Iterable[Span]) -> tuple[GapRow, ...]:
    """Make the rows of a channel's gaps."""
    return tuple(
        GapRow(run_id=run_id, source_id=source_id, channel=channel, first=one.first, last=one.last) for one in spans
    )
