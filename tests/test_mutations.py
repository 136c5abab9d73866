"""Every change to a sealed WARC of a real crawl is named by `osint verify`; the untouched one passes.

Most are checked in this process, by the functions that the command calls (a process each would cost 1.5 s); TOLD are
given to the command itself, by the file's path and by the WARC's name.
"""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from osint_pipeline.accounts import unaccounted
from osint_pipeline.claims import Claim, Result
from osint_pipeline.samples import SampleSites
from osint_pipeline.verify import verify_all, verify_file, verify_warc
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.exchange import RecordType
from storage.fields import urn
from storage.rows import WarcState
from storage.warc_files import list_warcs
from tests.commands import ROOT, Osint
from tests.mutations import CATALOGUE, FILE, Trio, replace
from tests.watching import wait_for

TOLD = (
    "bit flipped in the body",
    "gzip header byte 9 flipped",
    "record deleted",
    "index line removed",
    "manifest's collector edited",
    "compressed anew",
)


@dataclass
class Archive:
    """Two visits of a channel, the second in several WARCs with revisits in them; `warc` is one that has one before it."""

    osint: Osint
    workspace: Workspace
    warc: Path
    other: Path

    def named(self) -> list[Claim]:
        """Verify the WARC as `osint verify NAME` does."""
        (row,) = list_warcs(self.workspace.catalog, names=[self.warc.name])
        return list(verify_warc(self.workspace, row))

    def stored(self, suffix: str, warc: Path | None = None) -> Path:
        """Find the store's own file of an object."""
        name = (warc or self.warc).name.removesuffix(".warc.gz") + suffix
        (path,) = (self.osint.home / "store" / "data").rglob(name)
        return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    osint = Osint(tmp_path_factory.mktemp("mutations") / "home", OSINT_WARC_LIMIT_BYTES="150000")
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            for visit in (1, 2):
                sites.visit = visit
                (run,) = osint.rows("crawl", "--spider", "telegram", sites.telegram)
            settings = load({key: value for key, value in osint.environ.items() if key.startswith("OSINT_")}).service
            with Workspace(settings) as workspace:
                warcs = [row.name for row in list_warcs(workspace.catalog) if str(row.run_id) == run["run"]]
                paths = [path for name in sorted(warcs) if (path := workspace.local_copy(name))]
                assert len(paths) > 1
                whole = [path for path in paths[1:] if {RecordType.REVISIT, RecordType.RESPONSE} <= kinds(path)]
                yield Archive(osint, workspace, whole[0], paths[0])
        finally:
            osint.run("down")


def kinds(path: Path) -> set[RecordType]:
    return {ref.type for ref in Trio(path).records}


def failed(claims: list[Claim]) -> dict[str, list[Claim]]:
    found: dict[str, list[Claim]] = {}
    for one in claims:
        if one.result is Result.FAIL:
            found.setdefault(one.claim, []).append(one)
    return found


@pytest.fixture
def trio(archive: Archive, tmp_path: Path) -> Trio:
    return Trio.copy(archive.warc, tmp_path, archive.other)


def test_the_untouched_one_passes(archive: Archive, trio: Trio) -> None:
    assert not [one for one in archive.named() if one.result is not Result.PASS]
    claims = list(verify_file(trio.warc))
    assert not failed(claims)
    assert {one.claim for one in claims if one.result is Result.PASS} >= {
        "warc-valid",
        "manifest-facts",
        "manifest-chained",
    }
    shown = archive.osint.rows("verify", archive.warc.name)
    assert {row["result"] for row in shown} == {"PASS"}


def test_the_list_is_long_enough() -> None:
    assert len(FILE) + len(CATALOGUE) >= 60


@pytest.mark.parametrize("name", FILE)
def test_a_change_is_named_by_its_file(name: str, trio: Trio) -> None:
    mutation = FILE[name]
    place = mutation.apply(trio)
    found = failed(list(verify_file(trio.warc)))
    assert mutation.claim in found, list(found)
    if place is not None and mutation.claim != "manifest":
        ref = trio.records[place]
        subjects = [one.subject for one in found[mutation.claim]]
        assert any(urn(ref.record_id) in one and f"at byte {ref.offset_bytes}" in one for one in subjects), subjects
    assert all(one.why and one.clause for ones in found.values() for one in ones if one.claim != "catalogue-sha256")


@pytest.mark.parametrize("name", FILE)
def test_what_can_be_told_without_a_manifest(name: str, trio: Trio) -> None:
    mutation = FILE[name]
    if mutation.claim.startswith(("manifest-chained", "manifest-facts", "index")) or name.startswith("manifest"):
        return  # nothing else was changed
    mutation.apply(trio)
    trio.sealed.manifest.unlink()
    claims = list(verify_file(trio.warc))
    found = failed(claims)
    assert set(found) >= ({mutation.alone} if mutation.alone else set()), list(found)
    assert "whole-file" in {one.claim for one in claims if one.result is Result.UNVERIFIABLE}


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_the_file_alone_does_not_show_is_named_by_the_catalogue(name: str, archive: Archive, trio: Trio) -> None:
    apply, wanted = CATALOGUE[name]
    apply(trio)
    assert not failed(list(verify_file(trio.warc)))
    here = Trio(archive.warc, archive.other)
    paths = (here.warc, here.sealed.manifest, here.sealed.cdxj)
    before = [path.read_bytes() for path in paths]
    apply(here)
    try:
        found = failed(archive.named())
    finally:
        for path, data in zip(paths, before, strict=True):
            replace(path, data)
    assert set(found) >= wanted, list(found)
    assert not failed(archive.named())


@pytest.mark.parametrize(
    ("suffix", "claim"), [(".warc.gz", "store-sha256"), (".manifest.json", "store-manifest"), (".cdxj", "store-index")]
)
def test_a_change_in_the_store_is_named(suffix: str, claim: str, archive: Archive) -> None:
    path = archive.stored(suffix)
    before = path.read_bytes()
    replace(path, before[:-30] + b"x" + before[-29:])
    try:
        found = failed(archive.named())
    finally:
        replace(path, before)
    assert set(found) == {claim}, found


CHANGES = {
    "offset": ("UPDATE records SET offset_bytes = offset_bytes + 1 WHERE id = :id", "catalogue-record"),
    "digest": ("UPDATE records SET record_sha256 = decode(repeat('00', 32), 'hex') WHERE id = :id", "catalogue-record"),
    "address": ("UPDATE records SET url = url || 'x' WHERE id = :id", "catalogue-record"),
    "WARC's digest": ("UPDATE warc_files SET sha256 = decode(repeat('00', 32), 'hex') WHERE name = :warc", "catalogue-sha256"),
    "state": ("UPDATE warc_files SET state = 'sealed', key = NULL WHERE name = :warc", "catalogue-warc"),
    "key": ("UPDATE warc_files SET key = NULL WHERE name = :warc", "catalogue-warc"),
    "version": ("UPDATE warc_files SET version_id = 'x' WHERE name = :warc", "catalogue-warc"),
    "manifest's digest": ("UPDATE warc_files SET manifest_sha256 = decode(repeat('00', 32), 'hex') WHERE name = :warc", "catalogue-manifest"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_the_catalogue_is_named(name: str, archive: Archive) -> None:
    statement, claim = CHANGES[name]
    ref = next(one for one in Trio(archive.warc).records if one.type is RecordType.RESPONSE)
    values = {"id": ref.record_id, "warc": archive.warc.name}
    keep = "CREATE TABLE kept_{0} AS SELECT * FROM {0} WHERE {1} = :value"
    back = "DELETE FROM {0} WHERE {1} = :value; "
    table, column, value = ("records", "id", ref.record_id) if ":id" in statement else ("warc_files", "name", ref.warc)
    with archive.workspace.catalog.begin() as connection:
        connection.execute(text(keep.format(table, column)), {"value": value})
        connection.execute(text(statement), {k: v for k, v in values.items() if f":{k}" in statement})
    try:
        found = failed(archive.named())
    finally:
        with archive.workspace.catalog.begin() as connection:
            connection.execute(text(back.format(table, column)), {"value": value})
            columns = connection.execute(
                text(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = :t AND is_generated = 'NEVER'"
                ),
                {"t": table},
            ).scalars()
            names = ", ".join(columns)
            connection.execute(text(f"INSERT INTO {table} ({names}) SELECT {names} FROM kept_{table}"))
            connection.execute(text(f"DROP TABLE kept_{table}"))
    assert claim in found, found
    assert not failed(archive.named())


@pytest.fixture
def forgotten(archive: Archive) -> Iterator[None]:
    """The catalogue's list of WARCs is empty for the while."""
    with archive.workspace.catalog.begin() as connection:
        connection.execute(text("CREATE TABLE kept_list AS SELECT * FROM warc_files"))
        connection.execute(text("DELETE FROM warc_files"))
    try:
        yield
    finally:
        with archive.workspace.catalog.begin() as connection:
            connection.execute(text("DELETE FROM warc_files"))
            connection.execute(text("INSERT INTO warc_files SELECT * FROM kept_list"))
            connection.execute(text("DROP TABLE kept_list"))


@pytest.mark.usefixtures("forgotten")
def test_a_warc_that_the_catalogue_forgot_is_named(archive: Archive) -> None:
    names = {path.name for path in archive.workspace.spool.sealed_folder.glob("*.warc.gz")}
    claims = list(unaccounted(archive.workspace))
    assert {one.subject for one in failed(claims)["catalogue-warc"]} == names
    assert all("an event says that it is preserved" in one.why for one in failed(claims)["catalogue-warc"])
    left = {one.subject for one in claims if one.claim == "in-the-catalogue" and "osint recover" in one.why}
    assert left == names
    assert archive.osint.run("verify", "--all", code=1).stdout.count("FAIL catalogue-warc") == len(names)
    away = archive.warc.rename(archive.warc.with_suffix(".away"))
    try:
        (lost, again) = [one for one in unaccounted(archive.workspace) if one.subject == archive.warc.name]
    finally:
        away.rename(archive.warc)
    assert lost.result is again.result is Result.FAIL and "records of the catalogue lie in it" in again.why


def test_a_row_that_forgot_its_key_does_not_keep_the_store_from_being_checked(archive: Archive) -> None:
    (row,) = list_warcs(archive.workspace.catalog, names=[archive.warc.name])
    claims = list(verify_warc(archive.workspace, dataclasses.replace(row, state=WarcState.SEALED, key=None)))
    assert set(failed(claims)) == {"catalogue-warc"}
    assert {"store-sha256", "store-manifest", "store-index"} <= {
        one.claim for one in claims if one.result is Result.PASS
    }


HOSTILE = {
    "deep": (b"[" * 200_000, "wanted"),
    "large": (b"\0" * (65 << 20), "more than the"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_manifest_in_the_store_ends_no_check(name: str, archive: Archive) -> None:
    data, why = HOSTILE[name]
    path = archive.stored(".manifest.json")
    before = path.read_bytes()
    replace(path, data)
    try:
        claims = list(verify_all(archive.workspace))
        (row,) = list_warcs(archive.workspace.catalog, names=[archive.warc.name])
        unknown = list(verify_warc(archive.workspace, dataclasses.replace(row, manifest_sha256=None)))
    finally:
        replace(path, before)
    assert set(failed(claims)) == {"store-manifest"} and why in failed(claims)["store-manifest"][0].why
    assert set(failed(unknown)) == {"store-manifest"}
    assert claims[-1].claim == "events-chained"


def test_what_cannot_be_written_here_ends_no_check(archive: Archive) -> None:
    """A process that may write no byte to a file, as on a full disk."""
    command = [sys.executable, "-m", "osint_pipeline", "verify", "--all"]
    limited = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command]
    done = subprocess.run(
        limited, env=archive.osint.environ, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr and done.returncode == 3, done.stderr
    assert "UNVERIFIABLE store-manifest" in done.stdout and " 0 failed" in done.stdout


def test_a_software_that_is_no_text_is_named(trio: Trio) -> None:
    trio.edit_manifest(
        lambda text: re.sub(r'"previous_manifest_sha256": ?"[^"]*"', '"previous_manifest_sha256":[]', text)
    )
    trio.edit_manifest(lambda text: re.sub(r'"scrapy": ?"[^"]*"', '"scrapy":[]', text))
    found = failed(list(verify_file(trio.warc)))
    assert {"manifest-facts", "manifest-chained"} <= set(found)


def test_what_is_named_wrongly_is_said(archive: Archive, tmp_path: Path) -> None:
    assert "--all checks everything" in archive.osint.run("verify", "--all", "x", code=2).stderr
    assert "nothing to verify was named" in archive.osint.run("verify", code=2).stderr
    elsewhere = tmp_path / archive.warc.name
    assert "is no file" in archive.osint.run("verify", str(elsewhere), code=2).stderr
    assert "is no id" in archive.osint.run("verify", "a" * 300, code=2).stderr


@pytest.mark.parametrize("name", TOLD)
def test_the_command_names_it_by_path_and_by_name(name: str, archive: Archive, trio: Trio) -> None:
    mutation = FILE[name]
    mutation.apply(trio)
    shown = archive.osint.run("verify", str(trio.warc), code=1).stdout
    assert f"FAIL {mutation.claim}: " in shown, shown
    here = Trio(archive.warc, archive.other)
    paths = (here.warc, here.sealed.manifest, here.sealed.cdxj)
    before = [path.read_bytes() for path in paths]
    mutation.apply(here)
    try:
        done = archive.osint.run("verify", archive.warc.name, "--json", code=1)
    finally:
        for path, data in zip(paths, before, strict=True):
            replace(path, data)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert mutation.claim in {row["claim"] for row in rows if row["result"] == "FAIL"}


def test_the_check_of_everything_says_what_it_read(archive: Archive) -> None:
    done = archive.osint.run("verify", "--all")
    assert done.stderr == ""
    last = done.stdout.splitlines()[-1]
    assert " 0 failed, 0 could not be checked; " in last and "MB/s" in last


@pytest.mark.parametrize(("suffix", "claim"), [(".cdxj", "store-index"), (".manifest.json", "store-manifest")])
def test_what_is_gone_from_the_store_is_named(suffix: str, claim: str, archive: Archive) -> None:
    """The last tests: the server remembers for a while that it did not find them."""
    archive.stored(suffix, archive.other).unlink()
    (row,) = list_warcs(archive.workspace.catalog, names=[archive.other.name])
    found: set[str] = set()

    def named() -> bool:  # the server remembers for a second what lay in the folder
        found.clear()
        found.update(failed(list(verify_warc(archive.workspace, row))))
        return found == {claim}

    wait_for(named, 10, lambda: found)
