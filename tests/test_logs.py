"""Log lines: fields of the run on each, one line each, in one file that many processes share; no secret in any."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog

from osint_pipeline import logs
from osint_pipeline.masking import Mask
from settings.service import Service, load
from tests.commands import ROOT, Osint

log = logs.logger("osint_pipeline.of_a_test")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    structlog.contextvars.clear_contextvars()
    root.setLevel(level)
    logs.shut()


def service(folder: Path, **more: str) -> Service:
    environment = {"HOME": str(folder), "OSINT_MACHINE": "m1", "OSINT_LOG_LEVEL": "info"}
    environment["OSINT_LOG_FILE"] = str(folder / "osint.log")
    return load(environment | more).service


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "osint.log").read_text("utf-8").splitlines()]


def test_each_line_says_what_when_where_and_of_which_run(tmp_path: Path) -> None:
    logs.configure(service(tmp_path), kind="worker")
    with logs.bound(run="r-1", source="kanal"):
        with logs.bound(url="https://t.me/s/kanal", capture="c-1"):
            log.info("captured", status=200, name="затрым", args=(1,))  # names that logging keeps for itself
        logging.getLogger("scrapy.core").warning("retrying %s", "x")
    log.debug("not wanted")
    first, second = lines(tmp_path)
    assert {**first, "time": "", "pid": 0} == {
        "time": "", "level": "info", "event": "captured", "run": "r-1", "source": "kanal", "capture": "c-1",
        "url": "https://t.me/s/kanal", "machine": "m1", "kind": "worker", "pid": 0, "status": 200, "name": "затрым",
        "logger": "osint_pipeline.of_a_test", "args": [1],
    }  # fmt: skip
    assert len(first["time"]) == len("2026-11-25T10:00:00.123Z") and first["time"].endswith("Z")
    assert (second["event"], second["run"], second["logger"]) == ("retrying x", "r-1", "scrapy.core")
    assert "url" not in second


def test_what_is_bound_reaches_tasks_and_threads_and_stays_apart(tmp_path: Path) -> None:
    logs.configure(service(tmp_path), kind="worker")

    async def one(name: str) -> None:
        logs.bind(source=name)
        await asyncio.sleep(0)
        log.info("task", wanted=name)
        await asyncio.to_thread(log.info, "thread", wanted=name)
        asyncio.get_running_loop().call_soon(lambda: log.info("later", wanted=name))
        await asyncio.get_running_loop().run_in_executor(None, logs.in_context(log.info, "executor"))
        with ThreadPoolExecutor(1) as pool:
            logs.submit(pool, log.info, "pool").result()

    async def both() -> None:
        await asyncio.gather(one("a"), one("b"))

    asyncio.run(both())
    found = lines(tmp_path)
    assert len(found) == 10
    assert all(line["source"] == line.get("wanted", line["source"]) for line in found)
    assert sorted(line["source"] for line in found) == ["a"] * 5 + ["b"] * 5


SECRETS = {
    "OSINT_S3_ENDPOINT": "http://127.0.0.1:9",
    "OSINT_S3_ACCESS_KEY": "AKIAEXAMPLE",
    "OSINT_S3_SECRET_KEY": "geheim+key/1",
    "OSINT_DATABASE_URL": "postgresql://me:geheim%2Fdb@db.example/osint",
    "OSINT_PROXY": "http://us:geheimproxy@proxy.example:3128",
    "OSINT_ALERTS": "json://geheimhook@hooks.example/T000/geheimpath",
}


@pytest.mark.parametrize(
    "said",
    [
        "cannot connect with geheim+key/1",
        "postgresql://me:geheim/db@db.example/osint failed",
        "password geheim/db and geheim%2Fdb",
        "GET http://other:geheim@host.example/ and https://geheim@host.example/x",
        "Authorization: Bearer geheim",
        "headers {b'Cookie': [b'sid=geheim; x=geheim'], b'Accept': [b'*/*']}",
        '{"Set-Cookie": "a=geheim; Path=/", "x": 1}',
        "proxy-authorization=Basic geheim",
        "https://s3.example/k?X-Amz-Signature=geheim&x=1 and token=geheim",
        "json://geheimhook@hooks.example/T000/geheimpath",
    ],
)
def test_no_secret_is_logged(said: str, tmp_path: Path) -> None:
    logs.configure(service(tmp_path, **SECRETS), kind="worker")
    log.warning(said, nested={"headers": {"Cookie": "geheim", b"authorization": b"geheim"}}, listed=[said])
    logging.getLogger("urllib3").warning("%s", said)
    try:
        raise ValueError(said)
    except ValueError:
        log.exception("failed")
    text = (tmp_path / "osint.log").read_text("utf-8")
    assert "geheim" not in text and text.count("********") >= 6, text
    assert len(lines(tmp_path)) == 3 and "ValueError" in lines(tmp_path)[2]["exception"]


def test_what_is_no_secret_stays() -> None:
    mask = Mask(["geheim"])
    for plain in ("https://t.me/s/kanal", "mail a@b.example", "cookies are counted", "1:2@3", "the author is known"):
        assert mask.text(plain) == plain


def test_text_is_one_line_whatever_a_page_is_called(tmp_path: Path) -> None:
    logs.configure(service(tmp_path, OSINT_LOG_FORMAT="text"), kind="worker")
    log.warning("captured", title="a\nERROR forged \x1b[31m", empty="")
    (line,) = (tmp_path / "osint.log").read_text("utf-8").splitlines()
    assert line.endswith('Z warning captured title="a\\nERROR forged \\x1b[31m" empty=""'), line


WRITER = """
import sys
from pathlib import Path
from osint_pipeline import logs
from settings.service import load
logs.configure(load().service, kind="worker")
log = logs.logger("writer")
for number in range(400):
    log.info("line", number=number, writer=sys.argv[1], filler="x" * 100)
"""


def test_many_processes_rotate_one_file_and_lose_nothing(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home", OSINT_LOG_FILE=str(tmp_path / "osint.log"), OSINT_LOG_BYTES="30000")
    environ = osint.environ | {"OSINT_LOG_LEVEL": "info", "OSINT_LOG_KEEP": "100"}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(number)], env=environ, cwd=ROOT, stderr=subprocess.PIPE)
        for number in range(3)
    ]
    for one in writers:
        _, said = one.communicate(timeout=60)
        assert one.returncode == 0 and not said, said
    files = [path for path in tmp_path.glob("osint.log*") if path.is_file()]
    found = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    assert sorted((line["writer"], line["number"]) for line in found) == [
        (str(writer), number) for writer in range(3) for number in range(400)
    ]
    assert len(files) > 5 and max(path.stat().st_size for path in files) <= 30_000
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_no_more_files_stay_than_wanted(tmp_path: Path) -> None:
    logs.configure(service(tmp_path, OSINT_LOG_BYTES="10000", OSINT_LOG_KEEP="2"), kind="worker")
    for number in range(300):
        log.info("line", number=number, filler="x" * 100)
    assert sorted(path.name for path in tmp_path.glob("osint.log*")) == ["osint.log", "osint.log.1", "osint.log.2"]
    assert lines(tmp_path)[-1]["number"] == 299


def test_without_configure_a_line_is_its_message() -> None:
    code = "from osint_pipeline.logs import logger; logger('x').warning('the spool fills', waiting_bytes=5)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "the spool fills\n")
