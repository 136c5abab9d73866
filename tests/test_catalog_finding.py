"""What was written is found again: by words in five languages, URL, source, kind and time; with the records that prove it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import event, text
from test_catalog import NOON, a_capture, a_post, a_record, digest

from storage.batches import commit_batch
from storage.catalog import Catalog
from storage.exchange import RecordType
from storage.finding import find, list_runs, one_run, records_of, show, versions_of
from storage.ids import new_id
from storage.journal import RunEnd
from storage.rows import (
    Batch,
    CaptureKind,
    CaptureState,
    Counters,
    MediaRow,
    MediaState,
    Outcome,
    PageMediaRow,
    RunRow,
    SourceRow,
)
from storage.runs import begin_run, end_run
from storage.search import Wanted, search
from storage.sources import ensure_source
from storage.warc_files import warc_opened, warc_preserved

TEXTS = {
    "be": "«Затрыманне» ў Менску: сям’я чакае ля турмы, 12 чалавек",
    "ru": "Задержали ещё троих; ёлку у РУВД убрали. За́мок",
    "uk": "Затримання у Львові — п'ятьох відпустили",
    "pl": "Zatrzymano pięć osób w Białymstoku",
    "en": "Detentions continue: don't go near the pre-trial centre",
    "decomposed": "Шпи\u0306таль и\u0306 у\u0306 Гомелі",  # й and ў typed as two characters
    "tag": "#задержания_минск и mail@example.org",
}


@pytest.fixture
def catalog(database_url):
    with Catalog.open(database_url) as opened:
        yield opened


@pytest.fixture
def run(catalog):
    source = ensure_source(
        catalog, SourceRow(slug="kanal", url="https://t.me/s/kanal", spider="telegram", created_at=NOON)
    )
    row = RunRow(source_id=source.id, started_at=NOON)
    begin_run(catalog, row)
    return row


def ids(found):
    return [one.post_id for one in found]


def test_words_are_found_in_five_languages_by_their_beginnings(catalog, run):
    capture = a_capture(run)
    given = tuple(a_post(capture, post_id=key, text=value) for key, value in TEXTS.items())
    commit_batch(catalog, Batch(captures=(capture,), posts=given))
    for words, wanted in {
        "затрыманне": ["be"],
        "ЗАТРЫМ": ["be"],
        "сям'я": ["be"],
        "сямʼя": ["be"],
        "ў": ["be", "decomposed"],
        "задерж": ["ru", "tag"],
        "Задерж*": ["ru", "tag"],
        "задержали троих": ["ru"],
        "ещё": ["ru"],
        "еще": [],
        "ёлк": ["ru"],
        "елк": [],
        "замок": ["ru"],
        "затриманн": ["uk"],
        "пятьох": ["uk"],
        "BIAŁYM": ["pl"],
        "pięc": [],
        "pięć": ["pl"],
        "detention": ["en"],
        "dont": ["en"],
        "pre-trial": ["en"],
        "trial": ["en"],
        "шпита": [],
        "шпіта": [],
        "шпий": [],
        "шпитал": [],
        "шпи\u0306": ["decomposed"],
        "шпй": ["decomposed"],
        "й": ["decomposed"],
        "минск": ["tag"],
        "12": ["be"],
        "'": [],
        "!!!": [],
        "": [],
        "задержали & !троих | ':*": ["ru"],
        "\\ \x00": [],
        "нет-такого": [],
    }.items():
        assert sorted(ids(find(catalog, words))) == wanted, words


def test_words_are_found_by_their_index(catalog, run):
    """Not by reading the words of every version, which the planner takes for the shorter way while the index is being filled."""
    capture, chance = a_capture(run), Random(1)
    words = ["".join(chance.choices("абвгдежзіклмно", k=9)) for _ in range(5000)]
    posts = [a_post(capture, post_id=str(n), text=" ".join(chance.choices(words, k=250))) for n in range(2000)]
    commit_batch(catalog, Batch(captures=(capture,), posts=tuple(posts)))
    plans = []
    with catalog.begin() as connection:
        connection.execute(text("ANALYZE post_versions"))

        @event.listens_for(connection, "before_cursor_execute")
        def explain(connection, cursor, statement, parameters, *_):
            if "@@" in statement:
                cursor.execute(f"EXPLAIN {statement}", parameters)
                plans.append("\n".join(line for (line,) in cursor.fetchall()))

        for kind in (None, "post", "media"):
            wanted = Wanted(words=f"'{words[0]}':*", url=None, source=None, kind=kind, since=None, until=None)
            assert (len(search(connection, wanted, 1000)) > 50) == (kind != "media")
            assert connection.scalar(text("SHOW enable_indexscan")) == "on"
        asked = text(f"SELECT id FROM post_versions WHERE words @@ to_tsquery('simple', '{words[0]}:*')")
        connection.execute(asked)
    *ours, bare = plans
    assert "words_idx" not in bare, "the planner has learned: then it need not be kept from it"
    assert len(ours) == 3 and all("words_idx" in one and "Seq Scan on post_versions" not in one for one in ours), ours


def test_only_the_newest_version_is_searched(catalog, run):
    capture = a_capture(run)
    commit_batch(catalog, Batch(captures=(capture,), posts=(a_post(capture, text="старый текст"),)))
    commit_batch(catalog, Batch(posts=(a_post(capture, text="новый текст", edited=True),)))
    assert find(catalog, "старый") == []
    [found] = find(catalog, "новый")
    assert [one.text for one in versions_of(catalog, found.id)] == ["старый текст", "новый текст"]


def test_since_holds_the_first_moment_and_until_does_not(catalog, run):
    capture = a_capture(run, captured_at=NOON + timedelta(hours=5))
    given = tuple(
        a_post(capture, post_id=str(n), published_at=NOON + timedelta(hours=n) if n else None) for n in range(4)
    )
    commit_batch(catalog, Batch(captures=(capture,), posts=given))
    assert ids(find(catalog)) == ["0", "3", "2", "1"]  # newest first; without a date: when it was first seen
    assert ids(find(catalog, since=NOON + timedelta(hours=2))) == ["0", "3", "2"]
    assert ids(find(catalog, until=NOON + timedelta(hours=2))) == ["1"]
    assert ids(find(catalog, since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=3))) == ["2", "1"]
    assert ids(find(catalog, limit=2)) == ["0", "3"]
    assert ids(find(catalog, source="kanal", kind="post", words="троих", limit=1)) == ["0"]
    assert find(catalog, source="other") == [] and find(catalog, kind="article") == []


def test_pages_that_no_post_was_read_from_are_found_as_pages(catalog, run):
    read, unread = a_capture(run), a_capture(run, url="https://t.me/nobody", verdict="login_wall")
    robots = a_capture(run, url="https://t.me/robots.txt", kind=CaptureKind.ROBOTS)
    file = a_capture(run, url="https://cdn/a_b%20.jpg", kind=CaptureKind.FILE, final_url="https://cdn2/x.jpg")
    commit_batch(catalog, Batch(captures=(read, unread, robots, file), posts=(a_post(read),)))
    [page] = find(catalog, kind="page")
    assert (page.id, page.kind, page.verdict, page.text) == (unread.id, "page", "login_wall", None)
    assert {one.kind for one in find(catalog)} == {"post", "page"}
    assert find(catalog, "login") == []
    assert [one.id for one in find(catalog, url="https://t.me/nobody")] == [unread.id]
    assert [one.id for one in find(catalog, url="https://cdn/a_b%*")] == [file.id]
    assert find(catalog, url="https://cdn/aXb*") == []
    assert [one.id for one in find(catalog, url="https://cdn2/x.jpg")] == [file.id]
    assert ids(find(catalog, url="https://t.me/kanal/7")) == ["7"]
    assert len(find(catalog, url="https://t.me/*")) == 2


def test_media_are_found_with_their_posts_words_or_their_own_title(catalog, run):
    page, film = a_capture(run), a_capture(run, url="https://video/1", kind=CaptureKind.MEDIA)
    photo = MediaRow(kind="photo", state=MediaState.OFFERED, url="https://cdn/1.jpg", item_id="7")
    video = MediaRow(kind="video", state=MediaState.CAPTURED, title="Марш у Мінску", file_capture_id=film.id)
    commit_batch(
        catalog,
        Batch(
            captures=(page, film),
            posts=(a_post(page, media=(photo,)),),
            media=(PageMediaRow(capture_id=film.id, media=video),),
        ),
    )
    assert {one.id for one in find(catalog, kind="media")} == {photo.id, video.id}
    assert [one.id for one in find(catalog, "задерж", kind="media")] == [photo.id]
    assert [(one.id, one.kind) for one in find(catalog, "марш")] == [(video.id, "media")]
    assert [one.kind for one in find(catalog, "задерж")] == ["post"]
    [shown] = find(catalog, url="https://cdn/1.jpg")[:1] or find(catalog, url="https://cdn/1.jpg", kind="media")
    assert (shown.id, shown.post_id, shown.captures) == (photo.id, "7", (page.id,))


def test_a_post_names_its_captures_and_all_their_records_with_the_revisits_originals(catalog, run):
    first, second = a_capture(run), a_capture(run, captured_at=NOON + timedelta(hours=1), verdict="content")
    elsewhere = a_capture(run, url="https://t.me/s/kanal?before=9")
    request = a_record(elsewhere, type=RecordType.REQUEST, payload_sha256=None, offset_bytes=5).ref
    original = a_record(elsewhere, date="2026-11-19T00:00:00Z", warc="0.warc.gz")
    request = replace(request, concurrent_to=original.ref.record_id, date="2026-11-19T00:00:00Z", warc="0.warc.gz")
    original = replace(original, ref=replace(original.ref, concurrent=(request,)))
    whole = a_record(first, payload="first")
    revisit = a_record(second, type=RecordType.REVISIT, refers_to=original.ref.record_id, date="2026-11-20T13:00:00Z")
    post = a_post(first)
    commit_batch(catalog, Batch(captures=(first, elsewhere), records=(whole, original), posts=(post,)))
    commit_batch(catalog, Batch(captures=(second,), records=(revisit,), posts=(a_post(second),)))
    shown = show(catalog, post.id)
    assert (shown.capture, shown.captures, shown.run) == (second.id, (first.id, second.id), run.id)
    assert (shown.captured_at, shown.verdict) == (second.captured_at, "content")
    wanted = [original.ref.record_id, request.record_id, whole.ref.record_id, revisit.ref.record_id]
    assert [one.record_id for one in records_of(catalog, post.id)] == wanted
    assert list(shown.records) == records_of(catalog, post.id)
    assert [one.record_id for one in show(catalog, second.id).records] == [*wanted[:2], wanted[3]]
    [found] = find(catalog, "троих")
    assert [one.record_id for one in found.records] == [revisit.ref.record_id]


def test_the_names_for_programs_are_those_of_the_contract(catalog, run):
    capture = a_capture(run)
    photo = MediaRow(kind="photo", state=MediaState.OFFERED, url="https://cdn/1.jpg")
    post = a_post(capture, published_at=NOON.replace(tzinfo=UTC), views=5, media=(photo,), forwarded_from={"name": "А"})
    commit_batch(catalog, Batch(captures=(capture,), records=(a_record(capture, status=200),), posts=(post,)))
    [found] = find(catalog)
    plain = found.to_json()
    assert list(plain) == [
        *("id", "capture", "captures", "run", "source", "kind", "url", "post_id", "author", "title", "text"),
        *("language", "concepts", "published_at", "published_raw", "edited", "views", "forwarded_from", "reply_to"),
        *("media", "captured_at", "verdict", "records"),
    ]
    assert plain["published_at"] == "2026-11-20T12:00:00+00:00" and plain["captures"] == [str(capture.id)]
    assert plain["records"] == [
        {
            "url": capture.url,
            "type": "response",
            "status": 200,
            "warc": "a.warc.gz",
            "offset": 0,
            "length": 1000,
            "record_sha256": digest("record"),
            "payload_sha256": digest("payload"),
        }
    ]
    assert plain["media"][0]["state"] == "offered" and plain["forwarded_from"] == {"name": "А"}


def test_a_run_is_shown_with_its_counts_and_its_warcs(catalog, run):
    for name in ("a", "b"):
        warc_opened(catalog, name, run.id, f"/spool/{name}")
    warc_preserved(catalog, "a", at=NOON)
    later = RunRow(source_id=run.source_id, started_at=NOON + timedelta(days=1))
    begin_run(catalog, later)
    counters = Counters(wanted=2, captured=2, bytes=7)
    end_run(catalog, run.id, RunEnd(outcome=Outcome.COMPLETE, counters=counters, ended_at=NOON))
    assert [one.run for one in list_runs(catalog)] == [later.id, run.id]
    assert [one.run for one in list_runs(catalog, limit=1, source="kanal")] == [later.id]
    summary = one_run(catalog, run.id)
    assert summary == show(catalog, run.id)
    assert list(summary.to_json())[:16] == [
        *("run", "outcome", "wanted", "captured", "refused", "truncated", "failed", "revisits", "similar", "gaps"),
        *("not_offered", "posts", "media", "warc_files", "bytes", "preserved"),
    ]
    assert (summary.outcome, summary.warc_files, summary.preserved, summary.bytes) == ("complete", 2, 1, 7)
    assert (
        one_run(catalog, new_id()) is None and show(catalog, new_id()) is None and records_of(catalog, new_id()) == []
    )


def test_a_refused_capture_is_found_with_its_verdict(catalog, run):
    refused = a_capture(run, state=CaptureState.REFUSED, verdict="blocked", reason="451")
    commit_batch(catalog, Batch(captures=(refused,), records=(a_record(refused, status=451),)))
    [found] = find(catalog, source="kanal", since=datetime(2026, 1, 1, tzinfo=UTC))
    assert (found.verdict, found.records[0].status) == ("blocked", 451)
