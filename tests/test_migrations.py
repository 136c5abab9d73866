"""Every released schema is brought to the newest with all that stands in it; a newer one is refused with a sentence."""

import json
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, inspect, text

from storage import finding
from storage.catalog import Catalog
from storage.entries import next_place, tell_entry
from storage.ids import new_id
from storage.journal import Entry, EntryKind
from storage.migrating import FOLDER, known
from storage.rows import Batch
from tests.commands import Osint

DIGEST = "'\\x" + "ab" * 32 + "'"
# what the program of that release wrote: every table, every column that is not left to a default
ROWS = {
    "0001": (
        "INSERT INTO sources VALUES (:source, 'kanal', 'https://t.me/s/kanal', 'telegram', 'auto', 'obey', NULL, NULL, :at)",
        "INSERT INTO runs (id, source_id, started_at, ended_at, outcome, wanted, captured, versions, detail, process) "
        "VALUES (:run, :source, :at, :at, 'complete', 1, 1, '{}', '{\"robots\": \"obey\"}', 'host:1:2')",
        "INSERT INTO captures (id, run_id, source_id, url, kind, state, captured_at) "
        "VALUES (:capture, :run, :source, 'https://t.me/s/kanal', 'page', 'captured', :at)",
        "INSERT INTO records (id, capture_id, run_id, type, url, date, warc, offset_bytes, length_bytes, record_sha256, "
        f"block_sha256) VALUES (:record, :capture, :run, 'response', 'https://t.me/s/kanal', '2026-11-20T12:00:00Z', "
        f"'a.warc.gz', 0, 100, {DIGEST}, {DIGEST})",
        "INSERT INTO posts (id, source_id, kind, platform, channel, post_id, url, first_seen) "
        "VALUES (:post, :source, 'post', 'telegram', 'Kanal', '7', 'https://t.me/kanal/7', :at)",
        "INSERT INTO post_versions (id, post_id, version, content_sha256, text, edited, links, service, post_ids, extra, "
        f"first_seen, last_seen) VALUES (:version, :post, 1, {DIGEST}, 'Задержали троих', false, '[]', false, '[]', '{{}}', :at, :at)",
        "INSERT INTO version_captures VALUES (:version, :capture)",
        "INSERT INTO media (id, post_version_id, place, kind, url, state) "
        "VALUES (:media, :version, 0, 'photo', 'https://cdn.example/a.jpg', 'captured')",
        f"INSERT INTO fingerprints (id, capture_id, payload_sha256, algorithm, version, hash) VALUES (:print, :capture, {DIGEST}, 'phash', '1', 5)",
        "INSERT INTO warc_files (name, run_id, state, key) VALUES ('a.warc.gz', :run, 'preserved', 'v1/warc/a.warc.gz')",
        "INSERT INTO gaps VALUES (:run, :source, 'Kanal', 3, 5)",
    ),
    "0002": ("INSERT INTO journal VALUES (:entry, :run, 'begin', nextval('journal_place'))",),
    "0003": (
        "INSERT INTO watches VALUES (:source, 'Kanal', '*/5 * * * *', 'Europe/Minsk', 10, 'once', 1, '[\"be\"]', '[]', 9, 8, 7, 6, "
        ":at, :at, NULL, NULL, NULL)",
        "INSERT INTO due VALUES (:source, :at)",
        "INSERT INTO visits VALUES (:visit, :source, 't.me', :at, 'schedule', 0, 'done', 1, :at, :run, 'm:1:2', :at, :at, "
        "'complete', NULL, '{}')",
        f"INSERT INTO validators VALUES (:source, {DIGEST}, 'https://t.me/s/kanal', 'e', NULL, :record, '2026', {DIGEST}, :at)",
        "INSERT INTO watch_lists VALUES ('detained', 'be', 1, '[\"затрым\"]', :at)",
        "INSERT INTO machines VALUES ('m', 'm:1:2', :at, :at, '{}')",
        "INSERT INTO alerts VALUES (:alert, 'silent', 'kanal', 'warning', 'x', :at, NULL, NULL, NULL, '{}')",
        "INSERT INTO warc_runs VALUES ('a.warc.gz', :run, 0, NULL)",
        "INSERT INTO totals VALUES ('runs', 'complete', 1)",
        "INSERT INTO counted VALUES (:at, 0)",
    ),
    "0004": (
        "UPDATE watches SET identity = 'kanal-login' WHERE source_id = :source",
        "INSERT INTO walls VALUES ('vk.com', 'direct', 'wire', 'challenge', 'VK''s check', :at, :at, 3)",
    ),
    "0005": (
        "INSERT INTO replays VALUES (:replay, :capture, :at, 'Chromium 156', 1, true, 9, 9, 0, 0, 0, 0, 1, false, '{}')",
    ),
}
NAMES = ("source", "run", "capture", "record", "post", "version", "media", "print", "entry", "visit", "alert", "replay")


def bring_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def everything(connection: Connection) -> dict[str, list[str]]:
    tables = [
        name for name in inspect(connection).get_table_names() if not name.startswith(("alembic_", "procrastinate_"))
    ]
    return {
        name: sorted(
            json.dumps(
                {key: value for key, value in row._mapping.items() if value is not None}, default=str, sort_keys=True
            )
            for row in connection.execute(text(f'SELECT * FROM "{name}"'))
        )
        for name in tables
    }


@pytest.mark.parametrize("revision", known())
def test_a_released_schema_is_brought_up_with_its_data(revision: str, empty_database_url: str) -> None:
    values: dict[str, Any] = {name: new_id() for name in NAMES} | {"at": "2026-11-20T12:00:00Z"}
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        bring_to(connection, revision)
        for statement in (row for number, rows in ROWS.items() if number <= revision for row in rows):
            connection.execute(text(statement), values)
        before = everything(connection)
    assert all(before[name] for name in before if name not in ("events", "similar", "rebuilding"))
    with Catalog.open(empty_database_url) as catalog:
        with catalog.begin() as connection:
            after = everything(connection)
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == known()[-1]
        assert {name: after[name] for name in before} == before
        (post,) = finding.find(catalog, "задержали")
        assert post.id == values["post"] and post.records
        entry = Entry(kind=EntryKind.BATCH, run=values["run"], place=next_place(catalog), batch=Batch())
        assert tell_entry(catalog, entry, new_id()) is not None  # what is new since works on what is old
    engine.dispose()


def test_each_revision_names_what_it_came_from() -> None:
    assert known() == [f"{number:04}" for number in range(1, len(known()) + 1)]
    assert set(ROWS) == set(known()), "a new revision needs the rows that its program writes, here"


def test_an_older_program_refuses_a_newer_schema_with_a_sentence(embedded_url: str, tmp_path: Any) -> None:
    with Catalog.open(embedded_url) as catalog, catalog.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    url = embedded_url.replace("postgresql+psycopg://", "postgresql://")
    done = Osint(tmp_path / "home", OSINT_DATABASE_URL=url).run("runs", code=6)
    assert "0999" in done.stderr and "newer program" in done.stderr
