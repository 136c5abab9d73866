"""What every site reads alike: text as a person sees it, counters, dates in five languages, the language itself."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from spiders.reading import (
    Precision,
    background_url,
    iso_time,
    language_of,
    number_of,
    seconds_of,
    text_of,
    tree_of,
    web_url,
    written_date,
)

NOW = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)  # a Thursday
MINSK = timezone(timedelta(hours=3))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("a<br>b<br/><br/>c", "a\nb\n\nc"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("<p>a</p>b<p>c</p>", "a\nb\nc"),
        ("a  b\n\t c", "a b c"),
        ("a<b> b</b> <i>c </i> d", "a b c d"),
        ("a<br> b", "a\nb"),
        ("a <br>b", "a\nb"),
        ("a<b> </b><br>b", "a\nb"),
        ("A<br><br><blockquote>Q</blockquote><br>R", "A\n\nQ\n\nR"),
        ("x<pre>\n a\n   b</pre>y", "x\n a\n   b\ny"),
        ("x <code>a_b</code>", "x a_b"),
        ('<i class="emoji" style="background-image:url(x)"><b>👍</b></i>', "👍"),
        ('<tg-emoji emoji-id="5"><i class="emoji"><b>🕊</b></i></tg-emoji>!', "🕊!"),
        ('<img class="emoji" alt="🔥"><img alt="a photo">', "🔥"),
        ("<tg-spoiler>secret</tg-spoiler>", "secret"),
        ("a<script>x()</script><style>b{}</style><!-- c -->d", "ad"),
        ("Tom &amp; &quot;J&quot; &#33;", 'Tom & "J" !'),
        ("a\u00a0b", "a\u00a0b"),
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("", ""),
    ],
)
def test_text_is_what_a_person_reads(html, text):
    assert text_of(tree_of(f"<div>{html}</div>".encode())) == text


def test_text_of_nothing_is_empty():
    assert text_of(None) == ""
    assert tree_of(b"") is None


def test_unreadable_bytes_do_not_end_the_page():
    root = tree_of(b"<p>\xd0\xbf\xff\xfe\0</p><p>after</p>")
    assert text_of(root) == "п\ufffd\ufffd\ufffd\nafter"


def test_a_page_of_another_charset_is_read_with_its_name():
    assert text_of(tree_of("<p>сход</p>".encode("windows-1251"), "windows-1251")) == "сход"


def test_a_deep_page_is_read_whole_or_not_at_all():
    assert text_of(tree_of(b"<div>" * 2000 + b"deep" + b"</div>" * 2000 + b"after")) == "deep\nafter"
    assert tree_of(b"<div>" * 3000 + b"deep" + b"</div>" * 3000 + b"after") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.49K", 2490),
        ("826K", 826_000),
        ("8.67M", 8_670_000),
        ("436.6K", 436_600),
        ("2", 2),
        ("11 286 994 subscribers", 11_286_994),
        ("97\u202f957 members, 4\u00a0138 online", 97_957),
        ("1\u2009234", 1234),
        ("1,234,567 views", 1_234_567),
        ("1.234.567", 1_234_567),
        ("1,2 тыс.", 1200),
        ("12,5 тис. переглядів", 12_500),
        ("3 млн", 3_000_000),
        ("2,5 tys.", 2500),
        ("4 members", 4),
        ("1.5", None),
        ("no", None),
        ("", None),
        (None, None),
        ("9" * 5000, 999_999_999_999_999),
    ],
)
def test_counters(text, number):
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:27", 27), ("1:02:05", 3725), ("12:40", 760), ("07", None), ("", None), (None, None)]
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


def test_iso_times_are_aware_utc_or_nothing():
    assert iso_time("2023-02-24T12:13:31+00:00") == datetime(2023, 2, 24, 12, 13, 31, tzinfo=UTC)
    assert iso_time("2023-02-24T12:13:31+0300") == datetime(2023, 2, 24, 9, 13, 31, tzinfo=UTC)
    assert iso_time("2023-02-24T12:13:31Z").tzinfo is UTC
    assert iso_time("2023-02-24T12:13:31") is None
    assert iso_time("2023-02-24T12:13:31", MINSK) == datetime(2023, 2, 24, 9, 13, 31, tzinfo=UTC)
    for bad in ("", None, "12:13", "0001-01-01T00:00:00+14:00", "2023-13-01T00:00:00Z", "9" * 5000):
        assert iso_time(bad) is None


@pytest.mark.parametrize(
    ("text", "at", "precision"),
    [
        ("5 сакавіка 2024, 14:30", "2024-03-05T11:30", "minute"),
        ("5 сакавіка", "2026-03-04T21:00", "day"),
        ("1 студзеня 2026", "2025-12-31T21:00", "day"),
        ("29 снежня 2025 года, 10:00", "2025-12-29T07:00", "minute"),
        ("3 чэрвеня 2025", "2025-06-02T21:00", "day"),
        ("9 жніўня 2020 г., 20:00:15", "2020-08-09T17:00:15", "second"),
        ("24 февраля 2023 г. в 12:13", "2023-02-24T09:13", "minute"),
        ("5 мар в 9:10", "2026-03-05T06:10", "minute"),
        ("7 мая", "2025-05-06T21:00", "day"),
        ("31 декабря", "2025-12-30T21:00", "day"),
        ("29 февраля", "2024-02-28T21:00", "day"),
        ("12 листопада 2024, 08:05", "2024-11-12T05:05", "minute"),
        ("1 червня 2025", "2025-05-31T21:00", "day"),
        ("3 серпня 2025 о 07:00", "2025-08-03T04:00", "minute"),
        ("24 lutego 2023, 12:13", "2023-02-24T09:13", "minute"),
        ("11 listopada 2025 r.", "2025-11-10T21:00", "day"),
        ("2 paź 2025", "2025-10-01T21:00", "day"),
        ("Feb 24, 2023", "2023-02-23T21:00", "day"),
        ("March 5th, 2024 at 4:05 pm", "2024-03-05T13:05", "minute"),
        ("24 February 2023, 12 am", "2023-02-23T21:00", "minute"),
        ("24.02.2023 12:13", "2023-02-24T09:13", "minute"),
        ("12:13 24.02.23", "2023-02-24T09:13", "minute"),
        ("2023-02-24", "2023-02-23T21:00", "day"),
        ("2023-02-24T12:13:31+00:00", "2023-02-24T12:13:31", "second"),
        ("сёння ў 10:03", "2026-03-05T07:03", "minute"),
        ("сегодня в 10:03", "2026-03-05T07:03", "minute"),
        ("сьогодні о 10:03", "2026-03-05T07:03", "minute"),
        ("dzisiaj o 10:03", "2026-03-05T07:03", "minute"),
        ("today at 5:03 pm", "2026-03-05T14:03", "minute"),
        ("учора", "2026-03-03T21:00", "day"),
        ("Вчера, 23:59", "2026-03-04T20:59", "minute"),
        ("вчора о 9:10", "2026-03-04T06:10", "minute"),
        ("wczoraj o 9:10", "2026-03-04T06:10", "minute"),
        ("yesterday", "2026-03-03T21:00", "day"),
        ("пазаўчора", "2026-03-02T21:00", "day"),
        ("только что", "2026-03-05T12:00", "minute"),
        ("5 минут назад", "2026-03-05T11:55", "minute"),
        ("12 хвилин тому", "2026-03-05T11:48", "minute"),
        ("3 гадзіны таму", "2026-03-05T09:00", "hour"),
        ("два часа назад", "2026-03-05T10:00", "hour"),
        ("час назад", "2026-03-05T11:00", "hour"),
        ("5 godzin temu", "2026-03-05T07:00", "hour"),
        ("an hour ago", "2026-03-05T11:00", "hour"),
        ("3 days ago", "2026-03-02T12:00", "day"),
        ("2 тыдні таму", "2026-02-19T12:00", "day"),
    ],
)
def test_dates_as_people_write_them(text, at, precision):
    read = written_date(text, now=NOW, zone=MINSK)
    assert (read.at.isoformat(), read.precision) == (
        datetime.fromisoformat(at + "+00:00").isoformat(),
        Precision(precision),
    )


@pytest.mark.parametrize(
    "text",
    ["", None, "5 человек", "31 листопада 2024", "25:00", "30 лютага", "2023", "foo 12", "3 марта 2025 27:00"],
)
def test_what_is_no_date_is_none(text):
    assert written_date(text, now=NOW) is None


def test_relative_words_are_resolved_in_the_pages_zone():
    late = datetime(2026, 3, 5, 22, 30, tzinfo=UTC)  # 6 March already in Minsk
    assert written_date("сёння ў 00:10", now=late, zone=MINSK).at == datetime(2026, 3, 5, 21, 10, tzinfo=UTC)


def test_far_counts_do_not_break_the_reader():
    assert written_date("9" * 50 + " hours ago", now=NOW) is not None
    assert written_date("999999 weeks ago", now=NOW) is None


BASE = "https://t.me/s/sample"


@pytest.mark.parametrize(
    ("style", "url"),
    [
        ("width:1px;background-image:url('https://c.example/a.jpg')", "https://c.example/a.jpg"),
        ('background-image:url("https://c.example/a,b(1).jpg");top:0', "https://c.example/a,b(1).jpg"),
        ("background: #fff url( //c.example/a.jpg ) no-repeat", "https://c.example/a.jpg"),
        ("background-image:url('/rel.png')", "https://t.me/rel.png"),
        ("background-image:url('data:image/svg+xml;base64,AA')", None),
        ("background-image:url('https://c.example/cut", None),
        ("background-image:url()", None),
        ("background-image:url('https://[')", None),
        ("", None),
        (None, None),
    ],
)
def test_pictures_in_styles(style, url):
    assert background_url(style, BASE) == url


def test_only_web_addresses_are_addresses():
    assert web_url("?before=3", BASE) == BASE + "?before=3"
    for bad in (
        "javascript:alert(1)",
        "data:,x",
        "tg://resolve",
        "mailto:a@example.org",
        "https://[",
        "",
        None,
        "http://",
    ):
        assert web_url(bad, BASE) is None


SENTENCES = {
    "be": """У Гомелі пакаралі блогера
        Суд прызначыў тры гады калоніі
        Стала вядома пра новую хвалю ператрусаў
        Праваабаронцы паведамляюць пра ціск на сем’і
        Журналістку асудзілі завочна
        Сёння ў Гродне
        Вязня не сустрэлі родныя
        Яе адпусцілі""",
    "ru": """В Гомеле наказали блогера
        Суд назначил три года колонии
        Стало известно о новой волне обысков
        Правозащитники сообщают о давлении на семьи
        Журналистку осудили заочно
        Сегодня в Гродно
        Узника не встретили родные
        Её отпустили""",
    "uk": """У Гомелі покарали блогера
        Суд призначив три роки колонії
        Стало відомо про нову хвилю обшуків
        Правозахисники повідомляють про тиск на родини
        Журналістку засудили заочно
        Сьогодні у Гродні
        В'язня не зустріли рідні
        Її відпустили""",
    "pl": """W Homlu ukarano blogera
        Sąd skazał go na trzy lata kolonii karnej
        Wiadomo o nowej fali rewizji
        Obrońcy praw człowieka informują o naciskach na rodziny
        Dziennikarkę skazano zaocznie
        Dzisiaj w Grodnie
        Krewni nie spotkali więźnia
        Wypuszczono ją""",
    "en": """A blogger was punished in Homel
        The court sentenced him to three years in a penal colony
        A new wave of searches has become known
        Human rights defenders report pressure on families
        The journalist was convicted in absentia
        Today in Hrodna
        The relatives did not meet the prisoner
        She was released""",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_short_posts_are_told_apart(language):
    read = {line.strip(): language_of(line) for line in SENTENCES[language].splitlines()}
    assert [line for line, told in read.items() if told != language] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        "❤️",
        "12:30",
        "https://example.org/the/news",
        "@sample_name",
        "#the_and_of",
        "суд",
        "Председник Србије је рекао да ће",
        "Der Präsident ist in Berlin und spricht über Größe",
        "Қазақстан Республикасының Президенті",
    ],
)
def test_what_is_none_of_the_five_or_too_short_is_none(text):
    assert language_of(text) is None
