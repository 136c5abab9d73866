"""What the browser does on a page before it is kept, read from a file: rules by host and by what stands on the page."""

import fnmatch
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from osint_pipeline.errors import UserError

FORMAT = 1
OFF = "off"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

Words = Mapping[str, tuple[str, ...]]  # by language


class BehaviourFault(UserError):
    """A file of behaviours cannot be used: which file, which behaviour ("" for what stands outside of one), which field."""

    def __init__(self, file: str, behaviour: str, field: str, why: str) -> None:
        place = ", ".join(
            part for part in (behaviour and f"behaviour {behaviour!r}", field and f"field {field!r}") if part
        )
        super().__init__(
            f"{file}: {place + ': ' if place else ''}{why}", "docs/behaviours.md says what each field means"
        )
        self.file, self.behaviour, self.field, self.why = file, behaviour, field, why


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """When a behaviour runs. `hosts` and `paths` are patterns (fnmatch) of which one must fit, none: any.

    `present` are selectors of which one must be on the page, none: always. `instead_of` names those that then do not run.
    """

    name: str
    about: str
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    instead_of: tuple[str, ...] = ()

    def fits(self, url: str) -> bool:
        """Whether the rule is for this address."""
        parts = urlsplit(url)
        host, path = (parts.hostname or "").lower(), parts.path or "/"
        return _any(host, self.hosts) and _any(path, self.paths)


class Scroll(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="scroll"):
    """Scrolls by views until the page grows no more, or `more` selectors say that there is nothing more; bounds below the settings'."""

    direction: Literal["up", "down"] = "down"
    more: tuple[str, ...] = ()
    steps: int | None = None
    pixels: int | None = None


class Click(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="click"):
    """Clicks candidates (selectors) whose text is one of the words' lists, each again as long as it brings more."""

    candidates: tuple[str, ...]
    words: tuple[str, ...]
    times: int | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to answer a banner: `steps` are clicked one after the other (selectors, the first that is there),
    or one button with one of the `words` inside `within` or, with `overlays`, inside what lies over the page.
    """

    choice: str
    manager: str
    steps: tuple[tuple[str, ...], ...] = ()
    words: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    overlays: bool = False


class Choose(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="choose"):
    """Answers a banner by the first of its choices that can be made; `unless` lists how a button begins that is not clicked.

    `shadow` are hosts of shadow trees to look into.
    """

    choices: tuple[Choice, ...]
    overlays: tuple[str, ...] = ()
    shadow: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()


class Reveal(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="reveal"):
    """Brings what is loaded late (selectors) into view."""

    lazy: tuple[str, ...]


class Play(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="play"):
    """Plays media (selectors) without sound."""

    media: tuple[str, ...]


Behaviour = Scroll | Click | Choose | Reveal | Play


class Never(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What no click touches: elements inside `within`, and those whose text holds a word of these lists."""

    words: tuple[str, ...]
    within: tuple[str, ...]


class Behaviours(msgspec.Struct, frozen=True, kw_only=True):
    """The rules in the order in which they run, the words they name, and the digest of what they were read from."""

    never: Never
    rules: tuple[Behaviour, ...]
    words: Mapping[str, Words]
    sha256: str

    def spoken(self, lists: Sequence[str]) -> tuple[str, ...]:
        """Give the words of these lists, of all languages."""
        return tuple(dict.fromkeys(word for name in lists for words in self.words[name].values() for word in words))

    def only(self, names: Sequence[str]) -> "Behaviours":
        """Keep the named rules; none named: all. `off` alone: none. Raises UserError for a name that there is not."""
        known = [rule.name for rule in self.rules]
        if tuple(names) == (OFF,):
            return msgspec.structs.replace(self, rules=())
        if odd := next((name for name in names if name not in known), None):
            raise UserError(
                f"OSINT_BEHAVIOURS: there is no behaviour {odd[:60]!r}", f"off, or some of {', '.join(known)}"
            )
        return (
            msgspec.structs.replace(self, rules=tuple(rule for rule in self.rules if rule.name in names))
            if names
            else self
        )


def shipped() -> Behaviours:
    """Read the behaviours that come with the program."""
    name = "behaviours.toml"
    return read_behaviours(files("osint_pipeline.data").joinpath(name).read_text("utf-8"), name)


def behaviours_of(file: Path | None, names: Sequence[str] = ()) -> Behaviours:
    """Read the behaviours of a file, none: those that come with the program, and keep the named ones. Raises UserError."""
    if file is None:
        return shipped().only(names)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise BehaviourFault(str(file), "", "", str(error)) from error
    return read_behaviours(text, str(file)).only(names)


def read_behaviours(text: str, file: str) -> Behaviours:
    """Read a file of behaviours (TOML). Raises BehaviourFault, which names file, behaviour and field."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BehaviourFault(file, "", "", f"this is no TOML: {error}") from error
    if odd := next((name for name in told if name not in ("format", "words", "never", "behaviour")), None):
        raise BehaviourFault(file, "", odd, "is no field of such a file")
    if told.get("format") != FORMAT:
        raise BehaviourFault(
            file, "", "format", f"{told.get('format')!r} is not {FORMAT}, the one that this program reads"
        )
    words = _convert(file, "", "words", told.get("words", {}), dict[str, dict[str, tuple[str, ...]]])
    never = _convert(file, "", "never", told.get("never", {}), Never)
    entries = _convert(file, "", "behaviour", told.get("behaviour", []), list[dict[str, Any]])
    rules = tuple(_rule(file, number, entry) for number, entry in enumerate(entries, 1))
    made = Behaviours(never=never, rules=rules, words=words, sha256=hashlib.sha256(text.encode()).hexdigest())
    _check(made, file)
    return made


def _rule(file: str, number: int, entry: Mapping[str, Any]) -> Behaviour:
    name = str(entry.get("name", f"number {number}"))
    rule: Behaviour = _convert(file, name, "", entry, Behaviour)
    if not _NAME.fullmatch(rule.name) or rule.name == OFF:
        raise BehaviourFault(file, name, "name", "small letters, digits and hyphens, at most 40, and not `off`")
    return rule


def _convert(file: str, behaviour: str, field: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        why, _, path = str(error).partition(" - at `$")
        named = re.search(r"field `(\w+)`", why)
        places = (field, path.strip("`."), named[1] if named else "")
        raise BehaviourFault(file, behaviour, ".".join(part for part in places if part), why) from error


def _check(made: Behaviours, file: str) -> None:
    names = [rule.name for rule in made.rules]
    for rule in made.rules:
        if names.count(rule.name) > 1:
            raise BehaviourFault(file, rule.name, "name", "stands twice")
        if odd := next((name for name in rule.instead_of if name not in names), None):
            raise BehaviourFault(file, rule.name, "instead_of", f"there is no behaviour {odd!r}")
        for field, lists in _lists_of(rule):
            _check_lists(made, file, rule.name, field, lists)
        for field in ("steps", "pixels", "times"):
            if (number := getattr(rule, field, None)) is not None and number < 1:
                raise BehaviourFault(file, rule.name, field, f"{number} is below 1")
        if isinstance(rule, Choose):
            for number, choice in enumerate(rule.choices):
                if bool(choice.steps) == bool(choice.words) or (
                    choice.words and not (choice.within or choice.overlays)
                ):
                    raise BehaviourFault(
                        file, rule.name, f"choices[{number}]", "needs steps, or words with within or overlays"
                    )
    _check_lists(made, file, "", "never.words", made.never.words)
    for name, by in made.words.items():
        if any(not word.strip("* ") or word != word.lower() for words in by.values() for word in words):
            raise BehaviourFault(file, "", f"words.{name}", "words are not empty and have small letters")


def _lists_of(rule: Behaviour) -> Iterable[tuple[str, tuple[str, ...]]]:
    if isinstance(rule, Click):
        yield "words", rule.words
    if isinstance(rule, Choose):
        yield "unless", rule.unless
        for number, choice in enumerate(rule.choices):
            yield f"choices[{number}].words", choice.words


def _check_lists(made: Behaviours, file: str, behaviour: str, field: str, lists: Iterable[str]) -> None:
    if odd := next((name for name in lists if name not in made.words), None):
        raise BehaviourFault(file, behaviour, field, f"there is no list of words {odd!r}")


def _any(text: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
