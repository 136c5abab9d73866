"""What a page declares about itself: JSON-LD, OpenGraph and other meta, microdata in its simplest form."""

import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any
from urllib.parse import urldefrag, urlsplit

from lxml.etree import _Element as Element

from spiders.reading import iso_time, web_url, written_date

_NODES = 2_000  # JSON-LD nodes looked at in one page; a bound, not a wish
_WALK = ("@graph", "mainEntity", "mainEntityOfPage", "itemListElement", "item")
_ARTICLE = re.compile(r"(?:article|blogposting|report|liveblog\w*|newsposting)$", re.IGNORECASE)
_TITLES = ("og:title", "twitter:title", "dc.title", "headline")
_AUTHORS = ("author", "article:author", "dc.creator", "byl", "parsely-author", "sailthru.author")
_DATES = (
    *("article:published_time", "og:article:published_time", "og:published_time", "datepublished"),
    *("parsely-pub-date", "sailthru.date", "pubdate", "publishdate", "publish-date", "dc.date.issued", "dc.date"),
    *("dcterms.created", "date", "mediator_published_time"),
)
_PUBLISHED = re.compile(r"(?:^|[\s_-])(?:publish\w*|pubdate|posted\w*|date\w*|time|data)(?:$|[\s_-])", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)|\d[./]\d\d[./]\d\d(?!\d)")
_WEB = datetime(1990, 1, 1, tzinfo=UTC)  # an earlier date is a placeholder
_NEVER = datetime(3000, 1, 1, tzinfo=UTC)  # a "now" that no page's date lies near: what counts from it is thrown away
_FIELD = re.compile(r'"(@type|headline|datePublished|articleBody|author|name)"\s*:\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A page's own words about itself, the most trusted first (JSON-LD, then OpenGraph and meta, then markup).

    `articles` counts the article nodes of its JSON-LD: a page of links has several, an article one.
    `published` are all texts that may be its date, still to be read. URLs are absolute.
    """

    articles: int = 0
    og_type: str | None = None
    title: str | None = None
    authors: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    language: str | None = None
    canonical: str | None = None
    body: str | None = None
    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()

    @property
    def is_article(self) -> bool:
        """Whether the page calls itself one article."""
        return self.articles == 1 or self.og_type == "article"


def absolute(base: str, href: str | None) -> str | None:
    """Join a link to its page, without its fragment; None for anything that is no http(s) address."""
    url = web_url(href, base)
    return urldefrag(url).url if url and len(url) < 4_096 else None


def date_of(raw: str | None) -> datetime | None:
    """Read a full date (ISO 8601, RFC 5322, or as people write it, with a year) as aware UTC; without offset it is UTC.

    Words like "yesterday" are not read: a parser knows no clock.
    """
    read = _read_date((raw or "").strip()[:120])
    return read if read and _WEB <= read < _NEVER - timedelta(days=999) else None


def _read_date(text: str) -> datetime | None:
    if read := iso_time(text, UTC):
        return read
    try:
        told = parsedate_to_datetime(text)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        written = written_date(text, now=_NEVER) if _YEAR.search(text) else None
        return written.at if written else None


def base_of(tree: Element, url: str) -> str:
    """Give the address that the page's relative links start from."""
    return absolute(url, next(iter(tree.xpath("//base/@href")), None)) or url


def declared(tree: Element, url: str) -> Declared:
    """Gather what the page says about itself. Broken JSON-LD is read as far as it can be."""
    base, meta, nodes = base_of(tree, url), _metas(tree), _json_ld(tree)
    node, count = _article_node(nodes, url)
    ids = {str(found["@id"]): found for found in nodes if "@id" in found and len(found) > 1}
    return Declared(
        articles=count,
        og_type=_first(meta, ("og:type",)),
        title=_text(node.get("headline")) or _first(meta, _TITLES) or _text(node.get("name")),
        authors=_authors(node, ids) or _meta_authors(meta) or _byline(tree),
        published=tuple(dict.fromkeys((*_node_dates(node), *_all(meta, _DATES), *_marked_dates(tree)))),
        language=_language(tree, meta, node),
        canonical=absolute(base, _canonical(tree, meta)),
        body=_body(node),
        images=_urls(base, (*_pictures(node.get("image"), ids), *_all(meta, ("og:image", "og:image:url")))),
        videos=_urls(base, (*_films(node, nodes), *_all(meta, ("og:video:secure_url", "og:video:url", "og:video")))),
    )


def _urls(base: str, found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(url for each in found if (url := absolute(base, each))))


def _metas(tree: Element) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for tag in tree.iter("meta"):
        value = (tag.get("content") or "").strip()
        for name in {(tag.get(key) or "").strip().lower() for key in ("property", "name", "itemprop")} - {""}:
            if value:
                found[name] = (*found.get(name, ()), value)[:20]
    return found


def _all(meta: dict[str, tuple[str, ...]], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(value for name in names for value in meta.get(name, ()))


def _first(meta: dict[str, tuple[str, ...]], names: Iterable[str]) -> str | None:
    return next((_text(value) for value in _all(meta, names)), None)


def _text(value: Any) -> str | None:
    """Make one line of a declared value; it may be a list, and escaped twice."""
    if isinstance(value, list):
        value = next((each for each in value if isinstance(each, str)), None)
    if isinstance(value, dict):
        value = value.get("@value")
    if not isinstance(value, str):
        return None
    return " ".join(html.unescape(html.unescape(value)).split()) or None


def _language(tree: Element, meta: dict[str, tuple[str, ...]], node: dict[str, Any]) -> str | None:
    said = _text(node.get("inLanguage")) or tree.get("lang") or _first(meta, ("og:locale", "content-language"))
    code = re.match(r"[A-Za-z]{2,3}(?![A-Za-z])", (said or "").strip())
    return code.group().lower() if code else None


def _canonical(tree: Element, meta: dict[str, tuple[str, ...]]) -> str | None:
    links = (tag.get("href") for tag in tree.iter("link") if "canonical" in (tag.get("rel") or "").lower().split())
    return next((href for href in links if href), None) or _first(meta, ("og:url",))


# JSON-LD


def _json_ld(tree: Element) -> tuple[dict[str, Any], ...]:
    nodes: list[dict[str, Any]] = []
    for script in tree.iter("script"):
        if "ld+json" in (script.get("type") or "").lower() and script.text:
            nodes.extend(_walk(_load(script.text)))
    return tuple(nodes[:_NODES])


def _walk(values: list[Any]) -> Iterator[dict[str, Any]]:
    waiting, seen = values[::-1], 0
    while waiting and seen < _NODES:
        value, seen = waiting.pop(), seen + 1
        if isinstance(value, list):
            waiting.extend(value[::-1])
        elif isinstance(value, dict):
            yield value
            waiting.extend(value[key] for key in reversed(_WALK) if isinstance(value.get(key), dict | list))


def _load(text: str) -> list[Any]:
    """Read a script's JSON; repair what outlets break most; at the very least pull out single fields."""
    try:
        return [json.loads(text, strict=False)]
    except (ValueError, RecursionError):
        pass
    if '"' not in text:
        text = html.unescape(text)
    text = re.sub(r"<!--|-->|/[*/]\s*<!\[CDATA\[|<!\[CDATA\[|(?:/[*/]\s*)?\]\]>(?:\s*\*/)?", " ", text)
    text = re.sub(r",\s{0,200}([}\]])", r"\1", text)
    return _several(text) or [_fields(text)]


def _several(text: str) -> list[Any]:
    """Read JSON values that stand one after the other; what follows a fault is left."""
    decoder, values, at = json.JSONDecoder(strict=False), [], 0
    while start := re.compile(r"[{\[]").search(text, at):
        try:
            value, at = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            break
        values.append(value)
    return values


def _fields(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _FIELD.findall(text):
        try:
            found.setdefault(name, json.loads(f'"{value}"', strict=False))
        except ValueError:
            found.setdefault(name, value)
    return found


def _article_node(nodes: Iterable[dict[str, Any]], url: str) -> tuple[dict[str, Any], int]:
    """Choose the node that is this page's article, and count the article nodes."""
    articles = [node for node in nodes if any(_ARTICLE.search(kind) for kind in _types(node))]
    distinct = {str(node.get("headline") or node.get("url") or node.get("@id")) for node in articles}
    path = urlsplit(url).path.rstrip("/")

    def worth(node: dict[str, Any]) -> tuple[bool, bool, int]:
        spots = (node.get(key) for key in ("url", "@id", "mainEntityOfPage"))
        named = [str(spot.get("@id") if isinstance(spot, dict) else spot) for spot in spots if spot]
        here = any(spot.split("#")[0].split("?")[0].rstrip("/").endswith(path) for spot in named) and bool(path)
        return here, "datePublished" in node, len(node)

    best = max(articles, key=worth, default={})
    return best, 1 if best and worth(best)[0] else len(distinct)


def _types(node: dict[str, Any]) -> tuple[str, ...]:
    kinds = node.get("@type")
    return tuple(str(kind) for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind)


def _node_dates(node: dict[str, Any]) -> tuple[str, ...]:
    found = (_text(node.get(key)) for key in ("datePublished", "dateCreated", "uploadDate"))
    return tuple(date for date in found if date)


def _body(node: dict[str, Any]) -> str | None:
    body = node.get("articleBody")
    if not isinstance(body, str):
        return None
    plain = html.unescape(re.sub(r"<[^<>]{1,2000}>", " ", body)) if "<" in body else html.unescape(body)
    return "\n".join(line for each in plain.splitlines() if (line := " ".join(each.split()))) or None


def _authors(node: dict[str, Any], ids: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    said = node.get("author") or node.get("creator") or []
    names = []
    for each in said if isinstance(said, list) else [said]:
        person = {**ids.get(str(each.get("@id")), {}), **each} if isinstance(each, dict) else {"name": each}
        named = person.get("name")
        names += [_text(name) for name in (named if isinstance(named, list) else [named])]
    return _names(names)


def _names(said: Iterable[str | None]) -> tuple[str, ...]:
    """Keep what can be a name; an address or a paragraph is none."""
    plain = (re.sub(r"^(?:by|автор:?|аўтар:?|autor:?)\s+", "", name, flags=re.IGNORECASE) for name in said if name)
    return tuple(dict.fromkeys(name for name in plain if name and "://" not in name and len(name) < 100))


def _pictures(said: Any, ids: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    found = []
    for each in said if isinstance(said, list) else [said]:
        picture = {**ids.get(str(each.get("@id")), {}), **each} if isinstance(each, dict) else {"url": each}
        found.append(_text(picture.get("url")) or _text(picture.get("contentUrl")))
    return tuple(url for url in found if url)


def _films(node: dict[str, Any], nodes: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    said = node.get("video") or []
    films = [*(said if isinstance(said, list) else [said]), *(each for each in nodes if "VideoObject" in _types(each))]
    found = (_text(film.get("contentUrl")) or _text(film.get("embedUrl")) for film in films if isinstance(film, dict))
    return tuple(url for url in found if url)


# Markup


def _meta_authors(meta: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    for name in _AUTHORS:
        names = tuple(
            dict.fromkeys(text for value in meta.get(name, ()) if (text := _text(value)) and "://" not in text)
        )
        if names:
            return names
    return ()


def _byline(tree: Element) -> tuple[str, ...]:
    for path in ("//*[@itemprop='author']//*[@itemprop='name']", "//*[@itemprop='author']", "//a[@rel='author']"):
        names = (_text(tag.get("content") or "".join(tag.itertext())) for tag in tree.xpath(path)[:10])
        if found := _names(names):
            return found
    return ()


def _marked_dates(tree: Element) -> tuple[str, ...]:
    """Gather the texts of date markup, the marked as published first."""
    marked = [*tree.xpath("//*[@itemprop='datePublished']"), *tree.xpath("//time[@pubdate]"), *tree.iter("time")]
    classed = (
        tag
        for tag in tree.iter("span", "div", "p", "a", "em", "small", "li")
        if _PUBLISHED.search(tag.get("class") or "")
    )
    found = []
    for tag in (*marked[:10], *(tag for tag in islice(classed, 20))):
        text = tag.get("datetime") or tag.get("content") or " ".join("".join(tag.itertext()).split())
        if 4 < len(text.strip()) < 80 and any(sign.isdigit() for sign in text):
            found.append(text.strip())
    return tuple(found)
