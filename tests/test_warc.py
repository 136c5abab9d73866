"""WARC files as written: bytes verbatim, digests that others verify, nothing injected, a full disk survived."""

import base64
import hashlib
import json
import os
import resource as limits
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from warcio.archiveiterator import ArchiveIterator

from storage.check import Result, check_warc
from storage.errors import SpoolFull
from storage.exchange import Exchange, Original, RecordRef, RecordType, Resource, Stored, Truncated
from storage.http import BadChunks, Head, dechunk, measure, payload_of, split, split_response
from storage.ids import new_id
from storage.manifest import read_manifest
from storage.member import compress, compress_parts, split_member
from storage.records import open_warc, payload, read_record
from storage.warc import BrokenWarc, OpenWarc

WHEN = datetime(2026, 11, 23, 10, 20, 30, 123456, tzinfo=UTC)
REQUEST = b"GET /a HTTP/1.1\r\nHost: example.org\r\n\r\n"
INFO = {"software": "osint-pipeline 0.1.0", "operator": "collector-1"}

ODD = {
    "plain": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "duplicate fields": (b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX:\r\n\r\nabc", b"abc"),
    "folded field": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html;\r\n\tcharset=utf-8\r\n\r\nabc", b"abc"),
    "lower case, no blanks": (b"HTTP/1.1 200 ok\r\ncontent-type:text/html\r\n\r\nabc", b"abc"),
    "HTTP/1.0, ends with the connection": (b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n" + b"abc" * 999, b"abc" * 999),
    "empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nz", b"z"),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nz", b"z"),
    "204": (b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n", b""),
    "304": (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', b""),
    "answer to HEAD": (b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    "no fields": (b"HTTP/1.1 200 OK\r\n\r\nabc", b"abc"),
    "latin-1 field": (b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9 \xff\r\nContent-Length: 1\r\n\r\nz", b"z"),
    "utf-8 field": ("HTTP/1.1 302 Найдено\r\nLocation: /страница\r\n\r\n".encode(), b""),
    "newline ends": (b"HTTP/1.1 200 OK\nContent-Type: text/html\n\nabc\r\n\r\nd", b"abc\r\n\r\nd"),
    "body like a head": (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nWARC/1.1\r\n\r\n\r\n", None),
    "binary with gzip magic": (b"HTTP/1.1 206 Partial\r\nA: b\r\n\r\n\x1f\x8b\x08\x00" + bytes(range(256)), None),
    "incompressible": (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + os.urandom(150_000), None),
    "big status": (b"HTTP/1.1 999 Request denied\r\nA: b\r\n\r\nno", b"no"),
}
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = {
    "chunked": (b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n", b"abcdefg"),
    "upper case size with zeros": (b"000A\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
    "empty chunked": (b"0\r\n\r\n", b""),
}
CHUNKED_ODDLY = {
    "extensions": (b'3;a=b\r\nabc\r\n4 ;c="d e"\r\ndefg\r\n0;last\r\n\r\n', b"abcdefg"),
    "trailers": (b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n", b"abc"),
}
BROKEN_CHUNKS = {
    "no size": b"zz\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-1\r\nabc\r\n0\r\n\r\n",
    "chunk longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "ends in a chunk": b"9\r\nabc",
    "no last chunk": b"3\r\nabc\r\n",
    "no end of trailers": b"3\r\nabc\r\n0\r\nA: b\r\n",
    "bytes after the end": b"3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "trailer without colon": b"3\r\nabc\r\n0\r\nwhat\r\n\r\n",
    "size of 17 digits": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "endless size line": b"3;" + b"x" * 70_000 + b"\r\nabc\r\n0\r\n\r\n",
    "bare newlines": b"3\nabc\n0\n\n",
}


def exchange(response: bytes | Stored | None, **more: object) -> Exchange:
    values = {
        "url": "https://example.org/a",
        "method": "GET",
        "started_at": WHEN,
        "ended_at": WHEN,
        "request": REQUEST,
        "response": response,
        **more,
    }
    return Exchange(**values)  # type: ignore[arg-type]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def faults(path: Path, manifest: Path | None = None) -> list[tuple[str, str]]:
    return [(one.rule, one.why) for one in check_warc(path, manifest) if one.result is Result.FAIL]


def member(path: Path, ref: RecordRef) -> bytes:
    data = path.read_bytes()[ref.offset_bytes : ref.offset_bytes + ref.length_bytes]
    assert sha256(data) == ref.record_sha256
    return data


@pytest.mark.parametrize("answer", [*ODD, *CHUNKED, *CHUNKED_ODDLY])
def test_an_odd_answer_stands_in_the_archive_byte_for_byte(answer: str, tmp_path: Path) -> None:
    if answer in ODD:
        block, body = ODD[answer]
        body = block[block.index(b"\r\n\r\n") + 4 :] if body is None else body
    else:
        raw, body = {**CHUNKED, **CHUNKED_ODDLY}[answer]
        block = CHUNKED_HEAD + raw
    warc = OpenWarc.create(tmp_path, "odd", INFO)
    ref = warc.append(exchange(block))
    sealed = warc.seal()
    record = read_record(member(sealed.path, ref))
    assert record.block == block
    assert payload(record) == body
    assert (ref.payload_sha256, ref.payload_bytes) == (sha256(body), len(body))
    with sealed.path.open("rb") as file:
        seen = [one.raw_stream.read() for one in ArchiveIterator(file, no_record_parse=True)]
    assert seen[1:] == [block, REQUEST]
    fast = [one.reader.read() for one in FastIterator(str(sealed.path), parse_http=False)]
    assert fast[1:] == [block, REQUEST]
    assert faults(sealed.path, sealed.manifest) == []


def warcio_check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "warcio.cli", "check", "-v", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_warcio_and_fastwarc_verify_every_digest_of_what_is_not_chunked(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "odd", INFO)
    refs = {name: warc.append(exchange(block)) for name, (block, _) in ODD.items()}
    warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n", request=b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b"))
    warc.append_resource(Resource(url="urn:dom:https://a/", made_at=WHEN, media_type="text/html", body=b"<p>"))
    sealed = warc.seal()
    told = warcio_check(sealed.path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("digest pass") == sealed.record_count
    for record in FastIterator(str(sealed.path), parse_http=False):
        assert record.verify_block_digest(True)
    bare = f"<urn:uuid:{refs['newline ends'].record_id}>"  # FastWARC does not find the end of a head in bare newlines
    for record in FastIterator(str(sealed.path), parse_http=False):
        if record.is_http and record.headers.get("WARC-Payload-Digest") and record.record_id != bare:
            record.parse_http()
            assert record.verify_payload_digest(True)


def test_warcio_denies_the_payload_digest_of_exactly_the_chunked_records(tmp_path: Path) -> None:
    """warcio#74: it digests chunk framing along with the payload; FastWARC and our checker do not."""
    warc = OpenWarc.create(tmp_path, "mixed", INFO)
    plain = [warc.append(exchange(ODD[name][0])) for name in ("plain", "204", "incompressible")]
    chunked = [warc.append(exchange(CHUNKED_HEAD + raw)) for raw, _ in {**CHUNKED, **CHUNKED_ODDLY}.values()]
    sealed = warc.seal()
    denied = []
    with sealed.path.open("rb") as file:
        for record in ArchiveIterator(file, check_digests=True):
            while record.raw_stream.read(1 << 16):
                pass
            if record.digest_checker.passed is False:
                assert all("payload digest failed" in one for one in record.digest_checker.problems)
                denied.append(record.rec_headers.get_header("WARC-Record-ID"))
    assert denied == [f"<urn:uuid:{ref.record_id}>" for ref in chunked]
    assert plain[0].payload_sha256 == sha256(b"abc")
    assert faults(sealed.path, sealed.manifest) == []
    verified = []
    for record in FastIterator(str(sealed.path), parse_http=False):
        if record.record_id == f"<urn:uuid:{chunked[3].record_id}>":
            break  # FastWARC 2.0 cannot read chunk extensions and raises
        if record.is_http:
            record.parse_http(auto_decode="transfer")
            if record.headers.get("WARC-Payload-Digest"):
                verified.append(record.verify_payload_digest(True))
    assert verified == [True] * 6


@pytest.mark.parametrize("name", BROKEN_CHUNKS)
def test_a_malformed_chunked_body_is_kept_and_digested_as_it_came_and_declared(name: str, tmp_path: Path) -> None:
    raw = BROKEN_CHUNKS[name]
    with pytest.raises(BadChunks):
        list(dechunk([raw]))
    warc = OpenWarc.create(tmp_path, "broken", INFO)
    ref = warc.append(exchange(CHUNKED_HEAD + raw))
    sealed = warc.seal()
    record = read_record(member(sealed.path, ref))
    assert payload(record) == raw
    assert ref.payload_sha256 == sha256(raw)
    assert record.header.get("Payload-Framing")
    assert faults(sealed.path, sealed.manifest) == []
    assert warcio_check(sealed.path).returncode == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_chunks_come_off_however_the_bytes_are_cut(size: int) -> None:
    for raw, body in {**CHUNKED, **CHUNKED_ODDLY}.values():
        cut = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert b"".join(dechunk(cut)) == body
    for raw in BROKEN_CHUNKS.values():
        cut = [raw[at : at + size] for at in range(0, len(raw), size)]
        with pytest.raises(BadChunks):
            list(dechunk(cut))


def test_a_head_is_read_without_being_changed() -> None:
    head = split_response(
        b"HTTP/1.1 404 Not Found\r\ncontent-TYPE : Text/HTML; a=b\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\nx"
    )
    assert head is not None
    assert (head.status, head.served_type, head.values("Set-Cookie")) == (404, "Text/HTML", (b"a", b"b"))
    assert not head.chunked
    assert Head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,\r\n CHUNKED\r\n\r\n").chunked
    assert not Head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\nX: chunked\r\n\r\n").chunked
    assert Head(b"GET / HTTP/1.1\r\n\r\n").status is None
    assert split_response(b"<html>an answer of HTTP/0.9\r\n\r\n</html>") is None
    assert split(b"no head at all") is None
    cut = split_response(b"HTTP/1.1 200 OK\r\nServer: cut of")
    assert cut is not None and cut.raw.endswith(b"cut of")


def test_fields_say_what_is_known_of_the_connection(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "fields", INFO)
    moment = datetime(2026, 11, 23, 13, 20, 30, 5, tzinfo=timezone(timedelta(hours=3)))
    ref = warc.append(
        exchange(
            b"HTTP/1.1 200 OK\r\n\r\nab",
            ip="2001:db8::1",
            protocols=("http/1.1", "tls/1.3"),
            cipher="TLS_AES_128_GCM_SHA256",
            truncated=Truncated.TIME,
            notes=(("Redacted", "cookie"),),
            started_at=moment,
        )
    )
    sealed = warc.seal()
    header = read_record(member(sealed.path, ref)).header
    assert header.date == ref.date == "2026-11-23T10:20:30.000005Z"
    assert header.all("WARC-Protocol") == ("http/1.1", "tls/1.3")
    assert header.get("WARC-Cipher-Suite") == "TLS_AES_128_GCM_SHA256"
    assert header.get("WARC-IP-Address") == "2001:db8::1"
    assert header.get("WARC-Truncated") == "time" and ref.truncated is Truncated.TIME
    assert header.get("Redacted") == "cookie"
    assert header.get("WARC-Warcinfo-ID") == f"<urn:uuid:{warc.warcinfo_id}>"
    (request,) = ref.concurrent
    assert request.concurrent_to == ref.record_id and request.date == ref.date
    assert read_record(member(sealed.path, request)).block == REQUEST
    with open_warc(sealed.path) as reader:
        first = reader.next()
        assert first is not None and first.header.get("WARC-Filename") == "fields.warc.gz"
        assert b"operator: collector-1\r\n" in b"".join(first.pieces())


@pytest.mark.parametrize(
    "hostile",
    [
        {"url": "https://a/\r\nWARC-Type: warcinfo\r\n\r\n"},
        {"url": "https://a/b c\x00\x85\u2028d"},
        {"url": "https://a/\ud800"},
        {"notes": (("A", "b\r\nWARC-Payload-Digest: sha256:0"),)},
        {"notes": (("A: b\r\nEvil", "c"), ("", "d"), ("Content-Length", "0"), ("warc-type", "x"))},
        {"ip": "1.2.3.4\r\nEvil: 1"},
        {"protocols": ("http/1.1\nEvil: 1",), "cipher": "x\r\n\r\n"},
        {"response": None, "failure": "timeout\r\nevil: 1"},
    ],
)
def test_nothing_that_a_server_says_becomes_a_field_of_its_own(hostile: dict[str, object], tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "hostile", {"soft\r\nevil: 1": "x\r\nevil: 2"})
    ref = warc.append(exchange(**{"response": b"HTTP/1.1 200 OK\r\n\r\nab", **hostile}))  # type: ignore[arg-type]
    sealed = warc.seal()
    assert faults(sealed.path, sealed.manifest) == []
    for one in (ref, *ref.concurrent):
        record = read_record(member(sealed.path, one))
        names = [name.lower() for name, _ in record.header.fields]
        assert names.count("warc-type") == names.count("content-length") == 1
        assert not {"evil", "wa"} & set(names)
        assert record.header.url == one.url
    assert [len(line.split(" ", 2)) for line in sealed.cdxj.read_text().splitlines()] == [3] * (ref.status is not None)


def test_an_address_or_a_note_of_megabytes_leaves_all_records_readable(tmp_path: Path) -> None:
    """A page may ask for an address of any length; a header above a megabyte is read by nobody, nor what stands behind it."""
    url, note = "https://example.org/x?" + "y" * 1_200_000, ("OSINT-Omission", "n" * 3_000_000)
    warc = OpenWarc.create(tmp_path, "long", INFO)
    ref = warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\nab", url=url, notes=(note,)))
    behind = warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\ncd"))
    sealed = warc.seal()
    assert faults(sealed.path, sealed.manifest) == []
    record = read_record(member(sealed.path, ref))
    assert record.header.url == ref.url and len(ref.url) == 32768 and ref.url.endswith(sha256(url.encode()))
    assert any("target URI cut at 32768 of 1200022" in one for one in record.header.all("OSINT-Alteration"))
    assert read_record(member(sealed.path, behind)).block.endswith(b"cd")


def test_a_failure_is_recorded_with_its_request(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "failed", INFO)
    ref = warc.append(exchange(None, failure="timeout"))
    unsent = warc.append(exchange(None, request=b"", failure="dns"))
    sealed = warc.seal()
    assert (ref.type, ref.concurrent[0].type) == (RecordType.REQUEST, RecordType.METADATA)
    assert ref.concurrent[0].concurrent_to == ref.record_id
    assert read_record(member(sealed.path, ref)).block == REQUEST
    assert b"failure: timeout\r\n" in read_record(member(sealed.path, ref.concurrent[0])).block
    assert (unsent.type, unsent.concurrent) == (RecordType.METADATA, ())
    assert faults(sealed.path, sealed.manifest) == []
    assert warcio_check(sealed.path).returncode == 0


def test_a_revisit_is_resolved_by_its_head_and_the_original(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "revisit", INFO)
    first = warc.append(exchange(b"HTTP/1.1 200 OK\r\nDate: 1\r\nContent-Type: text/plain\r\n\r\nsame"))
    original = Original(
        record_id=first.record_id, url=first.url, date=first.date, payload_sha256=str(first.payload_sha256)
    )
    again = exchange(
        CHUNKED_HEAD + b"4\r\nsame\r\n0\r\n\r\n", url="https://example.org/b", started_at=WHEN + timedelta(1)
    )
    ref = warc.append(again, original, payload_of(again))
    other = Original(record_id=new_id(), url=first.url, date=first.date, payload_sha256="0" * 64)
    with pytest.raises(ValueError, match="no revisit"):
        warc.append(again, other)
    sealed = warc.seal()
    assert (ref.type, ref.refers_to, ref.payload_bytes, ref.status) == (RecordType.REVISIT, first.record_id, 4, 200)
    record = read_record(member(sealed.path, ref))
    assert record.block == CHUNKED_HEAD
    with sealed.path.open("rb") as file:
        seen = {one.rec_headers["WARC-Record-ID"]: one for one in _kept(file)}
    revisit = next(one for one in seen.values() if one.rec_type == "revisit")
    target = seen[revisit.rec_headers["WARC-Refers-To"]]
    assert target.rec_headers["WARC-Date"] == revisit.rec_headers["WARC-Refers-To-Date"]
    assert target.rec_headers["WARC-Target-URI"] == revisit.rec_headers["WARC-Refers-To-Target-URI"]
    assert target.rec_headers["WARC-Payload-Digest"] == revisit.rec_headers["WARC-Payload-Digest"]
    assert revisit.rec_headers["WARC-Truncated"] == "length" and revisit.http_headers.get_statuscode() == "200"
    assert target.kept == b"same"
    assert faults(sealed.path, sealed.manifest) == []


def _kept(file: object) -> list[object]:
    out = []
    for record in ArchiveIterator(file):
        record.kept = record.content_stream().read()
        out.append(record)
    return out


def test_large_stored_blocks_pass_in_bounded_memory(tmp_path: Path) -> None:
    head, size = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n", 40 << 20
    scratch = tmp_path / "scratch.bin"
    piece = os.urandom(1 << 20)
    body = hashlib.sha256()
    with scratch.open("wb") as file:
        file.write(head)
        for _ in range(size >> 20):
            file.write(piece)
            body.update(piece)
    warc = OpenWarc.create(tmp_path, "large", INFO)
    tracemalloc.start()
    ref = warc.append(exchange(Stored(path=scratch, length_bytes=size + len(head))))
    sealed = warc.seal()
    assert faults(sealed.path, sealed.manifest) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20
    assert not scratch.exists()
    assert (ref.payload_sha256, ref.payload_bytes, ref.media_type) == (body.hexdigest(), size, "video/mp4")


def test_stored_blocks_are_measured_as_those_in_memory(tmp_path: Path) -> None:
    for number, block in enumerate(
        [
            *(block for block, _ in ODD.values()),
            *(CHUNKED_HEAD + raw for raw, _ in {**CHUNKED, **CHUNKED_ODDLY}.values()),
            *(CHUNKED_HEAD + raw for raw in BROKEN_CHUNKS.values()),
            b"HTTP/1.1 200 OK\r\nA: " + b"x" * (3 << 20) + b"\r\n\r\nabc",
            b"",
            b"no HTTP\r\n\r\nat all",
        ]
    ):
        path = tmp_path / str(number)
        path.write_bytes(block)
        assert measure(Stored(path=path, length_bytes=len(block))) == measure(block), block[:80]


def test_a_stored_block_of_another_length_is_not_written(tmp_path: Path) -> None:
    scratch = tmp_path / "s"
    scratch.write_bytes(b"HTTP/1.1 200 OK\r\n\r\nabc")
    warc = OpenWarc.create(tmp_path, "w", INFO)
    before = warc.size_bytes
    with pytest.raises(ValueError, match="holds 22 bytes, not 30"):
        warc.append(exchange(Stored(path=scratch, length_bytes=30)))
    assert scratch.exists() and warc.size_bytes == before == warc.path.stat().st_size
    warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\nabc"))
    sealed = warc.seal()
    assert faults(sealed.path, sealed.manifest) == []


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_warc import INFO, exchange
from storage.errors import SpoolFull
from storage.exchange import Stored
from storage.warc import OpenWarc
import os
folder, stored = Path(sys.argv[1]), sys.argv[2] == "stored"
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
warc = OpenWarc.create(folder, "full", INFO)
kept, full = [], 0
for number in range(12):
    body = b"HTTP/1.1 200 OK\\r\\n\\r\\n" + os.urandom(90_000 if number != 11 else 20)
    block = body
    if stored:
        (folder / "scratch").write_bytes(body)
        block = Stored(path=folder / "scratch", length_bytes=len(body))
    try:
        kept.append(warc.append(exchange(block)))
    except SpoolFull as error:
        full += 1
        assert error.needed_bytes > 0 and (not stored or (folder / "scratch").exists())
        assert warc.size_bytes == warc.path.stat().st_size
warc.sync()
sealed = warc.seal()
print(len(kept), full, sealed.record_count)
"""


@pytest.mark.parametrize("kind", ["memory", "stored"])
def test_a_full_disk_loses_only_the_record_that_did_not_fit(kind: str, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, str(tmp_path), kind], capture_output=True, text=True, timeout=60
    )
    assert told.stdout.split() == ["5", "7", "11"], told.stdout + told.stderr
    assert faults(tmp_path / "full.warc.gz", tmp_path / "full.manifest.json") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a tmpfs can only be mounted by root")
def test_a_really_full_file_system_is_survived(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        warc = OpenWarc.create(tmp_path, "full", INFO)
        (tmp_path / "filler").write_bytes(bytes(100_000))
        kept = 0
        with pytest.raises(SpoolFull):
            while True:
                warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n" + os.urandom(100_000)))
                kept += 1
        assert kept >= 3
        warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\nsmall"))
        with pytest.raises(SpoolFull):
            _fill(tmp_path / "filler")
        with pytest.raises(SpoolFull):
            OpenWarc.create(tmp_path, "second", INFO)
        assert not (tmp_path / "second.warc.gz.open").exists()
        (tmp_path / "filler").unlink()
        sealed = warc.seal()
        assert faults(sealed.path, sealed.manifest) == []
        assert sealed.record_count == 1 + 2 * (kept + 1)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def _fill(path: Path) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
    except OSError as error:
        raise SpoolFull(str(path), 1024) from error


def test_names_are_never_taken_twice(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "one", INFO)
    with pytest.raises(FileExistsError):
        OpenWarc.create(tmp_path, "one", INFO)
    warc.seal()
    with pytest.raises(FileExistsError):
        OpenWarc.create(tmp_path, "one", INFO)
    with pytest.raises(BrokenWarc):
        warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n"))
    assert not warc.path.exists()


def test_sealing_says_what_the_file_is(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "said", INFO)
    refs = [warc.append(exchange(block)) for block, _ in ODD.values()]
    assert warc.synced_bytes == 0
    assert warc.sync() == warc.synced_bytes == warc.size_bytes
    sealed = warc.seal({"collector": "collector-1", "nested": {"a": [1, "й"]}})
    data = sealed.path.read_bytes()
    assert (sealed.sha256, sealed.size_bytes) == (sha256(data), len(data))
    assert sealed.manifest_sha256 == sha256(sealed.manifest.read_bytes())
    listed = {one.record_id: one for one in sealed.records}
    assert all(listed[ref.record_id] == replace(ref, concurrent=()) for ref in refs)
    whole = json.loads(sealed.manifest.read_text())
    assert whole["extra"] == {"collector": "collector-1", "nested": {"a": [1, "й"]}}
    assert whole["record_count"] == len(whole["records"]) == sealed.record_count == len(listed)
    assert read_manifest(sealed.manifest).warcinfo_id == warc.warcinfo_id
    assert sum(one.length_bytes for one in sealed.records) == len(data)


def test_many_threads_append_to_one_file(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "threads", INFO)

    def some(number: int) -> list[RecordRef]:
        out = [warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n%d-%d" % (number, one))) for one in range(40)]
        warc.sync()
        return out

    with ThreadPoolExecutor(8) as pool:
        refs = [ref for group in pool.map(some, range(8)) for ref in group]
    sealed = warc.seal()
    assert sealed.record_count == 1 + 2 * len(refs) == 641
    assert faults(sealed.path, sealed.manifest) == []
    for ref in refs:
        (request,) = ref.concurrent
        assert request.offset_bytes == ref.offset_bytes + ref.length_bytes


def test_members_are_gzip_that_the_standard_library_reads() -> None:
    import gzip

    for body in (
        b"",
        b"x",
        os.urandom(4096),
        os.urandom(65535),
        os.urandom(65536),
        os.urandom(300_001),
        b"ab" * 99_999,
    ):
        whole = compress(b"head", body, b"tail")
        assert gzip.decompress(whole) == b"head" + body + b"tail"
        assert split_member(whole + b"more") == len(whole) and split_member(whole[:-1]) == 0
        streamed = b"".join(compress_parts([b"head", body, b"tail"]))
        assert gzip.decompress(streamed) == b"head" + body + b"tail"


def test_digests_may_be_written_in_base32_too(tmp_path: Path) -> None:
    block = b"HTTP/1.1 200 OK\r\n\r\nabc"
    written = base64.b32encode(hashlib.sha256(block).digest()).decode()
    header = (
        f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{new_id()}>\r\nWARC-Date: 2026-11-23T10:00:00Z\r\n"
        f"WARC-Target-URI: https://a/\r\nWARC-Block-Digest: sha256:{written}\r\nWARC-Payload-Digest: sha1:{{}}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    path = tmp_path / "b.warc"
    good = base64.b32encode(hashlib.sha1(b"abc").digest()).decode()
    path.write_bytes(header.format(good).encode() + block + b"\r\n\r\n")
    assert faults(path) == []
    path.write_bytes(header.format(good[::-1]).encode() + block + b"\r\n\r\n")
    assert [rule for rule, _ in faults(path)] == ["payload-digest"]


def test_records_are_read_from_bytes_as_from_a_file(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "bytes", INFO)
    warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\nabc"))
    sealed = warc.seal()
    data = sealed.path.read_bytes()
    with open_warc(data) as one, open_warc(sealed.path) as two:
        for first, second in zip(one, two, strict=True):
            assert b"".join(first.pieces()) == b"".join(second.pieces())
            assert (first.offset_bytes, first.length_bytes, first.sha256) == (
                second.offset_bytes,
                second.length_bytes,
                second.sha256,
            )
    assert next(iter(ArchiveIterator(BytesIO(data)))).rec_type == "warcinfo"
    assert limits.getrusage(limits.RUSAGE_SELF).ru_maxrss


def test_a_head_of_a_megabyte_of_folded_blanks_is_read_in_linear_time() -> None:
    """It once took hours: seconds would show that it does again; the values are those that folding gives."""
    blanks = b" " * 16_000
    head = (
        b"HTTP/1.1 200 OK\r\nX-Odd: a" + b"".join(b"\r\n" + blanks + b"b" for _ in range(60)) + b"\r\nX-Next: c\r\n\r\n"
    )
    found = split(head)
    assert found is not None and found.values("X-Next") == (b"c",)
    (odd,) = found.values("X-Odd")
    assert odd.replace(b" ", b"") == b"a" + b"b" * 60
    short = split(b"HTTP/1.1 200 OK\r\nA: one  \r\n\t two\n three \r\nB: x\r\n\r\n")
    assert short is not None and short.values("A") == (b"one\t two three",) and short.values("B") == (b"x",)


def test_a_304_is_a_revisit_of_what_was_not_modified(tmp_path: Path) -> None:
    """ISO 28500:2017 6.7.3: the answer byte for byte, the payload and its digest those of the record that it refers to."""
    warc = OpenWarc.create(tmp_path, "not-modified", INFO)
    head = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Type: text/html\r\n\r\n'
    first = warc.append(exchange(head + b"<p>seen on the square</p>"))
    original = Original(
        record_id=first.record_id,
        url=first.url,
        date=first.date,
        payload_sha256=str(first.payload_sha256),
        payload_bytes=first.payload_bytes,
    )
    answer = b'HTTP/1.1 304 Not  Modified\r\nEtag: "a"\r\nX-odd:\tvalue \r\n\r\n'
    again = exchange(answer, started_at=WHEN + timedelta(1))
    ref = warc.append(again, original, payload_of(again))
    unasked = warc.append(exchange(answer, url="https://example.org/b"))
    sealed = warc.seal()
    assert (ref.type, ref.refers_to, ref.status) == (RecordType.REVISIT, first.record_id, 304)
    assert (ref.payload_sha256, ref.payload_bytes) == (first.payload_sha256, first.payload_bytes)
    assert (unasked.type, unasked.status) == (RecordType.RESPONSE, 304)
    record = read_record(member(sealed.path, ref))
    assert record.block == answer and record.header.get("WARC-Truncated") is None
    assert record.header.get("WARC-Profile") == "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
    assert record.header.get("WARC-Refers-To-Date") == first.date
    assert record.header.get("WARC-Refers-To-Target-URI") == first.url
    assert record.header.get("WARC-Payload-Digest") == f"sha256:{first.payload_sha256}"
    assert faults(sealed.path, sealed.manifest) == []
    assert warcio_check(sealed.path).returncode == 0
    with sealed.path.open("rb") as file:
        kept = next(one for one in _kept(file) if one.rec_type == "revisit")
    assert kept.http_headers.get_statuscode() == "304" and kept.http_headers.get_header("ETag") == '"a"'
    with sealed.path.open("rb") as file:
        types = [one.headers["WARC-Type"] for one in FastIterator(file)]
    assert "revisit" in types and len(types) == len(list(sealed.records))
