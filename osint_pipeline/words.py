"""Watch-lists: what a person writes as words, and the lists that come with the program."""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files

from osint_pipeline.errors import UserError
from osint_pipeline.options import LANGUAGE
from osint_pipeline.workspace import Workspace
from storage.watch_lists import WordList, list_words, put_words, without_word

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_MOST_WORDS, _MOST_LETTERS, _LEAST_OF_BEGINNING = 5000, 100, 2


def read_words(lines: Iterable[str]) -> tuple[str, ...]:
    """Read one word, beginning (`затрым*`) or row of words a line; # begins a remark. Raises UserError."""
    plain = (" ".join(unicodedata.normalize("NFC", line.partition("#")[0]).split()) for line in lines)
    words = tuple(dict.fromkeys(word for word in plain if word))
    if len(words) > _MOST_WORDS:
        raise UserError(f"{len(words)} words are more than {_MOST_WORDS}", "make several lists of them")
    for word in words:
        if why := _odd(word):
            raise UserError(
                f"{word[:60]!r}: {why}", "one a line: a word, a beginning as затрым*, or several words in a row"
            )
    return words


def _odd(word: str) -> str | None:
    if len(word) > _MOST_LETTERS:
        return f"longer than {_MOST_LETTERS} letters"
    if not word.isprintable():
        return "a letter that cannot be seen"
    for part in word.split():
        if "*" in part.rstrip("*") or part.endswith("**"):
            return "a star stands at the end of a word only"
        if part.endswith("*") and len(part) <= _LEAST_OF_BEGINNING:
            return "so short a beginning would fit nearly every text"
    return None


def set_words(workspace: Workspace, name: str, language: str, words: Sequence[str]) -> WordList | None:
    """Make a version of a list; None where nothing changes. Raises UserError."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{name[:60]!r} is no name of a list", "small letters, digits and hyphens, at most 40")
    if not LANGUAGE.fullmatch(language):
        raise UserError(f"{language[:60]!r} is no code of a language", "write be, ru, uk, pl or en")
    if empty := without_word(workspace.catalog, words):
        raise UserError(f"{empty[0]!r} holds no letter that could be looked for", "leave it out")
    who = workspace.service.collector
    return put_words(workspace.catalog, name, language, words, who=who, at=datetime.now(UTC))


def remove_list(workspace: Workspace, name: str, language: str | None) -> list[WordList]:
    """Make a version without words of a list in one language or all. Raises UserError."""
    found = [one for one in lists_of(workspace, name) if language in (None, one.language)]
    if not found:
        raise UserError(f"{name} has no words in {language}", f"`osint words show {name}` shows its languages")
    made = [set_words(workspace, name, one.language, ()) for one in found]
    return [one for one in made if one]


def lists_of(workspace: Workspace, name: str) -> list[WordList]:
    """Give a list in all its languages. Raises UserError where there is none of this name."""
    found = list_words(workspace.catalog, name)
    if not found:
        there = ", ".join(dict.fromkeys(one.name for one in list_words(workspace.catalog)))
        advice = f"there are {there}" if there else "`osint words import-starter` brings some in"
        raise UserError(f"there is no list of words called {name[:60]!r}", advice)
    return found


def starter() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Read the lists that come with the program: words by name and language."""
    told = tomllib.loads(files("osint_pipeline.data").joinpath("starter-words.toml").read_text("utf-8"))
    return {name: {language: read_words(words) for language, words in by.items()} for name, by in told.items()}


def import_starter(workspace: Workspace, names: Sequence[str], *, update: bool) -> list[tuple[str, str, str]]:
    """Bring in the lists that come with the program: (name, language, what was done). One that was changed here is kept.

    Raises UserError for a name that is none of them.
    """
    ours, there = starter(), {(one.name, one.language): one for one in list_words(workspace.catalog, history=True)}
    if odd := next((name for name in names if name not in ours), None):
        raise UserError(f"no list called {odd[:60]!r} comes with the program", f"there are {', '.join(ours)}")
    done = []
    for name in names or ours:
        for language, words in ours[name].items():
            known = there.get((name, language))
            if known and known.words != words and not update:
                done.append((name, language, "kept as it was changed here"))
                continue
            made = set_words(workspace, name, language, words)
            done.append((name, language, f"version {made.version}, {len(words)} words" if made else "unchanged"))
    return done
