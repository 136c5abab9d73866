"""The rules by which a page is judged: read from data/verdicts.toml, checked, compiled."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NoReturn

from spiders.page import Verdict

FILE = "verdicts.toml"
PLACES = ("url", "header", "markup", "heading", "opening", "closing")
WHOLE = ("heading", "opening")  # a sign must fill these: a heading, a sentence that a line begins with
LANGUAGES = ("be", "ru", "uk", "pl", "en", "any")
DECIDED_BY = (  # a rule may give these; content, empty and shell are told by what the page holds
    Verdict.PARTIAL,
    Verdict.STUB,
    Verdict.LOGIN_WALL,
    Verdict.CHALLENGE,
    Verdict.CONSENT_WALL,
    Verdict.BLOCKED,
    Verdict.GONE,
    Verdict.NO_PREVIEW,
)
BY_BROWSER = (Verdict.CHALLENGE, Verdict.CONSENT_WALL)  # may come out otherwise there, unless a rule says no
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_FIELDS = ("name", "verdict", "reason", "where", "signs", "besides", "hosts", "status", "browser", "prose", "host")
_NEEDED = ("name", "verdict", "reason", "where", "signs")
_MOST_WORDS, _MOST_LETTERS = 100_000, 500
_PROSE = 500  # letters of running text that a wall may have, where its rule does not say
_ENDING = r"\w{0,3}\W*"  # behind a sign that fills its line: an ending, dots, a smile
_ESCAPED = re.compile(r"\\.")


class BadRules(ValueError):
    """A file of rules that cannot be used: which file, which rule, which field, and why."""

    def __init__(self, file: str, rule: str, field: str, why: str) -> None:
        super().__init__(f"{file}: {rule}: {field}: {why}" if field else f"{file}: {rule}: {why}")
        self.file, self.rule, self.field, self.why = file, rule, field, why


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A sign of a refusal, and where it is looked for: each place with the most words of text that the page may have.

    `besides` must hold in the markup too. Empty `hosts` and `status` are any. `browser`: whether the browser may see more.
    `prose`: the most letters of running text that the page may have; it may have no article's marks then. None: both may be.
    `host`: whether it stands before the whole host. All signs are in small letters; `whole` must fill its line.
    """

    name: str
    verdict: Verdict
    reason: str
    where: tuple[tuple[str, int], ...]
    sign: re.Pattern[str]
    whole: re.Pattern[str]
    besides: re.Pattern[str] | None = None
    prose: int | None = None
    host: bool = False
    hosts: tuple[str, ...] = ()
    status: tuple[int, ...] = ()
    browser: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """How a page is told that shows its content only with scripts: at most `words` words, and one of these."""

    words: int
    sign: re.Pattern[str]
    roots: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules; the first that holds decides. `partial` are asked of pages with content only."""

    refusals: tuple[Rule, ...]
    partial: tuple[Rule, ...]
    shell: Shell

    def by_browser(self, name: str | None) -> bool:
        """Tell whether the browser may see more of a page that this rule decided on."""
        return any(rule.browser for rule in self.refusals if rule.name == name)

    def of_host(self, reason: str | None) -> bool:
        """Tell whether a refusal for this reason, as the catalogue has it, stands before the whole host by its rule."""
        said = reason or ""
        return any(rule.host and (said == rule.reason or said.endswith(f": {rule.reason}")) for rule in self.refusals)


@cache
def rules() -> Rules:
    """Give the rules that come with the program. Raises BadRules."""
    return read_rules(files("spiders.data").joinpath(FILE).read_text("utf-8"), FILE)


def read_rules(text: str, file: str) -> Rules:
    """Read a file of rules. Raises BadRules: unknown or missing fields, twice the same name, what cannot be compiled."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRules(file, "the file", "", f"no TOML: {error}") from error
    if odd := sorted(told.keys() - {"rule", "shell"}):
        raise BadRules(file, "the file", odd[0], "unknown; there are [[rule]] and [shell]")
    listed = told.get("rule", [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadRules(file, "the file", "rule", "write [[rule]] before each")
    made = [_Reader(file, one, f"rule {number}").rule() for number, one in enumerate(listed, 1)]
    seen: set[str] = set()
    for rule in made:
        if rule.name in seen:
            raise BadRules(file, f"rule {rule.name}", "name", "another rule has it too")
        seen.add(rule.name)
    return Rules(
        refusals=tuple(rule for rule in made if rule.verdict is not Verdict.PARTIAL),
        partial=tuple(rule for rule in made if rule.verdict is Verdict.PARTIAL),
        shell=_Reader(file, told.get("shell"), "[shell]").shell(),
    )


class _Reader:
    """Reads one table of the file."""

    def __init__(self, file: str, table: Any, called: str) -> None:
        self.file, self.called = file, called
        if not isinstance(table, dict):
            raise BadRules(file, called, "", "missing, or no table")
        self.table: Mapping[str, Any] = table

    def rule(self) -> Rule:
        name = self._text("name")
        if not _NAME.fullmatch(name):
            self._refuse("name", "small letters, digits and hyphens")
        self.called = f"rule {name}"
        self._only(_FIELDS, _NEEDED)
        try:
            verdict = Verdict(self._text("verdict"))
        except ValueError:
            verdict = Verdict.CONTENT
        if verdict not in DECIDED_BY:
            self._refuse("verdict", f"none of {', '.join(DECIDED_BY)}")
        where, sign = self._where(), self._signs()
        return Rule(
            name=name,
            verdict=verdict,
            reason=self._text("reason"),
            where=where,
            sign=sign,
            whole=re.compile(rf"\W*(?:{sign.pattern}){_ENDING}"),
            prose=self._prose(verdict, {place for place, _ in where}),
            host=self._flag("host", False),
            besides=self._pattern("besides", [self._text("besides")]) if "besides" in self.table else None,
            hosts=self._hosts(),
            status=self._status(),
            browser=self._flag("browser", verdict in BY_BROWSER),
        )

    def shell(self) -> Shell:
        self._only(("words", "roots", "signs"), ("words", "roots", "signs"))
        roots = self._texts("roots", self.table["roots"])
        return Shell(
            words=self._number("words", self.table["words"], _MOST_WORDS), sign=self._signs(), roots=frozenset(roots)
        )

    def _only(self, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
        for field in self.table:
            if field not in known:
                self._refuse(field, f"unknown; there are {', '.join(known)}")
        for field in needed:
            if field not in self.table:
                self._refuse(field, "missing")

    def _text(self, field: str) -> str:
        value = self.table.get(field)
        if not isinstance(value, str) or not value.strip() or len(value) > _MOST_LETTERS:
            self._refuse(field, f"a text of 1 to {_MOST_LETTERS} letters")
        return value

    def _texts(self, field: str, value: Any) -> list[str]:
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            self._refuse(field, "a list of texts, at least one")
        return value

    def _number(self, field: str, value: Any, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            self._refuse(field, f"a whole number from 0 to {most}")
        return value

    def _flag(self, field: str, default: bool) -> bool:
        value = self.table.get(field, default)
        if not isinstance(value, bool):
            self._refuse(field, "true or false")
        return value

    def _prose(self, verdict: Verdict, places: set[str]) -> int | None:
        if "prose" in self.table:
            return self._number("prose", self.table["prose"], _MOST_WORDS)
        sure = verdict is Verdict.PARTIAL or "hosts" in self.table or places <= {"url", "header"}
        return None if sure else _PROSE

    def _where(self) -> tuple[tuple[str, int], ...]:
        value = self.table["where"]
        if not isinstance(value, dict) or not value:
            self._refuse("where", "write places and words, as { heading = 150 }")
        for place in value:
            if place not in PLACES:
                self._refuse("where", f"{place!r} is none of {', '.join(PLACES)}")
        return tuple((place, self._number(f"where.{place}", words, _MOST_WORDS)) for place, words in value.items())

    def _signs(self) -> re.Pattern[str]:
        value = self.table["signs"]
        if not isinstance(value, dict):
            return self._pattern("signs", self._texts("signs", value))
        for language, signs in value.items():
            if language not in LANGUAGES:
                self._refuse("signs", f"{language!r} is none of {', '.join(LANGUAGES)}")
            self._texts(f"signs.{language}", signs)
        return self._pattern("signs", [sign for signs in value.values() for sign in signs])

    def _pattern(self, field: str, signs: list[str]) -> re.Pattern[str]:
        for sign in signs:
            try:
                found = re.compile(sign)
            except re.error as error:
                self._refuse(field, f"{sign!r} is no regular expression: {error}")
            if found.search(""):
                self._refuse(field, f"{sign!r} fits every page")
            if (plain := _ESCAPED.sub("", sign)) != plain.casefold():
                self._refuse(field, f"{sign!r} has capitals; small letters are looked for in small letters")
        return re.compile("|".join(f"(?:{sign})" for sign in signs))

    def _hosts(self) -> tuple[str, ...]:
        if "hosts" not in self.table:
            return ()
        hosts = self._texts("hosts", self.table["hosts"])
        for host in hosts:
            if not _HOST.fullmatch(host):
                self._refuse("hosts", f"{host!r} is no host, as vk.com")
        return tuple(hosts)

    def _status(self) -> tuple[int, ...]:
        value = self.table.get("status", [])
        if not isinstance(value, list):
            self._refuse("status", "a list of numbers, as [403, 503]")
        return tuple(self._number("status", one, 999) for one in value)

    def _refuse(self, field: str, why: str) -> NoReturn:
        raise BadRules(self.file, self.called, field, why)
