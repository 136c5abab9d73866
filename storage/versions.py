"""Posts and their versions: decides for each post that was read whether it is new, edited or the same as before."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from psycopg import Cursor

from storage.copying import (
    as_digest,
    as_id,
    as_json,
    as_number,
    as_text,
    as_time,
    copy_media,
    copy_rows,
    media_line,
    storable,
)
from storage.rows import Committed, MediaRow, MediaState, PostRow, StoredMedia

_KEY_BYTES = 1000  # of the 2,704 bytes that PostgreSQL lets an index entry have
_POSTS = "id, source_id, kind, platform, channel, channel_id, post_id, url, first_seen"
_VERSIONS = (
    "id, post_id, version, content_sha256, author, title, text, language, published_at, published_raw, edited, "
    "views, views_raw, forwarded_from, reply_to, links, service, post_ids, extra, first_seen, last_seen"
)
# One writer for a channel at a time: two who read the same page would both make the same post. In one order, or they deadlock.
_LOCK = """
SELECT pg_advisory_xact_lock(74210, n) FROM (
    SELECT DISTINCT hashtext(platform || '/' || coalesce(channel_id, lower(channel), '')) AS n
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS want (platform, channel_id, channel) ORDER BY n) AS locks
"""
_LATEST = """
SELECT want.key, posts.id, latest.id, latest.version, latest.content_sha256
FROM (
    SELECT platform, coalesce(channel_id, lower(channel), '') AS key, post_id, n
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY
        AS given (platform, channel_id, channel, post_id, n)) AS want
LEFT JOIN posts ON posts.platform = want.platform AND posts.channel_key = want.key AND posts.post_id = want.post_id
LEFT JOIN LATERAL (
    SELECT id, version, content_sha256 FROM post_versions WHERE post_id = posts.id ORDER BY version DESC LIMIT 1
) AS latest ON true
ORDER BY want.n
"""
_SEEN = """
UPDATE post_versions AS v SET last_seen = s.seen, views = coalesce(s.views, v.views),
    views_raw = coalesce(s.views_raw, v.views_raw)
FROM unnest(%s::uuid[], %s::timestamptz[], %s::bigint[], %s::text[]) AS s (id, seen, views, views_raw)
WHERE v.id = s.id AND v.last_seen < s.seen
"""
_READ_FROM = "INSERT INTO version_captures SELECT * FROM unnest(%s::uuid[], %s::uuid[]) ON CONFLICT DO NOTHING"
_MEDIA = "SELECT post_version_id, id, kind, url, item_id, state, file_capture_id FROM media WHERE post_version_id = ANY(%s) ORDER BY place"


@dataclass(slots=True)
class _Known:
    """The newest version of a post while a batch is written; no version yet where version is 0."""

    post: UUID | None
    id: UUID | None
    version: int
    content_sha256: str | None


def content_sha256(row: PostRow) -> str:
    """Digest what counts as an edit: title, text, edit mark, forwarding and the files; neither views nor addresses' tokens."""
    forwarded = dict(row.forwarded_from) if row.forwarded_from else None
    files = [media_identity(one) for one in row.media]
    parts = [row.title, row.text, row.edited, forwarded, files]
    return sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()


def media_identity(row: MediaRow) -> str:
    """Name what stays the same of a file between visits: its item's id, else its address without the query."""
    if row.identity is not None:
        return f"{row.kind}:{row.identity}"
    return _identity(row.kind, row.item_id, row.url)


def _identity(kind: str, item_id: str | None, url: str | None) -> str:
    if item_id or not url:
        return f"{kind}:{item_id or ''}"
    try:
        return f"{kind}:{urlsplit(url).path}"
    except ValueError:  # a page may write anything
        return f"{kind}:{url}"


def write_posts(cursor: Cursor[Any], posts: Sequence[PostRow]) -> Committed:
    """Write the posts of a batch, in the order that they were read; one that stands twice in it is handled twice."""
    if not posts:
        return Committed()
    latest = _latest(cursor, posts)
    written = _Written()
    for row, (key, known) in zip(posts, latest, strict=True):
        written.add(row, written.by_key.setdefault(key, known))
    written.copy(cursor)
    return Committed(new=written.new, edited=written.edited, same=len(written.same), media=written.media(cursor))


def _latest(cursor: Cursor[Any], posts: Sequence[PostRow]) -> list[tuple[tuple[str, ...], _Known]]:
    platforms = [storable(row.platform) for row in posts]
    ids = [_short(row.channel_id) for row in posts]
    channels = [_short(row.channel) for row in posts]
    keys = [_short(row.post_id) or "" for row in posts]
    cursor.execute(_LOCK, (platforms, ids, channels))
    cursor.execute(_LATEST, (platforms, ids, channels, keys))
    found: list[tuple[tuple[str, ...], _Known]] = []
    for platform, post_key, (channel, post, version_id, version, digest) in zip(
        platforms, keys, cursor.fetchall(), strict=True
    ):
        known = _Known(post, version_id, version or 0, digest.hex() if digest else None)
        found.append(((platform, channel, post_key), known))
    return found


def _short(value: str | None) -> str | None:
    """Keep a key within what an index can hold: an address used as an id may be longer."""
    if value is None or len(value) * 4 <= _KEY_BYTES:
        return None if value is None else storable(value)
    raw = storable(value).encode()
    if len(raw) <= _KEY_BYTES:
        return raw.decode()
    return raw[: _KEY_BYTES // 2].decode("utf-8", "ignore") + " sha256:" + sha256(raw).hexdigest()


class _Written:
    """The rows of one batch's posts, gathered before they are sent."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, ...], _Known] = {}
        self.same: list[tuple[PostRow, UUID]] = []
        self.new = self.edited = 0
        self._posts: list[str] = []
        self._versions: list[str] = []
        self._media: list[str] = []
        self._read_from: list[tuple[UUID, UUID]] = []
        self._stored: dict[UUID, StoredMedia] = {}

    def add(self, row: PostRow, known: _Known) -> None:
        """Decide what a post is, and change `known` to what it is afterwards."""
        digest = content_sha256(row)
        if known.id is not None and known.content_sha256 == digest:
            self.same.append((row, known.id))
        else:
            self._add_version(row, known, digest)
        assert known.id is not None
        self._read_from.append((known.id, row.capture_id))

    def _add_version(self, row: PostRow, known: _Known, digest: str) -> None:
        if known.post is None:
            known.post = row.id
            self._posts.append(_post_line(row))
        self.new += known.version == 0
        self.edited += known.version > 0
        known.id, known.version, known.content_sha256 = row.version_id, known.version + 1, digest
        self._versions.append(_version_line(row, known))
        for place, one in enumerate(row.media):
            self._media.append(media_line(one, row.version_id, row.capture_id, place))
            self._stored[one.id] = StoredMedia(id=one.id, state=one.state, file_capture_id=one.file_capture_id)

    def copy(self, cursor: Cursor[Any]) -> None:
        """Send all rows."""
        copy_rows(cursor, "posts", _POSTS, self._posts)
        copy_rows(cursor, "post_versions", _VERSIONS, self._versions)
        copy_media(cursor, self._media)
        versions, captures = zip(*self._read_from, strict=True)
        cursor.execute(_READ_FROM, (list(versions), list(captures)))
        if self.same:
            newest: dict[UUID, PostRow] = {}
            for row, version in sorted(self.same, key=_seen_at):
                newest[version] = row
            values = [(key, row.seen_at, _whole(row.views), _text(row.views_raw)) for key, row in newest.items()]
            cursor.execute(_SEEN, [list(column) for column in zip(*values, strict=True)])

    def media(self, cursor: Cursor[Any]) -> Mapping[UUID, StoredMedia]:
        """Find the stored row of each media given with a post that is the same as before."""
        if any(row.media for row, _ in self.same):
            cursor.execute(_MEDIA, (list({version for _, version in self.same}),))
            stored: dict[UUID, list[Any]] = {}
            for version, *media in cursor.fetchall():
                stored.setdefault(version, []).append(media)
            for row, version in self.same:  # equal content means as many files, in the order of their first writing
                by_place = _in_order(row.media, stored.get(version, []))
                for given, (number, _, _, _, state, file_capture) in by_place:
                    self._stored[given.id] = StoredMedia(
                        id=number, state=MediaState(state), file_capture_id=file_capture
                    )
        return self._stored


def _in_order(given: Sequence[MediaRow], stored: list[Any]) -> list[tuple[MediaRow, Any]]:
    """Pair files by their identity, those of equal identity by their order."""
    places: dict[str, list[Any]] = {}
    for row in stored:
        places.setdefault(_identity(row[1], row[3], row[2]), []).append(row)
    pairs = []
    for one in given:
        if rows := places.get(_identity(one.kind, one.item_id, one.url)):
            pairs.append((one, rows.pop(0)))
    if len(pairs) < len(given) and len(given) == len(stored):  # addresses changed, the caller's identities did not
        return list(zip(given, stored, strict=True))
    return pairs


def _seen_at(pair: tuple[PostRow, UUID]) -> datetime:
    return pair[0].seen_at


def _whole(value: int | None) -> int | None:
    return None if value is None else int(as_number(value))


def _text(value: str | None) -> str | None:
    return None if value is None else storable(value)


def _post_line(row: PostRow) -> str:
    return "\t".join(
        (
            as_id(row.id),
            as_id(row.source_id),
            as_text(row.kind),
            as_text(row.platform),
            as_text(_short(row.channel)),
            as_text(_short(row.channel_id)),
            as_text(_short(row.post_id)),
            as_text(row.url),
            as_time(row.seen_at),
        )
    )


def _version_line(row: PostRow, known: _Known) -> str:
    return "\t".join(
        (
            as_id(row.version_id),
            as_id(known.post),
            str(known.version),
            as_digest(known.content_sha256),
            as_text(row.author),
            as_text(row.title),
            as_text(row.text),
            as_text(row.language),
            as_time(row.published_at),
            as_text(row.published_raw),
            "t" if row.edited else "f",
            as_number(row.views),
            as_text(row.views_raw),
            as_json(row.forwarded_from),
            as_json(row.reply_to),
            as_json(row.links),
            "t" if row.service else "f",
            as_json(row.post_ids),
            as_json(row.extra),
            as_time(row.seen_at),
            as_time(row.seen_at),
        )
    )
