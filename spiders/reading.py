"""How text, numbers, dates and languages stand in pages, for every site: values in, values out, no clock."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from urllib.parse import urljoin, urlsplit

from lxml import etree
from lxml.etree import _Element as Element

from spiders.language import language_of as language_of  # part of reading; its tables fill a module

_BLOCK_TAGS = (
    "address article aside blockquote center dd details div dl dt figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "header hr li main nav ol p pre section summary table tr ul"
)
_SILENT_TAGS = "audio head iframe noscript object script select style svg template textarea title video"
_BLOCKS, _SILENT = frozenset(_BLOCK_TAGS.split()), frozenset(_SILENT_TAGS.split())
_SPACES = re.compile(r"[ \t\r\n\f]+")
_BACKGROUND = re.compile(r"background(?:-image)?\s*:[^;]*?url\(\s*(?:'([^']*)'|\"([^\"]*)\"|([^'\")\s]+))\s*\)", re.I)


def tree_of(html: bytes, encoding: str = "utf-8") -> Element | None:
    """Read a page into elements; unreadable bytes become U+FFFD. Walk the answer without recursion.

    None where the page holds no element, or nests deeper than 2,048 (libxml2 drops the rest of such a page in silence).
    `encoding` is the page's real one.
    """
    text = html.decode(encoding, "replace").replace("\0", "\ufffd")
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:  # an empty document is the only one that the recovering parser refuses
        return None
    cut = any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log)
    return None if cut else root


class _Lines:
    """Text as it is laid out: runs of white space are one space, none stands at either end of a line."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.preformatted = 0

    def say(self, text: str | None) -> None:
        if not text:
            return
        if not self.preformatted:
            text = _SPACES.sub(" ", text)
            if text[0] == " " and (not self.parts or self.parts[-1][-1] in " \n"):
                text = text[1:]
        if text:
            self.parts.append(text)

    def end_line(self) -> None:
        if self.parts and not self.preformatted and self.parts[-1][-1] == " ":
            self.parts[-1] = self.parts[-1].rstrip(" ")
            if not self.parts[-1]:
                self.parts.pop()
        self.parts.append("\n")

    def start_block(self) -> None:
        if self.parts and self.parts[-1][-1] != "\n":
            self.end_line()


def text_of(element: Element | None) -> str:
    """Say what a person reads in an element: br and blocks end lines, `pre` is kept, scripts and styles are silent.

    Emoji that stand as pictures are taken from their inner text or their `alt`. Blank lines are kept as they are shown.
    """
    if element is None:
        return ""
    lines = _Lines()
    todo: list[tuple[str, Element | str]] = [("open", element)]
    while todo:
        step, value = todo.pop()
        if step == "open":
            _open(value, lines, todo)
        elif step == "tail":
            lines.say(value)
        else:
            lines.preformatted -= value == "pre"
            lines.start_block()
    return "".join(lines.parts).strip()


def _open(element: Element, lines: _Lines, todo: list[tuple[str, Element | str]]) -> None:
    tag = element.tag
    if not isinstance(tag, str) or tag in _SILENT:
        return
    if tag == "br":
        lines.end_line()
    elif tag == "img" and "emoji" in (element.get("class") or ""):
        lines.say(element.get("alt"))
    elif tag in ("td", "th"):
        lines.say(" ")
    text = element.text
    if tag in _BLOCKS:
        lines.start_block()
        todo.append(("close", tag))
        if tag == "pre":
            lines.preformatted += 1
            text = text.removeprefix("\n") if text else text
    lines.say(text)
    for child in reversed(element):
        if child.tail:
            todo.append(("tail", child.tail))
        todo.append(("open", child))


def classes_of(element: Element) -> frozenset[str]:
    """Name the classes of an element."""
    return frozenset((element.get("class") or "").split())


def web_url(url: str | None, base: str) -> str | None:
    """Make an address absolute; None where it is no http(s) address (data:, javascript:, broken)."""
    try:
        whole = urljoin(base, (url or "").strip())
        parts = urlsplit(whole)
        usable = bool(url) and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    return whole if usable else None


def background_url(style: str | None, base: str) -> str | None:
    """Take the picture's address out of a style attribute; None where it is missing, cut off or a data: picture."""
    found = _BACKGROUND.search(style or "")
    return web_url(next(filter(None, found.groups()), None), base) if found else None


_NUMBER = re.compile(r"(\d{1,15}(?:[ \u00a0\u202f\u2009]\d{3}(?!\d))*(?:[.,]\d{1,9})*)\s*([^\W\d_]*)")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
_SCALES = {"k": 10**3, "к": 10**3, "тыс": 10**3, "тис": 10**3, "tys": 10**3, "m": 10**6, "м": 10**6, "млн": 10**6}
_SCALES |= {"mln": 10**6, "b": 10**9, "млрд": 10**9, "mld": 10**9}


def number_of(text: str | None) -> int | None:
    """Read a counter: "2.49K" is 2490, "11 286 994 subscribers" 11286994, "1,2 тыс." 1200. None where there is none."""
    found = _NUMBER.search(text or "")
    if not found:
        return None
    digits, scale = re.sub(r"\s", "", found[1]), _SCALES.get(found[2].casefold(), 1)
    if scale == 1 and _THOUSANDS.fullmatch(digits):
        return int(re.sub(r"[.,]", "", digits))
    whole, *fraction = re.split(r"[.,]", digits)
    if len(fraction) > 1 or (fraction and scale == 1):
        return None
    return int(Decimal(".".join([whole, *fraction])) * scale)


def seconds_of(text: str | None) -> float | None:
    """Read a duration as players show it: "0:27" or "1:23:05"."""
    found = re.fullmatch(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{2})", (text or "").strip())
    return float(int(found[1] or 0) * 3600 + int(found[2]) * 60 + int(found[3])) if found else None


class Precision(StrEnum):
    """How exactly a page tells a time."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"  # "three hours ago"
    DAY = "day"  # `at` is then that day's midnight in the zone it was read in


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time that was read: aware UTC, and how exact it is."""

    at: datetime
    precision: Precision


def iso_time(text: str | None, zone: tzinfo | None = None) -> datetime | None:
    """Read an ISO 8601 time as aware UTC. One without offset is read in `zone`, or is None if no zone is given."""
    try:
        read = datetime.fromisoformat((text or "").strip())
        if read.tzinfo is None:
            return read.replace(tzinfo=zone).astimezone(UTC) if zone else None
        return read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# One row a month, in be, ru, uk, pl, en. A word is that month if it starts with a stem or is a stem's first three letters.
_MONTHS = (
    "студзен студзен январ січен січн stycze styczn january",
    "люты лютаг феврал лютий лютог luty luteg february",
    "сакавік март березен березн marzec marca march",
    "красавік апрел квітен квітн kwiecie kwietn april",
    "май мая маі травен траўн травн maj may",
    "чэрвен чэрвень червен червн июн czerwiec czerwc june",
    "ліпен липен липн июл lipiec lipc july",
    "жнівен жніўн август серпен серпн sierp august",
    "верасен верасн сентябр вересен вересн wrzesie wrześn september",
    "кастрычнік октябр жовтен жовтн październik october",
    "лістапад ноябр листопад listopad november",
    "снежан снежн декабр груден грудн grudzie grudn december",
)
_STEMS = tuple((stem, number) for number, row in enumerate(_MONTHS, 1) for stem in row.split())
_SHORT = {stem[:3]: number for stem, number in _STEMS} | {"sept": 9, "сент": 9, "нояб": 11, "февр": 2}
_DAY_WORDS = (
    "сегодня сёння сёньня сьогодні dzisiaj dziś today",
    "вчера учора ўчора вчора wczoraj yesterday",
    "позавчера пазаўчора заўчора позавчора przedwczoraj",
)
_DAYS_AGO = {word: days for days, row in enumerate(_DAY_WORDS) for word in row.split()}
_NOW = re.compile(r"только что|толькі што|щойно|przed chwilą|just now")
_AGO = re.compile(r"(?:(\w+)\s+)?([^\W\d_]+)\.?\s+(?:назад|таму(?: назад)?|тому|temu|ago)\b")
_UNITS = (
    (("сек", "sek", "sec"), 1, Precision.SECOND),
    (("мин", "хв", "min"), 60, Precision.MINUTE),
    (("час", "гадз", "годин", "godz", "hour"), 3600, Precision.HOUR),
    (("ден", "дн", "дзе", "дзё", "dzie", "dni", "day"), 86400, Precision.DAY),
    (("недел", "тыд", "тиж", "tydz", "tyg", "week"), 7 * 86400, Precision.DAY),
)
_COUNTS = {
    word: number
    for number, row in enumerate(
        ("a an one один одну одна адзін адну jedną", "two два две дві дзве dwie dwa", "three три тры trzy"), 1
    )
    for word in row.split()
}
_CLOCK = re.compile(r"(?<![\d:.])(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s*([ap])\.?m\b)?|(?<!\d)(\d{1,2})\s*([ap])m\b")
_DAY_FIRST = re.compile(r"(?<!\d)(\d{1,2})(?:st|nd|rd|th|-\w{1,2})?\.?\s+([^\W\d_]{3,})\.?,?(?:\s+(\d{4})(?!\d))?")
_MONTH_FIRST = re.compile(r"([^\W\d_]{3,})\.?\s+(\d{1,2})(?:st|nd|rd|th)?(?![\d:])(?:,?\s+(\d{4})(?!\d))?")
_DIGITS = re.compile(r"(?<!\d)(\d{1,2})[./](\d{1,2})[./](\d{4}|\d{2})(?!\d)|(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")


def written_date(text: str | None, *, now: datetime, zone: tzinfo = UTC) -> Moment | None:
    """Read a date as people write it in be, ru, uk, pl or en: "5 сакавіка, 14:30", "wczoraj o 9:10", "3 hours ago".

    `now` (aware) is when the page was fetched: relative words count from it, and a day without a year is the last such
    day that is not more than a day ahead of it. Figures alone are day.month.year. Times are local to `zone`.
    """
    words = " ".join((text or "").casefold().split())[:200]
    exact = iso_time(text) if text and len(text.strip()) > 10 else None
    if exact:
        return Moment(at=exact, precision=Precision.SECOND)
    try:
        return _ago(words, now) or _on_a_day(words, now.astimezone(zone), zone)
    except (ValueError, OverflowError):  # no such day or hour
        return None


def _ago(words: str, now: datetime) -> Moment | None:
    if _NOW.search(words):
        return Moment(at=now.astimezone(UTC), precision=Precision.MINUTE)
    found = _AGO.search(words)
    if not found:
        return None
    count = found[1] or "1"
    number = int(count[:6]) if count.isdecimal() else _COUNTS.get(count, 1)
    for stems, seconds, precision in _UNITS:
        if found[2].startswith(stems):
            return Moment(at=(now - timedelta(seconds=number * seconds)).astimezone(UTC), precision=precision)
    return None


def _on_a_day(words: str, here: datetime, zone: tzinfo) -> Moment | None:
    day, rest = _day(words, here)
    if day is None:
        return None
    clock = _CLOCK.search(rest)
    if not clock:
        return Moment(at=day.replace(tzinfo=zone).astimezone(UTC), precision=Precision.DAY)
    hour, minute, second = int(clock[1] or clock[5]), int(clock[2] or 0), int(clock[3] or 0)
    if half := clock[4] or clock[6]:
        hour = hour % 12 + (12 if half == "p" else 0)
    at = day.replace(hour=hour, minute=minute, second=second, tzinfo=zone).astimezone(UTC)
    return Moment(at=at, precision=Precision.SECOND if clock[3] else Precision.MINUTE)


def _day(words: str, here: datetime) -> tuple[datetime | None, str]:
    """Find the day, and give back the words without it, so that a year is not taken for a time."""
    for word in re.findall(r"[^\W\d_]+", words):
        if word in _DAYS_AGO:
            midnight = datetime(here.year, here.month, here.day)  # noqa: DTZ001 the caller sets the zone
            return midnight - timedelta(days=_DAYS_AGO[word]), words
    if found := _DIGITS.search(words):
        year = int(found[3] or found[4])
        month, day = int(found[2] or found[5]), int(found[1] or found[6])
        day_read = datetime(year + 2000 if year < 100 else year, month, day)  # noqa: DTZ001
        return day_read, words.replace(found[0], " ")
    for pattern, day_at, month_at in ((_DAY_FIRST, 1, 2), (_MONTH_FIRST, 2, 1)):
        for found in pattern.finditer(words):
            if number := _month(found[month_at]):
                told = int(found[3]) if found[3] else None
                return _last_such_day(told, number, int(found[day_at]), here), words.replace(found[0], " ")
    return None, words


def _month(word: str) -> int | None:
    return _SHORT.get(word) or next((number for stem, number in _STEMS if word.startswith(stem)), None)


def _last_such_day(year: int | None, month: int, day: int, here: datetime) -> datetime | None:
    if year:
        return datetime(year, month, day)  # noqa: DTZ001
    latest = here.replace(tzinfo=None) + timedelta(days=1)
    for back in range(9):  # 29 February comes every four years, once in eight
        try:
            day_read = datetime(latest.year - back, month, day)  # noqa: DTZ001
        except ValueError:
            continue
        if day_read <= latest:
            return day_read
    return None
