"""What the archive has is found, however large it is, and by every run of a process; what it costs does not grow with it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image
from sqlalchemy import create_engine

from osint_pipeline.dedup import KnownPayloads
from osint_pipeline.pictures import KnownPictures
from osint_pipeline.run import Run
from osint_pipeline.shared import SharedWarcs
from osint_pipeline.workspace import Workspace
from storage.batches import commit_batch
from storage.catalog import Catalog
from storage.errors import DatabaseUnavailable
from storage.exchange import Exchange, RecordRef, RecordType
from storage.fingerprints import earlier_fingerprints
from storage.ids import first_id, new_id
from storage.payloads import find_originals
from storage.rows import Batch, FingerprintRow
from tests.sharedruns import begin, see, visit
from tests.world import emptied, open_workspace

SAME = sha256(b"the same for all").hexdigest()  # what each visit() sees


@pytest.fixture
def workspace(tmp_path: Path, module_url: str) -> Iterator[Workspace]:
    with open_workspace(tmp_path, emptied(module_url)) as opened:
        yield opened


@pytest.mark.parametrize("expected", [0, 1_000_000], ids=["a-query-for-each", "prefixes-in-memory"])
def test_a_payload_is_found_either_way(workspace: Workspace, expected: int) -> None:
    visit(workspace, SharedWarcs.open(workspace, "t.me"), 0)
    known = KnownPayloads(workspace.catalog, lambda record: True, expected=expected)
    assert (known._prefixes is None) == (expected == 0)
    found = known.find(SAME)
    assert found is not None and found.payload_sha256 == SAME
    assert known.find("0" * 64) is None
    assert KnownPayloads(workspace.catalog, lambda record: False, expected=expected).find(SAME) is None


@pytest.mark.parametrize("expected", [0, 1_000_000], ids=["a-query-for-each", "prefixes-in-memory"])
def test_a_payload_is_stored_once_more_while_the_catalogue_is_away(workspace: Workspace, expected: int) -> None:
    visit(workspace, SharedWarcs.open(workspace, "t.me"), 0)
    known = KnownPayloads(workspace.catalog, lambda record: True, expected=expected)
    with Catalog(create_engine("postgresql+psycopg://osint@127.0.0.1:1/nobody")) as known.catalog:
        with pytest.raises(DatabaseUnavailable):
            find_originals(known.catalog, [SAME])
        assert known.find(SAME) is None


def test_a_visit_of_a_large_archive_writes_revisits_too(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osint_pipeline.run.VISIT_PAYLOADS", 0)  # so that any archive is too large to be read
    shared = SharedWarcs.open(workspace, "t.me")
    visit(workspace, shared, 0)
    run = Run(workspace, replace(begin_source(workspace, shared), new=True), warcs=shared)
    assert run.recorder.known._prefixes is None
    see(run, "the same for all")
    see(run, "seen by this run alone", 2)
    run.flush()
    see(run, "seen by this run alone", 3)
    run.end()
    assert (run.tally.captured, run.tally.revisits) == (3, 2)


def begin_source(workspace: Workspace, shared: SharedWarcs):  # type: ignore[no-untyped-def]
    run = begin(workspace, shared, 1)
    run.end()
    return run.source


def test_the_picture_hashes_of_all_runs_are_known(workspace: Workspace) -> None:
    """Those of the last minutes are read again, those before are kept; a run without a picture reads none."""
    catalog, known = workspace.catalog, KnownPictures(workspace.catalog, 1_000_000)
    now = datetime.now(UTC).timestamp()
    ids = [made_at(now - ago) for ago in (9000, 301, 299, 0)]
    add(catalog, ids[0], ids[3])
    assert ids_of(known) == [ids[0], ids[3]]
    add(catalog, ids[2])  # another process's, made before and committed later
    assert ids_of(known) == [ids[0], ids[2], ids[3]]
    add(catalog, made_at(now + 60))
    found = known.archived()
    every = earlier_fingerprints(catalog, "phash")
    assert found.ids == every.ids and found.hashes.tolist() == every.hashes.tolist() and len(found.hashes) == 4


def made_at(seconds: float) -> UUID:
    """An id as it would have been made then."""
    return UUID(int=first_id(seconds).int | new_id().int & (1 << 80) - 1)


def add(catalog: Catalog, *ids: UUID) -> None:
    digest = sha256(b"x").hexdigest()
    rows = [
        FingerprintRow(id=one, payload_sha256=digest, algorithm="phash", version="1", hash=one.int & 0xFFFF)
        for one in ids
    ]
    commit_batch(catalog, Batch(fingerprints=tuple(rows)))


def ids_of(known: KnownPictures) -> list[UUID]:
    found = known.archived()
    return [found.id(place) for place in range(len(found.hashes))]


def test_ids_sort_by_the_time_that_they_were_made() -> None:
    before = datetime.now(UTC).timestamp()
    assert first_id(before) <= new_id() < first_id(before + 60)


def test_one_child_hashes_the_pictures_of_all_runs_and_ends_with_the_workspace(workspace: Workspace) -> None:
    shared = SharedWarcs.open(workspace, "t.me")
    runs, children = [], []
    for number, quality in enumerate((95, 60)):
        run = begin(workspace, shared, number)
        record_picture(run, quality)
        run.end()
        runs.append(run)
        children.append(workspace.pictures.hasher._child)
    assert [run.tally.similar for run in runs] == [0, 1], "the second is the first, compressed anew"
    assert children[0] is not None and children[0] is children[1] and children[0].poll() is None
    workspace.close()
    assert children[0].returncode is not None


def record_picture(run: Run, quality: int) -> RecordRef:
    with BytesIO() as out:
        picture = Image.radial_gradient("L").crop((30, 60, 220, 200))
        picture.save(out, "JPEG", quality=quality)
        body = out.getvalue()
    url, now = f"{run.source.url}/{quality}.jpg", datetime.now(UTC)
    wanted = run.captures.want(url, "file")
    response = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + body
    exchange = Exchange(
        url=url, method="GET", started_at=now, ended_at=now, request=b"GET / HTTP/1.1\r\n\r\n", response=response
    )
    ref = run.recorder.exchange(exchange, wanted)
    run.captures.answered(wanted, url=url, status=200, media_type="image/jpeg", refs=[ref])
    assert ref.type is RecordType.RESPONSE
    return ref
