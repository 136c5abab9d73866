"""What is written into the catalogue stands there as given: batches, versions, originals, events, WARC files."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import numpy as np
import pytest
from sqlalchemy import select, text

from storage import finding
from storage.batches import commit_batch
from storage.catalog import Catalog
from storage.events import add_event
from storage.exchange import RecordRef, RecordType, Truncated
from storage.fingerprints import earlier_fingerprints
from storage.ids import new_id
from storage.journal import RunEnd
from storage.payloads import find_originals
from storage.rows import (
    Batch,
    CaptureKind,
    CaptureRow,
    CaptureState,
    Counters,
    FingerprintRow,
    GapRow,
    MediaResult,
    MediaRow,
    MediaState,
    Outcome,
    PageMediaRow,
    PostRow,
    RecordRow,
    RunRow,
    SimilarRow,
    SourceRow,
    WarcState,
)
from storage.runs import begin_run, end_run, unfinished_runs
from storage.schema import captures, fingerprints, gaps, media, post_versions, posts, records, runs, version_captures
from storage.sources import change_source, ensure_source
from storage.warc_files import list_warcs, warc_opened, warc_preserved, warc_sealed, warc_uploaded

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def digest(value):
    return sha256(str(value).encode()).hexdigest()


@pytest.fixture
def catalog(database_url):
    with Catalog.open(database_url) as opened:
        yield opened


@pytest.fixture
def source(catalog):
    return ensure_source(
        catalog, SourceRow(slug="kanal", url="https://t.me/s/kanal", spider="telegram", created_at=NOON)
    )


@pytest.fixture
def run(catalog, source):
    row = RunRow(source_id=source.id, started_at=NOON, versions={"osint-pipeline": "0.1.0"}, process="1@host")
    begin_run(catalog, row)
    return row


def a_capture(run, url="https://t.me/s/kanal", **given):
    given = {"kind": CaptureKind.PAGE, "state": CaptureState.CAPTURED, "captured_at": NOON, **given}
    return CaptureRow(run_id=run.id, source_id=run.source_id, url=url, **given)


def a_record(capture, payload="payload", **given):
    values = {
        "record_id": new_id(),
        "type": RecordType.RESPONSE,
        "url": capture.url,
        "date": "2026-11-20T12:00:00Z",
        "warc": "a.warc.gz",
        "offset_bytes": 0,
        "length_bytes": 1000,
        "record_sha256": digest("record"),
        "block_sha256": digest("block"),
        "payload_sha256": digest(payload),
    }
    return RecordRow(
        ref=RecordRef(**{**values, "capture": capture.id, **given}), run_id=capture.run_id, capture_id=capture.id
    )


def a_post(capture, post_id="7", **given):
    given = {"channel": "Kanal", "text": "Задержали троих", "seen_at": capture.captured_at, **given}
    return PostRow(
        source_id=capture.source_id,
        capture_id=capture.id,
        kind="post",
        platform="telegram",
        post_id=post_id,
        url=f"https://t.me/kanal/{post_id}",
        **given,
    )


def rows(catalog, table):
    with catalog.begin() as connection:
        return connection.execute(select(table).order_by(*table.primary_key.columns)).all()


def test_a_batch_comes_back_as_it_was_given(catalog, run):
    capture = a_capture(
        run,
        url="https://t.me/s/kanal?q=\\t\t&b=%5C",
        final_url="https://t.me/s/kanal",
        reason="line one\nline two\r\\N",
        verdict="content",
        status=200,
        media_type="text/html",
        payload_sha256=digest("p"),
        payload_bytes=5 << 30,
        parent=new_id(),
        truncated=Truncated.LENGTH,
    )
    request = a_record(capture, type=RecordType.REQUEST, payload_sha256=None).ref
    response = a_record(
        capture, status=200, payload_bytes=7, truncated=Truncated.TIME, concurrent=(request,), media_type="text/html"
    )
    commit_batch(catalog, Batch(captures=(capture,), records=(response,)))
    [row] = rows(catalog, captures)
    assert row._asdict() == {name: getattr(capture, name) for name in row._fields}
    assert finding.records_of(catalog, capture.id) == sorted(
        [replace(response.ref, concurrent=()), request], key=lambda ref: ref.offset_bytes
    )


def test_what_postgresql_cannot_keep_is_replaced_and_loses_no_batch(catalog, run):
    capture = a_capture(run, url="https://x/\x00\ud800", reason="\udfff", status=10**12)
    post = a_post(
        capture,
        post_id="https://x/" + "д" * 5000,
        channel="к" * 3000,
        text="a\x00b\ud83d",
        views=10**30,
        extra={"k\x00": ["\ud800", 1]},
        forwarded_from={"name": "\x00"},
    )
    gap = GapRow(run_id=run.id, source_id=run.source_id, channel="k", first=-(10**30), last=10**30)
    assert commit_batch(catalog, Batch(captures=(capture,), posts=(post,), gaps=(gap,))).new == 1
    assert commit_batch(catalog, Batch(posts=(post,))).same == 1
    assert rows(catalog, captures)[0].url == "https://x/\ufffd\ufffd"
    assert rows(catalog, post_versions)[0].text == "a\ufffdb\ufffd"
    assert rows(catalog, post_versions)[0].extra == {"k\ufffd": ["\ufffd", 1]}
    assert rows(catalog, gaps)[0].last == 2**63 - 1


def test_a_very_long_text_is_kept_whole(catalog, run):
    capture = a_capture(run)
    words = " ".join(f"слово{n}-{n * 7919}" for n in range(120_000))
    commit_batch(catalog, Batch(captures=(capture,), posts=(a_post(capture, text=words, title="я" * 3000),)))
    assert rows(catalog, post_versions)[0].text == words
    assert len(finding.find(catalog, "слово100")) == 1


def test_a_batch_is_written_whole_or_not_at_all(catalog, run):
    capture = a_capture(run)
    broken = replace(a_post(capture), source_id=new_id())  # a source that is not there
    with pytest.raises(Exception, match="posts_source_id_fkey"):
        commit_batch(catalog, Batch(captures=(capture,), records=(a_record(capture),), posts=(broken,)))
    assert rows(catalog, captures) == [] and rows(catalog, records) == []


def test_an_edit_makes_a_version_and_views_do_not(catalog, run):
    first, second, third, fourth = (a_capture(run, captured_at=NOON + timedelta(hours=n)) for n in range(4))
    was = a_post(first, views=10, views_raw="10")
    kinds = [
        commit_batch(catalog, Batch(captures=(first,), posts=(was,))),
        commit_batch(catalog, Batch(captures=(second,), posts=(a_post(second, views=2490, views_raw="2.49K"),))),
        commit_batch(catalog, Batch(captures=(third,), posts=(a_post(third, text="Задержали четверых", edited=True),))),
        commit_batch(catalog, Batch(captures=(fourth,), posts=(a_post(fourth),))),
    ]
    assert [(one.new, one.edited, one.same) for one in kinds] == [(1, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 0)]
    assert [row.id for row in rows(catalog, posts)] == [was.id]
    versions = sorted(rows(catalog, post_versions), key=lambda row: row.version)
    assert [row.text for row in versions] == ["Задержали троих", "Задержали четверых", "Задержали троих"]
    assert (versions[0].first_seen, versions[0].last_seen) == (first.captured_at, second.captured_at)
    assert (versions[0].views, versions[0].views_raw) == (2490, "2.49K")
    pairs = {(row.version_id, row.capture_id) for row in rows(catalog, version_captures)}
    assert pairs == {
        (versions[0].id, first.id),
        (versions[0].id, second.id),
        (versions[1].id, third.id),
        (versions[2].id, fourth.id),
    }


def test_each_of_these_counts_as_an_edit(catalog, run):
    changes = [
        {"text": "другое"},
        {"title": "Заголовок"},
        {"edited": True},
        {"forwarded_from": {"name": "Иной канал"}},
        {"media": (MediaRow(kind="photo", state=MediaState.OFFERED, item_id="7"),)},
    ]
    capture = a_capture(run)
    was = [a_post(capture, post_id=str(n)) for n in range(len(changes))]
    now = [a_post(capture, post_id=str(n), **change) for n, change in enumerate(changes)]
    commit_batch(catalog, Batch(captures=(capture,), posts=tuple(was)))
    assert commit_batch(catalog, Batch(posts=tuple(now))).edited == len(changes)


def test_a_channel_is_known_by_its_number_else_by_its_name_in_any_case(catalog, run):
    capture = a_capture(run)
    given = [
        a_post(capture, channel="Канал"),
        a_post(capture, channel="КАНАЛ"),
        a_post(capture, channel="old", channel_id="-100"),
        a_post(capture, channel="renamed", channel_id="-100"),
        a_post(capture, channel=None),
    ]
    committed = commit_batch(catalog, Batch(captures=(capture,), posts=tuple(given)))
    assert (committed.new, committed.edited, committed.same) == (3, 0, 2)
    assert commit_batch(catalog, Batch(posts=tuple(given))).same == 5


def test_a_file_whose_address_changed_is_the_same_file_and_its_fate_is_kept(catalog, run):
    first, second = a_capture(run), a_capture(run, captured_at=NOON + timedelta(hours=1))

    def files(token):
        return (
            MediaRow(kind="video", state=MediaState.OFFERED, url=f"https://cdn/ab12.mp4?token={token}"),
            MediaRow(kind="photo", state=MediaState.OFFERED, url=f"https://cdn/{token}.jpg", item_id="7"),
            MediaRow(kind="document", state=MediaState.NOT_OFFERED, why="not shown without an account", title="x.pdf"),
        )

    was, now = files("aaa"), files("bbb")
    committed = commit_batch(catalog, Batch(captures=(first,), posts=(a_post(first, media=was),)))
    assert {one.id: committed.media[one.id].state for one in was} == {one.id: one.state for one in was}
    file = a_capture(run, kind=CaptureKind.FILE, url="https://cdn/aaa.jpg")
    got = MediaResult(
        media_id=was[1].id, state=MediaState.CAPTURED, file_capture_id=file.id, payload_sha256=digest("jpg")
    )
    commit_batch(catalog, Batch(captures=(file,), media_results=(got,)))
    again = commit_batch(catalog, Batch(captures=(second,), posts=(a_post(second, media=now),)))
    assert again.same == 1
    assert [again.media[one.id].id for one in now] == [one.id for one in was]
    assert again.media[now[1].id].state is MediaState.CAPTURED
    assert again.media[now[1].id].file_capture_id == file.id
    lost = MediaResult(media_id=was[1].id, state=MediaState.FAILED, why="timeout")
    commit_batch(catalog, Batch(media_results=(lost,)))
    assert {row.id: row.state for row in rows(catalog, media)}[was[1].id] == "captured"


def test_the_original_of_a_payload_is_its_earliest_whole_response(catalog, run):
    capture = a_capture(run)
    cut = a_record(capture, date="2026-11-20T10:00:00Z", truncated=Truncated.LENGTH)
    early = a_record(capture, date="2026-11-20T11:00:00Z")
    late = a_record(capture, date="2026-11-20T12:00:00Z")
    revisit = a_record(capture, date="2026-11-20T09:00:00Z", type=RecordType.REVISIT, refers_to=early.ref.record_id)
    other = a_record(capture, payload="other")
    commit_batch(catalog, Batch(captures=(capture,), records=(cut, late, early, revisit, other)))
    found = find_originals(catalog, [digest("payload"), digest("other"), digest("never seen")])
    assert set(found) == {digest("payload"), digest("other")}
    original = found[digest("payload")]
    assert (original.record_id, original.date, original.url) == (early.ref.record_id, early.ref.date, capture.url)
    assert find_originals(catalog, []) == {}


def test_fingerprints_come_back_as_unsigned_numbers(catalog, run):
    hashes = [0, 1, 2**63, 2**64 - 1]
    made = [FingerprintRow(payload_sha256=digest(n), algorithm="phash", version="1", hash=n) for n in hashes]
    others = [
        FingerprintRow(payload_sha256=digest("x"), algorithm="phash", version="1", failure="no picture"),
        FingerprintRow(payload_sha256=digest("x"), algorithm="phash", version="2", hash=5),
        FingerprintRow(payload_sha256=digest("x"), algorithm="other", version="1", hash=6),
    ]
    alike = SimilarRow(fingerprint_id=made[1].id, earlier_id=made[0].id, distance=1)
    commit_batch(catalog, Batch(fingerprints=(*made, *others), similar=(alike,)))
    found = earlier_fingerprints(catalog, "phash", "1")
    assert found.hashes.dtype == np.uint64
    by_id = {found.id(place): int(one) for place, one in enumerate(found.hashes)}
    assert by_id == {one.id: one.hash for one in made}
    assert len(earlier_fingerprints(catalog, "phash").hashes) == 5
    assert len(earlier_fingerprints(catalog, "none").hashes) == 0
    assert rows(catalog, fingerprints)[4].failure in (None, "no picture")


def test_a_source_is_made_once_and_its_slug_is_its_own(catalog, source):
    again = SourceRow(slug="kanal", url=source.url, spider="telegram", created_at=NOON + timedelta(1), proxy="http://p")
    assert ensure_source(catalog, again) == source
    other = ensure_source(catalog, replace(again, url="https://kanal.example/", spider="news"))
    assert other.slug == "kanal-2"
    third = ensure_source(catalog, replace(again, id=new_id(), url="https://third.example/", spider="news"))
    assert third.slug == "kanal-3"
    change_source(catalog, other.id, render="always", robots="ignore", robots_reason="why")
    assert [one.slug for one in finding.list_sources(catalog)] == ["kanal", "kanal-2", "kanal-3"]
    assert finding.list_sources(catalog)[1].render == "always"


def test_a_run_is_ended_once_and_only_by_its_own_attempt(catalog, run):
    assert [(one.id, one.process) for one in unfinished_runs(catalog)] == [(run.id, "1@host")]
    counters = Counters(wanted=3, captured=2, failed=1, similar=4, bytes=6 << 30)
    end = RunEnd(outcome=Outcome.PARTIAL, counters=counters, ended_at=NOON + timedelta(hours=1), reason="1 failed")
    assert not end_run(catalog, run.id, replace(end, outcome=Outcome.COMPLETE), attempt=2)
    assert end_run(catalog, run.id, end, attempt=1, detail={"hosts": ["t.me"]})
    assert not end_run(catalog, run.id, replace(end, outcome=Outcome.FAILED, counters=Counters()))
    assert unfinished_runs(catalog) == []
    [row] = rows(catalog, runs)
    assert (row.outcome, row.captured, row.similar, row.bytes) == ("partial", 2, 4, 6 << 30)
    assert (row.detail, row.versions) == ({"hosts": ["t.me"]}, {"osint-pipeline": "0.1.0"})


def test_a_warc_goes_from_open_to_preserved_and_not_back(catalog, run):
    sealed = {"size_bytes": 10, "sha256": digest("w"), "records": 3, "sealed_at": NOON}
    for name in ("a", "b"):
        warc_opened(catalog, name, run.id, f"/spool/{name}.open")
    warc_sealed(catalog, "a", run_id=run.id, path="/spool/a", **sealed)
    warc_sealed(catalog, "b", run_id=run.id, path="/spool/b", **sealed, state=WarcState.TORN)
    warc_sealed(catalog, "never-opened", run_id=run.id, path="/spool/c", **sealed)
    warc_uploaded(catalog, "a", key="v1/a", version_id="1")
    warc_preserved(catalog, "a", at=NOON, manifest_sha256=digest("m"), path=None)
    warc_opened(catalog, "a", run.id, "/spool/a.open")
    warc_sealed(catalog, "a", run_id=run.id, path="/spool/a", **sealed)
    warc_uploaded(catalog, "a", key="v1/elsewhere")
    [a] = list_warcs(catalog, state=WarcState.PRESERVED)
    assert (a.name, a.path, a.key, a.version_id, a.manifest_sha256) == ("a", None, "v1/a", "1", digest("m"))
    assert [one.name for one in list_warcs(catalog, state=WarcState.TORN)] == ["b"]
    assert len(list_warcs(catalog, run_id=run.id)) == 3 and list_warcs(catalog, names=["b"])[0].records == 3


def test_events_form_a_chain_that_shows_any_change(catalog):
    for n in range(5):
        add_event(catalog, "sealed", f"warc-{n}\x00", digest(n), {"size": 2**70, "имя": ["ў", None, True]})
    assert finding.check_events(catalog) is None
    assert [one.id for one in finding.list_events(catalog)] == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"0\.5"):
        add_event(catalog, "sealed", "x", None, {"list": [{"deep": 0.5}]})
    for change, where in (
        ("UPDATE events SET detail = '{}' WHERE id = 3", 3),
        ("UPDATE events SET at = at + interval '1 microsecond' WHERE id = 2", 2),
        ("DELETE FROM events WHERE id = 1", 1),
    ):
        with catalog.begin() as connection:
            connection.execute(text(change))
        assert finding.check_events(catalog).id == where


def test_two_writers_make_one_chain_and_one_post_each(catalog, run):
    """Eight threads write the same posts in different order, and events; nothing deadlocks, nothing is made twice."""
    failures, counts = [], []

    def write(number):
        try:
            capture = a_capture(run)
            given = [a_post(capture, post_id=str(n), channel=f"kanal{n % 3}") for n in range(30)]
            if number % 2:
                given.reverse()
            for half in (given[:15], given[15:]):
                counts.append(commit_batch(catalog, Batch(posts=tuple(half))))
                add_event(catalog, "committed", str(number))
        except Exception as error:  # noqa: BLE001  shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (sum(one.new for one in counts), sum(one.same for one in counts)) == (30, 210)
    assert len(rows(catalog, posts)) == len(rows(catalog, post_versions)) == 30
    assert len(finding.list_events(catalog)) == 16 and finding.check_events(catalog) is None


def test_a_page_costs_little(embedded_url):
    """At most 60 us of our own CPU for a capture and its two records (13 when it was written)."""
    with Catalog.open(embedded_url) as catalog:
        run = RunRow(source_id=new_id(), started_at=NOON)
        batches = []
        for _ in range(10):
            pages = [a_capture(run, url=f"https://t.me/s/kanal?before={n}", status=200) for n in range(200)]
            kinds = (RecordType.REQUEST, RecordType.RESPONSE)
            refs = [a_record(page, payload=page.id, type=kind) for page in pages for kind in kinds]
            batches.append(Batch(captures=tuple(pages), records=tuple(refs)))
        began = time.process_time()
        for batch in batches:
            commit_batch(catalog, batch)
        spent = (time.process_time() - began) / 2000
        assert len(rows(catalog, captures)) == 2000
    assert spent < 60e-6, f"{spent * 1e6:.0f} us"


def test_media_of_a_page_without_a_post_is_kept(catalog, run):
    capture = a_capture(run, kind=CaptureKind.MEDIA)
    film = MediaRow(
        kind="video", state=MediaState.CAPTURED, file_capture_id=capture.id, title="Марш", duration_seconds=1.5
    )
    commit_batch(catalog, Batch(captures=(capture,), media=(PageMediaRow(capture_id=capture.id, media=film),)))
    [row] = rows(catalog, media)
    assert (row.capture_id, row.post_version_id, row.duration_seconds) == (capture.id, None, 1.5)
