"""How a source is watched, as people write it: each option's text is read and written here, for commands and files alike."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from osint_pipeline.identity_names import check_name
from osint_pipeline.schedule import check_schedule
from osint_pipeline.source import SPIDERS
from storage.rows import SourceRow
from storage.watched import CatchUp, Watched, WatchRow

UNSET = "none"  # as an option's text: what the settings say, or nothing
RENDER = ("never", "auto", "always")
LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8}){0,2}")
_EXIT = re.compile(r"[a-z0-9-]{1,40}")
_SIZE = re.compile(r"(\d{1,15})\s*(?:([kmgt])(i?)b|b)?", re.IGNORECASE)
_MOST_TEXT, _MOST_PARTS = 200, 50


class BadOption(ValueError):
    """An option's text that cannot be used."""

    def __init__(self, option: str, text: str, why: str) -> None:
        super().__init__(f"{option} {shortened(text)!r}: {why}")
        self.option, self.text, self.why = option, text, why


def shortened(text: str, letters: int = 60) -> str:
    """Cut a text that is too long to be shown."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, the field that holds it, how its text is read (ValueError says why not) and written."""

    name: str
    field: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


def read_options(given: Mapping[str, str]) -> dict[str, Any]:
    """Read texts by option name into values by field; an empty text or `none` is the field's default. Raises BadOption.

    `spider` and `state` are checked, and not among the values: they decide which source it is, and what is done with it.
    """
    values: dict[str, Any] = {}
    for name, text in given.items():
        plain = unicodedata.normalize("NFC", " ".join(text.split()))
        _refuse_odd(name, plain)
        if name == "spider" and plain not in ("", *SPIDERS):
            raise BadOption(name, plain, f"none of {', '.join(SPIDERS)}")
        if name == "state":
            read_state(plain)
        if name in ("spider", "state"):
            continue
        values |= _read(BY_NAME[name], plain)
    return values


def _read(option: Option, plain: str) -> dict[str, Any]:
    if plain == "" or (plain == UNSET and option.field != "catch_up"):
        value = _DEFAULTS[option.field]
    else:
        try:
            value = option.read(plain)
        except ValueError as error:
            raise BadOption(option.name, plain, str(error)) from error
    if option.field != "robots":
        return {option.field: value}
    robots, _, reason = (value or "").partition(":")
    return {"robots": robots or None, "robots_reason": reason.strip() or None}


def apply_options(watched: Watched, values: Mapping[str, Any]) -> Watched:
    """Give a watched source these values. Raises BadOption where they do not fit each other."""
    ours = {one.name for one in fields(SourceRow)}
    source = replace(watched.source, **{name: value for name, value in values.items() if name in ours})
    watch = replace(watched.watch, **{name: value for name, value in values.items() if name not in ours})
    if watch.schedule is not None:
        try:
            check_schedule(watch.schedule, watch.timezone)
        except ValueError as error:
            raise BadOption("every", watch.schedule, str(error).partition(": ")[2]) from error
    return Watched(source, watch)


def write_options(watched: Watched) -> dict[str, str]:
    """Write a watched source's options as read_options reads them; what is as it would be by default is an empty text."""
    texts = {"spider": watched.source.spider}
    for option in OPTIONS:
        row = watched.watch if hasattr(watched.watch, option.field) else watched.source
        value = getattr(row, option.field)
        if option.field == "robots" and watched.source.robots_reason:
            value = f"{value}:{watched.source.robots_reason}"
        texts[option.name] = "" if value == _DEFAULTS[option.field] else option.write(value)
    return {**texts, "state": write_state(watched.watch)}


def read_state(text: str) -> tuple[str, str | None]:
    """Read watched, paused, paused:<why> or removed; an empty text is watched. Raises BadOption."""
    state, _, why = text.partition(":")
    if (state or "watched") not in ("watched", "paused", "removed") or (why and state != "paused"):
        raise BadOption("state", text, "none of watched, paused, paused:<why>, removed")
    return state or "watched", why.strip() or None


def write_state(watch: WatchRow) -> str:
    """Write the state as read_state reads it; empty where it is watched."""
    if watch.removed_at is not None:
        return "removed"
    if watch.paused_at is None:
        return ""
    return f"paused:{watch.paused_why}" if watch.paused_why else "paused"


def with_state(watch: WatchRow, text: str, now: datetime) -> WatchRow:
    """Give a watch the state that a text names; what it is already keeps its time."""
    state, why = read_state(text)
    paused_at = (watch.paused_at or now) if state == "paused" else None
    removed_at = (watch.removed_at or now) if state == "removed" else None
    return replace(watch, paused_at=paused_at, paused_why=why, removed_at=removed_at)


def read_size(text: str) -> int:
    """Read a number of bytes: 500000, 500kB, 500MB, 2GiB. Raises ValueError."""
    found = _SIZE.fullmatch(text.replace("_", ""))
    if not found:
        raise ValueError("write a number of bytes, as 500MB or 2GiB")
    power = " kmgt".index((found[2] or " ").lower())
    return _bounded(int(found[1]) * (1024 if found[3] else 1000) ** power, 1, 1 << 60)


def write_size(count_bytes: int) -> str:
    """Write a number of bytes so that read_size reads the same number."""
    for power in (4, 3, 2, 1):
        for base, sign in ((1000, ""), (1024, "i")):
            if count_bytes and count_bytes % base**power == 0:
                return f"{count_bytes // base**power}{' kMGT'[power]}{sign}B"
    return str(count_bytes)


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,15}", text):
            raise ValueError("no whole number")
        return _bounded(int(text), least, most)

    return read


def _bounded(number: int, least: int, most: int) -> int:
    if not least <= number <= most:
        raise ValueError(f"not from {least} to {most}")
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"none of {', '.join(words)}")
        return text

    return read


def _catch_up(text: str) -> CatchUp:
    return CatchUp(_one_of(*CatchUp)(text))


def _robots(text: str) -> str:
    robots, _, reason = text.partition(":")
    if text != "obey" and not (robots == "ignore" and reason.strip()):
        raise ValueError("write obey, or ignore:<reason>")
    return text


def _exit(text: str) -> str:
    if "://" in text or "@" in text or (":" in text and not _EXIT.fullmatch(text)):
        raise ValueError("an address may hold a secret; give it a name in OSINT_EXITS and write that name here")
    if not _EXIT.fullmatch(text):
        raise ValueError("no name of an exit: small letters, digits and hyphens, at most 40; or direct")
    return text


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part for one in text.split(",") if (part := one.strip())))
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"more than {_MOST_PARTS}")
    return parts


def read_languages(text: str) -> tuple[str, ...]:
    """Read be,ru,uk. Raises ValueError."""
    for part in (parts := _parts(text.lower())):
        if not LANGUAGE.fullmatch(part):
            raise ValueError(f"{part!r} is no code of a language; write be,ru,uk,pl,en")
    return parts


def _refuse_odd(name: str, text: str) -> None:
    if len(text) > _MOST_TEXT and name != "tags":
        raise BadOption(name, text, f"longer than {_MOST_TEXT} letters")
    if len(text) > 10 * _MOST_TEXT:
        raise BadOption(name, text, "too long")
    if odd := next((letter for letter in text if not letter.isprintable()), None):
        raise BadOption(name, text, f"a letter that cannot be seen ({ascii(odd)[1:-1]})")


_COUNT = _number(1, 10_000_000)
OPTIONS = (
    Option("name", "name", str, str),
    Option("every", "schedule", str, str),
    Option("timezone", "timezone", str, str),
    Option("jitter", "jitter_seconds", _number(0, 86_400), str),
    Option("catch-up", "catch_up", _catch_up, str),
    Option("render", "render", _one_of(*RENDER), str),
    Option("languages", "languages", read_languages, ",".join),
    Option("proxy", "proxy", _exit, str),
    Option("identity", "identity", check_name, str),
    Option("robots", "robots", _robots, str),
    Option("priority", "priority", _number(-1000, 1000), str),
    Option("limit-pages", "limit_pages", _COUNT, str),
    Option("limit-bytes", "limit_bytes", read_size, write_size),
    Option("limit-seconds", "limit_seconds", _number(1, 2_000_000), str),
    Option("backfill-pages", "backfill_pages", _COUNT, str),
    Option("tags", "tags", _parts, ",".join),
)  # fmt: skip
BY_NAME = {option.name: option for option in OPTIONS}
COLUMNS = ("spider", *BY_NAME, "state")
_DEFAULTS: dict[str, Any] = {
    one.name: one.default
    for kind in (SourceRow, WatchRow)
    for one in fields(kind)
    if one.name not in ("id", "source_id")
}
