"""The sample sites say what they are meant to say, byte for byte, on both visits."""

import gzip
import hashlib
import http.client
import io
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from urllib.parse import urlsplit

import brotli
import imagehash
import lxml.etree
import lxml.html
import pytest
from PIL import Image

from osint_pipeline.samples import SampleSites, channel, clips, news, pictures, video, words


@pytest.fixture(scope="module")
def sites():
    with SampleSites() as serving:
        yield serving


@pytest.fixture(autouse=True)
def first_visit(request):
    if "sites" in request.fixturenames:
        request.getfixturevalue("sites").visit = 1


def get(url, *, method="GET", headers=None):
    """Fetch without following; answers (status, headers, body as sent)."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def tree(url):
    return lxml.html.fromstring(get(url)[2].decode())


def walk(sites):
    """Go back through the whole channel by its own pager; answers the pages' trees."""
    pages, url = [], sites.telegram
    while url:
        page = tree(url)
        pages.append(page)
        older = page.xpath("//a[@data-before]/@href")
        url = sites.bases["telegram"] + older[0] if older else None
    return pages


def blocks(pages):
    return {int(one.get("data-post").split("/")[1]): one for page in pages for one in page.xpath("//*[@data-post]")}


def test_starts_in_under_a_second_and_stops_at_once():
    begun = time.monotonic()
    with SampleSites() as serving:
        assert time.monotonic() - begun < 1
        assert len({urlsplit(base).port for base in serving.bases.values()}) == 6
        assert get(serving.trouble)[0] == 200
        begun = time.monotonic()
    assert time.monotonic() - begun < 2


def test_pager_reaches_every_post_twenty_ids_at_a_time(sites):
    pages = walk(sites)
    found = blocks(pages)
    posts = channel.posts(1)
    assert sorted(found) == [one.id for one in posts]
    assert len(posts) == 200
    assert max(found) > 220  # ids have gaps
    for page in pages:
        shown = [one for one in posts if one.id in blocks([page])]
        assert sum(len(one.ids) for one in shown) <= 20
    assert not tree(f"{sites.telegram}?before=1").xpath("//*[@data-post]")


def test_each_kind_of_message_is_there(sites):
    pages = walk(sites)

    def having(name):
        return [one for page in pages for one in page.find_class(name)]

    prefix = "tgme_widget_message_"
    for name in (
        "photo_wrap", "grouped_wrap", "video", "video_thumb", "voice", "sticker", "poll", "document_wrap", "reply",
        "forwarded_from", "from_author", "voters",
    ):  # fmt: skip
        assert having(prefix + name), name
    assert having("service_message") and having("not_supported")
    assert [one for one in having(prefix + "meta") if "edited" in one.text_content()]
    assert {len(one.xpath(".//video")) for one in having("js-message_video_player")} == {0, 2}
    assert len(having("message_video_duration")) < len(having("js-message_video_player"))  # a GIF has none


def test_second_visit_adds_three_edits_two_deletes_one_and_changes_all_views(sites):
    before = blocks(walk(sites))
    sites.visit = 2
    after = blocks(walk(sites))
    assert len(after.keys() - before.keys()) == 3
    assert len(before.keys() - after.keys()) == 1
    changed = [
        key
        for key in before.keys() & after.keys()
        if [one.text_content() for one in before[key].find_class("js-message_text")]
        != [one.text_content() for one in after[key].find_class("js-message_text")]
    ]
    assert len(changed) == 2
    for key in changed:
        assert "edited" in after[key].find_class("tgme_widget_message_meta")[0].text_content()
        assert "edited" not in before[key].find_class("tgme_widget_message_meta")[0].text_content()
    views = [
        {key: one.find_class("tgme_widget_message_views") for key, one in found.items()} for found in (before, after)
    ]
    both = [key for key in before if key in after and views[0][key]]
    assert len(both) > 150
    later = {one.id: one.views for one in channel.posts(2)}
    assert all(later[one.id] > one.views for one in channel.posts(1) if one.id in later)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prykladnaja_hrupa", "members, 38 online"),
        ("biez_pierahladu", "3 204 subscribers"),
        ("nikoha_niama", "right away"),
        ("zablakavany", "view posts from this channel"),
        ("prykladny_bot", "Start Bot"),
        ("prykladny_czalaviek", "Send Message"),
    ],
)
def test_refusals_are_redirects_to_a_landing_card(sites, name, said):
    status, headers, _ = get(f"{sites.bases['telegram']}/s/{name}")
    assert status == 302
    status, _, body = get(headers["Location"])
    assert status == 200 and said in body.decode()


def test_photos_come_from_another_port_and_repeat_byte_for_byte(sites):
    pages = "".join(lxml.html.tostring(one, encoding="unicode") for one in walk(sites))
    urls = list(dict.fromkeys(re.findall(r"url\('([^']+/file/photo-[^']+)'\)", pages)))
    assert len(urls) > 60 and all(url.startswith(sites.bases["cdn"]) for url in urls)
    same = [url for url in urls if f"/photo-{channel.REPOSTED[0]}." in url]
    assert len(same) > 1
    assert len({get(url)[2] for url in same}) == 1


def test_files_need_their_token(sites):
    pages = "".join(lxml.html.tostring(one, encoding="unicode") for one in walk(sites))
    film = re.search(r'src="([^"]+\.mp4\?token=[^"]+)"', pages)[1]
    voice = re.search(r'src="([^"]+\.ogg\?token=[^"]+)"', pages)[1]
    assert get(film)[2] == get(film, headers={"Range": "bytes=0-"})[2]
    assert get(film, headers={"Range": "bytes=4-7"})[2] == b"ftyp"
    assert get(film.partition("?")[0])[0] == 403
    assert get(voice)[2].startswith(b"OggS")


def test_mp4_boxes_fill_the_file_and_lead_to_its_frames():
    body = clips.mp4(1, 4)
    kinds, offset = [], 0
    while offset < len(body):
        size, kind = struct.unpack_from(">I4s", body, offset)
        kinds.append(kind)
        offset += size
    assert (kinds, offset) == ([b"ftyp", b"moov", b"mdat"], len(body))
    place = body.index(b"stco")
    first = struct.unpack_from(">I", body, place + 12)[0]
    assert Image.open(io.BytesIO(body[first:])).size == (320, 240)
    assert len(video.film(1)) >= 300_000


def test_different_scenes_are_far_apart_and_recompressed_ones_near():
    seeds = [*range(0, 60), *range(3000, 3036)]
    hashes = {seed: imagehash.phash(Image.open(io.BytesIO(pictures.photo(seed)))) for seed in seeds}
    assert min(hashes[one] - hashes[two] for one, two in combinations(seeds, 2)) > 10
    for seed in channel.REPOSTED:
        other = imagehash.phash(Image.open(io.BytesIO(pictures.recompressed(seed))))
        assert hashes[seed] - other <= 6
        assert pictures.recompressed(seed) != pictures.photo(seed)


def decoded(headers, body):
    coding = headers.get("Content-Encoding")
    return gzip.decompress(body) if coding == "gzip" else brotli.decompress(body) if coding == "br" else body


def test_articles_come_in_every_packing_charset_and_language(sites):
    seen = set()
    for one in news.articles(1):
        status, headers, body = get(sites.bases["news"] + one.path, headers={"Accept-Encoding": "gzip, br"})
        assert status == 200
        seen |= {
            headers.get("Content-Encoding"),
            headers.get("Transfer-Encoding"),
            headers["Content-Type"],
            one.language,
        }
        text = decoded(headers, body).decode("windows-1251" if one.old_charset else "utf-8")
        page = lxml.html.fromstring(text)
        assert page.xpath("//html/@lang") == [one.language]
        assert [paragraph.text_content() for paragraph in page.xpath("//article/p")] == list(one.paragraphs)
    assert {"gzip", "br", "chunked", None, "text/html", "text/html; charset=windows-1251", *words.LANGUAGES} <= seen


def test_feed_sitemap_listing_and_robots_agree(sites):
    base = sites.bases["news"]
    feed = lxml.etree.fromstring(get(base + "/feed.xml")[2])
    mapped = lxml.etree.fromstring(get(base + "/sitemap.xml")[2])
    places = [one.text for one in mapped.iter("{*}loc")]
    assert len(places) == 36 and [one.text for one in feed.iter("link")][1:] == places[:20]
    listed = [base + href for page in (1, 2, 3, 4) for href in tree(f"{base}/?page={page}").xpath("//h2/a/@href")]
    assert listed == places
    assert b"Disallow: /zakryta/" in get(base + "/robots.txt")[2]
    sites.visit = 2
    gone = [one for one in news.articles(2) if one.gone]
    assert [get(base + one.path)[0] for one in gone] == [410]
    assert len(news.articles(2)) == 38


def test_script_page_is_a_shell_on_the_wire(sites):
    _, _, body = get(sites.script_page)
    assert len(lxml.html.fromstring(body.decode()).text_content().split()) < 15
    assert b"paragraphs" in get(sites.bases["script"] + "/api/story.json")[2]


@pytest.mark.parametrize(
    ("name", "status"),
    [("missing", 404), ("gone", 410), ("forbidden", 403), ("login", 200), ("challenge", 200), ("empty", 200),
     ("no-content", 204), ("loop", 302), ("chain", 301), ("inside", 302), ("no-length", 200)],
)  # fmt: skip
def test_troubles_answer_as_named(sites, name, status):
    assert get(sites.troubled(name))[0] == status


def test_busy_and_tired_answer_at_the_second_try(sites):
    status, headers, _ = get(sites.troubled("busy"))
    assert (status, headers["Retry-After"]) == (429, "1")
    assert get(sites.troubled("busy"))[0] == 200
    assert [get(sites.troubled("tired"))[0] for _ in range(2)] == [503, 200]
    sites.visit = 1
    assert get(sites.troubled("tired"))[0] == 503


def test_cut_answers_end_early_and_drip_is_slow(sites):
    with pytest.raises(http.client.IncompleteRead):
        get(sites.troubled("cut"))
    with pytest.raises(http.client.IncompleteRead):
        get(sites.troubled("cut-chunked"))
    begun = time.monotonic()
    port = urlsplit(sites.trouble).port
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"GET /drip HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < 20:
            got += client.recv(100)
    assert 0.4 < time.monotonic() - begun < 5
    assert len(gzip.decompress(get(sites.troubled("bomb"), headers={"Accept-Encoding": "gzip"})[2])) == 32 << 20


def test_log_holds_the_digests_of_what_was_sent_on_a_kept_connection(sites):
    sites.log.clear()
    parts = urlsplit(sites.news)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    bodies = []
    for path in ("/feed.xml", "/robots.txt"):
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        bodies.append(connection.getresponse().read())
    connection.close()
    assert [one.sent_sha256 for one in sites.log] == [hashlib.sha256(body).hexdigest() for body in bodies]
    assert sites.log[0].content_sha256 == hashlib.sha256(gzip.decompress(bodies[0])).hexdigest()
    assert [(one.method, one.host, one.path, one.status) for one in sites.log] == [
        ("GET", parts.netloc, "/feed.xml", 200),
        ("GET", parts.netloc, "/robots.txt", 200),
    ]


def test_two_servings_send_equal_bytes_apart_from_their_ports():
    def texts(serving):
        ports = re.compile(rb":\d{4,5}\b")
        return [ports.sub(b":0", get(url)[2]) for url in (serving.telegram, serving.news, serving.video)]

    with SampleSites() as one, SampleSites() as two:
        assert texts(one) == texts(two)


def test_many_clients_at_once_are_answered(sites):
    with ThreadPoolExecutor(16) as pool:
        urls = [sites.bases["news"] + f"/foto/{number}.jpg" for number in range(32)]
        assert all(status == 200 for status, _, _ in pool.map(get, urls))
