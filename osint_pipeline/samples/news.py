"""The sample outlet: articles in five languages, what its addresses answer, and how the bytes are packed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from random import Random

from osint_pipeline.samples import news_markup as markup
from osint_pipeline.samples import pictures, words
from osint_pipeline.samples.channel import REPOSTED
from osint_pipeline.samples.server import Answer, Asked, Framing, known_by

MINSK = timezone(timedelta(hours=3))
FIRST = datetime(2026, 11, 3, 8, 15, tzinfo=MINSK)
ARTICLES, LISTED, IN_FEED = 36, 10, 20
FORBIDDEN = "/zakryta/"
PACKING = (
    ("gzip", Framing.LENGTH),
    ("br", Framing.LENGTH),
    (None, Framing.CHUNKED),
    ("gzip", Framing.CHUNKED),
    (None, Framing.LENGTH),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """One article. `picture` is a scene; a `reposted` one is shown smaller and of lower quality than elsewhere."""

    number: int
    path: str
    language: str
    title: str
    paragraphs: tuple[str, ...]
    published_at: datetime
    author: str
    picture: int
    reposted: bool = False
    linked_data: bool = True
    old_charset: bool = False
    corrected_at: datetime | None = None
    gone: bool = False


@lru_cache(maxsize=4)
def articles(visit: int) -> tuple[Article, ...]:
    """List the articles at a visit, oldest first: at the second two more, one corrected, one withdrawn (410)."""
    first = tuple(_article(number) for number in range(ARTICLES))
    if visit == 1:
        return first
    fixed = first[-3]
    note = words.TONGUES[fixed.language].correction
    changed = replace(
        fixed, paragraphs=(*fixed.paragraphs, note), corrected_at=fixed.published_at + timedelta(hours=30)
    )
    gone = replace(first[-6], gone=True)
    kept = {changed.number: changed, gone.number: gone}
    return (*(kept.get(one.number, one) for one in first), _article(ARTICLES), _article(ARTICLES + 1))


def _article(number: int) -> Article:
    language = words.LANGUAGES[number % 5]
    seed = f"article-{number}"
    when = FIRST + timedelta(hours=11 * number, minutes=Random(seed).randrange(60))
    reposted = number % 12 in (2, 5, 8)
    return Article(
        number=number,
        path=f"/{language}/{when:%Y/%m/%d}/navina-{number + 101}.html",
        language=language,
        title=words.headline(seed, language),
        paragraphs=words.paragraphs(seed, language),
        published_at=when,
        author=words.TONGUES[language].names[number % 6],
        picture=REPOSTED[number % 12 // 3 % 3] if reposted else 3000 + number,
        reposted=reposted,
        linked_data=number % 3 != 1,
        old_charset=language in ("be", "ru", "uk") and number % 4 == 1,
    )


class News:
    """Answers one request. `base` is its own address, known once it is served."""

    def __init__(self, visit: Callable[[], int]) -> None:
        self._visit = visit
        self.base = ""

    def __call__(self, asked: Asked) -> Answer:
        """Answer one request."""
        shown = [one for one in articles(self._visit()) if not one.gone][::-1]
        if asked.path == "/":
            return self._listing(shown, asked.query.get("page", "1"))
        if asked.path == "/robots.txt":
            return Answer(body=markup.robots(self.base, FORBIDDEN).encode(), media_type="text/plain")
        if asked.path == "/feed.xml":
            body = markup.feed(self.base, shown[:IN_FEED]).encode()
            return known_by(Answer(body=body, media_type="application/rss+xml; charset=utf-8", coding="gzip"))
        if asked.path == "/sitemap.xml":
            body = markup.sitemap(self.base, shown).encode()
            return known_by(Answer(body=body, media_type="application/xml", coding="gzip"))
        if asked.path.startswith("/foto/"):
            return self._picture(asked.path)
        if asked.path.startswith(FORBIDDEN):
            return Answer(body="<html><body>Толькі для рэдакцыі</body></html>".encode())
        return self._article(asked.path)

    def _listing(self, shown: list[Article], page: str) -> Answer:
        number = int(page) if page.isdigit() else 1
        part = shown[(number - 1) * LISTED : number * LISTED]
        if not part:
            return Answer(status=404, body="Старонкі няма".encode())
        more = number * LISTED < len(shown)
        return known_by(Answer(body=markup.listing(self.base, part, number, more).encode(), coding="gzip"))

    def _article(self, path: str) -> Answer:
        found = next((one for one in articles(self._visit()) if one.path == path), None)
        if found is None or found.gone:
            return Answer(status=410 if found else 404, body="<html><body>Старонкі няма</body></html>".encode())
        coding, framing = PACKING[found.number % len(PACKING)]
        charset = "windows-1251" if found.old_charset else "utf-8"
        told = found.number % 8 != 1  # else only the page's own meta element names the charset
        answer = Answer(
            body=markup.article(self.base, found, charset).encode(charset, "xmlcharrefreplace"),
            media_type=f"text/html; charset={charset}" if told else "text/html",
            coding=coding,
            framing=framing,
        )
        return known_by(answer, found.corrected_at or found.published_at) if found.number % 3 else answer

    def _picture(self, path: str) -> Answer:
        name = path.removeprefix("/foto/").removesuffix(".jpg")
        found = next((one for one in articles(self._visit()) if str(one.number) == name), None)
        if found is None:
            return Answer(status=404, body=b"", media_type="text/plain")
        body = pictures.recompressed(found.picture) if found.reposted else pictures.photo(found.picture)
        return known_by(Answer(body=body, media_type="image/jpeg", headers=(("Cache-Control", "max-age=3600"),)))
