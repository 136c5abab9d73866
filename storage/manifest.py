"""The two files beside a sealed WARC: the CDXJ index for replay tools and, last, the manifest that commits it."""

import hashlib
import heapq
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, groupby
from pathlib import Path
from typing import IO, Any, Self
from uuid import UUID

from storage.chapters import runs_of
from storage.digest import file_sha256
from storage.durable import TEMPORARY, space, sync_folder, whole_file
from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType, Truncated
from storage.rows import WrittenBy
from storage.surt import surt

FORMAT = "osint-pipeline/warc-manifest/1"
WARC_SUFFIX, CDXJ_SUFFIX, MANIFEST_SUFFIX = ".warc.gz", ".cdxj", ".manifest.json"
_INDEXED = frozenset({RecordType.RESPONSE, RecordType.REVISIT, RecordType.RESOURCE, RecordType.METADATA})
_TYPE_AT, _REQUEST = len('{"id":"",') + 36, '"type":"request"'  # in a row: half of them, and none is indexed
_ROWS_PER_CHUNK = 1000
_LINES_PER_RUN = 20_000
_LINE_LIMIT = 16 << 20  # characters of a row or of all other facts: a URL is at most 1 MiB, six times that as JSON
_PLACE = range(1 << 63)
_encode = json.JSONEncoder(separators=(",", ":")).encode
_quote = json.encoder.encode_basestring_ascii


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedWarc:
    """A WARC that no longer changes, with its index and manifest beside it; sha256 is of the whole file, in hex."""

    path: Path
    sha256: str
    size_bytes: int
    record_count: int
    manifest_sha256: str
    sealed_at: datetime | None = None  # None in manifests of 0.1.0
    runs: tuple[WrittenBy, ...] = ()  # that wrote it, in their order, as its manifest says

    @property
    def name(self) -> str:
        """The name without .warc.gz."""
        return self.path.name.removesuffix(WARC_SUFFIX)

    @property
    def cdxj(self) -> Path:
        return self.path.with_name(self.name + CDXJ_SUFFIX)

    @property
    def manifest(self) -> Path:
        return self.path.with_name(self.name + MANIFEST_SUFFIX)

    def each_record(self) -> Iterator[RecordRef]:
        """Yield every record as the manifest says, in flat memory."""
        return read_manifest(self.manifest).records()

    @property
    def records(self) -> tuple[RecordRef, ...]:
        """Every record, read from the manifest at each call (a full WARC has 100,000 of them)."""
        return tuple(read_manifest(self.manifest).records())


def to_row(ref: RecordRef, served_type: str | None) -> str:
    """Write a record as one line of JSON for the manifest; media_type keeps the case it was served in."""
    row = (
        f'{{"id":"{ref.record_id}","type":"{ref.type.value}","url":{_quote(ref.url)},"date":{_quote(ref.date)},'
        f'"offset":{ref.offset_bytes},"length":{ref.length_bytes},'
        f'"record_sha256":"{ref.record_sha256}","block_sha256":"{ref.block_sha256}"'
    )  # by hand: json.dumps of a dict cost four times as much, twice for each page
    if ref.payload_sha256 is not None:
        row += f',"payload_sha256":"{ref.payload_sha256}"'
    if ref.payload_bytes is not None:
        row += f',"payload_bytes":{ref.payload_bytes}'
    if ref.status is not None:
        row += f',"status":{ref.status}'
    if served_type is not None:
        row += f',"media_type":{_quote(served_type)}'
    if ref.truncated is not None:
        row += f',"truncated":"{ref.truncated.value}"'
    if ref.concurrent_to is not None:
        row += f',"concurrent_to":"{ref.concurrent_to}"'
    if ref.refers_to is not None:
        row += f',"refers_to":"{ref.refers_to}"'
    if ref.capture is not None:
        row += f',"capture":"{ref.capture}"'
    return row + "}"


def from_row(row: Mapping[str, Any], warc: str) -> RecordRef:
    """Read a record of a manifest. KeyError, TypeError or ValueError if it is none."""
    _is(row, Mapping)
    served, truncated = row.get("media_type"), row.get("truncated")
    concurrent_to, refers_to, capture = row.get("concurrent_to"), row.get("refers_to"), row.get("capture")
    return RecordRef(
        record_id=UUID(_text(row["id"])),
        type=RecordType(row["type"]),
        url=_text(row["url"]),
        date=_text(row["date"]),
        warc=warc,
        offset_bytes=_place(row["offset"]),
        length_bytes=_place(row["length"]),
        record_sha256=_text(row["record_sha256"]),
        block_sha256=_text(row["block_sha256"]),
        payload_sha256=None if (digest := row.get("payload_sha256")) is None else _text(digest),
        payload_bytes=None if (size := row.get("payload_bytes")) is None else _place(size),
        status=None if (status := row.get("status")) is None else _place(status),
        media_type=None if served is None else _text(served).lower(),
        truncated=Truncated(truncated) if truncated else None,
        concurrent_to=UUID(_text(concurrent_to)) if concurrent_to else None,
        refers_to=UUID(_text(refers_to)) if refers_to else None,
        capture=UUID(_text(capture)) if capture else None,
    )


def _is(value: Any, kind: Any) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} is wanted")


def _text(value: Any) -> str:
    _is(value, str)
    value.encode("utf-8")  # ValueError for half a surrogate pair: JSON can say it, nothing can print it
    return str(value)


def _place(value: Any) -> int:
    """Read a number of bytes (or a status)."""
    _is(value, int)
    if value not in _PLACE:
        raise ValueError(f"{str(value)[:40]} is no number of bytes")
    return int(value)


class RecordLog:
    """The rows of a WARC while it is open, packed in memory (about 200 bytes for each record)."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._rows: list[str] = []

    def add(self, ref: RecordRef, served_type: str | None) -> None:
        self._rows.append(to_row(ref, served_type))
        if len(self._rows) >= _ROWS_PER_CHUNK:
            self._packed.append(zlib.compress("\n".join(self._rows).encode("ascii"), 1))
            self._rows = []

    def chunks(self) -> Iterator[list[str]]:
        for packed in self._packed:
            yield zlib.decompress(packed).decode("ascii").split("\n")
        yield self._rows


def cdxj_line(row: Mapping[str, Any], warc: str) -> str | None:
    """Write a record's index line as cdxj-indexer does; None for records that it leaves out."""
    kind, mime = row["type"], row.get("media_type")
    if kind not in _INDEXED or (kind in ("resource", "metadata") and mime == "application/warc-fields"):
        return None
    entry: dict[str, str] = {"url": row["url"]}
    if kind == RecordType.REVISIT:
        mime = "warc/revisit"
    if mime is not None:
        entry["mime"] = mime
    if kind in (RecordType.RESPONSE, RecordType.REVISIT) and "status" in row:
        entry["status"] = str(row["status"])
    if "payload_sha256" in row:
        entry["digest"] = f"sha256:{row['payload_sha256']}"
    entry |= {"length": str(row["length"]), "offset": str(row["offset"]), "filename": warc}
    stamp = re.sub(r"\D", "", row["date"])[:14]
    return f"{surt(row['url'])} {stamp} {json.dumps(entry)}\n"


class _Sorter:
    """Sorts lines in bounded memory: runs of 20,000 lines go to unnamed temporary files."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._lines: list[str] = []
        self._runs: list[IO[str]] = []

    def add(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) >= _LINES_PER_RUN:
            run = self._stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=self._folder))  # noqa: SIM115
            run.writelines(sorted(self._lines))
            self._runs.append(run)
            self._lines = []

    def merged(self) -> Iterator[str]:
        """Yield all lines in order, equal ones once."""
        for run in self._runs:
            run.seek(0)
        for line, _ in groupby(heapq.merge(*self._runs, sorted(self._lines))):
            yield line


class IndexWriter:
    """Writes index and manifest of one WARC: add its records in order, then commit. Use it in a with statement.

    Nothing has its name before commit; the manifest takes its own last. Writing again gives the same files.
    """

    def __init__(self, warc: Path) -> None:
        self._warc = warc
        name = warc.name.removesuffix(WARC_SUFFIX)
        self._cdxj, self._manifest = (warc.with_name(name + suffix) for suffix in (CDXJ_SUFFIX, MANIFEST_SUFFIX))
        self._temporary = self._manifest.with_name(self._manifest.name + TEMPORARY)
        self._count = 0
        self._digest = hashlib.sha256()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with space(self._manifest):
            self._file = self._stack.enter_context(self._temporary.open("wb"))
            self._stack.callback(self._temporary.unlink, missing_ok=True)
            self._sorter = _Sorter(self._warc.parent, self._stack)
            self._write(f'{{\n"format": {_encode(FORMAT)},\n"name": {_encode(self._warc.name)},\n"records": [')
        return self

    def __exit__(self, *error: object) -> None:
        with space(self._manifest):
            self._stack.close()

    def add(self, *rows: str) -> None:
        """Add records as to_row wrote them. Raises SpoolFull."""
        if not rows:
            return
        with space(self._manifest):
            self._write((",\n" if self._count else "\n") + ",\n".join(rows))
            self._count += len(rows)
            for row in rows:
                if not row.startswith(_REQUEST, _TYPE_AT) and (line := cdxj_line(json.loads(row), self._warc.name)):
                    self._sorter.add(line)

    def commit(self, sha256: str, size_bytes: int, warcinfo_id: UUID | None, extra: Mapping[str, object]) -> SealedWarc:
        """Write the whole file's facts and give both files their names. Raises SpoolFull."""
        sealed_at = datetime.now(UTC)
        facts: dict[str, object] = {
            "record_count": self._count,
            "sealed_at": sealed_at.isoformat(),
            "extra": dict(extra),
            "warcinfo_id": str(warcinfo_id) if warcinfo_id else None,
            "sha256": sha256,
            "size_bytes": size_bytes,
        }
        with space(self._manifest):
            lines = (f"{_encode(key)}: {_encode(value)}" for key, value in facts.items())
            self._write("\n],\n" + ",\n".join(lines) + "\n}\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        with whole_file(self._cdxj) as file:
            file.writelines(line.encode("utf-8") for line in self._sorter.merged())
        sync_folder(self._warc.parent)
        self._temporary.rename(self._manifest)
        sync_folder(self._warc.parent)
        return SealedWarc(
            path=self._warc,
            sha256=sha256,
            size_bytes=size_bytes,
            record_count=self._count,
            manifest_sha256=self._digest.hexdigest(),
            sealed_at=sealed_at,
            runs=runs_of(extra),
        )

    def _write(self, text: str) -> None:
        data = text.encode("ascii")
        self._digest.update(data)
        self._file.write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest as read: the whole file's facts; records are read from the file as they are asked for."""

    path: Path
    name: str
    sha256: str
    size_bytes: int
    record_count: int
    sealed_at: datetime | None
    warcinfo_id: UUID | None
    extra: Mapping[str, object]

    def records(self) -> Iterator[RecordRef]:
        """Yield every record in the order it stands in the WARC. Raises DamagedWarc."""
        return (ref for _, ref in _records(self.path, self.name))


def read_manifest(path: Path) -> Manifest:
    """Read the facts of a manifest in bounded memory. Raises DamagedWarc if it is none, or one of another format."""
    with _reading(path, "no manifest that this program reads"):
        facts = json.loads("".join(_facts(path)))
        _is(facts, dict)
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r}"[:100])
        json.dumps(facts, ensure_ascii=False).encode("utf-8")
        _is(facts["extra"], dict)
        return Manifest(
            path=path,
            name=_text(facts["name"]),
            sha256=_text(facts["sha256"]),
            size_bytes=_place(facts["size_bytes"]),
            record_count=_place(facts["record_count"]),
            sealed_at=datetime.fromisoformat(facts["sealed_at"]) if "sealed_at" in facts else None,
            warcinfo_id=UUID(_text(facts["warcinfo_id"])) if facts["warcinfo_id"] else None,
            extra=facts["extra"],
        )


def sealed_from(warc: Path) -> SealedWarc:
    """Describe a sealed WARC by the manifest beside it; the WARC itself is not read. Raises DamagedWarc."""
    path = warc.with_name(warc.name.removesuffix(WARC_SUFFIX) + MANIFEST_SUFFIX)
    manifest = read_manifest(path)
    return SealedWarc(
        path=warc,
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        record_count=manifest.record_count,
        manifest_sha256=file_sha256(path),
        sealed_at=manifest.sealed_at,
        runs=runs_of(manifest.extra),
    )


def write_cdxj(sealed: SealedWarc) -> None:
    """Write the index of a sealed WARC again from its manifest. Raises SpoolFull, DamagedWarc."""
    with ExitStack() as stack, whole_file(sealed.cdxj) as file:
        sorter = _Sorter(sealed.path.parent, stack)
        for row, _ in _records(sealed.manifest, sealed.path.name):
            if line := cdxj_line(row, sealed.path.name):
                sorter.add(line)
        file.writelines(line.encode("utf-8") for line in sorter.merged())
    sync_folder(sealed.path.parent)


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever JSON a stranger may write there into DamagedWarc."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RecursionError, OverflowError) as error:
        why = str(error)[:200] if not isinstance(error, KeyError) else f"{str(error)[:200]} is missing"
        raise DamagedWarc(path.name, 0, f"{what}: {why}") from error


def _records(path: Path, warc: str) -> Iterator[tuple[dict[str, Any], RecordRef]]:
    """Yield each row of a manifest with the record that it is. Raises DamagedWarc."""
    rows = iter(_rows(path))
    for number in count():
        with _reading(path, f"record {number} cannot be read"):
            if (text := next(rows, None)) is None:
                return
            row = json.loads(text)
            ref = from_row(row, warc)
        yield row, ref


def _lines(path: Path) -> Iterator[tuple[bool, str]]:
    """Yield each line with whether it is a record's. ValueError for a line that is too long."""
    inside, facts = False, 0
    with path.open(encoding="utf-8") as file:
        while line := file.readline(_LINE_LIMIT):
            if inside and line.startswith("]"):
                inside = False
            facts += 0 if inside else len(line)
            if facts >= _LINE_LIMIT or len(line) >= _LINE_LIMIT:
                raise ValueError(f"more than {_LINE_LIMIT} characters that are no record's")
            yield inside, line
            inside = inside or line.startswith('"records": [')


def _rows(path: Path) -> Iterable[str]:
    return (line.rstrip().rstrip(",") for inside, line in _lines(path) if inside)


def _facts(path: Path) -> Iterable[str]:
    return (line for inside, line in _lines(path) if not inside)
