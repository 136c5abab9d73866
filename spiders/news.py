"""News outlets of any make: their articles and their pages of links to articles."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from lxml.etree import _Element as Element

from spiders.feeds import parse_feed, parse_sitemap
from spiders.language import language_of
from spiders.page import LayoutChanged, Link, LinkKind, Page, Post, PostKind
from spiders.pages import (
    EXTRACTED_CHARS,
    SAMPLE_CHARS,
    Document,
    article_shaped,
    document,
    links_of,
    media_of,
    page_of,
    parse_page,
    refusal,
    same_site,
    site_of,
    sort_by_head,
    sort_of_html,
    stable_path,
    title_of,
)
from spiders.reading import text_of
from spiders.structured import Declared, absolute, base_of, date_of
from spiders.verdict import judge

_ASIDE = re.compile(
    r"(?:^|[\s_-])(?:related|recommend\w*|promo|banner|advert\w*|ads?|comments?|share|social|sidebar|footer|menu|nav|teaser"
    r"|newsletter|subscribe|popular|read-?(?:more|also)|author-?(?:box|card|bio)|breadcrumbs?)(?:$|[\s_-])",
    re.IGNORECASE,
)
_BODY = "//*[@itemprop='articleBody']"
_SLUG_DATE = re.compile(r"/((?:19|20)\d\d)[/-](\d{1,2})[/-](\d{1,2})(?:/|-|$)")
_PAGER = re.compile(r"(?:[?&](?:page|paged|p|pg|PAGEN_\d)=|/page[/-]?)(\d{1,5})(?=$|[/&?#])")
_FEED_PATH = re.compile(
    r"/(?:rss|feed|atom)/?$|[./](?:rss|atom)(?:\.xml)?$|/(?:rss|feed|atom|index)\.xml$|[?&]feed=(?:rss2?|atom)"
)
_FEED_TYPE = re.compile(r"(?:rss|atom)\+xml|feed\+json")


def parse(body: bytes, url: str, content_type: str | None = None) -> Page:
    """Read whatever an outlet answered, with the reader that fits it. Raises LayoutChanged."""
    sort = sort_by_head(body, url, content_type)
    if sort == "feed":
        return parse_feed(body, url, content_type)
    if sort == "sitemap":
        return parse_sitemap(body, url)
    if sort == "file":
        return parse_page(body, url, content_type)
    doc = document(body, url, content_type)
    sort = sort_of_html(doc)
    if sort == "article":
        return _article(doc)
    if sort == "listing":
        return _listing(doc)
    return page_of(doc) if doc.tree is None else replace(page_of(doc), links=tuple(_feeds(doc.tree, url)))


def parse_article(html: bytes, url: str, content_type: str | None = None) -> Page:
    """Read one article. What the page declares goes before what it shows; each field that is missing stays None.

    `published_at` without a time of day is that day's midnight UTC; `published_raw` tells. A refusal has no posts.
    """
    return _article(document(html, url, content_type))


def _article(doc: Document) -> Page:
    if doc.tree is None:
        return refusal(doc, doc.source.strip())
    text = article_text(doc.source, doc.tree, doc.said)
    judged = judge(doc.source, doc.url, text, tree=doc.tree)
    title = doc.said.title or title_of(doc.tree)
    if not judged.verdict.readable:
        return Page(url=doc.url, **judged._asdict(), title=title)
    post = _post(doc, doc.tree, text, title)
    return Page(url=doc.url, **judged._asdict(), title=post.title, language=post.language, posts=(post,))


def _post(doc: Document, tree: Element, text: str, title: str | None) -> Post:
    url, said = doc.url, doc.said
    own = said.canonical if said.canonical and _is_own(said.canonical, url) else url
    lacking = not (said.authors and said.published and title)
    guess = _guessed(tree, own) if lacking and len(doc.source) <= EXTRACTED_CHARS else {}
    raw, at = _published((*said.published, *_slug_date(url)), guess.get("date"))
    authors = said.authors or tuple(name for name in (guess.get("author") or "").split("; ") if name)
    body = body_of(tree)
    extra = [("canonical", said.canonical or "")] + [("author", name) for name in authors if len(authors) > 1]
    return Post(
        kind=PostKind.ARTICLE,
        platform=site_of(url),
        url=own,
        post_id=stable_path(own),
        author=", ".join(authors) or None,
        title=title or guess.get("title"),
        text=text,
        language=language_of(text[:SAMPLE_CHARS]) or said.language,
        published_at=at,
        published_raw=raw,
        links=tuple(link for link in links_of(body, url) if stable_path(link) != stable_path(own)),
        media=media_of(body, url, said),
        extra=tuple(pair for pair in extra if pair[1]),
    )


def _is_own(canonical: str, url: str) -> bool:
    """A canonical address counts if it lies on the same site and is not the front page, as careless templates say."""
    return same_site(canonical, url) and bool(urlsplit(canonical).path.strip("/") or not urlsplit(url).path.strip("/"))


def _published(raws: tuple[str, ...], guess: str | None) -> tuple[str | None, datetime | None]:
    """The first text that can be read as a date; where none can, the first text."""
    for raw in (*raws, guess):
        if raw and (at := date_of(raw)):
            return raw, at
    return next(iter(raws), None), None


def _slug_date(url: str) -> tuple[str, ...]:
    found = _SLUG_DATE.search(urlsplit(url).path)
    return (f"{found[1]}-{int(found[2]):02}-{int(found[3]):02}",) if found else ()


def _guessed(tree: Element, url: str) -> dict[str, str]:
    """Ask trafilatura for the fields that the page does not declare."""
    from lxml.etree import tostring
    from lxml.html import document_fromstring
    from trafilatura.metadata import extract_metadata

    copy = document_fromstring(tostring(tree, encoding="utf-8", method="html"))
    found: Any = extract_metadata(copy, default_url=url, extensive=False)
    return {name: value for name in ("title", "author", "date") if isinstance(value := getattr(found, name, None), str)}


def article_text(source: str, tree: Element, said: Declared) -> str:
    """The article's text: trafilatura's, unless the page declares or plainly shows much more; all visible text at worst."""
    from trafilatura import extract  # takes 0.3 s to import

    found = (extract(source, include_comments=False) if len(source) <= EXTRACTED_CHARS else None) or ""
    body = body_of(tree)
    for other in (said.body or "", _prose(body)):
        if len(other.split()) > 50 + 1.3 * len(found.split()):
            return other
    return found or text_of(body)


def _prose(body: Element) -> str:
    """The paragraphs, headings and lists below an element, without asides and without runs of links."""
    skipped = {each for tag in body.iterdescendants() if _is_aside(tag) for each in tag.iter()}
    lines = []
    for tag in body.iter("p", "h2", "h3", "h4", "li", "blockquote", "pre"):
        inside = any(each.tag in ("p", "li", "blockquote") for each in tag.iterdescendants())
        text = "" if inside or tag in skipped else text_of(tag)
        if text and 2 * sum(len("".join(link.itertext())) for link in tag.iter("a")) <= len(text):
            lines.append(text)
    return "\n".join(lines)


def _is_aside(tag: Element) -> bool:
    return tag.tag in ("aside", "nav", "footer", "form") or bool(_ASIDE.search(tag.get("class") or ""))


def body_of(tree: Element) -> Element:
    """The element that holds the article: the marked one, else the one with most text in its own paragraphs."""
    marked = max(tree.xpath(_BODY), key=lambda tag: len(text_of(tag)), default=None)
    if marked is not None and len(text_of(marked)) > 200:
        return marked
    weights: dict[Element, float] = {}
    for tag in tree.iter("p"):
        length = len("".join(tag.itertext()).strip())
        over = list(zip(tag.iterancestors(), (1.0, 0.5, 0.25), strict=False))
        if length > 40 and not any(_is_aside(each) for each, _ in over):
            for each, share in over:
                weights[each] = weights.get(each, 0.0) + share * length
    best = max(weights, key=lambda tag: weights[tag], default=tree)
    return next((each for each in best.iterancestors("article", "main")), best)


def parse_listing(html: bytes, url: str, content_type: str | None = None) -> Page:
    """Read a page of links: articles of the same site by the shape of their addresses, the next page, feeds, sitemap.

    Raises LayoutChanged if it is no refusal and names no article.
    """
    return _listing(document(html, url, content_type))


def _listing(doc: Document) -> Page:
    tree, url, text = doc.tree, doc.url, text_of(doc.tree)
    judged = judge(doc.source, url, text, tree=tree)
    if tree is None or not judged.verdict.readable:
        return Page(url=url, **judged._asdict())
    articles = _articles(tree, url)
    if not articles:
        raise LayoutChanged(site_of(url), url, "link to an article")
    sitemap = Link(kind=LinkKind.SITEMAP, url=urljoin(url, "/sitemap.xml"))
    links = (*articles, *_pager(tree, url), *_feeds(tree, url), sitemap)
    title = doc.said.title or title_of(tree)
    return Page(url=url, **judged._asdict(), title=title, language=language_of(text[:SAMPLE_CHARS]), links=links)


def _articles(tree: Element, url: str) -> tuple[Link, ...]:
    base, titles = base_of(tree, url), dict[str, str]()
    for tag in tree.iter("a"):
        link = absolute(base, tag.get("href"))
        if link and link != url and same_site(link, url) and article_shaped(link):
            said = " ".join("".join(tag.itertext()).split()) or tag.get("title") or ""
            titles[link] = max(titles.get(link, ""), said[:500], key=len)
    dates = _dates_near(tree, base, titles)
    return tuple(
        Link(kind=LinkKind.ARTICLE, url=link, title=title or None, published_at=dates.get(link) or _day_in(link))
        for link, title in titles.items()
    )


def _day_in(link: str) -> datetime | None:
    return next((date_of(day) for day in _slug_date(link)), None)


def _dates_near(tree: Element, base: str, known: dict[str, str]) -> dict[str, datetime]:
    """Give each link the date that stands in its card: the nearest element around a <time> that names one article only."""
    dates: dict[str, datetime] = {}
    for tag in tree.iter("time"):
        at = date_of(tag.get("datetime"))
        around = tag.iterancestors() if at else iter(())
        for over, _ in zip(around, range(6), strict=False):
            anchors = [over] if over.tag == "a" else over.iter("a")
            named = {link for each in anchors if (link := absolute(base, each.get("href"))) in known}
            if named:
                if len(named) == 1 and at:
                    dates.setdefault(named.pop() or "", at)
                break
    return dates


def _pager(tree: Element, url: str) -> Iterator[Link]:
    """The next page back in time: rel=next, or the link whose page number is one more than this page's."""
    base = base_of(tree, url)
    for tag in tree.iter("link", "a"):
        link = absolute(base, tag.get("href"))
        if link and link != url and "next" in (tag.get("rel") or "").lower().split() and same_site(link, url):
            yield Link(kind=LinkKind.OLDER, url=link)
            return
    here = int(found[1]) if (found := _PAGER.search(url)) else 1
    for link in links_of(tree, url):
        if (found := _PAGER.search(link)) and int(found[1]) == here + 1 and same_site(link, url):
            yield Link(kind=LinkKind.OLDER, url=link)
            return


def _feeds(tree: Element, url: str) -> Iterator[Link]:
    base, seen = base_of(tree, url), set[str]()
    declared_feeds = (
        tag
        for tag in tree.iter("link")
        if _FEED_TYPE.search(tag.get("type") or "") and "alternate" in (tag.get("rel") or "")
    )
    shown = (tag for tag in tree.iter("a") if _FEED_PATH.search(tag.get("href") or ""))
    for tag in (*declared_feeds, *shown):
        link = absolute(base, tag.get("href"))
        if link and link not in seen and same_site(link, url) and "comment" not in link:
            seen.add(link)
            yield Link(kind=LinkKind.FEED, url=link, title=tag.get("title"))
