"""Schemas beside the catalogue: dropped once their owner is gone, never before."""

import signal
import subprocess
import sys

from sqlalchemy import text

from storage.catalog import Catalog
from storage.scratch import open_scratch, sweep_scratch

HOLDER = """
import sys
from storage.catalog import Catalog
from storage.scratch import open_scratch
with Catalog.open(sys.argv[1]) as catalog, open_scratch(catalog):
    print("made", flush=True)
    sys.stdin.read()
"""
SCHEMAS = text("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'scratch%' ORDER BY nspname")


def schemas(catalog: Catalog) -> list[str]:
    with catalog.begin() as connection:
        return list(connection.scalars(SCHEMAS))


def test_what_a_killed_process_left_is_dropped_and_what_a_living_one_uses_is_not(database_url: str) -> None:
    command = [sys.executable, "-c", HOLDER, database_url]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdin and owner.stdout
    with owner, Catalog.open(database_url) as catalog:
        with catalog.begin() as connection:
            connection.execute(text("CREATE SCHEMA scratch_of_somebody_else"))
        assert owner.stdout.readline() == "made\n"
        before = schemas(catalog)
        assert len(before) == 2 and sweep_scratch(catalog) == [] and schemas(catalog) == before
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        (ours,) = [name for name in before if name != "scratch_of_somebody_else"]
        swept: list[str] = []
        while not swept:  # until the server notices that its connection is gone
            swept = sweep_scratch(catalog)
        assert swept == [ours] and schemas(catalog) == ["scratch_of_somebody_else"]
        with open_scratch(catalog):
            assert sweep_scratch(catalog) == []
        assert schemas(catalog) == ["scratch_of_somebody_else"]
