"""What a page holds of its own, which a wall does not: an article's marks, running text, a form to write in."""

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice

from lxml.etree import _Element as Element

from spiders.structured import date_of, declared

_MOST_TAGS = 20_000  # looked at for words and for running text; walls have some hundred
_PARAGRAPH = 60  # letters; a shorter paragraph is a caption, a button or a line of a menu
_AROUND = ("nav", "footer", "aside", "header", "form", "noscript", "script", "style", "template")
_FRAME = ("nav", "footer", "aside", "script", "style", "noscript", "template", "head")
_FRAME_CLASS = re.compile(r"(?:^|[\s_-])(?:footer|menu|nav|cookies?)(?:$|[\s_-])", re.IGNORECASE)
_ARTICLE_BODY = "//*[@itemprop='articleBody']"
_CAPTCHA_FIELD = "-response"  # ends the name of the field that a captcha's script adds to a page


class Substance:
    """Signs that a page is what was asked for; each is looked for when it is asked. `tree` None: no sign."""

    def __init__(self, tree: Element | None, url: str) -> None:
        self._tree, self._url = tree, url

    @cached_property
    def article(self) -> bool:
        """Whether it calls itself an article, tells a date that can be read, or has a form to write a comment in."""
        if self._tree is None:
            return False
        said = declared(self._tree, self._url)
        dated = any(date_of(one) for one in said.published)
        return bool(said.articles or said.og_type == "article" or dated or self._tree.xpath(_ARTICLE_BODY)) or any(
            _CAPTCHA_FIELD not in (tag.get("name") or tag.get("id") or "").lower()
            for tag in self._tree.iter("textarea")
        )

    @cached_property
    def prose(self) -> int:
        """How many letters its paragraphs have, those of menus, footers and forms left out."""
        if self._tree is None:
            return 0
        lengths = (
            len(" ".join("".join(tag.itertext()).split()))
            for tag in islice(_paragraphs(self._tree), _MOST_TAGS)
            if tag.tag == "p"
        )
        return sum(length for length in lengths if length > _PARAGRAPH)

    @cached_property
    def words(self) -> int:
        """How many words it shows besides menus and footers."""
        return 0 if self._tree is None else sum(len(text.split()) for text in islice(_own(self._tree), 2 * _MOST_TAGS))


def _paragraphs(tree: Element) -> Iterator[Element]:
    """Give the page's own paragraphs, and the tags above them; each part of the tree is looked at once, however deep."""
    todo = [iter((tree,))]
    while todo:
        if (tag := next(todo[-1], None)) is None:
            todo.pop()
            continue
        yield tag
        if isinstance(tag.tag, str) and tag.tag != "p" and tag.tag not in _AROUND:
            todo.append(iter(tag))


def _own(tree: Element) -> Iterator[str]:
    """Give the texts of a page, those of its frame left out."""
    todo = [iter((tree,))]
    while todo:
        if (tag := next(todo[-1], None)) is None:
            todo.pop()
            continue
        shown = isinstance(tag.tag, str) and tag.tag not in _FRAME and not _is_frame(tag)
        yield (shown and tag.text) or ""
        yield tag.tail or ""
        if shown:
            todo.append(iter(tag))


def _is_frame(tag: Element) -> bool:
    return tag.tag != "body" and bool(_FRAME_CLASS.search(f"{tag.get('class') or ''} {tag.get('id') or ''}"))
