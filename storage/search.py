"""The questions behind `find`: which posts, pages and media fit, and when they are from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    union_all,
)

from storage.copying import storable
from storage.rows import CaptureKind
from storage.schema import PLAIN, TITLE_WORDS, captures, media, post_versions, posts, sources, version_captures

POST, VERSION, CAPTURE, MEDIA, RUN = "post", "version", "capture", "media", "run"
_PLAIN_WORDS = text(
    f"SELECT {PLAIN.format('word')} FROM unnest(CAST(:words AS text[])) WITH ORDINALITY AS w (word, n) ORDER BY n"
)
_NODES = text("SELECT numnode(to_tsquery('simple', :query))")
_FITTING = text(
    f"WITH given AS MATERIALIZED (SELECT to_tsvector('simple', {PLAIN.format('CAST(:text AS text)')}) AS words) "
    "SELECT CAST(n - 1 AS int) FROM given, unnest(CAST(:queries AS text[])) WITH ORDINALITY AS q (query, n) "
    "WHERE words @@ to_tsquery('simple', query) ORDER BY n"
)
_WORDLESS = text(
    "SELECT CAST(n - 1 AS int) FROM unnest(CAST(:queries AS text[])) WITH ORDINALITY AS q (query, n) "
    "WHERE numnode(to_tsquery('simple', query)) = 0 ORDER BY n"
)
_SCANS = ("enable_seqscan", "enable_indexscan", "enable_indexonlyscan")  # all but those by bitmap, all that GIN offers
_newer = post_versions.alias("newer")
_IS_LATEST = ~(
    select(_newer.c.id)
    .where(_newer.c.post_id == post_versions.c.post_id, _newer.c.version > post_versions.c.version)
    .exists()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for; `words` as a query of PostgreSQL, made by words_query."""

    words: str | None
    url: str | None
    source: str | None
    kind: str | None
    since: datetime | None
    until: datetime | None


def words_query(connection: Connection, words: str) -> str | None:
    """Make a query in which each word is a beginning; None if nothing in it is a word."""
    given = [storable(word) for word in words.split()]
    parts = []
    for word in connection.scalars(_PLAIN_WORDS, {"words": given}):
        one = "'" + word.rstrip("*").replace("\\", "\\\\").replace("'", "''") + "':*"
        if word.rstrip("*") and connection.scalar(_NODES, {"query": one}):
            parts.append(one)
    return " & ".join(parts) or None


def any_query(connection: Connection, entries: Sequence[str]) -> str | None:
    """Make a query that fits where any of the entries stands: a word, a beginning (`затрым*`), or several in a row."""
    return " | ".join(f"({query})" for query in _queries(connection, entries) if query) or None


def _queries(connection: Connection, entries: Sequence[str]) -> list[str]:
    tokens = [[storable(token) for token in entry.split()] for entry in entries]
    plain = iter(connection.scalars(_PLAIN_WORDS, {"words": [token for entry in tokens for token in entry]}).all())
    return [" <-> ".join(filter(None, [_lexeme(next(plain)) for _ in entry])) for entry in tokens]


def _lexeme(word: str) -> str:
    bare = word.rstrip("*")
    quoted = bare.replace("\\", "\\\\").replace("'", "''")
    return f"'{quoted}'" + (":*" if word != bare else "") if bare else ""


def fitting(connection: Connection, text_: str, entries: Sequence[str]) -> list[int]:
    """Tell by their places which entries stand in a text, as `find` would say."""
    given = {"text": storable(text_), "queries": _queries(connection, entries)}
    return list(connection.scalars(_FITTING, given))


def wordless(connection: Connection, entries: Sequence[str]) -> list[int]:
    """Tell by their places which entries hold no word at all."""
    return list(connection.scalars(_WORDLESS, {"queries": _queries(connection, entries)}))


def search(connection: Connection, wanted: Wanted, limit: int) -> list[tuple[str, UUID]]:
    """Name the newest things that fit, newest first: (POST, CAPTURE or MEDIA, id).

    Words are found by their index alone. The planner does not count what it takes to read a version's words, which lie outside
    their table, and at times would read those of every version (0.7 s of 33,000 versions instead of 1 ms).
    """
    selects = [one for one in (_posts(wanted), _pages(wanted), _media(wanted)) if one is not None]
    newest = [one.order_by(text("at DESC, id DESC")).limit(limit).subquery().select() for one in selects]
    every = union_all(*newest).subquery()
    with _by_index(connection) if wanted.words is not None else nullcontext():
        rows = connection.execute(select(every).order_by(every.c.at.desc(), every.c.id.desc()).limit(limit)).all()
    return [(row.what, row.id) for row in rows]


@contextmanager
def _by_index(connection: Connection) -> Iterator[None]:
    """Keep the planner from reading a table through, or in the order of an index."""
    connection.execute(text("; ".join(f"SET LOCAL {one} = off" for one in _SCANS)))
    yield
    connection.execute(text("; ".join(f"SET LOCAL {one} TO DEFAULT" for one in _SCANS)))


def _posts(wanted: Wanted) -> Select[Any] | None:
    if wanted.kind == MEDIA:
        return None
    at = func.coalesce(post_versions.c.published_at, post_versions.c.first_seen)
    found = select(literal(POST).label("what"), posts.c.id.label("id"), at.label("at"))
    found = found.join_from(post_versions, posts, post_versions.c.post_id == posts.c.id).where(_IS_LATEST)
    if wanted.words is not None:
        found = found.where(_fits(post_versions.c.words, wanted.words))
    if wanted.kind is not None:
        found = found.where(posts.c.kind == wanted.kind)
    if wanted.url is not None:
        asked = or_(_is_url(captures.c.url, wanted.url), _is_url(captures.c.final_url, wanted.url))
        read_there = (
            select(post_versions.c.post_id)
            .join(version_captures, version_captures.c.version_id == post_versions.c.id)
            .join(captures, captures.c.id == version_captures.c.capture_id)
            .where(asked)
        )
        found = found.where(or_(_is_url(posts.c.url, wanted.url), posts.c.id.in_(read_there)))
    return _narrowed(found, wanted, posts.c.source_id, at)


def _pages(wanted: Wanted) -> Select[Any] | None:
    if wanted.kind not in (None, "page") or wanted.words is not None:
        return None
    found = select(literal(CAPTURE).label("what"), captures.c.id.label("id"), captures.c.captured_at.label("at"))
    read = select(version_captures.c.capture_id).where(version_captures.c.capture_id == captures.c.id)
    found = found.where(~read.exists())
    if wanted.url is None:
        found = found.where(captures.c.kind.in_((CaptureKind.PAGE, CaptureKind.RENDERED)))
    else:
        arrived = and_(captures.c.final_url != captures.c.url, _is_url(captures.c.final_url, wanted.url))
        found = found.where(or_(_is_url(captures.c.url, wanted.url), arrived), captures.c.kind != CaptureKind.ROBOTS)
    return _narrowed(found, wanted, captures.c.source_id, captures.c.captured_at)


def _media(wanted: Wanted) -> Select[Any] | None:
    if wanted.kind not in (None, MEDIA):
        return None
    found = select(literal(MEDIA).label("what"), media.c.id.label("id"), captures.c.captured_at.label("at"))
    found = found.join_from(media, captures, captures.c.id == media.c.capture_id)
    if wanted.kind is None:
        found = found.where(media.c.post_version_id.is_(None))
    if wanted.words is not None:
        titled = and_(media.c.title.is_not(None), _fits(literal_column(TITLE_WORDS), wanted.words))
        told = select(post_versions.c.id).where(_fits(post_versions.c.words, wanted.words))
        found = found.where(or_(titled, media.c.post_version_id.in_(told)))
    if wanted.url is not None:
        found = found.where(_is_url(media.c.url, wanted.url))
    return _narrowed(found, wanted, captures.c.source_id, captures.c.captured_at)


def _narrowed(found: Select[Any], wanted: Wanted, source_id: Any, at: Any) -> Select[Any]:
    if wanted.source is not None:
        found = found.where(source_id == select(sources.c.id).where(sources.c.slug == wanted.source).scalar_subquery())
    if wanted.since is not None:
        found = found.where(at >= wanted.since)
    return found if wanted.until is None else found.where(at < wanted.until)


def _fits(words: Any, query: str) -> ColumnElement[bool]:
    return words.op("@@", is_comparison=True)(func.to_tsquery(literal_column("'simple'"), query))


def _is_url(column: Any, url: str) -> ColumnElement[bool]:
    """Compare with a whole URL, or its beginning before a final `*`, by the index over the first 400 letters."""
    url = storable(url)
    head = func.left(column, literal_column("400"))
    if not url.endswith("*"):
        return and_(head == url[:400], column == url)
    begin = url.removesuffix("*")
    pattern = begin[:400].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return and_(head.like(pattern), func.starts_with(column, begin))
