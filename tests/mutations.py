"""Ways to change a sealed WARC, its manifest or its index, from a clumsy flip of a bit to a careful forgery."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from storage.exchange import RecordRef, RecordType
from storage.manifest import IndexWriter, SealedWarc, read_manifest, sealed_from, to_row
from storage.member import compress
from storage.records import open_warc
from storage.refs import ref_of

RESPONSE, REVISIT, REQUEST = RecordType.RESPONSE, RecordType.REVISIT, RecordType.REQUEST
INFO = RecordType.WARCINFO


class Trio:
    """A sealed WARC with its manifest and index. What is written gets a file of its own: names may share one."""

    def __init__(self, warc: Path, other: Path | None = None) -> None:
        self.warc, self.other = warc, other  # another WARC of the same run
        self.sealed: SealedWarc = sealed_from(warc)
        self.records: tuple[RecordRef, ...] = self.sealed.records

    @classmethod
    def copy(cls, warc: Path, folder: Path, other: Path) -> "Trio":
        """Copy a WARC and all of its run's manifests, so that it can be changed."""
        for path in sorted(warc.parent.iterdir()):
            if path.name.startswith(warc.name.rpartition("-")[0]):
                shutil.copyfile(path, folder / path.name)
        return cls(folder / warc.name, other)

    def first(self, kind: RecordType) -> int:
        """Tell which record is the first of a kind (the longest response: it surely has a body)."""
        places = [place for place, ref in enumerate(self.records) if ref.type is kind]
        return max(places, key=lambda place: self.records[place].length_bytes) if kind is RESPONSE else places[0]

    def members(self) -> list[bytes]:
        data = self.warc.read_bytes()
        return [data[ref.offset_bytes : ref.offset_bytes + ref.length_bytes] for ref in self.records]

    def write(self, data: bytes) -> None:
        replace(self.warc, data)

    def edit_manifest(self, change: Callable[[str], str]) -> None:
        before = self.sealed.manifest.read_text("utf-8")
        after = change(before)
        assert after != before
        replace(self.sealed.manifest, after.encode())

    def edit_index(self, change: Callable[[list[str]], list[str]]) -> None:
        before = self.sealed.cdxj.read_text("utf-8").splitlines(keepends=True)
        after = change(list(before))
        assert after != before
        replace(self.sealed.cdxj, "".join(after).encode())

    def commit_again(self) -> None:
        """Write manifest and index anew from the WARC as it is now: a forgery without a contradiction in it."""
        extra = read_manifest(self.sealed.manifest).extra
        for path in (self.sealed.manifest, self.sealed.cdxj):
            path.unlink()
        data = self.warc.read_bytes()
        with IndexWriter(self.warc) as index, open_warc(self.warc) as reader:
            refs = [ref_of(streamed, self.warc.name) for streamed in reader]
            index.add(*(to_row(ref, served) for ref, served in refs))
            index.commit(sha256(data).hexdigest(), len(data), refs[0][0].record_id, extra)


def replace(path: Path, data: bytes) -> None:
    """Give a name other bytes; another name of the same file keeps the old ones."""
    fresh = path.with_name(path.name + ".fresh")
    fresh.write_bytes(data)
    fresh.rename(path)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is done, the claim that must fail, and the one that must fail where no manifest is left (None: none does)."""

    apply: Callable[[Trio], int | None]  # answers the place of the record that must be named
    claim: str
    alone: str | None = None


def flip(kind: RecordType, at: int, bit: int = 0) -> Callable[[Trio], int]:
    """Flip a bit of a record's member; `at` counts from its end where it is negative."""

    def apply(trio: Trio) -> int:
        place, members = trio.first(kind), trio.members()
        spoiled = bytearray(members[place])
        spoiled[at] ^= 1 << bit
        trio.write(b"".join([*members[:place], bytes(spoiled), *members[place + 1 :]]))
        return place

    return apply


def edit(kind: RecordType, change: Callable[[bytes], bytes], *, level: int | None = None) -> Callable[[Trio], int]:
    """Change a record and compress it anew, as this program does (or with another level), so that the gzip is sound."""

    def apply(trio: Trio) -> int:
        place, members = trio.first(kind), trio.members()
        record = gzip.decompress(members[place])
        after = change(record)
        assert (after != record) == (level is None)
        members[place] = compress(after, b"") if level is None else gzip.compress(after, level, mtime=0)
        trio.write(b"".join(members))
        return place

    return apply


def swap(pattern: bytes, to: bytes) -> Callable[[bytes], bytes]:
    return lambda record: re.sub(pattern, to, record, count=1)


def flip_body(record: bytes) -> bytes:
    """Flip a bit in the middle of the block's body."""
    at = (record.rindex(b"\r\n\r\n", 0, -4) + len(record)) // 2
    return record[:at] + bytes([record[at] ^ 4]) + record[at + 1 :]


def forge_body(record: bytes) -> bytes:
    """Change the body of a response, and every digest and length with it."""
    head, _, block = record[:-4].partition(b"\r\n\r\n")
    http, _, body = block.partition(b"\r\n\r\n")
    body = body[: len(body) // 2] + b"forged" + body[len(body) // 2 + 6 :]
    http = re.sub(rb"(?i)transfer-encoding: chunked", b"X-Was: chunked", http)
    block = http + b"\r\n\r\n" + body
    for pattern, value in (
        (rb"(?<=WARC-Block-Digest: sha256:)\w+", sha256(block).hexdigest().encode()),
        (rb"(?<=WARC-Payload-Digest: sha256:)\w+", sha256(body).hexdigest().encode()),
        (rb"(?<=\nContent-Length: )\d+", str(len(block)).encode()),
    ):
        head = re.sub(pattern, value, head)
    return head + b"\r\n\r\n" + block + b"\r\n\r\n"


def rearrange(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Trio], None]:
    return lambda trio: trio.write(b"".join(change(trio.members())))


def moved_in(trio: Trio) -> None:
    """Put a record of another WARC of the same run at the end."""
    assert trio.other
    trio.write(trio.warc.read_bytes() + Trio(trio.other).members()[1])


def field(name: str, change: Callable[[Any], Any], row: int | None = None) -> Callable[[Trio], int | None]:
    """Edit a fact of the manifest, or a field of one of its rows."""

    def edited(text: str) -> str:
        facts = json.loads(text)
        part = facts if row is None else facts["records"][row]
        part[name] = change(part[name])
        rows = ",\n".join(json.dumps(one, separators=(",", ":")) for one in facts.pop("records"))
        start = f'{{\n"format": {json.dumps(facts.pop("format"))},\n"name": {json.dumps(facts.pop("name"))},\n'
        rest = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
        return f'{start}"records": [\n{rows}\n],\n{rest}\n}}\n'

    def apply(trio: Trio) -> int | None:
        trio.edit_manifest(edited)
        return row

    return apply


def extra(name: str, value: Any) -> Callable[[Trio], int | None]:
    return field("extra", lambda facts: {**facts, name: value})


def other_digit(digest: str) -> str:
    return ("1" if digest[0] == "0" else "0") + digest[1:]


def index(change: Callable[[list[str]], list[str]]) -> Callable[[Trio], None]:
    return lambda trio: trio.edit_index(change)


def line(pattern: str, to: str) -> Callable[[Trio], None]:
    """Edit one line of the index."""
    return index(lambda lines: [*lines[:2], re.sub(pattern, to, lines[2]), *lines[3:]])


def other_manifest(trio: Trio) -> None:
    assert trio.other
    replace(trio.sealed.manifest, sealed_from(trio.other).manifest.read_bytes())


DATE = rb"(WARC-Date: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.)\d{6}"
FILE = {
    **{
        f"gzip header byte {at} flipped": Mutation(flip(RESPONSE, at), "framing" if at < 3 else "record-sha256", alone)
        for at, alone in enumerate(("framing", "framing", "framing", None, *["gzip-header"] * 3, None, "gzip-header", None))
    },
    "gzip header flag of a name set": Mutation(flip(RESPONSE, 3, 3), "framing", "framing"),
    "gzip header flag that is reserved set": Mutation(flip(RESPONSE, 3, 6), "framing", "framing"),
    "gzip trailer's checksum flipped": Mutation(flip(RESPONSE, -8), "framing", "framing"),
    "gzip trailer's length flipped": Mutation(flip(RESPONSE, -1), "framing", "framing"),
    "bit flipped in the compressed body": Mutation(flip(RESPONSE, -200, 4), "framing", "framing"),
    "bit flipped in the body": Mutation(edit(RESPONSE, flip_body), "block-digest", "block-digest"),
    "bit flipped in the HTTP header": Mutation(edit(RESPONSE, swap(rb"HTTP/1\.1 200", b"HTTP/1.1 201")), "block-digest", "block-digest"),
    "date changed": Mutation(edit(RESPONSE, swap(DATE, rb"\g<1>000001")), "manifest-field"),
    "date of next century": Mutation(edit(RESPONSE, swap(rb"WARC-Date: 20", b"WARC-Date: 21")), "date-in-future", "date-in-future"),
    "date before the web": Mutation(edit(RESPONSE, swap(rb"WARC-Date: 20", b"WARC-Date: 19")), "manifest-field"),
    "address of the page changed": Mutation(edit(RESPONSE, swap(rb"(WARC-Target-URI: http://[^/]*/)", rb"\1x")), "manifest-field"),
    "address of the server changed": Mutation(edit(RESPONSE, swap(rb"WARC-IP-Address: 127.0.0.1", b"WARC-IP-Address: 127.0.0.2")), "record-sha256"),
    "capture changed": Mutation(edit(RESPONSE, swap(rb"(OSINT-Capture: )........", rb"\g<1>00000000")), "manifest-field"),
    "field added": Mutation(edit(RESPONSE, swap(b"\r\n\r\n", b"\r\nSeen: yes\r\n\r\n")), "record-sha256"),
    "revisit of another record": Mutation(edit(REVISIT, swap(rb"(WARC-Refers-To: <urn:uuid:)........", rb"\g<1>00000000")), "manifest-field"),
    "revisit of another time": Mutation(edit(REVISIT, swap(rb"(WARC-Refers-To-Date: )20", rb"\g<1>19")), "record-sha256"),
    "revisit of another profile": Mutation(edit(REVISIT, swap(rb"WARC-Profile: http", b"WARC-Profile: ftp")), "record-sha256"),
    "warcinfo changed": Mutation(edit(INFO, swap(rb"operator: c", b"operator: k")), "block-digest", "block-digest"),
    "body and digests forged": Mutation(edit(RESPONSE, forge_body), "record-sha256"),
    "compressed anew": Mutation(edit(RESPONSE, lambda record: record, level=9), "record-sha256"),
    "record deleted": Mutation(rearrange(lambda all: all[:3] + all[4:]), "manifest-record"),
    "last record deleted": Mutation(rearrange(lambda all: all[:-1]), "manifest-record"),
    "first record deleted": Mutation(rearrange(lambda all: all[1:]), "manifest-record"),
    "record doubled": Mutation(rearrange(lambda all: [*all, all[3]]), "duplicate-id", "duplicate-id"),
    "records in another order": Mutation(rearrange(lambda all: [*all[:1], all[3], *all[1:3], *all[4:]]), "manifest-record"),
    "record moved in from another file": Mutation(moved_in, "manifest-record"),
    "bytes appended": Mutation(lambda trio: trio.write(trio.warc.read_bytes() + b"\0" * 7), "framing", "framing"),
    "empty member appended": Mutation(lambda trio: trio.write(trio.warc.read_bytes() + gzip.compress(b"")), "framing", "framing"),
    "cut at the border of a member": Mutation(rearrange(lambda all: all[: len(all) // 2]), "whole-file-size"),
    "cut inside a member": Mutation(lambda trio: trio.write(trio.warc.read_bytes()[:-5]), "framing", "framing"),
    "index line's digest edited": Mutation(line(r"sha256:.", "sha256:x"), "index-line"),
    "index line's offset edited": Mutation(line(r'"offset": "(\d+)"', r'"offset": "1\1"'), "index-line"),
    "index line's length edited": Mutation(line(r'"length": "(\d+)"', r'"length": "1\1"'), "index-line"),
    "index line's address edited": Mutation(line(r'"url": "http', '"url": "ftp'), "index-line"),
    "index line's time edited": Mutation(line(r" 20(\d{12}) ", r" 19\1 "), "index-line"),
    "index line removed": Mutation(index(lambda lines: lines[:-1]), "index-missing"),
    "index line added": Mutation(index(lambda lines: [*lines, "z" + lines[-1]]), "index-line"),
    "index line doubled": Mutation(index(lambda lines: [*lines, lines[-1]]), "index-order"),
    "index lines in another order": Mutation(index(lambda lines: lines[::-1]), "index-order"),
    "manifest's offset edited": Mutation(field("offset", lambda n: n + 1, 2), "manifest-offset"),
    "manifest's length edited": Mutation(field("length", lambda n: n + 1, 2), "manifest-length"),
    "manifest's record digest edited": Mutation(field("record_sha256", other_digit, 2), "record-sha256"),
    "manifest's block digest edited": Mutation(field("block_sha256", other_digit, 2), "manifest-field"),
    "manifest's address edited": Mutation(field("url", lambda url: url + "x", 2), "manifest-field"),
    "manifest's time edited": Mutation(field("date", lambda date: "19" + date[2:], 2), "manifest-field"),
    "manifest's whole digest edited": Mutation(field("sha256", other_digit), "whole-file-sha256"),
    "manifest's size edited": Mutation(field("size_bytes", lambda n: n - 1), "whole-file-size"),
    "manifest's count edited": Mutation(field("record_count", lambda n: n - 1), "manifest-count"),
    "manifest's row removed": Mutation(field("records", lambda rows: rows[:-1]), "manifest-record"),
    "manifest's name edited": Mutation(field("name", lambda name: "x" + name), "manifest-name"),
    "manifest's format edited": Mutation(field("format", lambda name: name + "1"), "manifest"),
    "manifest's warcinfo edited": Mutation(field("warcinfo_id", lambda _: "00000000-0000-4000-8000-000000000000"), "manifest-warcinfo"),
    "manifest's chain edited": Mutation(extra("previous_manifest_sha256", "0" * 64), "manifest-chained"),
    "manifest's collector edited": Mutation(extra("collector", "another"), "manifest-facts"),
    "manifest's run edited": Mutation(extra("run", "00000000-0000-4000-8000-000000000000"), "manifest-facts"),
    "manifest's software edited": Mutation(extra("software", {"scrapy": "0.1"}), "manifest-facts"),
    "manifest of another WARC": Mutation(other_manifest, "manifest-name"),
    "manifest cut": Mutation(lambda trio: trio.edit_manifest(lambda text: text[: len(text) // 2]), "manifest"),
}  # fmt: skip
"""Named by `osint verify FILE`, with the manifest and the index beside it and nothing else."""


def forged(trio: Trio) -> None:
    """Forge a body, and manifest and index with it."""
    edit(RESPONSE, forge_body)(trio)
    trio.commit_again()


def dropped(trio: Trio) -> None:
    """Leave a capture's records out, and make manifest and index so that they know nothing of them."""
    place = trio.first(RESPONSE)
    trio.write(b"".join(member for at, member in enumerate(trio.members()) if at != place))
    trio.commit_again()


CATALOGUE: dict[str, tuple[Callable[[Trio], Any], frozenset[str]]] = {
    "manifest deleted": (lambda trio: trio.sealed.manifest.unlink(), frozenset({"manifest-there"})),
    "index deleted": (lambda trio: trio.sealed.cdxj.unlink(), frozenset({"index-there"})),
    "manifest's software of a lesser part edited": (
        extra("software", {"isal": "0.1"}),
        frozenset({"catalogue-manifest"}),
    ),
    "manifest's time of sealing edited": (
        field("sealed_at", lambda _: "2001-01-01T00:00:00+00:00"),
        frozenset({"catalogue-manifest"}),
    ),
    "manifest's row given a field": (
        lambda trio: trio.edit_manifest(lambda text: text.replace('"type":"request"', '"type":"request","seen":1', 1)),
        frozenset({"catalogue-manifest"}),
    ),
    "body, manifest and index forged": (
        forged,
        frozenset({"catalogue-sha256", "catalogue-manifest", "catalogue-record"}),
    ),
    "capture left out of WARC, manifest and index": (
        dropped,
        frozenset({"catalogue-sha256", "catalogue-manifest", "catalogue-record"}),
    ),
}
"""Not to be seen (but for what is missing) in the file and what lies beside it; named by `osint verify NAME`."""
