"""Feeds and sitemaps: what they lead to, how far broken ones are read, what hostile ones must not do."""

import gzip
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spiders import news
from spiders.feeds import parse_feed, parse_sitemap
from spiders.page import LayoutChanged, LinkKind, Verdict
from spiders.pages import classify

FEEDS = Path(__file__).parent / "fixtures" / "feeds"
URL = "https://vestka.example/rss"


def read(name, parse=parse_feed, url=URL):
    return parse((FEEDS / name).read_bytes(), url)


def test_an_rss_feed_gives_its_entries_as_links():
    page = read("rss.xml")
    assert (page.title, page.language, page.verdict) == ("Вестка & навіны", "be", Verdict.CONTENT)
    first, second = page.links
    assert (first.kind, first.url, first.title) == (
        LinkKind.ARTICLE,
        "https://vestka.example/be/352761",
        "Суд у Вярхоўску",
    )
    assert first.published_at == datetime(2026, 3, 5, 11, 30, tzinfo=UTC)
    assert (second.url, second.title, second.published_at) == (
        "https://vestka.example/be/352762",
        "Другая навіна",
        None,
    )


def test_atom_and_json_feeds_are_read_alike():
    atom, board = read("atom.xml"), read("feed.json")
    assert atom.links[0].published_at == datetime(2026, 3, 5, 9, tzinfo=UTC)
    assert atom.links[0].url == "https://kronika.example/2026/03/05/rozprawa"
    assert (board.title, board.language, board.links[0].title) == ("Дошка", "uk", "Обшук")
    assert board.links[0].published_at == datetime(2026, 3, 5, 8, tzinfo=UTC)


def test_a_torn_feed_is_read_as_far_as_it_goes():
    assert [link.url for link in read("broken.rss").links] == [
        "https://r.example/news/10001",
        "https://r.example/news/10002",
    ]


@pytest.mark.parametrize(
    "body", [b"", b"hello world", b"<html><body><p>Forbidden</p></body></html>", b"{}", b"\x00" * 11, b"[]"]
)
def test_what_is_no_feed_is_a_changed_layout_not_an_empty_success(body):
    with pytest.raises(LayoutChanged):
        parse_feed(body, URL, "application/rss+xml")


def test_eleven_bytes_served_as_a_feed_are_noticed_by_the_dispatcher():
    with pytest.raises(LayoutChanged):
        news.parse(b"\xef\xbb\xbf<rs/>\r\n\t", URL, "application/rss+xml")


def test_a_feed_without_entries_is_empty():
    assert parse_feed(b"<rss version='2.0'><channel><title>x</title></channel></rss>", URL).verdict is Verdict.EMPTY


def test_a_body_that_names_a_file_does_not_open_it(tmp_path):
    path = tmp_path / "feed"
    path.write_bytes((FEEDS / "rss.xml").read_bytes())
    with pytest.raises(LayoutChanged):
        parse_feed(str(path).encode(), URL)


@pytest.mark.parametrize("name", ["billion_laughs.xml", "external_entity.xml"])
def test_entities_are_not_expanded_and_the_entry_is_still_read(name):
    page = read(name)
    assert page.links[0].url.startswith("https://e.example/news/")
    assert len(page.links[0].title or "") < 100
    assert "root:" not in (page.links[0].title or "")


def test_a_feed_is_cut_at_its_bound_and_says_so():
    body = (FEEDS / "rss.xml").read_bytes()
    page = parse_feed(body + b" " * 100, URL, max_bytes=len(body) - 60)
    assert page.extra == (("truncated_at_bytes", str(len(body) - 60)),)
    assert page.links


def test_a_news_sitemap_tells_publication_before_last_change():
    first, second = read("sitemap_news.xml", parse_sitemap).links
    assert (first.published_at, first.title) == (datetime(2026, 3, 5, 10, tzinfo=UTC), "Суд")
    assert (second.kind, second.published_at) == (LinkKind.ARTICLE, datetime(2026, 3, 6, tzinfo=UTC))


def test_an_index_leads_to_sitemaps_packed_or_not():
    body = (FEEDS / "sitemap_index.xml").read_bytes()
    for each in (body, gzip.compress(body)):
        assert [(link.kind, link.url) for link in parse_sitemap(each, URL).links] == [
            (LinkKind.SITEMAP, "https://v.example/s1.xml.gz")
        ]


def test_a_gzip_bomb_is_unpacked_to_the_bound_only():
    plain = (FEEDS / "sitemap_news.xml").read_bytes()
    bomb = gzip.compress(plain.replace(b"</urlset>", b"") + b" " * 50_000_000)
    page = parse_sitemap(bomb, URL, max_bytes=100_000)
    assert len(page.links) == 2
    assert page.extra == (("truncated_at_bytes", "100000"),)


def test_a_torn_gzip_sitemap_is_read_as_far_as_it_goes():
    packed = gzip.compress((FEEDS / "sitemap_news.xml").read_bytes())
    assert parse_sitemap(packed[:-20], URL).links


def test_a_list_of_addresses_is_a_sitemap_and_prose_is_none():
    assert len(parse_sitemap(b"https://v.example/n/1\nhttps://v.example/n/2\n", URL).links) == 2
    with pytest.raises(LayoutChanged):
        parse_sitemap(b"<html><p>nothing</p></html>", URL)


def test_sitemap_entities_are_not_expanded():
    body = b"<!DOCTYPE x [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><urlset><url><loc>https://v.example/&f;1</loc></url></urlset>"
    assert all("root" not in link.url for link in parse_sitemap(body, URL).links)


def test_readers_are_chosen_by_what_the_body_is():
    chosen = {path.name: classify(path.read_bytes(), URL) for path in FEEDS.iterdir()}
    assert {name for name, sort in chosen.items() if sort == "sitemap"} == {"sitemap_news.xml", "sitemap_index.xml"}
    assert {sort for name, sort in chosen.items() if "sitemap" not in name} == {"feed"}
    assert classify(b"<html><p>Forbidden</p></html>", URL, "application/rss+xml") == "page"


def test_every_feed_of_two_parsers_suites_is_read_or_refused(capsys):
    root = os.environ.get("OSINT_CORPORA")
    if not root:
        pytest.skip("OSINT_CORPORA is not set: no foreign feeds to read")
    files = [path for path in sorted((Path(root) / "feeds").rglob("*")) if path.is_file()]
    counted, same, compared, slowest = {"read": 0, "refused": 0}, 0, 0, 0.0
    for path in files:
        started = time.process_time()
        try:
            page = parse_feed(path.read_bytes(), "http://example.org/feed")
            counted["read"] += 1
        except LayoutChanged:
            page = None
            counted["refused"] += 1
        slowest = max(slowest, time.process_time() - started)
        expected = path.with_suffix(".json")
        if page and path.suffix == ".xml" and expected.exists():
            items = (
                json.loads(expected.read_text()).get("items") or json.loads(expected.read_text()).get("entries") or []
            )
            compared += 1
            same += len(page.links) == sum(bool(_address(item)) for item in items)
    with capsys.disabled():
        print(
            f"\nfeeds, n={len(files)}: {counted}; links as gofeed expects {same} of {compared}; slowest {slowest:.2f} s"
        )
    assert len(files) == 444
    assert slowest < 5
    assert same >= 185


def _address(item):
    links = item.get("links") or [None]
    return item.get("link") or (links[0].get("href") if isinstance(links[0], dict) else links[0])
