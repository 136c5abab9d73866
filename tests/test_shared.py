"""Several runs write into one WARC, one after the other: each keeps its own records, outcome and end, whatever is killed."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from conftest import plain
from fastwarc.warc import ArchiveIterator as FastIterator
from sqlalchemy import text
from test_warc import warcio_check
from warcio.archiveiterator import ArchiveIterator

from osint_pipeline.backpressure import Backpressure
from osint_pipeline.claims import Claim, Result
from osint_pipeline.preserve import upload
from osint_pipeline.pressure import Level
from osint_pipeline.rebuild import beside, rebuild
from osint_pipeline.recovery import recover
from osint_pipeline.retrieve import pull
from osint_pipeline.run import Run
from osint_pipeline.sameness import compare
from osint_pipeline.samples import SampleSites
from osint_pipeline.shared import SharedWarcs
from osint_pipeline.verify import verify_all, verify_file, verify_records
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.check import check_warc
from storage.errors import DatabaseUnavailable
from storage.exchange import RecordType
from storage.finding import list_runs, one_run
from storage.journal import is_journal, told_by
from storage.manifest import read_manifest, sealed_from
from storage.records import open_warc
from storage.rows import WarcState
from storage.runs import unfinished_runs
from storage.scratch import open_scratch
from storage.warc import BrokenWarc
from storage.warc_files import list_warcs
from tests.commands import Osint
from tests.mutations import Trio, edit, extra, swap
from tests.sharedruns import POINTS, RUNS, begin, see, visit
from tests.zygote import Zygote

ELSEWHERE = UUID("00000000-0000-4000-8000-000000000000")


@pytest.fixture
def osint(tmp_path: Path, embedded_url: str) -> Osint:
    return Osint(tmp_path / "home", OSINT_DATABASE_URL=plain(embedded_url))


@pytest.fixture
def workspace(osint: Osint) -> Iterator[Workspace]:
    """A data folder and a database of its own, with the embedded store."""
    with Workspace(load(osint.environ).service) as opened:
        yield opened


def answers(claims: Iterator[Claim]) -> tuple[list[Claim], list[Claim]]:
    """What failed, and what could not be checked."""
    found = list(claims)
    return tuple([one for one in found if one.result is result] for result in (Result.FAIL, Result.UNVERIFIABLE))  # type: ignore[return-value]


def mend_and_compare(workspace: Workspace) -> None:
    """Recover, upload, rebuild beside: every row of every table is the same, every claim holds."""
    list(recover(workspace))
    assert not list(recover(workspace)), "a second recovery finds something to mend"
    assert all(one.why is None for one in upload(workspace))
    with open_scratch(workspace.catalog) as fresh, beside(workspace, fresh) as other:
        assert rebuild(other, lock=False).troubles == []
        assert {row.table: row.first for row in compare(workspace.catalog, fresh) if row.differing} == {}
    failed, unverifiable = answers(verify_all(workspace))
    assert failed == []
    assert {one.claim for one in unverifiable} <= {"manifest-chained"}


def by_chapter(path: Path) -> dict[str, list[str]]:
    """Read a WARC: for each run, as its warcinfo names it, the types of its records; each record names that warcinfo."""
    found: dict[str, list[str]] = {}
    with open_warc(path) as reader:
        for streamed in reader:
            block = b"".join(streamed.pieces()).decode("utf-8", "replace")
            if streamed.header.type == "warcinfo":
                current = streamed.header.get("WARC-Record-ID")
                run = dict(line.partition(": ")[::2] for line in block.splitlines())["run"]
                assert run not in found, "a run begins twice"
                found[run] = []
            else:
                assert streamed.header.get("WARC-Warcinfo-ID") == current
                found[run].append(streamed.header.type)
                if streamed.header.url.startswith("urn:osint:journal:"):
                    assert str(told_by(streamed.header.url)[0]) == run
    return found


def test_runs_share_a_warc_and_keep_their_own_outcomes(workspace: Workspace) -> None:
    shared = SharedWarcs.open(workspace, "t.me")
    assert shared.age_seconds == 0
    made = [visit(workspace, shared, number) for number in range(RUNS)]
    assert shared.age_seconds > 0
    (warc,) = list_warcs(workspace.catalog)
    assert (warc.state, warc.run_id) == (WarcState.OPEN, made[0].id)
    rows = list_runs(workspace.catalog)
    assert {(row.outcome, row.captured, row.warc_files, row.preserved) for row in rows} == {("complete", 2, 1, 0)}
    (sealed,) = shared.close()
    assert shared.close() == [sealed] and [one.run for one in sealed.runs] == [run.id for run in made]
    assert list(by_chapter(sealed.path)) == [str(run.id) for run in made]
    mend_and_compare(workspace)
    rows = list_runs(workspace.catalog)
    assert {(row.warc_files, row.preserved) for row in rows} == {(1, 1)}
    assert sum(row.revisits for row in rows) == RUNS - 1, "the same text is a revisit of the first run's"


def test_its_manifest_lists_the_runs_and_its_key_names_the_host(workspace: Workspace) -> None:
    shared = SharedWarcs.open(workspace, "T.me:8080")
    made = [visit(workspace, shared, number) for number in range(2)]
    (sealed,) = shared.close()
    told = read_manifest(sealed.manifest).extra
    infos = [str(ref.record_id) for ref in sealed.records if ref.type is RecordType.WARCINFO]
    assert [(one["run"], one["source"], one["warcinfo"]) for one in told["runs"]] == [  # type: ignore[attr-defined]
        (str(run.id), run.source.slug, info) for run, info in zip(made, infos, strict=True)
    ]
    assert {"run", "source", "configuration_sha256"}.isdisjoint(told) and told["host"] == "T.me:8080"
    list(upload(workspace))
    (warc,) = list_warcs(workspace.catalog)
    assert warc.key and warc.sealed_at
    series = warc.name.removesuffix("-00000.warc.gz")
    assert warc.key == f"v1/warc/t-me-8080/{warc.sealed_at:%Y/%m/%d}/{series}/{warc.name}" and warc.key.isascii()
    assert series.startswith("t-me-8080-") and series.endswith("-shared")


def test_a_shared_warc_of_one_run_is_told_as_that_runs(workspace: Workspace) -> None:
    shared = SharedWarcs.open(workspace, "")
    run = visit(workspace, shared, 1)
    (sealed,) = shared.close()
    told = read_manifest(sealed.manifest).extra
    assert (told["run"], told["source"], len(told["runs"])) == (str(run.id), run.source.slug, 1)  # type: ignore[arg-type]
    assert sealed.name.startswith("host-")
    mend_and_compare(workspace)


def test_other_programs_read_it(workspace: Workspace) -> None:
    shared = SharedWarcs.open(workspace, "t.me")
    for number in range(3):
        visit(workspace, shared, number)
    (sealed,) = shared.close()
    assert [one for one in check_warc(sealed.path, sealed.manifest) if one.result.value == "FAIL"] == []
    with sealed.path.open("rb") as file:
        types = [record.rec_type for record in ArchiveIterator(file)]
    assert len(types) == sealed.record_count and types.count("warcinfo") == 3
    with sealed.path.open("rb") as file:
        fast = [record.headers["WARC-Type"] for record in FastIterator(file, parse_http=False)]
    assert fast == types
    assert warcio_check(sealed.path).returncode == 0


def test_a_file_that_begins_in_the_middle_of_a_run_begins_with_its_warcinfo(osint: Osint) -> None:
    environ = {**osint.environ, "OSINT_WARC_LIMIT_BYTES": "100000"}
    with Workspace(load(environ).service) as workspace:
        shared = SharedWarcs.open(workspace, "t.me")
        dice = random.Random(1)
        made = []
        for number in range(3):
            run = begin(workspace, shared, number)
            for post in range(1, 7):
                see(run, "".join(dice.choices("абвгдежз", k=60_000)), post)
                run.flush()
            assert run.end().warc_files > 1
            made.append(run)
        sealed = shared.close()
        assert len(sealed) > 3
        chapters = [by_chapter(one.path) for one in sealed]
        assert any(len(one) > 1 for one in chapters) and any(len(one) == 1 for one in chapters)
        for run in made:
            inside = [one for one in chapters if str(run.id) in one]
            row = one_run(workspace.catalog, run.id)
            assert row and row.warc_files == len(inside) == len(run.series.warcs)
        mend_and_compare(workspace)


def test_what_is_open_is_read_and_nothing_of_it_is_called_false(workspace: Workspace, tmp_path: Path) -> None:
    """An investigator asks while the WARC is open: runs that have ended give their records, and only theirs."""
    shared = SharedWarcs.open(workspace, "t.me")
    first, second = visit(workspace, shared, 1), visit(workspace, shared, 2)
    third = begin(workspace, shared, 3)
    see(third, "going on")
    third.flush()
    other = visit(workspace, None, 4)  # its revisit refers to a record in the open WARC
    assert other.tally.revisits == 1
    failed, unverifiable = answers(verify_all(workspace))
    assert failed == []
    assert {(one.claim, one.why) for one in unverifiable} == {("exists", "a run still writes it")}
    path, count = pull(workspace, second.id, tmp_path / "pulled")
    assert count == 6, "two answers, the original of a revisit, their requests"
    pulled = by_chapter(path)
    assert {run: len(types) for run, types in pulled.items()} == {str(first.id): 2, str(second.id): 4}
    assert {one.result for one in verify_records(workspace, first.id)} == {Result.PASS}
    assert list(recover(workspace)) == []
    shared.turn()
    assert list(recover(workspace)) == [] and {one.state for one in list_warcs(workspace.catalog)} == {"open", "sealed"}
    assert answers(verify_all(workspace))[0] == []
    third.end()
    shared.close()
    assert {one.state for one in list_warcs(workspace.catalog)} == {"sealed"}
    mend_and_compare(workspace)


def test_what_lies_in_another_machines_spool_is_not_called_lost(osint: Osint, tmp_path: Path) -> None:
    """Two machines, one catalogue and one store: one verifies and uploads while the other has WARCs open and sealed."""
    here = Workspace(load({**osint.environ, "OSINT_MACHINE": "north"}).service)
    there = Workspace(load({**osint.environ, "OSINT_MACHINE": "south", "OSINT_HOME": str(tmp_path / "south")}).service)
    with here, there:
        there._store = here.store
        shared = SharedWarcs.open(here, "t.me")
        visit(here, shared, 1)
        visit(here, None, 2)
        for _ in range(2):
            failed, unverifiable = answers(verify_all(there))
            assert failed == []
            exists = {(one.subject, one.why) for one in unverifiable if one.claim == "exists"}
            assert len(exists) == 2 and {why for _, why in exists} == {
                "it lies in the spool of north, and was not brought to the store yet"
            }
            assert list(upload(there)) == [] and list(recover(there)) == []
            shared.turn()
        with here.catalog.begin() as connection:
            connection.execute(text("UPDATE warc_runs SET machine = NULL"))
        assert {one.claim for one in answers(verify_all(there))[0]} == {"exists"}, "nobody says who has them"
        assert all(one.why is None for one in upload(here))
        assert answers(verify_all(there)) == ([], [])


def test_one_run_at_a_time_and_none_behind_its_end(workspace: Workspace) -> None:
    shared = SharedWarcs.open(workspace, "t.me")
    run = begin(workspace, shared, 1)
    with pytest.raises(BrokenWarc, match="another run writes"):
        begin(workspace, shared, 2)
    run.end()
    with pytest.raises(BrokenWarc, match="its run has ended"):
        see(run, "late")
    visit(workspace, shared, 2)
    shared.close()
    with pytest.raises(BrokenWarc, match="closed"):
        begin(workspace, shared, 3)
    assert unfinished_runs(workspace.catalog) == [], "none has begun that could not write"
    mend_and_compare(workspace)


def test_a_run_that_cannot_begin_lets_the_next_one_write(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedWarcs.open(workspace, "t.me")
    first = visit(workspace, shared, 1)
    away = DatabaseUnavailable("here", "away")
    with monkeypatch.context() as patched:
        patched.setattr("osint_pipeline.journal.tell_entry", lambda *_, **__: (_ for _ in ()).throw(away))
        with pytest.raises(DatabaseUnavailable):
            begin(workspace, shared, 2)
    third = visit(workspace, shared, 3)
    shared.close()
    assert {*first.series.warcs}.isdisjoint(third.series.warcs)
    with workspace.catalog.begin() as connection:
        connection.execute(text("UPDATE runs SET process = NULL"))  # the process has ended
    mend_and_compare(workspace)
    assert [row.outcome for row in list_runs(workspace.catalog)] == ["complete", "failed", "complete"]


def test_a_run_that_cannot_be_told_does_not_hold_up_the_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away at the end of the second run: its WARC waits for recovery, the third run has another."""
    shared = SharedWarcs.open(workspace, "t.me")
    first, second = visit(workspace, shared, 1), begin(workspace, shared, 2)
    see(second, "not told")
    away = DatabaseUnavailable("here", "away")
    with monkeypatch.context() as patched:
        patched.setattr("osint_pipeline.journal.tell_entry", lambda *_, **__: (_ for _ in ()).throw(away))
        assert second.end().error is away
    third = visit(workspace, shared, 3)
    assert set(first.series.warcs) == set(second.series.warcs) != set(third.series.warcs)
    shared.turn()
    shared.close()
    (waits,), (follows,) = first.series.warcs, third.series.warcs
    states = {one.name: one.state for one in list_warcs(workspace.catalog)}
    assert states == {waits: WarcState.OPEN, follows: WarcState.SEALED}
    assert answers(verify_all(workspace))[0] == []
    with workspace.catalog.begin() as connection:
        connection.execute(text("UPDATE runs SET process = NULL"))  # the process has ended
    mend_and_compare(workspace)
    rows = {row.run: row for row in list_runs(workspace.catalog)}
    assert rows[second.id].captured == 1 and all(row.preserved == row.warc_files for row in rows.values())


class _NoThrottle:
    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} is not to be asked")


def test_a_turn_under_pressure_tells_only_of_what_is_told(workspace: Workspace) -> None:
    """The spool is full: the open WARC is sealed with ended runs and an open capture in it; it waits for that capture."""
    shared = SharedWarcs.open(workspace, "t.me")
    visit(workspace, shared, 1)
    run = begin(workspace, shared, 2)
    wanted = run.captures.want("https://t.me/s/kanal2", "page")
    see(run, "closed")
    pressure = Backpressure(run, _NoThrottle(), drains=True)  # type: ignore[arg-type]
    pressure.level = Level.FULL
    run.recorder.resource(a_note(), wanted)
    pressure.keep()
    pressure.keep()
    assert [one.state for one in list_warcs(workspace.catalog)] == [WarcState.OPEN]
    run.captures.answered(wanted, url="https://t.me/s/kanal2", status=404, media_type=None, refs=[])
    pressure.keep()
    assert [one.state for one in list_warcs(workspace.catalog)].count(WarcState.SEALED) >= 1
    run.end()
    shared.close()
    mend_and_compare(workspace)


def a_note():  # type: ignore[no-untyped-def]
    from datetime import UTC, datetime

    from storage.exchange import Resource

    return Resource(url="urn:note:1", made_at=datetime.now(UTC), media_type="text/plain", body=b"seen")


def assert_ended_stays(workspace: Workspace, before: dict[UUID, object]) -> None:
    after = {row.run: row for row in list_runs(workspace.catalog)}
    assert {run: after[run].to_json() | {"preserved": 0} for run in before} == before
    assert all(row.outcome and row.warc_files == row.preserved > 0 for row in after.values())
    for row in after.values():
        assert row.wanted == row.captured + row.refused + row.truncated + row.failed


@pytest.fixture
def zygote(osint: Osint, tmp_path: Path) -> Iterator[Zygote]:
    with Zygote(osint.environ, tmp_path / "log", "tests.sharedruns:main") as opened:
        yield opened


def test_a_process_killed_at_each_point_leaves_what_was_synced(workspace: Workspace, zygote: Zygote) -> None:
    """One archive: each process sees the same channels again, and dies elsewhere."""
    for point in [name for name in POINTS if name not in ("all", "crawl")]:
        assert zygote.run(point) == -9, zygote.log.read_text()
        rows = list_runs(workspace.catalog)
        ended = {row.run: row.to_json() | {"preserved": 0} for row in rows if row.outcome and not row.preserved}
        unfinished = [row for row in rows if not row.outcome]
        failed = {one.claim for one in answers(verify_all(workspace))[0]}
        assert failed <= ({"manifest-there", "index-there"} if "manifest" in point else set()), (point, failed)
        list(recover(workspace))
        assert all(one.why is None for one in upload(workspace))
        assert_ended_stays(workspace, {run: row for run, row in ended.items() if row["warc_files"]})
        if point.startswith("middle"):
            (row,) = [row for row in list_runs(workspace.catalog) if row.run == unfinished[0].run]
            assert (row.wanted, row.captured, row.posts) == (3, 1, 1), row  # two are no pages for today's reader
    mend_and_compare(workspace)
    names = [one.name for one in list_warcs(workspace.catalog)]
    assert len(set(names)) == len(names)


def test_twenty_kills_lose_nothing_that_was_said_and_double_nothing(workspace: Workspace, zygote: Zygote) -> None:
    dice = random.Random(20261125)
    started = time.monotonic()
    assert zygote.run("all") == 0, zygote.log.read_text()
    lasting, alive = time.monotonic() - started, 0
    for number in range(20):
        pid = zygote.start("all")
        alive += zygote.ended(pid, dice.uniform(0, lasting)) is None
        zygote.kill(pid)
        if number % 5 == 4:
            list(recover(workspace))
    assert alive > 8
    said = dict(line.split() for line in zygote.log.read_text().splitlines() if line.count("-") == 4)
    mend_and_compare(workspace)
    rows = {str(row.run): row for row in list_runs(workspace.catalog, 1000)}
    assert len(said) >= RUNS and all(
        (rows[run].outcome, rows[run].captured) == ("complete", int(captured)) for run, captured in said.items()
    )
    with workspace.catalog.begin() as connection:
        doubled = "SELECT count(*) FROM records GROUP BY warc, offset_bytes HAVING count(*) > 1"
        assert not connection.execute(text(doubled)).all()
        posts = connection.execute(text("SELECT channel_key, post_id FROM posts")).all()
    assert len(set(posts)) == len(posts)
    shared = [one for one in list_warcs(workspace.catalog) if "-shared-" in one.name]
    print(
        f"20 kills, {alive} of a living process: {len(rows)} runs in {len(shared)} shared WARCs, {len(said)} reported"
    )
    assert len(shared) <= 21 and len(shared) < len(rows)


def test_a_crawl_of_several_sources_fills_one_warc(workspace: Workspace, zygote: Zygote) -> None:
    """With Scrapy, the real fetchers and the sample sites."""
    with SampleSites() as sites:
        assert zygote.run("crawl", sites.telegram, sites.news, sites.troubled("missing")) == 0, zygote.log.read_text()
    lines = [line.split() for line in zygote.log.read_text().splitlines() if line.count("-") == 4]
    assert [line[2] for line in lines] == ["1", "1", "1"], lines
    (warc,) = list_warcs(workspace.catalog)
    path = workspace.local_copy(warc.name)
    assert path and list(by_chapter(path)) == [line[0] for line in lines]
    mend_and_compare(workspace)


@pytest.fixture(scope="module")
def sealed_warc(tmp_path_factory: pytest.TempPathFactory, embedded_server: str) -> Iterator[tuple[Workspace, Path]]:
    """A sealed WARC of three runs, in the store as well."""
    from conftest import _fresh

    for url in _fresh(embedded_server, "osint_template"):
        home = Osint(tmp_path_factory.mktemp("shared") / "home", OSINT_DATABASE_URL=plain(url))
        with Workspace(load(home.environ).service) as workspace:
            shared = SharedWarcs.open(workspace, "t.me")
            for number in range(3):
                visit(workspace, shared, number)
            (sealed,) = shared.close()
            assert all(one.why is None for one in upload(workspace))
            yield workspace, sealed.path


def runs_edited(change):  # type: ignore[no-untyped-def]
    """Edit the list of runs in a manifest."""

    def apply(trio: Trio) -> None:
        listed = [dict(one) for one in read_manifest(trio.sealed.manifest).extra["runs"]]  # type: ignore[attr-defined]
        extra("runs", change(listed))(trio)

    return apply


def swapped(listed: list[dict[str, str]]) -> list[dict[str, str]]:
    listed[0]["run"], listed[1]["run"] = listed[1]["run"], listed[0]["run"]
    return listed


def with_(place: int, **values: object):  # type: ignore[no-untyped-def]
    def change(listed: list[dict[str, object]]) -> list[dict[str, object]]:
        listed[place] |= values
        return listed

    return change


def exchanged(trio: Trio) -> None:
    """Exchange the warcinfo records of two runs, and commit to it."""
    members = trio.members()
    first, second = [at for at, ref in enumerate(trio.records) if ref.type is RecordType.WARCINFO][:2]
    members[first], members[second] = members[second], members[first]
    trio.write(b"".join(members))
    trio.commit_again()


def moved(trio: Trio) -> None:
    """Move a run's last answer behind the next run's warcinfo record, and commit to it."""
    members = trio.members()
    second = [at for at, ref in enumerate(trio.records) if ref.type is RecordType.WARCINFO][1]
    members[second - 1], members[second] = members[second], members[second - 1]
    trio.write(b"".join(members))
    trio.commit_again()


CHANGES = {
    "entry deleted": (runs_edited(lambda listed: listed[:1] + listed[2:]), "manifest-facts"),
    "last entry deleted": (runs_edited(lambda listed: listed[:-1]), "manifest-facts"),
    "entry doubled": (runs_edited(lambda listed: [*listed, listed[0]]), "manifest-facts"),
    "order changed": (runs_edited(lambda listed: listed[::-1]), "manifest-facts"),
    "runs swapped": (runs_edited(swapped), "manifest-facts"),
    "another run": (runs_edited(with_(1, run=str(ELSEWHERE))), "manifest-facts"),
    "another source": (runs_edited(with_(1, source="other")), "manifest-facts"),
    "another warcinfo": (runs_edited(with_(1, warcinfo=str(ELSEWHERE))), "manifest-facts"),
    "another configuration": (runs_edited(with_(2, configuration_sha256="0" * 64)), "manifest-facts"),
    "another place": (runs_edited(with_(1, offset=7)), "manifest-facts"),
    "no text": (runs_edited(with_(0, run=7)), "manifest-facts"),
    "no entry": (runs_edited(lambda listed: [*listed[:2], "x"]), "manifest-facts"),
    "no list": (extra("runs", 5), "manifest-facts"),
    "list lost": (extra("runs", None), "manifest-facts"),
    "another collector": (extra("collector", "other"), "manifest-facts"),
    "a record of another run": (edit(RecordType.RESPONSE, swap(rb"(WARC-Warcinfo-ID: <urn:uuid:)........", rb"\g<1>00000000")), "manifest-warcinfo"),
    "warcinfo records exchanged": (exchanged, "manifest-warcinfo"),
    "record moved to another run": (moved, "manifest-warcinfo"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(name: str, sealed_warc: tuple[Workspace, Path], tmp_path: Path) -> None:
    trio = Trio.copy(sealed_warc[1], tmp_path, sealed_warc[1])
    assert answers(verify_file(trio.warc))[0] == []
    apply, claim = CHANGES[name]
    apply(trio)
    failed = answers(verify_file(trio.warc))[0]
    assert claim in {one.claim for one in failed}, failed
    assert all(one.why and one.clause for one in failed)


IN_THE_CATALOGUE = {
    "a run left out": "DELETE FROM warc_runs WHERE run_id = :run",
    "a run that did not write": f"INSERT INTO warc_runs SELECT warc, '{ELSEWHERE}', 0, NULL FROM warc_runs WHERE run_id = :run",
    "a run at another place": "UPDATE warc_runs SET offset_bytes = offset_bytes + 1 WHERE run_id = :run",
    "records of another run": "UPDATE records SET run_id = :other WHERE run_id = :run AND type = 'response'",
    "records of no run": f"UPDATE records SET run_id = '{ELSEWHERE}' WHERE run_id = :run",
}


@pytest.mark.parametrize("name", IN_THE_CATALOGUE)
def test_what_the_catalogue_says_of_its_runs_is_compared(name: str, sealed_warc: tuple[Workspace, Path]) -> None:
    workspace, path = sealed_warc
    other, run = (one.run for one in sealed_from(path).runs[:2])
    tables = ("warc_runs", "records")
    with workspace.catalog.begin() as connection:
        for table in tables:
            connection.execute(text(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}"))
        connection.execute(text(IN_THE_CATALOGUE[name]), {"run": run, "other": other})
    try:
        failed = answers(verify_all(workspace))[0]
    finally:
        with workspace.catalog.begin() as connection:
            for table in tables:
                connection.execute(text(f"DELETE FROM {table}"))
                connection.execute(text(f"INSERT INTO {table} SELECT * FROM kept_{table}"))
                connection.execute(text(f"DROP TABLE kept_{table}"))
    assert {one.claim for one in failed} == {"catalogue-runs"}, failed
    assert answers(verify_all(workspace))[0] == []


def test_a_recovered_manifest_lists_the_runs_as_their_warcinfo_records_do(workspace: Workspace, zygote: Zygote) -> None:
    assert zygote.run("between") == -9
    list(recover(workspace))
    (path,) = workspace.spool.sealed_paths()
    told = read_manifest(sealed_from(path).manifest).extra
    assert [one["run"] for one in told["runs"]] == list(by_chapter(path)) and told["recovered"] is True  # type: ignore[attr-defined]
    assert any(is_journal(ref) for ref in sealed_from(path).records)


def test_a_run_of_its_own_is_as_it_was(workspace: Workspace) -> None:
    run = visit(workspace, None, 1)
    assert isinstance(run, Run)
    (path,) = workspace.spool.sealed_paths()
    told = read_manifest(sealed_from(path).manifest).extra
    assert told["run"] == str(run.id) and "runs" not in told and [one.run for one in sealed_from(path).runs] == [run.id]
    mend_and_compare(workspace)
