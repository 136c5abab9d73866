"""What stands in the journal is what the catalogue is told: once, in order, and whatever a hostile page wrote."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from conftest import plain
from sqlalchemy import text

from osint_pipeline.outcome import Summary
from osint_pipeline.preserve import upload
from osint_pipeline.rebuild import beside, rebuild
from osint_pipeline.recovery import recover
from osint_pipeline.run import Run
from osint_pipeline.sameness import compare
from osint_pipeline.source import make_sources
from osint_pipeline.state import PREFIX, newest_state
from osint_pipeline.workspace import Workspace
from settings.service import load
from spiders.page import Gap, Media, MediaKind, Page, Post, PostKind, Verdict
from storage.entries import next_place, tell_entry
from storage.errors import DatabaseUnavailable
from storage.exchange import Exchange
from storage.ids import new_id
from storage.journal import Entry, EntryKind, as_written, decode, encode
from storage.rebuilding import begin_rebuilding
from storage.rows import Batch, CaptureState, GapRow
from storage.runs import begin_run
from storage.scratch import open_scratch

URL = "https://t.me/s/kanal"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"


@pytest.fixture
def workspace(tmp_path: Path, embedded_url: str) -> Iterator[Workspace]:
    """A data folder and a database of its own, with the embedded store."""
    environ = {"OSINT_HOME": str(tmp_path / "home"), "OSINT_DATABASE_URL": plain(embedded_url)}
    with Workspace(load({"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ}).service) as opened:
        yield opened


def begin(workspace: Workspace, url: str = URL) -> Run:
    (source,) = make_sources([url], spider="telegram", render="never", robots="obey", proxy=None)
    return Run(workspace, source)


def see(run: Run, *texts: str, first: int = 1, media: tuple[Media, ...] = ()) -> UUID:
    """Capture a page whose posts have these texts."""
    body = "\n".join(texts).encode("utf-8", "replace")
    wanted, now = run.captures.want(URL, "page"), datetime.now(UTC)
    exchange = Exchange(
        url=URL, method="GET", started_at=now, ended_at=now, request=b"GET / HTTP/1.1\r\n\r\n", response=HEAD + body
    )
    ref = run.recorder.exchange(exchange, wanted)
    run.captures.answered(wanted, url=URL, status=200, media_type="text/html", refs=[ref])
    posts = tuple(
        Post(
            kind=PostKind.POST,
            platform="telegram",
            url=f"{URL}/{n}",
            channel="kanal",
            post_id=str(n),
            text=one,
            media=media,
        )
        for n, one in enumerate(texts, first)
    )
    gaps = (Gap(first=2, last=first - 1),) if first > 2 else ()
    run.captures.read(wanted, Page(url=URL, verdict=Verdict.CONTENT, channel="kanal", posts=posts, gaps=gaps), None)
    return wanted


def mend_and_compare(workspace: Workspace) -> dict[str, str]:
    """Recover, upload, rebuild beside: the tables that differ, with the first difference."""
    list(recover(workspace))
    assert not list(recover(workspace)), "a second recovery finds something to mend"
    assert all(one.why is None for one in upload(workspace))
    with open_scratch(workspace.catalog) as fresh, beside(workspace, fresh) as other:
        done = rebuild(other, lock=False)
        assert done.troubles == []
        return {row.table: row.first for row in compare(workspace.catalog, fresh) if row.differing}


def test_what_a_hostile_page_writes_is_told_and_rebuilt(workspace: Workspace) -> None:
    """NUL, lone surrogates, huge numbers, NaN: in texts, reasons, files and counters."""
    run = begin(workspace)
    odd = Media(
        kind=MediaKind.VIDEO,
        url="https://cdn.example/a\x00\ud800.mp4",
        duration_seconds=float("nan"),
        title="\udfff\ud800",
    )
    see(run, "NUL \x00, \ud83d\ude00 in halves, \ud800 alone", media=(odd,))
    file = run.captures.want("https://cdn.example/a\x00\ud800.mp4", "file")
    run.captures.gave_up(file, CaptureState.FAILED, "HTTP/1.1 500 bad\x00reason \ud800")
    see(run, "far", first=999_999_999_999_999)
    summary = run.end(reason="stopped \x00 for \ud800 a reason")
    assert summary.tally.gaps > 1 << 40 and summary.error is None
    assert mend_and_compare(workspace) == {}


def test_an_entry_is_told_once(workspace: Workspace) -> None:
    run = begin(workspace)
    gap = GapRow(run_id=run.id, source_id=run.source_id, channel="kanal", first=3, last=5)
    entry = Entry(kind=EntryKind.BATCH, run=run.id, place=next_place(workspace.catalog), batch=Batch(gaps=(gap,)))
    record = new_id()
    assert tell_entry(workspace.catalog, entry, record) is not None
    assert tell_entry(workspace.catalog, entry, record) is None
    with workspace.catalog.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM gaps")) == 1
    run.end()


def test_an_entry_whose_answer_was_lost_is_not_told_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit takes effect and the connection breaks before we hear of it: the next flush goes on."""
    run = begin(workspace)
    see(run, "first", media=(Media(kind=MediaKind.PHOTO, url="https://cdn.example/1.jpg"),))

    def tell_and_break(*given, **more):  # type: ignore[no-untyped-def]
        tell_entry(*given, **more)
        monkeypatch.setattr("osint_pipeline.journal.tell_entry", tell_entry)
        raise DatabaseUnavailable("here", "the answer was lost")

    monkeypatch.setattr("osint_pipeline.journal.tell_entry", tell_and_break)
    with pytest.raises(DatabaseUnavailable):
        run.flush()
    file = run.captures.want("https://cdn.example/1.jpg", "file")
    run.captures.gave_up(file, CaptureState.FAILED, "gone")
    see(run, "second", first=2)
    summary = run.end()
    assert (summary.outcome, summary.error) == ("partial", None)
    with workspace.catalog.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM posts")) == 2
        assert connection.scalar(text("SELECT state FROM media")) == "failed"
    assert mend_and_compare(workspace) == {}


def test_what_waited_for_the_database_is_told_in_the_order_of_its_telling(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run's entry waits out a broken connection while another run is told of the same post."""
    late, quick = begin(workspace), begin(workspace)
    see(late, "as it was first")
    broken = DatabaseUnavailable("here", "away")
    with monkeypatch.context() as patched:
        patched.setattr("osint_pipeline.journal.tell_entry", lambda *_, **__: (_ for _ in ()).throw(broken))
        with pytest.raises(DatabaseUnavailable):
            late.flush()
    see(quick, "as it was later")
    quick.flush()
    late.flush()
    quick.end()
    late.end()
    with workspace.catalog.begin() as connection:
        told = connection.scalars(text("SELECT text FROM post_versions ORDER BY version")).all()
    assert told == ["as it was later", "as it was first"]
    assert mend_and_compare(workspace) == {}


def test_a_run_that_broke_off_is_rebuilt_as_it_ended(workspace: Workspace) -> None:
    run = begin(workspace)
    see(run, "kept")
    home = str(workspace.folder)
    run.break_off(DatabaseUnavailable(f"postgresql://osint:***@/postgres?host={home}", "is away"))
    summary = run.end()
    assert "is away" in (summary.reason or "")
    assert mend_and_compare(workspace) == {}
    assert_nothing_of_ours_is_archived(workspace, home, summary)


def assert_nothing_of_ours_is_archived(workspace: Workspace, home: str, summary: Summary) -> None:
    """No path and no address of this machine stands in a WARC or manifest."""
    import gzip

    for path in workspace.spool.sealed_folder.iterdir():
        data = path.read_bytes()
        data = gzip.decompress(data) if path.name.endswith(".gz") else data
        for secret in (home, str(Path.home()), os.uname().nodename, "postgresql://"):
            assert secret.encode() not in data, (path.name, secret)


def test_a_catalogue_begun_anew_goes_on_behind_the_lost_one(workspace: Workspace, empty_database_url: str) -> None:
    """The database is lost and nobody rebuilds it before the next crawl: places go on growing."""
    run = begin(workspace)
    see(run, "before")
    run.end()
    before = next_place(workspace.catalog)
    other = replace(workspace.service, database_url=plain(empty_database_url))
    with Workspace(other) as fresh:
        assert next_place(fresh.catalog) > before


def test_a_damaged_store_gives_what_is_left_and_names_what_is_not(workspace: Workspace) -> None:
    for number in range(3):
        run = begin(workspace, f"{URL}{number}")
        see(run, f"text {number}")
        run.end()
    assert all(one.why is None for one in upload(workspace))
    store = workspace.store
    first, second, _ = sorted(one.key for one in store.list("v1/warc/") if one.key.endswith(".manifest.json"))
    for suffix in (".warc.gz", ".manifest.json"):
        key = second.removesuffix(".manifest.json") + suffix
        store.put_bytes_once(b"".join(store.read(key)), key.replace("v1/warc/", "v1/warc/x-a-copy/"))
    lost = first.replace(".manifest.json", ".warc.gz").rsplit("/", 1)[1]
    (path,) = (workspace.folder / "store" / "data").rglob(lost)
    path.unlink()
    with open_scratch(workspace.catalog) as fresh, beside(workspace, fresh) as other:
        done = rebuild(other, lock=False)
        assert done.warcs == 2 and len(done.troubles) == 2
        assert any(lost.removesuffix(".warc.gz") in one for one in done.troubles)
        assert any("a second WARC of this name" in one for one in done.troubles)
        with fresh.begin() as connection:
            assert connection.scalar(text("SELECT count(*) FROM post_versions")) == 2


def test_a_rebuild_that_was_killed_is_begun_anew_and_nothing_else_is_done_meanwhile(
    workspace: Workspace, empty_database_url: str
) -> None:
    run = begin(workspace)
    see(run, "one")
    run.end()
    assert all(one.why is None for one in upload(workspace))
    service = replace(workspace.service, database_url=plain(empty_database_url))
    with Workspace(service, rebuilds=True) as other:
        begin_rebuilding(other.catalog)  # and then it was killed
    from osint_pipeline.errors import UserError

    with Workspace(service) as other, pytest.raises(UserError, match="being made again"):
        _ = other.catalog
    with Workspace(service, rebuilds=True) as other:
        assert rebuild(other).entries >= 3
    with Workspace(service) as other:
        assert not [row for row in compare(workspace.catalog, other.catalog) if row.differing]


def test_a_snapshot_of_a_stranger_or_of_yesterday_does_not_win(workspace: Workspace, tmp_path: Path) -> None:
    run = begin(workspace)
    run.end()
    list(upload(workspace))
    ours = newest_state(workspace)
    assert ours is not None
    old = b"".join(workspace.store.read(ours.key))
    begin(workspace, "https://t.me/s/another").end()
    list(upload(workspace))
    newest = newest_state(workspace)
    assert newest is not None and newest.key > ours.key and len(newest.sources) == 2
    workspace.store.put_bytes_once(old, f"{PREFIX}29991231T000000.000000Z-{'0' * 16}.json")
    workspace.store.put_bytes_once(b"[" * 200_000, f"{PREFIX}29991231T000001.000000Z-{'1' * 16}.json")
    stranger = Workspace(replace(workspace.service, home=tmp_path / "stranger", spool=tmp_path / "stranger" / "spool"))
    from osint_pipeline.state import note_state

    (tmp_path / "stranger").mkdir()
    stranger._catalog = workspace.catalog
    path = note_state(stranger)
    assert path is not None
    workspace.store.put_bytes_once(path.read_bytes(), PREFIX + path.name)
    found = newest_state(workspace)
    assert found is not None and found.key == newest.key
    assert any("another name than its own" in one for one in found.doubts)
    assert any("is signed by the key" in one for one in found.doubts)


def test_what_is_written_is_what_is_told() -> None:
    entry = Entry(kind=EntryKind.BATCH, run=new_id(), place=7, batch=Batch())
    block = encode(entry)
    assert block.isascii() and decode(block) == as_written(entry, block) == entry


def test_recover_leaves_a_living_reparse_alone(workspace: Workspace) -> None:
    from osint_pipeline.process_names import this_process
    from storage.rows import RunRow

    source = begin(workspace)
    source.end()
    row = RunRow(
        source_id=source.source_id,
        started_at=datetime.now(UTC),
        detail={"act": "reparse"},
        process=this_process(socket.gethostname()),
    )
    begin_run(workspace.catalog, row)
    assert list(recover(workspace)) == []


def test_an_altered_manifest_is_held_back_and_not_made_true(workspace: Workspace) -> None:
    run = begin(workspace)
    see(run, "one")
    run.end()
    (manifest,) = workspace.spool.sealed_folder.glob("*.manifest.json")
    whole = manifest.read_text("ascii")
    manifest.write_text(whole.replace('"collector":"collector-1"', '"collector":"collector-2"'), "ascii")
    (held,) = upload(workspace)
    assert held.why and "not the one that it was sealed with" in held.why
    manifest.write_text(whole, "ascii")
    (kept,) = upload(workspace)
    assert kept.why is None


def test_a_damaged_manifest_stops_neither_recovery_nor_crawl(workspace: Workspace) -> None:
    for text_ in ("one", "two"):
        run = begin(workspace)
        see(run, text_)
        run.end()
    assert all(one.why is None for one in upload(workspace))
    first, second = sorted(workspace.spool.sealed_folder.glob("*.manifest.json"))
    first.write_bytes(first.read_bytes()[:300])  # of a WARC that is preserved: nobody has to read it
    assert list(recover(workspace)) == []
    with workspace.catalog.begin() as connection:
        name = second.name.replace(".manifest.json", ".warc.gz")
        connection.execute(text("DELETE FROM warc_files WHERE name = :name"), {"name": name})
    second.write_bytes(second.read_bytes()[:300])
    (told,) = recover(workspace)
    assert told.name == name and "was left as it is" in told.sentence


def test_uploads_at_the_same_time_preserve_once_and_say_so_once(workspace: Workspace) -> None:
    for number in range(4):
        run = begin(workspace)
        see(run, f"text {number}")
        run.end()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: list(upload(workspace)), range(2)))
    assert all(one.why is None for done in both for one in done)
    with workspace.catalog.begin() as connection:
        told = connection.scalars(text("SELECT subject FROM events WHERE kind = 'preserved'")).all()
    assert len(told) == len(set(told)) == 4


def test_a_run_of_this_spool_is_ended_whatever_its_machine_was_called(workspace: Workspace) -> None:
    """A container gets another name when it is started again; the spool is this machine's alone."""
    run = begin(workspace)
    see(run, "synced and not told")
    run.journal.write(Batch())
    run.series.close()
    with workspace.catalog.begin() as connection:
        connection.execute(text("UPDATE runs SET process = 'another-name:1:1'"))
    told = [one.sentence for one in recover(workspace)]
    assert "is in the catalogue now" in told and any("process is gone" in one for one in told)
    assert mend_and_compare(workspace) == {}
