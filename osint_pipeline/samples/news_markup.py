"""Draws the sample outlet's pages, feed, sitemap and robots.txt."""

import json
from collections.abc import Sequence
from datetime import datetime
from email.utils import format_datetime
from html import escape
from typing import Protocol

from osint_pipeline.samples import words

OUTLET = "Узорны веснік"
HEADING = {
    "be": "Чытайце таксама",
    "ru": "Читайте также",
    "uk": "Читайте також",
    "pl": "Czytaj także",
    "en": "Read also",
}


class Shown(Protocol):
    """What is drawn of an article."""

    @property
    def number(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def paragraphs(self) -> tuple[str, ...]: ...
    @property
    def published_at(self) -> datetime: ...
    @property
    def author(self) -> str: ...
    @property
    def linked_data(self) -> bool: ...
    @property
    def corrected_at(self) -> datetime | None: ...
    @property
    def picture(self) -> int: ...


def robots(base: str, forbidden: str) -> str:
    """Write robots.txt."""
    return f"User-agent: *\nDisallow: {forbidden}\nCrawl-delay: 0\n\nSitemap: {base}/sitemap.xml\n"


def written_date(at: datetime, language: str) -> str:
    """Write a date as a newspaper of the language does."""
    month = words.TONGUES[language].months[at.month - 1]
    if language == "en":
        return f"{month} {at.day}, {at:%Y, %H:%M}"
    return f"{at.day} {month} {at:%Y, %H:%M}"


def _meta(base: str, shown: Shown, charset: str) -> str:
    image, url = f"{base}/foto/{shown.number}.jpg", base + shown.path
    pairs = [
        ("og:type", "article"),
        ("og:title", shown.title),
        ("og:url", url),
        ("og:image", image),
        ("og:site_name", OUTLET),
        ("og:locale", f"{shown.language}_{'GB' if shown.language == 'en' else 'BY'}"),
    ]
    if shown.number % 3 != 2:
        pairs.append(("article:published_time", shown.published_at.isoformat()))
    lines = [f'<meta property="{name}" content="{escape(text)}">' for name, text in pairs]
    if shown.linked_data:
        lines.append(f'<script type="application/ld+json">{_linked(base, shown)}</script>')
    canonical = f'<link rel="canonical" href="{url}">'
    feed = f'<link rel="alternate" type="application/rss+xml" title="{OUTLET}" href="{base}/feed.xml">'
    return "\n".join(
        (f'<meta charset="{charset}">', f"<title>{escape(shown.title)} - {OUTLET}</title>", *lines, canonical, feed)
    )


def _linked(base: str, shown: Shown) -> str:
    changed = shown.corrected_at or shown.published_at
    told = {
        "@context": "https://schema.org",
        "@type": "NewsArticle",
        "headline": shown.title,
        "inLanguage": shown.language,
        "datePublished": shown.published_at.isoformat(),
        "dateModified": changed.isoformat(),
        "author": {"@type": "Person", "name": shown.author},
        "publisher": {"@type": "Organization", "name": OUTLET},
        "image": [f"{base}/foto/{shown.number}.jpg"],
        "mainEntityOfPage": base + shown.path,
    }
    return json.dumps(told, ensure_ascii=False)


def article(base: str, shown: Shown, charset: str) -> str:
    """Draw an article's page."""
    paragraphs = "\n".join(f"<p>{escape(text, quote=False)}</p>" for text in shown.paragraphs)
    at = shown.published_at
    return f"""<!DOCTYPE html>
<html lang="{shown.language}">
<head>
{_meta(base, shown, charset)}
</head>
<body>
<header><a href="/">{OUTLET}</a><nav><a href="/?page=2">Архіў</a> <a href="/zakryta/redakcyja.html">Рэдакцыя</a></nav></header>
<main>
<article>
<h1>{escape(shown.title, quote=False)}</h1>
<div class="byline"><span class="author" rel="author">{shown.author}</span> <time datetime="{at.isoformat()}">{written_date(at, shown.language)}</time></div>
<figure><img src="/foto/{shown.number}.jpg" alt=""><figcaption>{OUTLET}</figcaption></figure>
{paragraphs}
</article>
<aside><h2>{HEADING[shown.language]}</h2><ul><li><a href="/">{OUTLET}</a></li></ul></aside>
</main>
<footer>© 2026 {OUTLET}</footer>
</body>
</html>
"""


def listing(base: str, shown: Sequence[Shown], number: int, more: bool) -> str:
    """Draw one page of the list of articles, newest first."""
    items = "\n".join(
        f'<article class="teaser"><h2><a href="{one.path}">{escape(one.title, quote=False)}</a></h2>'
        f'<time datetime="{one.published_at.isoformat()}">{written_date(one.published_at, one.language)}</time>'
        f"<p>{escape(one.paragraphs[0][:120], quote=False)}…</p></article>"
        for one in shown
    )
    pager = f'<a rel="prev" href="/?page={number - 1}">Навейшыя</a> ' if number > 1 else ""
    pager += f'<a rel="next" href="/?page={number + 1}">Старэйшыя</a>' if more else ""
    return f"""<!DOCTYPE html>
<html lang="be">
<head><meta charset="utf-8"><title>{OUTLET}</title>
<meta property="og:type" content="website"><meta property="og:site_name" content="{OUTLET}">
<link rel="alternate" type="application/rss+xml" title="{OUTLET}" href="{base}/feed.xml"></head>
<body>
<header><h1>{OUTLET}</h1><a href="/zakryta/redakcyja.html">Рэдакцыя</a></header>
<main>
{items}
</main>
<nav class="pager">{pager}</nav>
</body>
</html>
"""


def feed(base: str, shown: Sequence[Shown]) -> str:
    """Write the RSS 2.0 feed."""
    items = "\n".join(
        f"<item><title>{escape(one.title)}</title><link>{base}{one.path}</link>"
        f'<guid isPermaLink="true">{base}{one.path}</guid><pubDate>{format_datetime(one.published_at)}</pubDate>'
        f"<dc:creator>{one.author}</dc:creator><dc:language>{one.language}</dc:language>"
        f'<description>{escape(one.paragraphs[0])}</description><enclosure url="{base}/foto/{one.number}.jpg" type="image/jpeg" length="0"/></item>'
        for one in shown
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:atom="http://www.w3.org/2005/Atom">
<channel><title>{OUTLET}</title><link>{base}/</link><description>Выдуманыя навіны</description><language>be</language>
<atom:link href="{base}/feed.xml" rel="self" type="application/rss+xml"/>
{items}
</channel></rss>
"""


def sitemap(base: str, shown: Sequence[Shown]) -> str:
    """Write the sitemap of all articles."""
    rows = "\n".join(
        f"<url><loc>{base}{one.path}</loc><lastmod>{(one.corrected_at or one.published_at).isoformat()}</lastmod></url>"
        for one in shown
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
{rows}
</urlset>
"""
