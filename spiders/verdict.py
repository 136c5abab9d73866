"""What a page is, whatever its status says: content or a part, shell, stub, bot check, login wall, consent wall, block or grave."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple
from urllib.parse import urlsplit

from lxml.etree import _Element as Element

from spiders.page import Page, Verdict
from spiders.reading import text_of, tree_of
from spiders.substance import Substance
from spiders.verdict_rules import WHOLE, Rule, rules

Head = Sequence[tuple[str, str]]
MARKUP_CHARS = 1_000_000  # of a page's markup that the rules look at, and bytes of an answer's
_CLOSING = 300  # characters of the text that may hold a refusal's sentence at its end
_OPENING_CHARS, _OPENING_LINES = 1_000, 5  # of the text, whose lines may begin with a refusal's sentence
_MOST_HEADINGS = 5
_SITE_NAME = 40  # characters that the name of a site has at most, where a title ends with one
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s")
_BAR = re.compile(r"\s+(?:[|•·»]|::)\s+")
_DASH = re.compile(r"\s+[–—-]\s+")
_VISIBLE_MEDIA = "//video[@src or source]|//audio[@src or source]|//iframe[@src]|//object[@data]|//body//img[@src]"
_SAID_SITE = "//meta[@property='og:site_name' or @name='application-name']/@content"
_STATUS = {
    401: (Verdict.LOGIN_WALL, "status 401"),
    404: (Verdict.GONE, "status 404"),
    410: (Verdict.GONE, "status 410"),
    451: (Verdict.BLOCKED, "status 451"),
}
_GONE = (404, 410)
_SAID_BY_SUBSTANCE = (Verdict.CONTENT, Verdict.PARTIAL, Verdict.EMPTY, Verdict.SHELL)


class Judgement(NamedTuple):
    """What a page is, by which sign, and by which rule, if one decided."""

    verdict: Verdict
    reason: str
    rule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A page as the rules look at it, in small letters; `words` is how many its text has."""

    url: str
    status: int
    words: int
    lines: dict[str, Sequence[str]]
    own: Substance

    def holds(self, rule: Rule) -> bool:
        """Tell whether a rule holds in any of its places, and nothing speaks for the page."""
        if rule.status and self.status not in rule.status:
            return False
        if rule.hosts and not _on(self.url, rule.hosts):
            return False
        if not any(self._shows(rule, place, most) for place, most in rule.where):
            return False
        if rule.besides is not None and not any(map(rule.besides.search, self.lines["markup"])):
            return False
        return rule.prose is None or not (self.own.prose > rule.prose or self.own.article)

    def _shows(self, rule: Rule, place: str, most: int) -> bool:
        if place in WHOLE:  # a menu and a footer stand around a wall too
            return any(map(rule.whole.fullmatch, self.lines[place])) and min(self.words, self.own.words) <= most
        return self.words <= most and any(map(rule.sign.search, self.lines[place]))


def judge(
    html: bytes | str, url: str, text: str, status: int = 200, *, headers: Head = (), tree: Element | None = None
) -> Judgement:
    """Tell what a page is and by which sign; `text` is what its reader could read of it.

    `tree` saves parsing again. A refusal by status alone (403, 429, 5xx) whose page does not tell why is UNDECIDED.
    """
    source = html.decode("utf-8", "replace") if isinstance(html, bytes) else html
    tree = tree if tree is not None else tree_of(source.encode("utf-8", "replace"))
    seen = _seen(source, url, text, status, headers, tree)
    if status not in _GONE and (rule := next(filter(seen.holds, rules().refusals), None)):
        return _said(rule)
    if told := _by_status(status):
        return told
    found = _by_substance(text, tree)
    if found.verdict is Verdict.CONTENT and (rule := next(filter(seen.holds, rules().partial), None)):
        return _said(rule)
    return found


def judge_answer(page: Page, status: int, headers: Head, body: bytes = b"") -> Page:
    """Judge a page that is read once more by the head of its answer; a page that refuses has no posts.

    What its reader found in it stands, unless it is content or nothing and the head says otherwise. `body` is asked where
    a refusing head does not suffice: some guards put theirs on each answer, their own or not.
    """
    words = sum(len(post.text.split()) for post in page.posts)
    source = body[:MARKUP_CHARS].decode("utf-8", "replace") if status >= 400 else ""
    seen = _seen(source, page.url, "", status, headers, None)
    seen = replace(seen, words=words)
    by_head = (rule for rule in rules().refusals if {place for place, _ in rule.where} == {"header"})
    if status not in _GONE and (rule := next(filter(seen.holds, by_head), None)):
        return _refused(page, _said(rule))
    told = _by_status(status)
    if told is None or (page.verdict not in _SAID_BY_SUBSTANCE and status not in _GONE):
        return page
    return _refused(page, told)


def needs_browser(page: Page) -> bool:
    """Tell whether the browser may see more of a page than the wire did: a shell, or a wall whose rule says so."""
    return page.verdict is Verdict.SHELL or rules().by_browser(page.rule)


def _refused(page: Page, judged: Judgement) -> Page:
    return replace(page, verdict=judged.verdict, reason=judged.reason, rule=judged.rule, posts=())


def _said(rule: Rule) -> Judgement:
    return Judgement(rule.verdict, rule.reason, rule.name)


def _by_status(status: int) -> Judgement | None:
    if status in _STATUS:
        return Judgement(*_STATUS[status])
    return Judgement(Verdict.UNDECIDED, f"status {status}") if status >= 400 else None


def _seen(source: str, url: str, text: str, status: int, headers: Head, tree: Element | None) -> _Seen:
    lines: dict[str, Sequence[str]] = {
        "url": (url.casefold(),),
        "header": tuple(f"{name}: {value}".casefold() for name, value in headers),
        "markup": (source[:MARKUP_CHARS].casefold(),),
        "heading": tuple(part for line in _headings(tree) for part in _parts(line.casefold(), url, tree)),
        "opening": tuple(_openings(text)),
        "closing": (" ".join(text[-2 * _CLOSING :].split())[-_CLOSING:].casefold(),),
    }
    return _Seen(url=url, status=status, words=len(text.split()), lines=lines, own=Substance(tree, url))


def _on(url: str, hosts: Iterable[str]) -> bool:
    host = _host(url)
    return any(host == one or host.endswith(f".{one}") for one in hosts)


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _headings(tree: Element | None) -> tuple[str, ...]:
    if tree is None:
        return ()
    found = (" ".join("".join(tag.itertext()).split())[:200] for tag in tree.iter("title", "h1"))
    return tuple(line for line in islice(found, _MOST_HEADINGS) if line)


def _parts(heading: str, url: str, tree: Element | None) -> Iterator[str]:
    """Give a heading, and it without the site's name: behind a bar a short one, behind a dash one that is known."""
    yield heading
    for bound in (_BAR, _DASH):
        parts = bound.split(heading)
        for part, rest in ((parts[0], parts[1:]), (parts[-1], parts[:-1])):
            name = " ".join(rest)
            if name and len(name) <= _SITE_NAME and (bound is _BAR or _is_site(name, url, tree)):
                yield part


def _is_site(name: str, url: str, tree: Element | None) -> bool:
    if tree is not None and name in {said.strip().casefold() for said in tree.xpath(_SAID_SITE)}:
        return True
    return len(name) > 3 and name.removeprefix("www.") in _host(url)


def _openings(text: str) -> Iterator[str]:
    """Give the first sentence of each of the text's first lines."""
    lines = (line.strip() for line in text[:_OPENING_CHARS].splitlines())
    for line in islice(filter(None, lines), _OPENING_LINES):
        yield " ".join(_SENTENCE_END.split(line, maxsplit=1)[0].split()).casefold()


def _by_substance(text: str, tree: Element | None) -> Judgement:
    words = len(text.split())
    if tree is None:
        return Judgement(Verdict.CONTENT, "text") if words else Judgement(Verdict.EMPTY, "no markup and no text")
    if words < rules().shell.words and tree.find(".//script") is not None and (sign := _shell(words, tree)):
        return Judgement(Verdict.SHELL, sign)
    if words:
        return Judgement(Verdict.CONTENT, f"{words} words of text")
    seen = next(iter(tree.xpath(_VISIBLE_MEDIA)), None)
    if seen is None:
        return Judgement(Verdict.EMPTY, "no text, no media")
    return Judgement(Verdict.CONTENT, f"no text, but <{seen.tag}>")


def _shell(words: int, tree: Element) -> str | None:
    """Name the sign that a page's content comes by script, or None."""
    shell = rules().shell
    asks = (" ".join("".join(tag.itertext()).split())[:2_000].casefold() for tag in islice(tree.iter("noscript"), 20))
    if any(shell.sign.search(line) for line in asks):
        return "a noscript text asks for scripts"
    if words and shell.sign.search(" ".join(text_of(tree)[:5_000].split()).casefold()):
        return "the text asks for scripts"
    roots = (tag for tag in tree.iter("div", "main", "section") if (tag.get("id") or "").lower() in shell.roots)
    for tag in islice(roots, 20):
        if not "".join(tag.itertext()).strip():
            return f"an empty root element #{tag.get('id')}"
    return "scripts and no text" if not words and not tree.xpath(_VISIBLE_MEDIA) else None
