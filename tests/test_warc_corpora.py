"""WARCs that others made, good and bad on purpose: judged at least as well as their names say, in bounded memory."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT

DISAGREED = {
    "invalid-warcfile-contenttype-warcinfo-recommended.warc": "another type of warcinfo is allowed (6.2 recommends)",
    "invalid-warcfile-encoding-headers.warc.gz": "the fault is in the HTTP head, which is the server's",
    "valid-warcrecorddigests-1.warc": "its records share one identifier (5.2)",
    "valid-warcrecorddigests-2.warc": "its records share one identifier (5.2)",
}
"""What jhove and jwat call otherwise than we do, and why."""
UNNAMED = {
    "example-bad.warc.gz.bad": {"framing"},  # bytes that are no gzip between two members
    "example-bad-non-chunked.warc.gz": {"framing"},  # one gzip member for several records
    "example-trunc.warc": {"framing"},  # cut within a block
}
"""Files whose names do not begin with a verdict, and whose fault is known all the same."""
SOUND = (
    "example.warc",
    "example.warc.gz",
    "example-resource.warc.gz",
    "example-iana.org-chunked.warc",
    "http-return-codes.warc.gz",
    "post-test.warc.gz",
    "solidaritenum.warc.gz",
)
"""Of warcio, pywb and a browser's crawl: nothing in them is a fault."""
PEAK_MIB = 200

# in a process of its own, so that its memory is that of the checks; (path, seconds, rules broken) and the peak at the end
JUDGE = """
import json, sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from storage.check import Result, check_warc
for line in sys.stdin:
    path, began = Path(line.rstrip("\\n")), time.monotonic()
    found = list(check_warc(path, latest=datetime.now(UTC) + timedelta(days=1)))
    rules = sorted({one.rule for one in found if one.result is Result.FAIL})
    print(json.dumps([str(path), len(found), rules]))
status = Path("/proc/self/status").read_text()  # getrusage would count what our parent held before exec
print(json.dumps(int(status.split("VmHWM:")[1].split()[0]) // 1024))
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Path, tuple[int, set[str]]], int]:
    """Give each archive's number of findings and broken rules, and the peak memory in MiB of judging them all."""
    if not (corpora := os.environ.get("OSINT_CORPORA")):
        pytest.skip("OSINT_CORPORA names no folder of archives")
    paths = [path for path in sorted(Path(corpora, "archives").rglob("*")) if is_archive(path)]
    unpacked = tmp_path_factory.mktemp("wacz")
    for place, wacz in enumerate(sorted(Path(corpora).rglob("*.wacz"))):
        paths += unpack(wacz, unpacked / str(place))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", JUDGE],
        input="".join(f"{path}\n" for path in paths),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *rows, peak = (json.loads(line) for line in done.stdout.splitlines())
    return {Path(path): (count, set(rules)) for path, count, rules in rows}, peak


def is_archive(path: Path) -> bool:
    return path.is_file() and (".warc" in path.name or path.suffix in (".gz", ".arc"))


def unpack(wacz: Path, folder: Path) -> list[Path]:
    with zipfile.ZipFile(wacz) as packed:
        return [Path(packed.extract(name, folder)) for name in packed.namelist() if ".warc" in name]


def test_files_are_judged_as_their_names_say(judged: tuple[dict[Path, tuple[int, set[str]]], int], capsys: Any) -> None:
    named = {path: rules for path, (_, rules) in judged[0].items() if path.name.startswith(("valid-", "invalid-"))}
    disagreed = {path.name for path, rules in named.items() if bool(rules) is not path.name.startswith("invalid-")}
    with capsys.disabled():
        print(
            f"\n{len(judged[0])} archives, {len(named)} with a verdict in their names, {len(disagreed)} judged otherwise"
        )
    assert len(named) >= 40
    assert disagreed == set(DISAGREED)


def test_those_without_a_verdict_are_judged_too(judged: tuple[dict[Path, tuple[int, set[str]]], int]) -> None:
    found = {path.name: rules for path, (_, rules) in judged[0].items()}
    for name, wanted in UNNAMED.items():
        assert found[name] >= wanted, (name, found[name])
    assert not [name for name in SOUND if found[name]]
    assert all(count for count, _ in judged[0].values()), "an archive was passed over without a word"


def test_no_archive_takes_much_memory(judged: tuple[dict[Path, tuple[int, set[str]]], int]) -> None:
    assert judged[1] < PEAK_MIB
