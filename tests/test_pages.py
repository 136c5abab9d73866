"""Any page: what it is (verdict), what it says, and that no input brings its reader down."""

import os
from pathlib import Path

import pytest

from spiders import news
from spiders.page import LayoutChanged, PostKind, Verdict
from spiders.pages import classify, decode, parse_page
from spiders.verdict import judge

NEWS = Path(__file__).parent / "fixtures" / "news"
VERDICTS = sorted((NEWS / "verdicts").glob("*.html"))
LONG = " ".join(f"Слово{number} было сказано на суде." for number in range(60))


@pytest.mark.parametrize("path", VERDICTS, ids=lambda path: path.stem)
def test_a_refusal_that_answers_200_is_told_by_every_reader(path):
    expected = next(verdict for verdict in Verdict if path.stem.startswith(verdict.value))
    for parse in (parse_page, news.parse_article, news.parse):
        page = parse(path.read_bytes(), "https://vestka.example/be/352761", "text/html")
        assert (page.verdict, page.posts) == (expected, ()), page.reason


@pytest.mark.parametrize("path", VERDICTS, ids=lambda path: path.stem)
def test_a_long_article_may_quote_any_refusal(path):
    quoted = path.read_text().replace("<title>", "<title>Как сайт ответил журналистам в среду: ").replace("<h1>", "<p>")
    page = parse_page((quoted + f"<p>{LONG}</p>" * 5).encode(), "https://vestka.example/be/352761")
    assert page.verdict is Verdict.CONTENT, page.reason


def test_a_short_report_may_name_a_missing_page():
    text = "Минск, 5 марта. Сайт областного суда не работает. Вместо расписания посетители видят одну строку. " * 3
    html = f"<title>Сайт суда не работает третий день</title><p>{text}</p><p>Там написано: страница не найдена.</p>"
    assert parse_page(html.encode(), "https://v.example/n/12345").verdict is Verdict.CONTENT


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (401, "login_wall"),
        (403, "undecided"),
        (404, "gone"),
        (410, "gone"),
        (429, "undecided"),
        (451, "blocked"),
        (503, "undecided"),
    ],
)
def test_a_status_speaks_where_the_page_does_not(status, verdict):
    assert judge(b"<p>nginx</p>", "https://v.example/", "nginx", status)[0] == verdict


def test_a_403_with_a_bot_check_is_a_challenge():
    html = (NEWS / "verdicts" / "challenge_cloudflare.html").read_bytes()
    assert judge(html, "https://v.example/", "", 403)[0] is Verdict.CHALLENGE


def test_a_consent_page_is_told_by_its_address():
    assert judge(b"<p>x</p>", "https://consent.youtube.com/m?continue=x", "x")[0] is Verdict.CONSENT_WALL


def test_a_page_is_read_whole_and_followed_nowhere():
    html = f"<html lang=pl><title>Kronika</title><p>{LONG}</p><a href='/x'>x</a><img src=/i.jpg><img src=/dot.gif width=1 height=1>"
    page = parse_page(html.encode(), "https://www.k.example/o-nas/?utm_source=x")
    post = page.posts[0]
    assert (post.kind, post.platform, post.post_id, post.title) == (PostKind.PAGE, "k.example", "/o-nas", "Kronika")
    assert "Слово7 было" in post.text
    assert [media.url for media in post.media] == ["https://www.k.example/i.jpg"]
    assert (page.links, post.links) == ((), ("https://www.k.example/x",))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x89PNG\r\n", None),
        (b"%PDF-1.7", "text/html"),
        (b"anything", "video/mp4"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b'{"a": 1}', "application/json"),
    ],
)
def test_a_file_is_content_without_text(body, content_type):
    page = news.parse(body, "https://v.example/x", content_type)
    assert (page.verdict, page.text, page.posts) == (Verdict.CONTENT, None, ())


def test_what_stands_after_the_end_of_html_is_read_as_a_browser_shows_it():
    html = f"<html><body><p>{LONG}</p></body></html><p>Дописано после конца страницы, но видно читателю.</p>"
    assert "Дописано после конца" in parse_page(html.encode(), "https://v.example/about").posts[0].text


def test_an_empty_body_is_empty():
    assert parse_page(b"", "https://v.example/").verdict is Verdict.EMPTY


@pytest.mark.parametrize("charset", ["cp1251", "koi8-u", "iso-8859-5", "cp866", "utf-8"])
def test_cyrillic_without_a_label_is_recognised(charset):
    text = "Задержанных доставили в суд, адвоката к ним не пустили. Родные ждут."
    assert decode(f"<p>{text}".encode(charset)) == f"<p>{text}"


def test_a_byte_order_mark_goes_before_http_and_http_before_meta():
    assert decode("\ufeffы".encode("utf-16-le"), "text/html; charset=cp1251") == "ы"
    assert decode("<meta charset=utf-8>ы".encode("cp1251"), "text/html; charset=windows-1251").endswith("ы")
    assert decode("<meta charset=windows-1251>ы".encode("cp1251")).endswith("ы")


def test_sorts_of_html():
    assert classify((NEWS / "article_be.html").read_bytes(), "https://v.example/be/352761") == "article"
    assert classify((NEWS / "listing.html").read_bytes(), "https://v.example/news/society/") == "listing"
    assert classify(f"<p>{LONG}".encode(), "https://v.example/about") == "page"


def test_hostile_bodies_bring_no_reader_down(capsys):
    root = os.environ.get("OSINT_CORPORA")
    if not root:
        pytest.skip("OSINT_CORPORA is not set: no hostile pages to read")
    files = [path for path in sorted((Path(root) / "hostile").rglob("*")) if path.is_file()]
    refused = 0
    for path in files:
        body = path.read_bytes()
        try:
            news.parse(body, "https://o.example/x")
        except LayoutChanged:
            refused += 1
        if path.suffix.startswith(".htm"):
            news.parse_article(body, "https://o.example/x")
            parse_page(body, "https://o.example/x")
    with capsys.disabled():
        print(f"\nhostile bodies, n={len(files)}: none crashed, {refused} refused")
