"""Lists of words to look for: each change is a new version, the highest of a name and language holds."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from storage import events
from storage.catalog import Catalog
from storage.schema import watch_lists
from storage.search import fitting, wordless

_LOCK = 74215  # the advisory lock that lets one process make a version at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class WordList:
    """One version of the words of a name and language; one without words was removed."""

    name: str
    language: str
    version: int
    words: tuple[str, ...]
    changed_at: datetime


def list_words(catalog: Catalog, name: str | None = None, *, history: bool = False) -> list[WordList]:
    """List what holds now, by name and language; with `history` every version, oldest first, those without words too."""
    query = select(watch_lists).order_by(watch_lists.c.name, watch_lists.c.language, watch_lists.c.version)
    if name is not None:
        query = query.where(watch_lists.c.name == name)
    with catalog.begin() as connection:
        every = [_list(row) for row in connection.execute(query)]
    newest = {(one.name, one.language): one for one in every}
    return every if history else [one for one in newest.values() if one.words]


def put_words(
    catalog: Catalog, name: str, language: str, words: Sequence[str], *, who: str, at: datetime
) -> WordList | None:
    """Make a new version of a list, with its event; None where it has these words already."""
    mine = (watch_lists.c.name == name, watch_lists.c.language == language)
    with catalog.begin() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        found = connection.execute(
            select(watch_lists).where(*mine).order_by(watch_lists.c.version.desc()).limit(1)
        ).first()
        last = _list(found) if found else None
        if tuple(words) == (last.words if last else ()):
            return None
        made = WordList(
            name=name, language=language, version=(last.version if last else 0) + 1, words=tuple(words), changed_at=at
        )
        connection.execute(watch_lists.insert().values(asdict(made)))
        _tell(connection, made, who)
    return made


def _tell(connection: Connection, made: WordList, who: str) -> None:
    digest = sha256("\n".join(made.words).encode()).hexdigest()
    detail = {"who": who, "language": made.language, "version": made.version, "words": len(made.words)}
    events.append(connection, "words changed" if made.words else "words removed", made.name, digest, detail)


def restore_words(catalog: Catalog, lists: Iterable[WordList]) -> None:
    """Write versions as they once were; those that are there stay."""
    rows = [asdict(one) for one in lists]
    if rows:
        with catalog.begin() as connection:
            connection.execute(insert(watch_lists).on_conflict_do_nothing(), rows)


def words_in(catalog: Catalog, text: str, lists: Sequence[WordList]) -> list[tuple[WordList, str]]:
    """Tell which words of which lists stand in a text, as `find` would."""
    every = [(one, word) for one in lists for word in one.words]
    with catalog.begin() as connection:
        return [every[place] for place in fitting(connection, text, [word for _, word in every])]


def without_word(catalog: Catalog, entries: Sequence[str]) -> list[str]:
    """List the entries in which there is nothing that could be looked for."""
    with catalog.begin() as connection:
        return [entries[place] for place in wordless(connection, entries)]


def _list(row: Any) -> WordList:
    return WordList(**{**row._mapping, "words": tuple(row.words)})
