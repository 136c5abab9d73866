"""Index and manifest equal what others read from the same file; records taken out are the archived bytes."""

import io
import random
import string
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import surt as reference
from cdxj_indexer.main import CDXJIndexer
from test_warc import CHUNKED_HEAD, INFO, ODD, exchange, faults, warcio_check

from storage.errors import DamagedWarc
from storage.exchange import Original, Resource
from storage.extract import copy_records
from storage.manifest import SealedWarc, read_manifest, sealed_from, write_cdxj
from storage.records import open_warc
from storage.refs import ref_of
from storage.surt import surt
from storage.warc import OpenWarc, payload_of

WHEN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
URLS = [
    "https://www.Example.org:443/a/../b//c/?z=1&a=2&&b",
    "http://www2.example.org:8080/%7euser/%2561?",
    "https://t.me/s/channel?before=123",
    "https://пример.рф/страница?поиск=слово#frag",
    "urn:screenshot:https://example.org/a?b=C",
    "urn:dom:https://example.org/",
    "http://127.0.0.1:8000/x;jsessionid=0123456789abcdef0123456789abcdef?sid=9999999999999999999999999999999a&x=1",
    "http://3232235777/a",
    "http://0177.0.0.1/",
    "http://[2001:db8::1]:8080/a",
    "http://user:pass@example.org/?PHPSESSID=0123456789abcdef0123456789abcdef",
    "https://example.org/a(b)c/(aaaaaaaaaaaaaaaaaaaaaaaa)/x.aspx?y",
    "http://example.org:99999/",
    "http://https://example.org/",
    "dns:www.example.org",
    "data:text/html,<p>a</p>",
    "example.org/no/scheme",
    "https://example.org",
    "https:///path/only",
    "http://exa mple.org/a b",
    "https://example.org/?",
    "https://example.org/%zz?%zz=%20+",
    "ftp://example.org:21/a",
    "file:///home/a b",
    "http://..example..org./",
    "https://example.org/A/B/?Q=W&e=R",
]


def theirs(url: str) -> str:
    try:
        return reference.surt(url)
    except Exception:  # noqa: BLE001  (cdxj-indexer does just this)
        return url


@pytest.mark.parametrize("url", URLS)
def test_a_key_equals_that_of_the_surt_package(url: str) -> None:
    assert surt(url) == theirs(url)


def test_keys_of_random_urls_equal_those_of_the_surt_package() -> None:
    dice = random.Random(7)
    letters = string.ascii_letters + string.digits + "%/?&=.:;@#()-_~+ [],'\"<>ёў\t"
    for _ in range(20_000):
        place = dice.choice(["", "www.", "WWW3.", "a@", "1.", "[::1]"]) + dice.choice(
            ["example.org", "b", "x.y:80", "пример.by"]
        )
        tail = "".join(dice.choice(letters) for _ in range(dice.randrange(16)))
        url = dice.choice(["http://", "https://", "HTTP://", "", "urn:x:", "ftp://"]) + place + tail
        if not any(part.isdigit() for part in place.split(".")[:1]):
            assert surt(url) == theirs(url), url


def varied(folder: Path) -> SealedWarc:
    """Make a WARC with every kind of record that we write."""
    warc = OpenWarc.create(folder, "varied", INFO)
    for number, (block, _) in enumerate(ODD.values()):
        warc.append(exchange(block, url=f"https://www.example.org/{number}?b=2&a={number}"))
    warc.append(exchange(b"HTTP/1.1 200 OK\r\nContent-Type: Text/HTML; a=b\r\ncontent-type: image/png\r\n\r\nx"))
    warc.append(exchange(b"HTTP/1.1 200 OK\r\nContent-Type:\r\n\r\nx", url="https://пример.by/б?ў"))
    warc.append(exchange(b'HTTP/1.1 200 OK\r\nContent-Type: text/"h\xe9"\r\n\r\nx'))
    first = warc.append(exchange(CHUNKED_HEAD + b"4\r\nsame\r\n0\r\n\r\n"))
    assert first.payload_sha256
    original = Original(record_id=first.record_id, url=first.url, date=first.date, payload_sha256=first.payload_sha256)
    again = exchange(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nsame", url="https://example.org/again")
    warc.append(again, original, payload_of(again))
    warc.append(exchange(None, failure="timeout"))
    for kind in ("image/png", "application/json; charset=utf-8", "application/warc-fields", ""):
        warc.append_resource(
            Resource(
                url="urn:screenshot:https://example.org/A",
                made_at=WHEN,
                media_type=kind,
                body=b"PNG",
                about=first.record_id,
            )
        )
    return warc.seal()


def test_the_index_equals_that_of_cdxj_indexer(tmp_path: Path) -> None:
    sealed = varied(tmp_path)
    out = io.StringIO()
    out.close = lambda: None  # type: ignore[method-assign]
    CDXJIndexer(out, [str(sealed.path)], sort=True).process_all()
    assert sealed.cdxj.read_text("utf-8").splitlines() == out.getvalue().splitlines()
    assert len(out.getvalue().splitlines()) == len(ODD) + 4 + 1 + 3


def test_the_index_can_be_written_again_from_the_manifest(tmp_path: Path) -> None:
    sealed = varied(tmp_path)
    before = sealed.cdxj.read_bytes()
    sealed.cdxj.unlink()
    write_cdxj(sealed)
    assert sealed.cdxj.read_bytes() == before
    assert sealed_from(sealed.path) == sealed


def test_an_index_of_many_runs_is_sorted_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.manifest._LINES_PER_RUN", 3)
    sealed = varied(tmp_path)
    lines = sealed.cdxj.read_text("utf-8").splitlines()
    assert lines == sorted(set(lines)) and len(lines) == len(ODD) + 8
    assert sorted(one.name for one in tmp_path.iterdir()) == ["varied.cdxj", "varied.manifest.json", "varied.warc.gz"]


def test_what_is_read_back_equals_what_the_writer_told(tmp_path: Path) -> None:
    sealed = varied(tmp_path)
    assert faults(sealed.path, sealed.manifest) == []
    told = list(sealed.records)
    with open_warc(sealed.path) as reader:
        for streamed, ref in zip(reader, told, strict=True):
            read, _ = ref_of(streamed, sealed.path.name)
            for name in ref.__slots__:
                if not (name == "payload_bytes" and ref.type == "revisit"):  # it stands in the original's record only
                    assert getattr(read, name) == getattr(ref, name), (name, ref)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: text.replace("warc-manifest/1", "warc-manifest/9"),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"sha256"', '"sha1"'),
        lambda text: "[1, 2]",
    ],
)
def test_what_is_no_manifest_is_called_so(spoil: Callable[[str], str], tmp_path: Path) -> None:
    sealed = varied(tmp_path)
    sealed.manifest.write_text(spoil(sealed.manifest.read_text()))
    with pytest.raises(DamagedWarc):
        read_manifest(sealed.manifest)
    assert faults(sealed.path, sealed.manifest)[0][0] == "manifest"


def test_records_are_copied_as_archived_behind_their_warcinfo(tmp_path: Path) -> None:
    places, refs = {}, []
    for name in ("one", "two"):
        warc = OpenWarc.create(tmp_path, name, INFO)
        for number in range(4):
            refs.append(
                warc.append(exchange(b"HTTP/1.1 200 OK\r\n\r\n%d" % number, url=f"https://{name}.org/{number}"))
            )
        places[warc.seal().path.name] = tmp_path / f"{name}.warc.gz"

    def read(warc: str, offset: int, length: int) -> bytes:
        return places[warc].read_bytes()[offset : offset + length]

    out = tmp_path / "pulled.warc.gz"
    size = copy_records([refs[5], refs[0], refs[1], refs[5]], read, out)
    data = out.read_bytes()
    assert size == len(data)
    for ref in (refs[5], *refs[5].concurrent, refs[0], refs[1]):
        assert data.count(read(ref.warc, ref.offset_bytes, ref.length_bytes)) == 1
    with open_warc(out) as reader:
        kinds = [streamed.header.type for streamed in reader]
    assert kinds == ["warcinfo", "response", "request", "warcinfo", *["response", "request"] * 2]
    assert faults(out) == []
    assert warcio_check(out).returncode == 0
    with pytest.raises(FileExistsError):
        copy_records([refs[0]], read, out)

    def lie(warc: str, offset: int, length: int) -> bytes:
        found = bytearray(read(warc, offset, length))
        found[-1] ^= 1
        return bytes(found)

    for wrong in (lie, lambda warc, offset, length: b""):
        with pytest.raises(DamagedWarc):
            copy_records([refs[2]], wrong, tmp_path / "wrong.warc.gz")
        assert not (tmp_path / "wrong.warc.gz").exists()
