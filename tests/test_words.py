"""Lists of words: each change a version, found as search finds, in five languages, whatever way a letter was typed."""

import os
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import plain
from test_catalog import NOON, a_capture, a_post

from osint_pipeline.errors import UserError
from osint_pipeline.words import import_starter, lists_of, read_words, remove_list, set_words, starter
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.batches import commit_batch
from storage.catalog import Catalog
from storage.finding import check_events, find, list_events
from storage.rows import Batch, RunRow, SourceRow
from storage.runs import begin_run
from storage.sources import ensure_source
from storage.watch_lists import list_words, words_in
from tests.commands import Inside

POSTS = {
    "be": "У Менску затрымалі пяцярых, сям’я ў Шпі\u0306талі не ведае",
    "be2": "Палітычнага зняволенага перавялі ў калонію",
    "ru": "Суд вынес приговор: два года. Заключённых этапировали",
    "uk": "Ув'язнених утримують в ізоляторі",
    "pl": "Zatrzymano pięć osób, są w areszcie",
    "en": "Two journalists were detained; the court fined them",
    "calm": "Дождж і вецер, суднаходства спынена",
}


@pytest.fixture
def workspace(tmp_path: Path, embedded_url: str) -> Iterator[Workspace]:
    environ = {"OSINT_HOME": str(tmp_path / "home"), "OSINT_DATABASE_URL": plain(embedded_url)}
    with Workspace(load({"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ}).service) as opened:
        yield opened


def fill(catalog: Catalog) -> None:
    source = ensure_source(
        catalog, SourceRow(slug="kanal", url="https://t.me/s/kanal", spider="telegram", created_at=NOON)
    )
    run = RunRow(source_id=source.id, started_at=NOON)
    begin_run(catalog, run)
    capture = a_capture(run)
    posts = tuple(a_post(capture, post_id=name, text=value) for name, value in POSTS.items())
    commit_batch(catalog, Batch(captures=(capture,), posts=posts))


def test_any_of_the_words_is_found_on_any_server(database_url: str) -> None:
    with Catalog.open(database_url) as catalog:
        fill(catalog)
        for any_of, wanted in {
            ("затрым*",): {"be"},
            ("ЗАТРЫМ*", "zatrzym*"): {"be", "pl"},
            ("затрым",): set(),
            ("сям'я",): {"be"},
            ("сямʼя",): {"be"},
            ("Шпіталі",): set(),
            ("Шпі\u0306талі",): {"be"},
            ("ў",): {"be", "be2"},
            ("у\u0306",): {"be", "be2"},
            ("увʼязн*",): {"uk"},
            ("заключён*",): {"ru"},
            ("заключен*",): set(),
            ("палітычн* зняволен*",): {"be2"},
            ("зняволен* палітычн*",): set(),
            ("суд",): {"ru"},
            ("суд*",): {"ru", "calm"},
            ("detain*", "court"): {"en"},
            ("'; DROP TABLE posts; --", "a & b | !c:*<->"): set(),
            ("\\'", "***"): set(),
            (): set(),
        }.items():
            assert {one.post_id for one in find(catalog, any_of=any_of)} == wanted, any_of
        assert [one.post_id for one in find(catalog, "пяцярых", any_of=("затрым*", "detain*"))] == ["be"]
        assert find(catalog, "пяцярых", any_of=("detain*",)) == []
        assert len(find(catalog, any_of=[f"слова{n}*" for n in range(3000)] + ["detain*"])) == 1


def test_each_change_is_a_version_and_an_event(workspace: Workspace) -> None:
    one = set_words(workspace, "detained", "be", read_words(["затрым*  # пачатак", "", "затрым*", "сям’я"]))
    assert one and (one.version, one.words) == (1, ("затрым*", "сям’я"))
    assert set_words(workspace, "detained", "be", ("затрым*", "сям’я")) is None
    two = set_words(workspace, "detained", "be", ("затрым*",))
    set_words(workspace, "detained", "ru", ("задерж*",))
    assert two and two.version == 2
    assert [(row.language, row.version) for row in lists_of(workspace, "detained")] == [("be", 2), ("ru", 1)]
    (gone,) = remove_list(workspace, "detained", "be")
    assert (gone.version, gone.words) == (3, ())
    assert [row.language for row in list_words(workspace.catalog)] == ["ru"]
    remove_list(workspace, "detained", None)
    with pytest.raises(UserError, match="no list of words"):
        lists_of(workspace, "detained")
    history = list_words(workspace.catalog, "detained", history=True)
    assert [(row.language, row.version, len(row.words)) for row in history] == [
        ("be", 1, 2), ("be", 2, 1), ("be", 3, 0), ("ru", 1, 1), ("ru", 2, 0)
    ]  # fmt: skip
    told = list_events(workspace.catalog, subject="detained")
    assert [event.kind for event in told] == ["words changed"] * 3 + ["words removed"] * 2
    assert told[0].detail == {"who": "collector-1", "language": "be", "version": 1, "words": 2} and told[0].sha256
    assert check_events(workspace.catalog) is None


@pytest.mark.parametrize(
    ("name", "language", "words", "why"),
    [
        ("Detained!", "be", ("a",), "no name of a list"),
        ("x", "belarusian", ("a",), "code of a language"),
        ("x", "be", ("слова", "— ’"), "no letter"),
    ],
)
def test_what_is_no_list_is_refused(
    workspace: Workspace, name: str, language: str, words: tuple[str, ...], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        set_words(workspace, name, language, words)
    assert list_words(workspace.catalog, history=True) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("*", "short"),
        ("а*", "short"),
        ("за*трым", "end of a word"),
        ("затрым**", "end of a word"),
        ("x" * 101, "longer"),
        ("a\x00b", "seen"),
    ],
)
def test_an_entry_that_cannot_be_looked_for_is_refused(line: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_words(["слова", line])


def test_the_starter_lists_hold_five_languages_and_no_mixed_letters(workspace: Workspace) -> None:
    lists = starter()
    assert set(lists) == {"detentions", "trials", "searches"}
    for by in lists.values():
        assert set(by) == {"be", "ru", "uk", "pl", "en"} and all(len(words) >= 8 for words in by.values())
        for word in (word for words in by.values() for entry in words for word in entry.split()):
            assert len({unicodedata.name(letter).split()[0] for letter in word if letter.isalpha()}) == 1, word
    assert all(what.startswith("version 1") for *_, what in import_starter(workspace, [], update=False))
    assert {what for *_, what in import_starter(workspace, [], update=False)} == {"unchanged"}
    fill(workspace.catalog)
    for name, wanted in {"detentions": {"be", "be2", "ru", "uk", "pl", "en"}, "trials": {"ru", "en"}}.items():
        words = [word for one in lists_of(workspace, name) for word in one.words]
        assert {one.post_id for one in find(workspace.catalog, any_of=words)} == wanted, name


def test_a_starter_list_that_was_changed_here_is_kept(workspace: Workspace) -> None:
    set_words(workspace, "trials", "be", ("суд*",))
    done = {language: what for _, language, what in import_starter(workspace, ["trials"], update=False)}
    assert done["be"].startswith("kept") and done["ru"].startswith("version 1")
    assert {one.name for one in list_words(workspace.catalog)} == {"trials"}
    done = {language: what for _, language, what in import_starter(workspace, ["trials"], update=True)}
    assert done["be"].startswith("version 2") and done["ru"] == "unchanged"
    with pytest.raises(UserError, match="comes with the program"):
        import_starter(workspace, ["nobody"], update=False)


def test_a_text_is_checked_as_it_would_be_found(workspace: Workspace) -> None:
    fill(workspace.catalog)
    import_starter(workspace, [], update=False)
    lists = list_words(workspace.catalog)
    for name, value in POSTS.items():
        hits = words_in(workspace.catalog, value, lists)
        for one in lists:
            found = {row.post_id for row in find(workspace.catalog, any_of=one.words)}
            assert (name in found) == any(hit is one for hit, _ in hits), (name, one.name, one.language)


def test_the_commands_say_which_version_found_it(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace.catalog)
    away = {"OSINT_S3_ENDPOINT": "http://127.0.0.1:9", "OSINT_S3_ACCESS_KEY": "k", "OSINT_S3_SECRET_KEY": "s"}
    inside = Inside(
        tmp_path / "home",
        OSINT_DATABASE_URL=str(workspace.service.database_url),
        OSINT_STORE_PATIENCE_SECONDS="0",
        **away,
    )
    inside.run("words", "set", "mine", "-", "--language", "be", given="\ufeffарышт*\n")
    inside.run("words", "set", "mine", "--language", "be", "--words", "затрым*, арышт*")
    assert inside.rows("words", "set", "mine", "--language", "be", "--words", "затрым*,арышт*")[0]["version"] is None
    (row,) = inside.rows("find", "--list", "mine")
    assert (row["post_id"], row["list"], row["list_version"]) == ("be", "mine", {"be": 2})
    assert "list" not in inside.rows("find", "пяцярых")[0]
    assert inside.run("words", "show", "mine").stdout.splitlines()[1:] == ["затрым*", "арышт*"]
    assert [(one["version"], one["added"]) for one in inside.rows("words", "history", "mine")] == [
        (1, ["арышт*"]),
        (2, ["затрым*"]),
    ]
    assert (
        inside.rows("words", "check", "-", code=0) == []
        and "there is no list" in inside.run("find", "--list", "x", code=2).stderr
    )
    assert inside.rows("words", "check", "Затрыманы")[0]["word"] == "затрым*"
    assert "either a file or" in inside.run("words", "set", "mine", "--language", "be", code=2).stderr
    at = datetime.fromisoformat(inside.rows("words", "list")[0]["changed_at"])
    assert (datetime.now(UTC) - at).total_seconds() < 600
