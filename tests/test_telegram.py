"""Telegram's previews: each fixture folder is a page written by us and what must be read from it."""

import dataclasses
import json
import os
import random
from datetime import datetime
from pathlib import Path

import pytest

from spiders import telegram
from spiders.page import Gap, LayoutChanged, LinkKind, MediaKind, Verdict

FIXTURES = Path(__file__).parent / "fixtures" / "telegram"
CASES = sorted(folder.name for folder in FIXTURES.iterdir())


def plain(value):
    """Turn a value into JSON, leaving out what is empty."""
    if dataclasses.is_dataclass(value):
        named = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {name: one for name, one in named.items() if one not in (None, "", [], False)}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value


def page_of(case):
    return (FIXTURES / case / "page.html").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_read_as_expected(case):
    expected = json.loads((FIXTURES / case / "expected.json").read_text())
    page = telegram.parse(page_of(case), expected["url"])
    assert plain(page) == expected["page"]


# --- addresses ---


@pytest.mark.parametrize(
    ("typed", "fetched"),
    [
        ("@sample_name", "https://t.me/s/sample_name"),
        ("sample_name", "https://t.me/s/sample_name"),
        (" t.me/Sample_Name ", "https://t.me/s/Sample_Name"),
        ("https://t.me/s/sample_name", "https://t.me/s/sample_name"),
        ("http://telegram.me/sample_name/", "https://t.me/s/sample_name"),
        ("https://telegram.dog/sample_name", "https://t.me/s/sample_name"),
        ("https://sample-name.t.me", "https://sample-name.t.me"),
        ("sample_name.t.me", "https://t.me/s/sample_name"),
        ("https://sample_name.t.me/12", "https://t.me/sample_name/12?embed=1&mode=tme"),
        ("https://t.me/sample_name/123", "https://t.me/sample_name/123?embed=1&mode=tme"),
        ("https://t.me/sample_name/123?single", "https://t.me/sample_name/123?embed=1&mode=tme"),
        ("https://t.me/sample_name/5/123", "https://t.me/sample_name/123?embed=1&mode=tme"),
        ("https://t.me/s/sample_name/123", "https://t.me/s/sample_name/123"),
        ("https://t.me/s/sample_name?before=12&utm=x", "https://t.me/s/sample_name?before=12"),
        ("https://t.me/sample_name?q=суд", "https://t.me/s/sample_name?q=%D1%81%D1%83%D0%B4"),
        ("tg://resolve?domain=sample_name&post=7", "https://t.me/sample_name/7?embed=1&mode=tme"),
        ("http://127.0.0.1:8099/sample_name", "http://127.0.0.1:8099/s/sample_name"),
        ("http://127.0.0.1:8099/s/sample_name?before=9", "http://127.0.0.1:8099/s/sample_name?before=9"),
        ("http://127.0.0.1:8099/sample_name/3", "http://127.0.0.1:8099/sample_name/3?embed=1&mode=tme"),
        ("https://t.me/+AbCdEf", "https://t.me/+AbCdEf"),
        ("t.me/joinchat/AbCdEf", "https://t.me/joinchat/AbCdEf"),
        ("https://t.me/c/170/5", "https://t.me/c/170/5"),
    ],
)
def test_what_a_person_types_becomes_the_address_to_fetch(typed, fetched):
    assert telegram.wanted_url(typed) == fetched
    assert telegram.wanted_url(fetched) == fetched


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("@sample_name", True),
        ("t.me/sample_name", True),
        ("https://telegram.me/s/sample_name", True),
        ("https://sample_name.t.me/", True),
        ("https://t.me/+AbCdEf", True),
        ("https://t.me/share/url?url=x", False),
        ("https://t.me/addstickers/Sample", False),
        ("https://t.me/", False),
        ("https://example.org/s/sample_name", False),
        ("https://not-t.me/sample_name", False),
        ("ftp://t.me/sample_name", False),
        ("sample_name", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_matches_only_what_a_preview_may_show(url, ours):
    assert telegram.matches(url) is ours


# --- traps ---


def test_a_card_in_place_of_a_list_is_a_refusal_for_every_reader():
    for read in (telegram.parse, telegram.parse_channel, telegram.parse_landing, telegram.parse_post):
        page = read(page_of("landing-channel-preview-off"), "https://t.me/s/sample_name")
        assert (page.verdict, page.posts) == (Verdict.NO_PREVIEW, ())


def test_neither_list_nor_card_is_a_changed_layout():
    for html in (b"", b"   ", b"<html><body>Too many requests</body></html>", b"\0\xff\xfe", b'""', b"{}"):
        with pytest.raises(LayoutChanged):
            telegram.parse(html, "https://t.me/s/sample_name")


def test_a_list_without_messages_is_believed_only_if_it_is_whole():
    whole = page_of("channel-end")
    with pytest.raises(LayoutChanged):
        telegram.parse(whole[: whole.index(b"</section>\n  </div>\n</main>")], "https://t.me/s/sample_chronicle")


def test_messages_whose_ids_are_gone_are_a_changed_layout_not_an_empty_channel():
    html = page_of("channel").replace(b"data-post=", b"data-message=")
    with pytest.raises(LayoutChanged):
        telegram.parse(html, "https://t.me/s/sample_chronicle")


def test_a_cut_page_is_declared():
    whole = page_of("channel")
    page = telegram.parse(whole[: len(whole) // 2], "https://t.me/s/sample_chronicle")
    assert "cut_off" in dict(page.extra)


def test_a_cursor_that_leads_nowhere_new_is_not_followed():
    html = page_of("channel")
    for url in ("https://t.me/s/sample_chronicle?before=101", "https://t.me/s/sample_chronicle?before=50"):
        assert [link.kind for link in telegram.parse(html, url).links] == [LinkKind.NEWER]
    foreign = html.replace(b'href="/s/sample_chronicle?before=', b'href="https://example.org/s/x?before=')
    page = telegram.parse(foreign, "https://t.me/s/sample_chronicle?before=133")
    assert LinkKind.OLDER not in {link.kind for link in page.links}


def test_gaps_reach_up_to_the_cursor_and_a_search_has_none():
    html = page_of("channel-search")
    assert telegram.parse(html, "https://t.me/s/x?before=93").gaps == (Gap(first=4, last=89), Gap(first=91, last=92))
    assert telegram.parse(html, "https://t.me/s/x?after=1").gaps == (Gap(first=2, last=2), Gap(first=4, last=89))
    assert telegram.parse(html, "https://t.me/s/x?q=a").gaps == ()


def test_hostile_attributes_are_survived():
    html = page_of("channel")
    for old, new in (
        (b'data-view="', b'data-view="!!'),
        (b'data-view="', b'data-view="W10'),
        (b"/file/", b"/file/[\\\x00"),
        (b"https://cdn4", b"https://[cdn4"),
        (b"?single", b"?single=" + b"9" * 5000),
        (b'data-post="sample_chronicle/', b'data-post="sample_chronicle/' + b"9" * 5000),
        (b"url('", b"url("),
        (b'datetime="2026', b'datetime="0001'),
    ):
        try:
            telegram.parse(html.replace(old, new), "https://t.me/s/sample_chronicle")
        except LayoutChanged:
            assert old.startswith(b"data-post")


def test_a_text_nested_too_deep_is_not_half_read_in_silence():
    html = page_of("channel").replace(b"The court in Brest", b"<b>" * 3000 + b"The court in Brest")
    with pytest.raises(LayoutChanged):
        telegram.parse(html, "https://t.me/s/sample_chronicle")


def readers():
    return (telegram.parse, telegram.parse_channel, telegram.parse_landing, telegram.parse_post)


def corpora():
    folder = os.environ.get("OSINT_CORPORA")
    if not folder:
        pytest.skip("OSINT_CORPORA is not set: the saved real pages are not at hand")
    return Path(folder) / "telegram"


def check_cuts(whole, url):
    """Cut a page at every kilobyte: only LayoutChanged may come, and what is read stands in the whole page too."""
    known = {post.post_id for post in telegram.parse(whole, url).posts}
    for end in range(0, len(whole), 1024):
        for read in readers():
            try:
                page = read(whole[:end], url)
            except LayoutChanged:
                continue
            assert {post.post_id for post in page.posts} <= known
            assert page.verdict is not Verdict.EMPTY or not known


def check_garbled(whole, url, rounds):
    noise = random.Random(7)
    for _ in range(rounds):
        bad = bytearray(whole)
        for _ in range(noise.randint(1, 60)):
            at = noise.randrange(len(bad))
            bad[at : at + noise.randint(0, 9)] = noise.choice(
                (b"", b"<", b'"', b">", b"\xff", b"\0", b"</div>", b"<a ", b"'")
            )
        try:
            telegram.parse(bytes(bad), url)
        except LayoutChanged:
            pass


@pytest.mark.parametrize("case", CASES)
def test_cut_or_garbled_pages_raise_nothing_but_layout_changed(case):
    url = json.loads((FIXTURES / case / "expected.json").read_text())["url"]
    check_cuts(page_of(case), url)
    check_garbled(page_of(case), url, 25)


# --- saved real pages, where they are at hand ---

FRAME = b'<html><main class="tgme_main"><section class="tgme_channel_history">%s</section></main></html>'
KINDS = {
    MediaKind.PHOTO: "photo",
    MediaKind.STICKER: "photo",
    MediaKind.VIDEO: "video",
    MediaKind.VOICE: "audio",
    MediaKind.POSTER: "thumbnail-video",
}
ACCEPTED = {
    ("poll", "text"): "we keep the question and the options as text: they can be searched",
    ("service_message_pinned", "text"): "we keep the blanks around the emoji, as a person sees them",
    ("service_message_pinned", "urls"): "we keep the link to the channel in the text of the event",
    ("text_reply_to_video", "urls"): "the thumbnail of the quoted message is not a file of this one",
}


def in_their_words(post):
    """Name what we read as the saved answers name it."""
    extra = dict(post.extra)
    round_ = any(media.title == "round video" for media in post.media)
    urls = [["link", url] for url in (*post.links, *([extra["location_url"]] if "location_url" in extra else []))]
    for media in post.media:
        kind = KINDS[media.kind]
        urls.append(
            [{"video": "round-video", "thumbnail-video": "thumbnail-roundvideo"}[kind] if round_ else kind, media.url]
        )
    answer = {kind: url for kind, url in ((key, extra.get(key)) for key in ("preview_url", "preview_title")) if url}
    named = {"preview_image_url": "preview_image", "preview_site_name": "preview_site_name"}
    named["preview_description"] = "preview_description"
    answer |= {theirs: extra[ours] for theirs, ours in named.items() if ours in extra}
    if post.forwarded_from:
        answer |= {"forwarded_author": post.forwarded_from.name, "forwarded_author_url": post.forwarded_from.url}
    if post.reply_to:
        answer["reply_to_id"] = int(post.reply_to.url.rpartition("/")[2])
    return answer | {
        "id": int(post.post_id),
        "created_at": post.published_at.isoformat(),
        "channel": post.channel,
        "author": post.author,
        "edited": post.edited,
        "text": post.text or None,
        "views": post.views,
        "urls": sorted(urls),
    }


def test_the_saved_blocks_read_as_their_answers_say():
    folder, differing = corpora() / "tchan", set()
    cases = sorted(path.name.removesuffix(".expected.json") for path in folder.glob("*.expected.json"))
    assert len(cases) == 16  # 14 messages, a channel card, an empty search
    for case in cases:
        answer = json.loads((folder / f"{case}.expected.json").read_text())
        block = (folder / f"{case}.html").read_bytes()
        if case in ("channel_info", "no_posts_found"):
            continue
        (post,) = telegram.parse(FRAME % block, "https://t.me/s/tchantest").posts
        ours = in_their_words(post)
        answer["urls"] = sorted(answer["urls"])
        for name in sorted((answer.keys() | ours.keys()) - {"_type", "type"}):
            if answer.get(name) != ours.get(name):
                differing.add((case, name))
        assert post.service is (answer["type"] == "service")
        assert post.channel_id == "1591537674"
    assert differing == ACCEPTED.keys()


def test_the_saved_channel_info_and_empty_search_read_as_their_answers_say():
    folder = corpora() / "tchan"
    empty = telegram.parse((folder / "no_posts_found.html").read_bytes(), "https://t.me/s/some-channel?q=x")
    assert (empty.verdict, empty.posts) == (Verdict.EMPTY, ())
    answer = json.loads((folder / "channel_info.expected.json").read_text())
    block = (folder / "channel_info.html").read_bytes()
    page = telegram.parse(block + FRAME % b"", f"https://t.me/s/{answer['username']}")
    facts = dict(page.extra)
    assert (page.channel, page.title) == (answer["username"], answer["title"])
    assert facts["description"] == answer["description"]
    assert {name: int(facts[name]) for name in ("subscribers", "photos", "videos", "links")} == {
        name: answer[name] for name in ("subscribers", "photos", "videos", "links")
    }


def test_the_saved_whole_page_counts_ids_and_not_blocks():
    page = telegram.parse(
        (corpora() / "lifemodel/telegram-test-channel.html").read_bytes(), "https://t.me/s/test_channel"
    )
    assert [post.post_ids for post in page.posts] == [("1001", "1002"), ("1003",), ("1010", "1011", "1012")]
    assert page.gaps == (Gap(first=1004, last=1009),)
    assert dict(page.posts[1].extra)["hidden"] == "Please open Telegram to view this post"
    assert "All available resources" in page.posts[2].text


def test_the_saved_cards_are_refusals():
    folder = corpora() / "sherlock-telegram"
    group = telegram.parse((folder / "tme_group.html").read_bytes(), "https://t.me/s/python")
    channel = telegram.parse((folder / "tme_channel.html").read_bytes(), "https://t.me/durov")
    assert (group.verdict, dict(group.extra)["kind"]) == (Verdict.NO_PREVIEW, "group")
    assert (channel.verdict, dict(channel.extra)["kind"]) == (Verdict.UNDECIDED, "channel")
    assert [link.url for link in channel.links] == ["https://t.me/s/durov"]


def test_saved_pages_that_are_cut_or_garbled_raise_nothing_but_layout_changed():
    for path in (*corpora().glob("*/*.html"),):
        whole = path.read_bytes()
        if path.name != "channel_info.html":
            whole = FRAME % whole if path.parent.name == "tchan" else whole
            check_cuts(whole, "https://t.me/s/sample_name")
            check_garbled(whole, "https://t.me/s/sample_name", 10)
