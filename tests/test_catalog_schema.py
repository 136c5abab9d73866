"""The catalogue opens on an empty database, on one that is up to date, and on none that it must not touch."""

import threading
import warnings

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from storage.catalog import Catalog
from storage.errors import DatabaseUnavailable, SchemaTooNew
from storage.migrating import known
from storage.schema import metadata


def ours(name, kind, parents):
    return not (kind == "table" and name.startswith("procrastinate_"))  # the queue's own


def test_an_empty_database_gets_the_tables_of_the_schema(empty_database_url):
    with Catalog.open(empty_database_url) as catalog, catalog.begin() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # alembic cannot compare indexes on expressions, and warns
        options = {"compare_type": True, "compare_server_default": True, "include_name": ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_opening_again_changes_nothing(database_url):
    for _ in range(2):
        with Catalog.open(database_url) as catalog, catalog.begin() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == known()[-1]


def test_many_processes_may_open_an_empty_database_at_once(empty_database_url):
    failures = []

    def open_it():
        try:
            Catalog.open(empty_database_url).close()
        except Exception as error:  # noqa: BLE001  shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_newer_schema_is_refused_and_left_alone(embedded_url):
    with Catalog.open(embedded_url) as catalog, catalog.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew) as raised:
        Catalog.open(embedded_url)
    assert (raised.value.found, raised.value.known) == ("9999", known()[-1])


def test_an_unreachable_database_is_named_without_its_password():
    with pytest.raises(DatabaseUnavailable) as raised:
        Catalog.open("postgresql://osint:s3cr3t@127.0.0.1:1/osint")
    assert "s3cr3t" not in str(raised.value) and "127.0.0.1" in raised.value.where


@pytest.mark.parametrize("url", ["mysql://u:s3cr3t@h/d", "not a url s3cr3t", "postgresql://h:port/s3cr3t"])
def test_what_is_no_postgresql_address_is_refused_without_repeating_it(url):
    with pytest.raises(DatabaseUnavailable) as raised:
        Catalog.open(url)
    assert "s3cr3t" not in str(raised.value)


def test_a_wrong_password_is_not_repeated(embedded_url):
    wrong = embedded_url.replace("osint:", "osint:wr0ng", 1)
    with pytest.raises(DatabaseUnavailable) as raised:
        Catalog.open(wrong)
    assert "wr0ng" not in str(raised.value)


def test_a_locale_without_cyrillic_is_refused(embedded_server):
    import psycopg
    from conftest import plain

    with psycopg.connect(plain(embedded_server), autocommit=True) as connection:
        connection.execute(
            "CREATE DATABASE plain_c TEMPLATE template0 LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    with pytest.raises(DatabaseUnavailable, match="locale"):
        Catalog.open(embedded_server.replace("/postgres?", "/plain_c?"))
