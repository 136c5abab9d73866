"""Articles and pages of links: fields, charsets, media, hostile markup, and a floor of quality on real pages."""

import gzip
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
import tomllib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spiders import news
from spiders.page import LayoutChanged, LinkKind, MediaKind, PostKind, Verdict
from spiders.pages import article_shaped, stable_path

HERE = Path(__file__).parent
NEWS = HERE / "fixtures" / "news"
BE = "https://vestka.example/be/352761?utm_source=rss"


def corpus(name):
    root = os.environ.get("OSINT_CORPORA")
    if not root:
        pytest.skip("OSINT_CORPORA is not set: no real pages to measure on")
    return Path(root) / name


def digest_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = (f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def floor(name):
    return tomllib.loads((HERE / "quality.toml").read_text())[name]


def the_post(page):
    assert page.verdict is Verdict.CONTENT, page.reason
    return page.posts[0]


@pytest.fixture(scope="module")
def belarusian():
    return the_post(news.parse((NEWS / "article_be.html").read_bytes(), BE, "text/html"))


def test_an_article_is_named_by_its_canonical_address(belarusian):
    assert belarusian.kind is PostKind.ARTICLE
    assert belarusian.platform == "vestka.example"
    assert belarusian.post_id == "/be/352761"
    assert ("canonical", "https://www.vestka.example/be/352761?utm_source=tg") in belarusian.extra


def test_json_ld_goes_before_opengraph_and_may_be_broken(belarusian):
    assert belarusian.title == 'Затрыманні ў Вярхоўску: што вядома "зараз"'
    assert belarusian.author == "Аляксандра Вымысел, Ян Прыдуманы"
    assert belarusian.published_at == datetime(2026, 3, 5, 11, 30, tzinfo=UTC)
    assert belarusian.published_raw == "2026-03-05T14:30:00+03:00"


def test_the_language_is_read_from_the_text_not_from_a_false_attribute(belarusian):
    assert belarusian.language == "be"


def test_the_text_is_the_article_without_its_menu_and_asides(belarusian):
    assert "затрымалі не менш за дванаццаць" in belarusian.text
    assert "Эканоміка" not in belarusian.text
    assert "зусім іншае" not in belarusian.text


def test_media_are_absolute_largest_and_once(belarusian):
    found = {(media.kind, media.url) for media in belarusian.media}
    site = "https://vestka.example"
    assert found == {
        (MediaKind.PHOTO, "https://www.vestka.example/img/lead.jpg"),
        (MediaKind.PHOTO, f"{site}/img/lead.jpg"),
        (MediaKind.PHOTO, f"{site}/img/bus-1600.jpg"),
        (MediaKind.VIDEO, "https://video.example/embed/9"),
        (MediaKind.VIDEO, "https://www.youtube.com/embed/abc123"),
        (MediaKind.VIDEO, f"{site}/v/clip.mp4"),
        (MediaKind.POSTER, f"{site}/img/poster.jpg"),
        (MediaKind.DOCUMENT, f"{site}/docs/list.pdf"),
    }
    assert "https://t.me/vyrhousk_example/77" in belarusian.links


@pytest.mark.parametrize(
    "content_type", [None, "text/html", "text/html; charset=windows-1251", "text/html; charset=utf-8"]
)
def test_a_windows_1251_page_reads_right_with_any_label(content_type):
    post = the_post(
        news.parse((NEWS / "article_ru_cp1251.html").read_bytes(), "https://v.example/news/777123", content_type)
    )
    assert post.title == "В Верховске задержали троих рабочих"
    assert post.language == "ru"
    assert "По словам очевидцев" in post.text
    assert (post.published_at, post.published_raw) == (datetime(2026, 3, 5, 10, 15, tzinfo=UTC), "5 марта 2026, 10:15")


def test_a_canonical_address_on_another_site_does_not_rename_an_article():
    html = (NEWS / "article_be.html").read_bytes().replace(b"www.vestka.example/be/352761", b"else.example/other/1")
    post = the_post(news.parse_article(html, BE))
    assert (post.platform, post.post_id) == ("vestka.example", "/be/352761")


def test_a_placeholder_date_is_not_believed():
    html = (NEWS / "article_be.html").read_bytes().replace(b"2026-03-05T14:30:00+03:00", b"0001-01-01T00:00:00Z")
    assert the_post(news.parse_article(html, BE)).published_raw == "2026-03-06T09:00:00+03:00"


def test_a_declared_body_stands_in_for_a_page_that_shows_none():
    body = " ".join(f"слово{number}" for number in range(120))
    html = f"<script type='application/ld+json'>{json.dumps({'@type': 'NewsArticle', 'headline': 'Т', 'articleBody': body})}</script>"
    assert the_post(news.parse_article(f"<div id=root></div>{html}".encode(), BE)).text == body


def test_a_listing_leads_to_articles_pages_and_feeds_of_its_own_site():
    page = news.parse((NEWS / "listing.html").read_bytes(), "https://z.example/news/society/", "text/html")
    kinds = {kind: [link.url for link in page.links if link.kind is kind] for kind in LinkKind}
    assert kinds[LinkKind.ARTICLE] == [f"https://z.example/news/society/{12340 + n}.html" for n in range(1, 8)]
    assert kinds[LinkKind.OLDER] == ["https://z.example/news/society/page/2/"]
    assert kinds[LinkKind.FEED] == ["https://z.example/rss/all.rss", "https://z.example/rss/society.rss"]
    assert kinds[LinkKind.SITEMAP] == ["https://z.example/sitemap.xml"]
    assert page.links[2].title == "Новость номер 3 о событиях недели"
    assert page.links[2].published_at == datetime(2026, 3, 3, 10, tzinfo=UTC)


def test_a_listing_without_articles_is_a_changed_layout():
    with pytest.raises(LayoutChanged, match="link to an article"):
        news.parse_listing("<p>Добро пожаловать на наш сайт</p>".encode(), "https://z.example/news/")


@pytest.mark.parametrize(
    ("path", "shaped"),
    [
        ("/352761", True), ("/be_latn/352761", True), ("/352761/comments", False), ("/news/cellar/77123.html", True),
        ("/news/cellar/77123_print.html", False), ("/ru/news/2026/3/5/616161/", True), ("/2026/", False), ("/economics", False),
        ("/tag/sud-nad-zhurnalistami-v-minske", False), ("/sud-nad-zhurnalistami-v-minske", True), ("/pic/123456.jpg", False),
        ("/?p=1234", True), ("/", False), ("/a/32855555.html", True), ("/2026/03/", False),
    ],
)  # fmt: skip
def test_an_article_is_told_by_the_shape_of_its_address(path, shaped):
    assert article_shaped("https://z.example" + path) is shaped


def test_one_address_in_several_spellings_has_one_name():
    assert stable_path("https://z.example/суд/1?utm_source=x&id=7#top") == stable_path(
        "https://z.example/%D1%81%D1%83%D0%B4/1/?id=7"
    )


@pytest.mark.parametrize(
    "bomb",
    [
        b"<p>" + b"<" * 200_000, b"<p>" + b"&lt;" * 50_000, b"<div>" * 50_000, b"<li><blockquote>x" * 5_000, b"<a href=/x-123456>" * 3_000,
        b"<img srcset='" + b"a.jpg 1w, " * 50_000 + b"'>", b"<script type=application/ld+json>" + b"[" * 100_000 + b"</script>",
        b"<script type=application/ld+json>{\"@type\":\"NewsArticle\",\"articleBody\":\"" + b"\\u003c" * 100_000 + b"\"}</script>",
        b"<a href='http://[::1'>x</a><img src='http://['>", b"\0" * 1_000, b"", b"<!--" * 20_000, b"\xff\xfe<\0p\0",
    ],
)  # fmt: skip
def test_hostile_markup_neither_crashes_nor_takes_long(bomb):
    started = time.process_time()
    news.parse_article(bomb, "https://z.example/news/12345")
    assert time.process_time() - started < 10


def test_importing_the_readers_does_not_import_what_is_slow():
    code = "import sys, spiders.news; print([name for name in ('trafilatura', 'feedparser', 'htmldate', 'scrapy') if name in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent
    )
    assert told.stdout.strip() == "[]"


def shingles(text):
    words = re.findall(r"\w+", text or "")
    return Counter(tuple(words[at : at + 4]) for at in range(max(1, len(words) - 3)) if words)


def f1(pairs):
    """The benchmark's own measure: means of precision and recall over pages, on counted runs of four words."""
    precision, recall = [], []
    for true, told in pairs:
        one, other = shingles(true), shingles(told)
        both = sum((one & other).values())
        if other:
            precision.append(both / sum(other.values()))
        if one:
            recall.append(both / sum(one.values()))
    mean_p, mean_r = statistics.mean(precision), statistics.mean(recall)
    return 2 * mean_p * mean_r / (mean_p + mean_r)


def test_article_text_is_no_worse_than_trafilatura_on_the_public_benchmark(capsys):
    from trafilatura import extract

    folder, pinned = corpus("news/article-extraction-benchmark"), floor("article_text")
    assert digest_of(folder) == pinned["corpus_sha256"]
    ours, theirs, seconds = [], [], 0.0
    for name, truth in json.loads((folder / "ground-truth.json").read_text()).items():
        html = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes())
        started = time.process_time()
        page = news.parse_article(html, truth["url"])
        seconds += time.process_time() - started
        ours.append((truth["articleBody"], page.posts[0].text if page.posts else ""))
        theirs.append((truth["articleBody"], extract(html, include_comments=False)))
    with capsys.disabled():
        print(
            f"\narticle text, n={len(ours)}: F1 {f1(ours):.4f}, trafilatura {f1(theirs):.4f}; {1000 * seconds / len(ours):.0f} ms a page"
        )
    assert f1(ours) >= max(pinned["f1"], f1(theirs))


def test_title_authors_and_date_of_real_outlets(capsys):
    folder, pinned = corpus("news/fundus"), floor("article_fields")
    assert digest_of(folder) == pinned["corpus_sha256"]
    right, pages = Counter(), 0
    for told in sorted(folder.rglob("*.json")):
        for path in sorted(told.parent.glob(f"{told.stem}_2*.html.gz")):
            day = path.name.removesuffix(".html.gz")[-10:].replace("_", "-")
            versions = [
                each for each in json.loads(told.read_text()).values() if str(each["publishing_date"]).startswith(day)
            ]
            if not versions:
                continue
            pages += 1
            expected, post = (
                versions[0],
                the_post(news.parse_article(gzip.decompress(path.read_bytes()), "https://o.example/n/12345")),
            )
            right["title"] += post.title == expected["title"]
            right["authors"] += (post.author or "").split(", ") == expected["authors"]
            right["date"] += post.published_at == datetime.fromisoformat(expected["publishing_date"])
    with capsys.disabled():
        print(f"\narticle fields, n={pages}: {dict(right)}")
    assert pages == pinned["pages"]
    assert all(right[name] >= pinned[name] for name in ("title", "authors", "date"))
