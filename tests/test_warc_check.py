"""The checker names each kind of change to a WARC, and reads whatever others wrote without falling over."""

import gzip
import json
import os
import re
import time
import tracemalloc
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from test_warc import INFO, exchange

from storage.check import Finding, Result, check_warc
from storage.exchange import Original, RecordRef, RecordType
from storage.manifest import FORMAT, SealedWarc
from storage.records import WarcReader
from storage.warc import OpenWarc

Edit = Callable[[bytes], bytes]


def made(folder: Path) -> SealedWarc:
    warc = OpenWarc.create(folder, "whole", INFO)
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>seen on the square</p>"
    first = warc.append(exchange(body, ip="192.0.2.7"))
    assert first.payload_sha256
    original = Original(record_id=first.record_id, url=first.url, date=first.date, payload_sha256=first.payload_sha256)
    warc.append(exchange(body, url="https://example.org/again"), original)
    warc.append(
        exchange(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>gone</p>", url="https://example.org/b")
    )
    return warc.seal({"collector": "collector-1"})


def parts(sealed: SealedWarc) -> list[bytes]:
    data = sealed.path.read_bytes()
    return [data[ref.offset_bytes : ref.offset_bytes + ref.length_bytes] for ref in sealed.records]


def first(sealed: SealedWarc, kind: RecordType) -> int:
    return next(number for number, ref in enumerate(sealed.records) if ref.type is kind)


def edit(kind: RecordType, change: Edit) -> Callable[[SealedWarc], bytes]:
    """Change the first record of a kind and compress it anew, as somebody would who knows the format."""

    def apply(sealed: SealedWarc) -> bytes:
        members = parts(sealed)
        number = first(sealed, kind)
        before = gzip.decompress(members[number])
        after = change(before)
        assert after != before
        members[number] = gzip.compress(after, mtime=0)
        return b"".join(members)

    return apply


def swap(pattern: bytes, to: bytes) -> Edit:
    return lambda record: re.sub(pattern, to, record, count=1)


def members(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[SealedWarc], bytes]:
    return lambda sealed: b"".join(change(parts(sealed)))


def flip(at: float) -> Callable[[SealedWarc], bytes]:
    def apply(sealed: SealedWarc) -> bytes:
        data = bytearray(sealed.path.read_bytes())
        data[int(len(data) * at)] ^= 0x10
        return bytes(data)

    return apply


RESPONSE, REVISIT, REQUEST = RecordType.RESPONSE, RecordType.REVISIT, RecordType.REQUEST
# name: (how, rule that must be named with the manifest, rule that must be named without it or None)
MUTATIONS = {
    "body changed": (edit(RESPONSE, swap(b"square", b"bridge")), "block-digest", "block-digest"),
    "body and block digest changed": (edit(RESPONSE, swap(b"seen on", b"not in")), "framing", "framing"),
    "date changed": (edit(RESPONSE, swap(b"WARC-Date: 2026", b"WARC-Date: 2025")), "manifest-field", "revisit-target"),
    "date of no day": (edit(RESPONSE, swap(b"2026-11-23T", b"2026-02-30T")), "date", "date"),
    "date with zone": (edit(REQUEST, swap(rb"(WARC-Date: [^Z]*)Z", rb"\1+03:00")), "date", "date"),
    "target changed": (edit(REQUEST, swap(b"example.org/a", b"example.com/a")), "manifest-field", None),
    "address changed": (edit(RESPONSE, swap(rb"192\.0\.2\.7", b"192.0.2.8")), "record-sha256", None),
    "address of no host": (edit(RESPONSE, swap(rb"192\.0\.2\.7", b"192.0.2.777")), "ip-address", "ip-address"),
    "record identifier changed": (edit(RESPONSE, swap(rb"(WARC-Record-ID: <urn:uuid:)....", rb"\1ffff")), "manifest-record", None),
    "record identifier removed": (edit(REQUEST, swap(rb"WARC-Record-ID: [^\r]*\r\n", b"")), "required-field", "required-field"),
    "type changed": (edit(RESPONSE, swap(b"WARC-Type: response", b"WARC-Type: resource")), "manifest-field", None),
    "unknown type": (edit(REQUEST, swap(b"WARC-Type: request", b"WARC-Type: requests")), "record-type", "record-type"),
    "field twice": (edit(RESPONSE, swap(rb"(WARC-Date: [^\r]*\r\n)", rb"\1\1")), "repeated-field", "repeated-field"),
    "field added": (edit(RESPONSE, swap(b"\r\n\r\n", b"\r\nX-Seen: yes\r\n\r\n")), "record-sha256", None),
    "length too long": (edit(RESPONSE, swap(rb"Content-Length: (\d+)\r\n\r\n", rb"Content-Length: 9\1\r\n\r\n")), "framing", "framing"),
    "profile removed": (edit(REVISIT, swap(rb"WARC-Profile: [^\r]*\r\n", b"")), "revisit-profile", "revisit-profile"),
    "revisit of another date": (edit(REVISIT, swap(b"Refers-To-Date: 2026", b"Refers-To-Date: 2024")), "revisit-target", "revisit-target"),
    "revisit of another payload": (edit(REVISIT, swap(rb"(WARC-Payload-Digest: sha256:)....", rb"\g<1>0000")), "revisit-target", "revisit-target"),
    "payload digest changed": (edit(RESPONSE, swap(rb"(WARC-Payload-Digest: sha256:)....", rb"\g<1>0000")), "payload-digest", "payload-digest"),
    "digest of no algorithm": (edit(RESPONSE, swap(rb"WARC-Block-Digest: sha256", b"WARC-Block-Digest: sha0")), "digest-syntax", "digest-syntax"),
    "compressed anew": (edit(RESPONSE, lambda record: record), "record-sha256", None),
    "record deleted": (members(lambda all: all[:1] + all[3:]), "manifest-record", None),
    "last record deleted": (members(lambda all: all[:-1]), "manifest-record", None),
    "warcinfo deleted": (members(lambda all: all[1:]), "manifest-record", None),
    "record twice": (members(lambda all: [*all, all[1]]), "duplicate-id", "duplicate-id"),
    "records in another order": (members(lambda all: [*all[:3], *all[5:], *all[3:5]]), "manifest-record", None),
    "two records in one member": (
        members(lambda all: [*all[:1], gzip.compress(gzip.decompress(all[1]) + gzip.decompress(all[2])), *all[3:]]),
        "framing",
        "framing",
    ),
    "record cut in two members": (
        members(lambda all: [all[0], gzip.compress(gzip.decompress(all[1])[:300]), gzip.compress(gzip.decompress(all[1])[300:]), *all[2:]]),
        "framing",
        "framing",
    ),
    "bytes appended": (lambda sealed: sealed.path.read_bytes() + b"\0\0\0", "framing", "framing"),
    "empty member appended": (lambda sealed: sealed.path.read_bytes() + gzip.compress(b""), "framing", "framing"),
    "tail cut": (lambda sealed: sealed.path.read_bytes()[:-9], "framing", "framing"),
    "bit flipped early": (flip(0.2), "framing", "framing"),
    "bit flipped late": (flip(0.9), "framing", "framing"),
    "emptied": (lambda sealed: b"", "empty", "empty"),
}  # fmt: skip


def rules(findings: list[Finding]) -> set[str]:
    return {one.rule for one in findings if one.result is Result.FAIL}


def test_a_sound_file_passes_record_by_record_and_as_a_whole(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    findings = list(check_warc(sealed.path, sealed.manifest))
    assert {one.result for one in findings} == {Result.PASS}
    assert [one.rule for one in findings] == ["record"] * sealed.record_count + ["whole-file", "index"]
    assert [one.offset for one in findings[:-2]] == [ref.offset_bytes for ref in sealed.records]


def test_without_a_manifest_the_whole_is_unverifiable_not_passed(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    last = list(check_warc(sealed.path))[-1]
    assert (last.rule, last.result) == ("whole-file", Result.UNVERIFIABLE)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_is_named(name: str, tmp_path: Path) -> None:
    sealed = made(tmp_path)
    how, with_manifest, alone = MUTATIONS[name]
    if name == "compressed anew":
        records = parts(sealed)
        records[1] = gzip.compress(gzip.decompress(records[1]), 9, mtime=0)
        changed = b"".join(records)
    else:
        changed = how(sealed)
    assert changed != sealed.path.read_bytes()
    sealed.path.write_bytes(changed)
    found = rules(list(check_warc(sealed.path, sealed.manifest)))
    assert with_manifest in found and "whole-file-sha256" in found
    if alone:
        assert alone in rules(list(check_warc(sealed.path)))


def test_every_bit_counts(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    whole = sealed.path.read_bytes()
    for at in range(0, len(whole), 37):
        spoiled = bytearray(whole)
        spoiled[at] ^= 1 << at % 8
        sealed.path.write_bytes(spoiled)
        assert "whole-file-sha256" in rules(list(check_warc(sealed.path, sealed.manifest)))


def test_damage_inside_does_not_hide_what_stands_behind_it(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    records = parts(sealed)
    records[1] = gzip.compress(b"WARC/1.1\r\nno field\r\n\r\n")
    sealed.path.write_bytes(b"".join(records))
    findings = list(check_warc(sealed.path, sealed.manifest))
    damaged = [one for one in findings if one.rule == "framing"]
    assert [one.record_id for one in damaged] == [f"<urn:uuid:{sealed.records[1].record_id}>"]
    assert sum(one.rule == "manifest-offset" for one in findings) == sealed.record_count - 2


class Drip:
    """A file that gives a few bytes at a time, as at the border of what was read at once."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1, /) -> bytes:
        self._at += 7
        return self._data[self._at - 7 : self._at]


def test_a_member_may_begin_anywhere_in_what_is_read(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    data = sealed.path.read_bytes()
    found = [one.offset_bytes for one in WarcReader(Drip(data), "drip")]
    assert found == [ref.offset_bytes for ref in sealed.records]


def test_behind_damage_it_goes_on_where_the_manifest_says(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    spoiled = bytearray(sealed.path.read_bytes())
    spoiled[sealed.records[1].offset_bytes + 30] ^= 0x10
    sealed.path.write_bytes(spoiled)
    findings = list(check_warc(sealed.path, sealed.manifest))
    assert [one.offset for one in findings if one.rule == "record"] == [
        ref.offset_bytes for place, ref in enumerate(sealed.records) if place != 1
    ]
    assert rules(findings) >= {"framing", "whole-file-sha256"} and "manifest-record" not in rules(findings)


def test_dates_that_cannot_be_are_named(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    latest = datetime.fromisoformat(sealed.records[1].date) - timedelta(hours=1)
    assert rules(list(check_warc(sealed.path, sealed.manifest, latest=latest))) == {"date-in-future"}


def test_a_reference_to_another_file_is_unverifiable(tmp_path: Path) -> None:
    warc = OpenWarc.create(tmp_path, "other", INFO)
    body = exchange(b"HTTP/1.1 200 OK\r\n\r\nsame")
    elsewhere = OpenWarc.create(tmp_path, "original", INFO).append(body)
    warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\nsame"), _original(elsewhere))
    sealed = warc.seal()
    findings = [one for one in check_warc(sealed.path, sealed.manifest) if one.result is not Result.PASS]
    assert [(one.result, one.rule, one.clause) for one in findings] == [(Result.UNVERIFIABLE, "reference", "5.11")]


def _original(ref: RecordRef) -> Original:
    assert ref.payload_sha256
    return Original(record_id=ref.record_id, url=ref.url, date=ref.date, payload_sha256=ref.payload_sha256)


@pytest.mark.parametrize("data", [b"", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08", b"W", b"WARC/1.1\r\n", os.urandom(5000)])
def test_what_is_no_warc_is_a_finding_not_an_exception(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.warc.gz"
    path.write_bytes(data)
    assert rules(list(check_warc(path)))
    assert rules(list(check_warc(path, tmp_path / "none.json")))


def written(kind: str, *more: tuple[str, str], identifier: str = "") -> bytes:
    """Write a record with whatever fields, in a gzip member of its own."""
    fields = [
        ("WARC-Type", kind),
        ("WARC-Record-ID", identifier or f"<urn:uuid:{uuid.uuid4()}>"),
        ("WARC-Date", "2026-01-01T00:00:00Z"),
        ("WARC-Target-URI", "https://example.org/"),
        *more,
        ("Content-Length", "0"),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return gzip.compress(f"WARC/1.1\r\n{head}\r\n\r\n\r\n".encode(), mtime=0)


def stranger(folder: Path, *records: bytes) -> Path:
    path = folder / "stranger.warc.gz"
    path.write_bytes(b"".join(records))
    return path


LONG = "9" * 5000


@pytest.mark.parametrize(
    "more",
    [
        (("WARC-Segment-Number", LONG), ("WARC-Segment-Origin-ID", "<urn:x:y>")),
        (("WARC-Segment-Number", "2"), ("WARC-Segment-Origin-ID", "<urn:x:y>"), ("WARC-Segment-Total-Length", LONG)),
    ],
)
def test_a_number_of_any_length_is_a_finding(more: tuple[tuple[str, str], ...], tmp_path: Path) -> None:
    found = list(check_warc(stranger(tmp_path, written("continuation", *more), written("resource"))))
    assert {one.rule for one in found if one.result is Result.FAIL} <= {"segment-number", "segment-length"}
    assert [one.rule for one in found if one.result is Result.PASS] == ["record"]


ROW = {"id": str(uuid.UUID(int=1)), "type": "resource", "url": "https://example.org/", "date": "2026", "offset": 0,
       "length": 1, "record_sha256": "", "block_sha256": ""}  # fmt: skip
FACTS = {"record_count": 1, "extra": {}, "warcinfo_id": None, "sha256": "00", "size_bytes": 1}
DEEP = "[" * 200_000 + "]" * 200_000
HOSTILE = {
    "size without end": ("{}", {"size_bytes": float("inf")}),
    "size that is true": ("{}", {"size_bytes": True}),
    "size below nothing": ("{}", {"size_bytes": -1}),
    "facts that are deep": ("{}", {"extra": "DEEP"}),
    "facts that are no text": ("{}", {"extra": {"run": "\ud800"}}),
    "extra that is a list": ("{}", {"extra": [["a", 1]]}),
    "a number for a warcinfo": ("{}", {"warcinfo_id": 5}),
    "a number for a time": ("{}", {"sealed_at": 5}),
    "row that is a list": ("[]", {}),
    "row that is deep": (DEEP, {}),
    "row that is a number": ("5", {}),
    "row with a text for an offset": (json.dumps(ROW | {"offset": "zz"}), {}),
    "row with an offset without end": (json.dumps(ROW | {"offset": float("inf")}), {}),
    "row with a number for a media type": (json.dumps(ROW | {"media_type": 5}), {}),
    "row with a number for an id": (json.dumps(ROW | {"id": 5}), {}),
    "row with half a character": (json.dumps(ROW | {"url": "\ud800"}), {}),
    "row with a list for a status": (json.dumps(ROW | {"status": []}), {}),
    "row with a list for a type": (json.dumps(ROW | {"type": []}), {}),
}


def manifest_of(row: str, more: dict[str, object]) -> str:
    facts = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in (FACTS | more).items())
    head = f'{{\n"format": "{FORMAT}",\n"name": "x",\n"records": [\n{row}\n],\n'
    return f"{head}{facts}\n}}\n".replace('"DEEP"', DEEP)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_json_for_a_manifest_is_a_finding_and_the_rest_is_checked(name: str, tmp_path: Path) -> None:
    warc = stranger(tmp_path, written("resource"), written("resource"))
    manifest = tmp_path / "stranger.manifest.json"
    manifest.write_text(manifest_of(*HOSTILE[name]))
    found = list(check_warc(warc, manifest))
    assert "manifest" in rules(found)
    assert [one.rule for one in found if one.result is Result.PASS] == ["record", "record"]


def test_a_row_without_an_end_is_not_read(tmp_path: Path) -> None:
    manifest = tmp_path / "stranger.manifest.json"
    manifest.write_text(manifest_of('"' + "x" * (17 << 20) + '"', {}))
    found = [one for one in check_warc(stranger(tmp_path, written("resource")), manifest) if one.rule == "manifest"]
    assert [len(one.why) < 500 for one in found] == [True]


def test_an_index_that_cannot_be_one_is_a_finding(tmp_path: Path) -> None:
    sealed = made(tmp_path)
    sealed.cdxj.write_text('a 2026 {"offset": 1e999}\n')
    assert rules(list(check_warc(sealed.path, sealed.manifest))) >= {"index-line", "index-missing"}
    sealed.cdxj.unlink()
    sealed.cdxj.mkdir()
    assert rules(list(check_warc(sealed.path, sealed.manifest))) == {"index"}
    sealed.manifest.unlink()
    sealed.manifest.mkdir()
    assert "manifest" in rules(list(check_warc(sealed.path, sealed.manifest)))


def test_identifiers_of_any_length_are_not_held(tmp_path: Path) -> None:
    long = "a" * 500_000
    records = [written("resource", identifier=f"<urn:x:{long}{number % 39}>") for number in range(40)]
    path = stranger(tmp_path, *records)
    tracemalloc.start()
    try:
        found = list(check_warc(path))
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rules(found) == {"duplicate-id"} and held < 12e6, held
    assert all(len(one.record_id or "") < 300 for one in found)


def test_a_record_that_is_named_again_and_again_is_read_once(tmp_path: Path) -> None:
    original = f"<urn:uuid:{uuid.uuid4()}>"
    target = written("response", *[(f"X{number}", "a") for number in range(60_000)], identifier=original)
    revisit = written("revisit", *[("WARC-Refers-To", original)] * 5000)
    began = time.monotonic()
    found = list(check_warc(stranger(tmp_path, target, *[revisit] * 3)))
    assert time.monotonic() - began < 5
    assert "repeated-field" in rules(found) and len(found) < 500


def test_folded_lines_take_no_longer_than_others(tmp_path: Path) -> None:
    began = time.monotonic()
    list(check_warc(stranger(tmp_path, written("resource", ("X-Folded", "a" + "\r\n b" * 200_000)))))
    assert time.monotonic() - began < 5
