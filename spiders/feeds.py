"""What outlets publish for machines: RSS, Atom and JSON feeds, sitemaps. Bytes only: no network, no files, no entities."""

import calendar
import io
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from lxml import etree
from lxml.etree import _Element as Element

from spiders.page import LayoutChanged, Link, LinkKind, Page, Verdict
from spiders.pages import site_of
from spiders.reading import text_of, tree_of
from spiders.structured import absolute, date_of

_ENTITY = re.compile(rb"<!ENTITY\b[^>\"']*(?:\"[^\"]*\"[^>\"']*|'[^']*'[^>\"']*){0,4}>?", re.IGNORECASE)
_ROOT = re.compile(rb"<(?:\w+:)?(?:rss|feed|rdf|channel|item|entry)\b", re.IGNORECASE)
_SIMPLE = re.compile(rb"<!ENTITY\s+\w+\s+(?:\"[^\"&%<]{0,100}\"|'[^'&%<]{0,100}'|\"&#\w+;\")\s*>", re.IGNORECASE)


def parse_feed(body: bytes, url: str, content_type: str | None = None, *, max_bytes: int = 8 << 20) -> Page:
    """Read a feed's entries as links to articles, as far as a malformed one can be read; EMPTY if it has none.

    Only the first `max_bytes` are read, and `extra` then says so. Raises LayoutChanged for anything that is no feed.
    """
    extra = (("truncated_at_bytes", str(max_bytes)),) if len(body) > max_bytes else ()
    title, language, links = _json_feed(body[:max_bytes], url) or _xml_feed(body[:max_bytes], url, content_type)
    verdict, reason = (Verdict.CONTENT, f"{len(links)} entries") if links else (Verdict.EMPTY, "a feed without entries")
    return Page(url=url, verdict=verdict, reason=reason, title=title, language=language, links=links, extra=extra)


def _json_feed(body: bytes, url: str) -> tuple[str | None, str | None, tuple[Link, ...]] | None:
    """Read a JSON Feed (jsonfeed.org 1.0, 1.1); None if it is none."""
    text = body.decode("utf-8-sig", "replace").strip()
    if not text.startswith("{"):
        return None
    try:
        said = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    items = said.get("items")
    if not isinstance(items, list) or not ("jsonfeed.org" in str(said.get("version")) or "title" in said):
        return None
    links = (_json_link(item, url) for item in items if isinstance(item, dict))
    return _line(said.get("title")), _code(said.get("language")), tuple(link for link in links if link)


def _json_link(item: dict[str, Any], url: str) -> Link | None:
    named = (absolute(url, each) for key in ("url", "external_url", "id") if isinstance(each := item.get(key), str))
    link, raw = next((each for each in named if each), None), item.get("date_published")
    published = date_of(raw) if isinstance(raw, str) else None
    changed = item.get("date_modified")
    if not link:
        return None
    return Link(
        kind=LinkKind.ARTICLE,
        url=link,
        title=_line(item.get("title")),
        published_at=published,
        updated_at=date_of(changed) if isinstance(changed, str) else None,
    )


def _xml_feed(body: bytes, url: str, content_type: str | None) -> tuple[str | None, str | None, tuple[Link, ...]]:
    import feedparser
    from feedparser.encodings import convert_to_utf8

    headers = {"content-type": content_type} if content_type else {}
    plain = _without_entities(convert_to_utf8(headers, body, {"bozo": False})) if body.strip() else b""
    if not _ROOT.search(plain[:65_536]):  # feedparser takes seconds a megabyte: not for what is no feed
        raise LayoutChanged(site_of(url), url, "feed")
    told = {"content-location": url, "content-type": "application/xml; charset=utf-8"}
    # BytesIO: given bytes, feedparser would first try to open a file of that name
    found = feedparser.parse(io.BytesIO(plain), response_headers=told, sanitize_html=False)
    if not found.version and not found.entries:
        raise LayoutChanged(site_of(url), url, "feed")
    links = (_entry(entry, url) for entry in found.entries)
    return (
        _line(dict.get(found.feed, "title")),
        _code(dict.get(found.feed, "language")),
        tuple(each for each in links if each),
    )


def _without_entities(text: bytes) -> bytes:
    """Drop declarations of entities that are external, nested or long; a plain short one may stay."""
    return _ENTITY.sub(lambda found: found[0] if _SIMPLE.fullmatch(found[0]) else b"", text)


def _entry(entry: Any, url: str) -> Link | None:
    """Turn an entry into a link; an entry that names no page is passed over."""
    guid = str(entry.get("id") or "")
    named = [entry.get("link"), *(each.get("href") for each in entry.get("links", ())), guid if "://" in guid else None]
    link = next((each for href in named if isinstance(href, str) and (each := absolute(url, href))), None)
    if not link:
        return None
    return Link(
        kind=LinkKind.ARTICLE,
        url=link,
        title=_line(entry.get("title")),
        published_at=_entry_date(entry, "published", "created", "updated"),
        updated_at=_entry_date(entry, "updated"),
    )


def _entry_date(entry: Any, *names: str) -> datetime | None:
    for name in names:  # dict.get: the mapping of its own warns about old names
        if parsed := dict.get(entry, f"{name}_parsed"):
            try:
                return datetime.fromtimestamp(calendar.timegm(parsed), UTC)
            except (ValueError, OverflowError, OSError):
                continue
        if read := date_of(dict.get(entry, name)):
            return read
    return None


def _line(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    plain = text_of(tree_of(value.encode("utf-8", "replace"))) if "<" in value and value.strip() else value
    return " ".join(plain.split()) or None


def _code(value: Any) -> str | None:
    found = re.match(r"[A-Za-z]{2,3}(?![A-Za-z])", value) if isinstance(value, str) else None
    return found.group().lower() if found else None


# Sitemaps (sitemaps.org/protocol.html)


def parse_sitemap(body: bytes, url: str, *, max_bytes: int = 50 << 20) -> Page:
    """Read a sitemap, an index of sitemaps or a list of addresses, packed with gzip or not.

    At most `max_bytes` are unpacked, and `extra` then says so. A date is the publication's where a news sitemap tells
    it, else the last change. Raises LayoutChanged for anything else.
    """
    plain, cut = _unpacked(body, max_bytes)
    extra = (("truncated_at_bytes", str(max_bytes)),) if cut else ()
    root = _sitemap_root(plain)
    kind = LinkKind.SITEMAP if root is not None and _name(root) == "sitemapindex" else LinkKind.ARTICLE
    if root is not None and _name(root) in ("urlset", "sitemapindex"):
        links = tuple(_located(root, url, kind))
    elif not (links := _plain_list(plain, url)):
        raise LayoutChanged(site_of(url), url, "sitemap")
    verdict, reason = (Verdict.CONTENT, f"{len(links)} addresses") if links else (Verdict.EMPTY, "an empty sitemap")
    return Page(url=url, verdict=verdict, reason=reason, links=links, extra=extra)


def _unpacked(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """Give at most `max_bytes` and whether there was more; a broken gzip stream is read as far as it goes."""
    if not body.startswith(b"\x1f\x8b"):
        return body[:max_bytes], len(body) > max_bytes
    stream = zlib.decompressobj(wbits=31)
    plain = bytearray()
    for at in range(0, len(body), 1 << 16):
        try:
            plain += stream.decompress(body[at : at + (1 << 16)], max_bytes + 1 - len(plain))
        except zlib.error:
            break
        if len(plain) > max_bytes or stream.eof:
            break
    return bytes(plain[:max_bytes]), len(plain) > max_bytes


def _sitemap_root(plain: bytes) -> Element | None:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, recover=True, huge_tree=False
    )
    try:
        return etree.fromstring(_without_entities(plain).lstrip(), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _located(root: Element, url: str, kind: LinkKind) -> Iterator[Link]:
    for entry in root:
        fields: dict[str, str] = {}
        for each in entry.iter():
            fields.setdefault(_name(each), (each.text or "").strip())
        if link := absolute(url, fields.get("loc")):
            changed = date_of(fields.get("lastmod"))
            at = date_of(fields.get("publication_date")) or changed
            yield Link(kind=kind, url=link, title=fields.get("title") or None, published_at=at, updated_at=changed)


def _plain_list(plain: bytes, url: str) -> tuple[Link, ...]:
    lines = plain.decode("utf-8-sig", "replace").split()
    if not lines or not all(line.startswith(("http://", "https://")) for line in lines[:100]):
        return ()
    found = (absolute(url, line) for line in lines)
    return tuple(Link(kind=LinkKind.ARTICLE, url=link) for link in found if link)
