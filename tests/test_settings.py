"""Settings are read once, typed, and refuse what they do not know."""

import stat
from dataclasses import fields
from pathlib import Path

import pytest

from settings.errors import SettingError
from settings.folders import private_folder
from settings.service import Service, load


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), **more}


def test_defaults_need_nothing(tmp_path: Path) -> None:
    service = load(environment(tmp_path)).service
    assert service.home == tmp_path / ".local/share/osint-pipeline"
    assert service.database_url is None
    assert service.delay_seconds == 1.0


def test_each_value_says_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "osint.toml"
    file.write_text('collector = "c-7"\nretries = 5\n')
    loaded = load(environment(tmp_path, OSINT_CONFIG=str(file), OSINT_RETRIES="1"))
    assert (loaded.service.collector, loaded.sources["collector"]) == ("c-7", str(file))
    assert (loaded.service.retries, loaded.sources["retries"]) == (1, "OSINT_RETRIES")
    assert loaded.sources["limit"] == "default"


def test_a_secret_may_lie_in_a_file_and_never_shows(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush-hush\n")
    more = {"OSINT_S3_ENDPOINT": "http://127.0.0.1:1", "OSINT_S3_ACCESS_KEY": "open-key"}
    loaded = load(environment(tmp_path, OSINT_S3_SECRET_KEY_FILE=str(secret), **more))
    assert loaded.service.s3_secret_key == "hush-hush"
    shown = repr(loaded.rows())
    assert "hush-hush" not in shown and "open-key" not in shown
    assert "hush-hush" not in repr(loaded.service)


def test_a_password_in_a_url_is_masked(tmp_path: Path) -> None:
    loaded = load(environment(tmp_path, OSINT_DATABASE_URL="postgresql://me:hush@db.example:5432/osint?password=hush"))
    shown = repr(loaded.rows())
    assert "hush" not in shown and "db.example:5432" in shown


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("OSINT_DELAY", "1", "OSINT_DELAY"),
        ("OSINT_DELAY_SECONDS", "soon", "OSINT_DELAY_SECONDS"),
        ("OSINT_DELAY_SECONDS", "-1", "below"),
        ("OSINT_DELAY_SECONDS", "nan", "OSINT_DELAY_SECONDS"),
        ("OSINT_RETAIN_HOURS", "100000000", "above 876600"),
        ("OSINT_DOCTOR_HOURS", "inf", "above 876600"),
        ("OSINT_STOP_SECONDS", "1e12", "above 2000000"),
        ("OSINT_CLOCK_MARGIN_SECONDS", "inf", "above"),
        ("OSINT_SPOOL_HIGH_BYTES", "9" * 400, "above"),
        ("OSINT_SPOOL_LOW_SHARE", "1.1", "above 1"),
        ("OSINT_RETRIES", "2.5", "OSINT_RETRIES"),
        ("OSINT_ALLOW_NETWORKS", "localhost", "OSINT_ALLOW_NETWORKS"),
        ("OSINT_ROBOTS", "ignore", "reason"),
        ("OSINT_ROBOTS", "ignore: ", "reason"),
        ("OSINT_S3_ENDPOINT", "http://127.0.0.1:1", "OSINT_S3_ACCESS_KEY"),
        ("OSINT_S3_SECRET_KEY_FILE", "/nonexistent", "OSINT_S3_SECRET_KEY_FILE"),
        ("OSINT_CONFIG", "/nonexistent.toml", "OSINT_CONFIG"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, name: str, value: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        load(environment(tmp_path, **{name: value}))


def test_every_number_has_bounds_and_its_default_lies_in_them(tmp_path: Path) -> None:
    numbers = [one for one in fields(Service) if "int" in str(one.type) or "float" in str(one.type)]
    assert len(numbers) > 25
    for one in numbers:
        for value in ("inf", "nan", "1e400", "9" * 30, "-1"):
            with pytest.raises(SettingError, match=f"OSINT_{one.name.upper()}"):
                load(environment(tmp_path, **{f"OSINT_{one.name.upper()}": value}))
        if one.default is not None:
            load(environment(tmp_path, **{f"OSINT_{one.name.upper()}": str(one.default)}))


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "osint.toml"
    file.write_text("retrys = 5\n")
    with pytest.raises(SettingError, match="retrys"):
        load(environment(tmp_path, OSINT_CONFIG=str(file)))


def test_every_field_says_what_it_is() -> None:
    for one in fields(Service):
        assert one.metadata["about"], one.name


def test_the_data_folder_is_private_and_its_parents_are_left_alone(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o755)
    folder = private_folder(parent / "home")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(parent.stat().st_mode) == 0o755
