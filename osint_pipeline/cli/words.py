"""`osint words`: lists of words to look for, in each language, version by version."""

import sys
from collections.abc import Sequence
from typing import IO, Any

import click

from osint_pipeline.cli.common import as_json, console, print_json, table, workspace
from osint_pipeline.cli.sources import changing
from osint_pipeline.errors import Exit, UserError

_SHOWN = 12


@click.group(help="Keep lists of words to look for; `osint find --list NAME` looks for them.")
def words() -> None:
    """Hold the commands about lists of words."""


@words.command("list", help="List the lists.")
@as_json
def list_(json_: bool) -> int:
    from storage.watch_lists import list_words

    with workspace() as opened:
        found = list_words(opened.catalog)
    if json_:
        print_json(map(_json, found))
    elif not found:
        click.echo("there are no lists; osint words import-starter brings some in")
    else:
        cells = ((one.name, one.language, one.version, len(one.words), _first(one.words)) for one in found)
        columns = ("list", "language", "version", "words", "the first of them")
        console().print(table(None, columns, cells, right=("version", "words")))
    return Exit.COMPLETE


@words.command(help="Show the words of a list, as `osint words set` reads them.")
@click.argument("name")
@click.option("--language", metavar="CODE", help="Only in this language.")
@as_json
def show(name: str, language: str | None, json_: bool) -> int:
    from osint_pipeline.words import lists_of

    with workspace() as opened:
        found = [one for one in lists_of(opened, name) if language in (None, one.language)]
    if json_:
        print_json({**_json(one), "words": one.words} for one in found)
        return Exit.COMPLETE
    for one in found:
        click.echo(f"# {one.name}, {one.language}: version {one.version} of {one.changed_at:%Y-%m-%d %H:%M}Z")
        click.echo("\n".join(one.words))
    return Exit.COMPLETE


@words.command(
    "set",
    help="Make a new version of a list in one language. One entry a line: a word, a beginning as затрым*, or several words in a row.",
)
@click.argument("name")
@click.argument("file", type=click.File("rb"), required=False, metavar="[FILE|-]")
@click.option("--language", required=True, metavar="CODE", help="be, ru, uk, pl, en or another.")
@click.option("--words", "given", metavar="A,B", help="The words themselves, separated by commas.")
@as_json
def set_(name: str, file: IO[bytes] | None, language: str, given: str | None, json_: bool) -> int:
    from osint_pipeline.words import read_words, set_words

    if (file is None) == (given is None):
        raise UserError(
            "give either a file or --words", f"osint words set {name} --language {language} --words 'затрым*,арышт*'"
        )
    read = read_words((given or "").split(",") if file is None else _lines(file))
    if not read:
        raise UserError("there is no word in it", f"osint words remove {name} removes a list")
    with changing() as opened:
        made = set_words(opened, name, language, read)
    _say(name, language, made, json_=json_)
    return Exit.COMPLETE


def _lines(file: IO[bytes]) -> list[str]:
    try:
        return file.read(1 << 20).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"the words are not UTF-8: {error}", "save them as UTF-8, one a line") from error


def _say(name: str, language: str, made: Any, *, json_: bool) -> None:
    if json_:
        print_json([{"list": name, "language": language, "version": made and made.version}])
    elif made is None:
        click.echo(f"{name} ({language}): unchanged")
    else:
        count = f"{len(made.words)} words" if made.words else "removed"
        click.echo(f"{name} ({language}): version {made.version}, {count}")


@words.command(help="Remove a list, in one language or all; its versions stay in its history.")
@click.argument("name")
@click.option("--language", metavar="CODE", help="Only in this language.")
@as_json
def remove(name: str, language: str | None, json_: bool) -> int:
    from osint_pipeline.words import remove_list

    with changing() as opened:
        made = remove_list(opened, name, language)
    for one in made:
        _say(name, one.language, one, json_=json_)
    return Exit.COMPLETE


@words.command(help="Show the versions of a list, and what each changed.")
@click.argument("name")
@as_json
def history(name: str, json_: bool) -> int:
    from storage.watch_lists import list_words

    with workspace() as opened:
        found = list_words(opened.catalog, name, history=True)
    if not found:
        raise UserError(f"there never was a list of words called {name!r}", "`osint words list` shows the lists")
    rows, before = [], dict[str, tuple[str, ...]]()
    for one in found:
        old, before[one.language] = before.get(one.language, ()), one.words
        added, removed = [w for w in one.words if w not in old], [w for w in old if w not in one.words]
        rows.append({**_json(one), "added": added, "removed": removed})
    if json_:
        print_json(rows)
    else:
        columns = ("language", "version", "changed", "words", "what changed")
        cells = [(r["language"], r["version"], r["changed_at"][:16] + "Z", r["count"], _difference(r)) for r in rows]
        console().print(table(None, columns, cells, right=("version", "words")))
    return Exit.COMPLETE


@words.command(help="Say which words of which lists stand in a text; - reads it from standard input.")
@click.argument("text")
@as_json
def check(text: str, json_: bool) -> int:
    from storage.watch_lists import list_words, words_in

    plain = sys.stdin.read(1 << 20) if text == "-" else text
    with workspace() as opened:
        found = words_in(opened.catalog, plain, list_words(opened.catalog))
    if json_:
        print_json(
            {"list": one.name, "language": one.language, "version": one.version, "word": word} for one, word in found
        )
    elif not found:
        click.echo("no word of any list stands in it")
    else:
        console().print(
            table(None, ("list", "language", "word"), ((one.name, one.language, word) for one, word in found))
        )
    return Exit.COMPLETE


@words.command("import-starter", help="Bring in the lists that come with the program: detentions, trials, searches.")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--update", is_flag=True, help="Also where a list was changed here.")
@as_json
def import_starter(names: tuple[str, ...], update: bool, json_: bool) -> int:
    from osint_pipeline.words import import_starter as bring_in

    with changing() as opened:
        done = bring_in(opened, names, update=update)
    if json_:
        print_json({"list": name, "language": language, "result": what} for name, language, what in done)
    else:
        for name, language, what in done:
            click.echo(f"{name} ({language}): {what}")
    return Exit.COMPLETE


def _json(one: Any) -> dict[str, Any]:
    named = {"list": one.name, "language": one.language, "version": one.version}
    return {**named, "count": len(one.words), "changed_at": one.changed_at.isoformat()}


def _first(found: Sequence[str], most: int = _SHOWN) -> str:
    return ", ".join(found[:most]) + (", …" if len(found) > most else "")


def _difference(row: dict[str, Any]) -> str:
    added = f"+ {_first(row['added'])}" if row["added"] else ""
    removed = f"- {_first(row['removed'])}" if row["removed"] else ""
    return "  ".join(one for one in (added, removed) if one) or "the order"
