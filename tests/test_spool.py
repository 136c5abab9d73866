"""What a killed writer leaves is sealed again: nothing synced is lost, nothing living is touched."""

import fcntl
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from test_warc import INFO, exchange, faults, warcio_check
from warcio.archiveiterator import ArchiveIterator

from storage.errors import SpoolFull
from storage.exchange import Stored
from storage.manifest import read_manifest
from storage.member import compress
from storage.series import WarcSeries
from storage.spool import Scratch, Spool
from storage.warc import BrokenWarc, OpenWarc

WRITER = """
import os, sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_warc import INFO, exchange
from storage.exchange import Stored
from storage.series import WarcSeries
from storage.spool import Spool
spool = Spool.open(Path(sys.argv[1]))
series = WarcSeries(spool, "run", int(sys.argv[2]), INFO, 200_000)
number = 0
while True:
    refs = []
    for _ in range(5):
        number += 1
        body = b"HTTP/1.1 200 OK\\r\\n\\r\\n" + os.urandom(1000) * (number % 17)
        block = body
        if number % 7 == 0:
            block = Stored(path=series.scratch / str(number), length_bytes=len(body))
            block.path.write_bytes(body)
        refs.append(series.append(exchange(block)))
    series.sync()
    for ref in refs:
        print(ref.record_id, ref.concurrent[0].record_id, flush=False)
    print("synced", flush=True)
"""


def child(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def sound(folder: Path) -> set[str]:
    """Check every sealed WARC of a spool; list the records in them."""
    found = set()
    for sealed in Spool.open(folder).sealed():
        assert faults(sealed.path, sealed.manifest) == []
        assert sealed.cdxj.exists()
        found |= {str(ref.record_id) for ref in sealed.records}
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def block(size: int = 100) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + os.urandom(size)


def test_a_writer_killed_at_any_moment_loses_nothing_it_had_synced(tmp_path: Path) -> None:
    dice, synced = random.Random(5), set()
    for attempt in range(8):
        writer = child(WRITER, tmp_path, attempt)
        assert writer.stdout and writer.stderr
        told = []
        wanted = dice.randrange(1, 12)
        for line in writer.stdout:  # the kill falls at a random record after a random sync
            told.append(line.decode().strip())
            if told.count("synced") == wanted:
                break
        time.sleep(dice.random() / 100)
        os.kill(writer.pid, signal.SIGKILL)
        told += [line.decode().strip() for line in writer.stdout]
        assert writer.wait() == -signal.SIGKILL, writer.stderr.read()
        writer.stdout.close()
        writer.stderr.close()
        end = max(at for at, line in enumerate(told) if line == "synced")
        synced |= {one for line in told[:end] if line != "synced" for one in line.split()}
        recovered = Spool.open(tmp_path).recover({"collector": "collector-1"})
        assert any(one.sealed for one in recovered)
    assert len(synced) > 8 * 10
    assert synced <= sound(tmp_path)
    assert not [name for name in names(tmp_path / "open") if not name.endswith(".torn")]
    assert names(tmp_path / "scratch") == []
    for sealed in Spool.open(tmp_path).sealed():
        assert warcio_check(sealed.path).returncode == 0
    assert Spool.open(tmp_path).recover() == []


RECOVERER = """
import sys
from pathlib import Path
from storage.spool import Spool
Spool.open(Path(sys.argv[1])).recover()
"""


def test_a_recovery_killed_at_any_moment_can_be_run_again(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        warc = OpenWarc.create(Spool.open(tmp_path).open_folder, name, INFO)
        for _ in range(300):
            warc.append(exchange(block()))
        warc.close()
        with warc.path.open("ab") as file:
            file.write(b"\x1f\x8b\x08torn")
    dice = random.Random(3)
    for _ in range(10):
        recoverer = child(RECOVERER, tmp_path)
        deadline = time.monotonic() + 0.05 + dice.random() / 2
        while recoverer.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        recoverer.kill()
        recoverer.communicate()
    Spool.open(tmp_path).recover()
    assert len(sound(tmp_path)) == 3 * 601
    assert names(tmp_path / "open") == [f"{name}.warc.gz.torn" for name in "abc"]
    assert len(names(tmp_path / "sealed")) == 9


def left(tmp_path: Path, tail: bytes = b"", records: int = 3) -> Spool:
    spool = Spool.open(tmp_path)
    warc = OpenWarc.create(spool.open_folder, "left", INFO)
    for _ in range(records):
        warc.append(exchange(block()))
    warc.close()
    with warc.path.open("ab") as file:
        file.write(tail)
    return spool


@pytest.mark.parametrize(
    "tail",
    [
        b"\x1f",
        compress(b"WARC/1.1\r\n", b"x" * 400)[:50],
        compress(b"", os.urandom(9000))[:7000],
        b"\0" * 5000,
        compress(b"WARC/1.1\r\nWARC-Type: response\r\n\r\n", b""),
        compress(b"", b""),
        b"garbage",
    ],
)
def test_a_torn_tail_is_cut_and_kept_apart(tail: bytes, tmp_path: Path) -> None:
    spool = left(tmp_path, tail)
    (one,) = spool.recover({"note": "kept"})
    assert (one.name, one.kept_records, one.cut_bytes) == ("left", 7, len(tail))
    assert one.sealed and one.reason.startswith("cut at byte")
    assert (tmp_path / "open" / "left.warc.gz.torn").read_bytes() == tail
    assert len(sound(tmp_path)) == 7
    manifest = read_manifest(one.sealed.manifest)
    assert manifest.extra == {"collector": "collector-1", "note": "kept", "recovered": True}
    assert manifest.warcinfo_id == one.sealed.records[0].record_id
    assert list(spool.sealed()) == [one.sealed]
    assert spool.recover() == []


def test_half_of_a_pair_is_kept(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    warc = OpenWarc.create(spool.open_folder, "half", INFO)
    ref = warc.append(exchange(block()))
    warc.close()
    os.truncate(warc.path, ref.concurrent[0].offset_bytes + 20)
    (one,) = spool.recover()
    assert (one.kept_records, one.cut_bytes) == (2, ref.concurrent[0].length_bytes and 20)
    assert str(ref.record_id) in sound(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b\x08\x00", b"\0" * 900])
def test_a_file_without_a_whole_record_is_set_aside(data: bytes, tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    (spool.open_folder / "none.warc.gz.open").write_bytes(data)
    (one,) = spool.recover()
    assert (one.kept_records, one.cut_bytes, one.sealed) == (0, len(data), None)
    assert (spool.open_folder / "none.warc.gz.torn").read_bytes() == data
    assert spool.recover() == [] and names(spool.sealed_folder) == []


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    series = WarcSeries(spool, "alive", 1, INFO, 1 << 30)
    series.append(exchange(block()))
    (series.scratch / "half").write_bytes(b"x")
    assert spool.recover() == []
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", RECOVERER, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stderr
    assert (series.scratch / "half").exists()
    series.append(exchange(block()))
    (sealed,) = series.close()
    assert sealed.record_count == 5 and names(spool.scratch_folder) == []
    assert len(sound(tmp_path)) == 5


def test_a_sealed_file_gets_the_index_and_manifest_it_lacks(tmp_path: Path) -> None:
    spool = left(tmp_path)
    (one,) = spool.recover()
    assert one.sealed
    before = one.sealed.manifest.read_bytes(), one.sealed.cdxj.read_bytes()
    one.sealed.cdxj.unlink()
    (again,) = spool.recover()
    assert again.reason == "index missing"
    assert before == (one.sealed.manifest.read_bytes(), one.sealed.cdxj.read_bytes())
    one.sealed.manifest.unlink()
    (spool.sealed_folder / "left.manifest.json.tmp").write_bytes(b"{half")
    (again,) = spool.recover()
    assert again.reason == "manifest missing" and again.sealed
    later = {"sealed_at": again.sealed.sealed_at, "manifest_sha256": again.sealed.manifest_sha256}
    assert again.sealed == replace(one.sealed, **later)
    assert before[1] == one.sealed.cdxj.read_bytes()
    assert names(spool.sealed_folder) == ["left.cdxj", "left.manifest.json", "left.warc.gz"]


def test_a_damaged_sealed_file_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    spool = left(tmp_path)
    (one,) = spool.recover()
    assert one.sealed
    one.sealed.manifest.unlink()
    data = bytearray(one.sealed.path.read_bytes())
    data[-20] ^= 1
    one.sealed.path.write_bytes(data)
    (again,) = spool.recover()
    assert again.sealed is None and "damaged" in again.reason
    assert one.sealed.path.read_bytes() == data and not one.sealed.manifest.exists()


def test_leftovers_of_the_dead_are_removed_and_named(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    dead = Scratch(spool, "dead")
    (dead.path / "block").write_bytes(b"12345")
    os.close(dead._folder)
    (spool.sealed_folder / "gone.cdxj.tmp").write_bytes(b"123")
    told = {one.name: one.cut_bytes for one in spool.recover()}
    assert told == {"gone.cdxj.tmp": 3, f"scratch/{dead.path.name}": 5}
    assert names(spool.scratch_folder) == names(spool.sealed_folder) == []


def test_a_series_rotates_and_chains_its_manifests(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    series = WarcSeries(spool, "source-1.run", 3, INFO, 20_000, {"collector": "c", "previous_manifest_sha256": "0"})
    refs = [series.append(exchange(block(5000))) for _ in range(18)]
    early = series.take_sealed()
    assert [one.name for one in early] == [f"source-1.run-3-{number:05}" for number in range(len(early))]
    assert len(early) >= 3 and series.take_sealed() == []
    series.sync()
    sealed = series.close()
    assert sealed[: len(early)] == early and series.close() == sealed
    assert [read_manifest(one.manifest).extra["previous_manifest_sha256"] for one in sealed] == [
        "0",
        *(one.manifest_sha256 for one in sealed[:-1]),
    ]
    assert {str(ref.record_id) for ref in refs} <= sound(tmp_path)
    assert {ref.warc for ref in refs} == {one.path.name for one in sealed}
    for one in sealed:
        with one.path.open("rb") as file:
            assert sum(1 for _ in ArchiveIterator(file)) == one.record_count


def test_a_series_without_records_makes_no_file(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    assert WarcSeries(spool, "nothing", 1, INFO, 100).close() == []
    assert names(spool.open_folder) == names(spool.sealed_folder) == names(spool.scratch_folder) == []
    with pytest.raises(ValueError, match="file name"):
        WarcSeries(spool, "../x", 1, INFO, 100)


def test_many_threads_rotate_one_series(tmp_path: Path) -> None:
    series = WarcSeries(Spool.open(tmp_path), "threads", 1, INFO, 8_000)

    def some(_: int) -> list[str]:
        out = []
        for number in range(25):
            data = block(300)
            stored = Stored(path=series.scratch / f"{_}-{number}", length_bytes=len(data))
            stored.path.write_bytes(data)
            out.append(str(series.append(exchange(stored if number % 3 else data)).record_id))
            series.sync()
        return out

    with ThreadPoolExecutor(6) as pool:
        wanted = {one for group in pool.map(some, range(6)) for one in group}
    assert len(series.close()) > 5
    assert len(wanted) == 150 and wanted <= sound(tmp_path)


def test_a_disk_that_is_full_at_sealing_loses_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    spool = Spool.open(tmp_path)
    series = WarcSeries(spool, "full", 1, INFO, 1 << 30)
    refs = [series.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n")) for _ in range(60)]
    size = (spool.open_folder / "full-1-00000.warc.gz.open").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 4, hard))
    try:
        with pytest.raises(SpoolFull):
            series.close()
        with pytest.raises(SpoolFull):
            spool.recover()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(spool.sealed_folder) == ["full-1-00000.warc.gz"]
    (one,) = spool.recover()
    assert one.kept_records == 121 and {str(ref.record_id) for ref in refs} <= sound(tmp_path)


def test_a_failed_sync_ends_the_file(tmp_path: Path) -> None:
    """After a failed fsync the kernel may call lost pages clean: another fsync would lie."""
    warc = OpenWarc.create(tmp_path, "bad", INFO)
    warc.append(exchange(block()))
    os.dup2(os.open("/proc/self/cmdline", os.O_RDONLY), warc._file)  # a file that the kernel refuses to sync
    with pytest.raises(OSError):
        warc.sync()
    with pytest.raises(BrokenWarc):
        warc.append(exchange(block()))
    with pytest.raises(BrokenWarc):
        warc.seal()
    warc.close()


def test_the_lock_is_on_the_file_that_has_the_name(tmp_path: Path) -> None:
    spool = left(tmp_path)
    path = spool.open_folder / "left.warc.gz.open"
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert spool.recover() == []
    assert len(spool.recover()) == 1


MANY = """
import resource, sys, time
from pathlib import Path
from storage.spool import Spool
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(one,) = Spool.open(Path(sys.argv[1])).recover()
print(one.kept_records, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_recovery_takes_no_more_memory_for_more_records(tmp_path: Path) -> None:
    grown = []
    for name, times in (("few", 1), ("many", 12)):
        spool = Spool.open(tmp_path / name)
        warc = OpenWarc.create(spool.open_folder, name, INFO)
        for _ in range(400 * times):
            warc.append(exchange(block(50)))
        warc.close()
        with child(MANY, tmp_path / name) as told:
            out, errors = told.communicate(timeout=120)
        count, kilobytes = map(int, out.split() or [0, 0])
        assert count == 1 + 800 * times, errors
        grown.append(kilobytes)
    assert grown[1] < grown[0] + 12_000, grown


def test_a_series_turns_when_told_and_goes_on(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    series = WarcSeries(spool, "run", 1, INFO, 10**9)
    series.turn()
    assert series.take_sealed() == [], "nothing was written yet"
    series.append(exchange(block()))
    assert spool.unsealed_bytes() > 100
    series.turn()
    series.turn()
    (first,) = series.take_sealed()
    assert spool.unsealed_bytes() == 0
    series.append(exchange(block()))
    assert [one.path.name for one in series.close()] == ["run-1-00000.warc.gz", "run-1-00001.warc.gz"]
    series.turn()
    assert series.close()[0] == first and len(sound(tmp_path)) == 6


def test_a_released_warc_leaves_its_manifest_and_is_no_fault(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    series = WarcSeries(spool, "run", 1, INFO, 10**9)
    series.append(exchange(block()))
    (sealed,) = series.close()
    with spool.alone_with(sealed.path.name) as alone, spool.alone_with(sealed.path.name) as second:
        assert (alone, second) == (True, False)
    spool.release(sealed.path.name)
    spool.release(sealed.path.name)
    with spool.alone_with(sealed.path.name) as alone:
        assert not alone
    assert names(spool.sealed_folder) == ["run-1-00000.manifest.json"]
    assert spool.recover() == [] and list(spool.sealed()) == [] and spool.torn() == []
