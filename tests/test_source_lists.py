"""Lists of sources: what is written is read back to the same, a bad line costs itself alone, a hostile file does no harm."""

import csv
import io
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import plain

from osint_pipeline.options import (
    COLUMNS,
    apply_options,
    read_options,
    read_size,
    with_state,
    write_options,
    write_size,
)
from osint_pipeline.source import slug_of
from osint_pipeline.source_lists import FORMATS, UnreadableList, format_of, read_list, write_list
from osint_pipeline.sources import Wanted, What, put
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.rows import SourceRow
from storage.watched import Watched, WatchRow, list_watched
from tests.commands import Inside

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ODD = (
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@x",
    "'=x",
    "''",
    "'a",
    "no",
    "null",
    "~",
    "5",
    "a: b",
    '"',
    "a;b",
    "#",
    "- x",
    "Навіны «Ў»",
    "<&>",
    "a\\b",
)


@pytest.fixture
def workspace(tmp_path: Path, embedded_url: str) -> Iterator[Workspace]:
    environ = {"OSINT_HOME": str(tmp_path / "home"), "OSINT_DATABASE_URL": plain(embedded_url)}
    with Workspace(load({"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ}).service) as opened:
        yield opened


def read(data: str | bytes, form: str = "csv", most_rows: int = 1000) -> list[Wanted]:
    return list(read_list(data.encode() if isinstance(data, str) else data, form, most_rows=most_rows))


def refusals(rows: list[Wanted]) -> dict[int | None, str]:
    return {row.line: row.refused for row in rows if row.refused}


def a_source(drawn: random.Random, number: int) -> Watched:
    """Make a source with options drawn at random, odd texts among them."""
    url = drawn.choice(
        (f"https://t.me/s/kanal_{number}", f"https://o{number}.example/", f"https://n{number}.example/a?b=с&c")
    )
    given = {
        "name": drawn.choice(ODD),
        "every": drawn.choice(("", "*/5 * * * *", "0 9 * * 1-5")),
        "timezone": drawn.choice(("", "Europe/Minsk")),
        "jitter": drawn.choice(("", "0", "90")),
        "catch-up": drawn.choice(("", "none", "once", "all")),
        "render": drawn.choice(("", "never", "auto")),
        "languages": drawn.choice(("", "be", "be,ru,be-latn")),
        "proxy": drawn.choice(("", "direct", "exit-1")),
        "robots": drawn.choice(("", "obey", "ignore:published, in part: see =notes")),
        "priority": str(drawn.randint(-9, 9)),
        "limit-bytes": drawn.choice(("", "500MB", "1GiB", "1234567")),
        "backfill-pages": drawn.choice(("", "20")),
        "tags": ",".join(drawn.sample([one for one in ODD if "," not in one], drawn.randint(0, 3))),
    }
    row = SourceRow(slug=slug_of(url), url=url, spider=drawn.choice(("news", "page")), created_at=NOW)
    made = apply_options(Watched(row, WatchRow(source_id=row.id, added_at=NOW, changed_at=NOW)), read_options(given))
    state = drawn.choice(("", "paused", "paused:for =now, see: notes", "removed"))
    return Watched(made.source, with_state(made.watch, state, NOW))


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_back_to_the_same(workspace: Workspace, form: str) -> None:
    drawn = random.Random(7)
    given = [a_source(drawn, number) for number in range(60)]
    rows = [(one.source.url, write_options(one)) for one in given]
    written = write_list(rows, form)
    wanted = read(written, form)
    assert {one.what for one in put(workspace, wanted)} == {What.ADDED}
    stored = {one.source.url: write_options(one) for one in list_watched(workspace.catalog, removed=True)}
    assert stored == dict(rows)
    again = [(one.source.url, write_options(one)) for one in list_watched(workspace.catalog, removed=True)]
    assert read(write_list(again, form), form) != [] and {one.what for one in put(workspace, wanted)} == {
        What.UNCHANGED
    }


def test_no_exported_cell_is_a_formula() -> None:
    drawn = random.Random(3)
    rows = [(one.source.url, write_options(one)) for one in (a_source(drawn, number) for number in range(80))]
    cells = [cell for row in csv.reader(io.StringIO(write_list(rows, "csv"))) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert any(cell.startswith("'=") for cell in cells) and any(cell.startswith("'-") for cell in cells)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_is_read_as_spreadsheets_write_it(delimiter: str, end: str, mark: str) -> None:
    lines = [["URL", "Limit_Pages", "tags"], ["https://a.example/", "5", '"x, y; z"'], [], ["https://b.example/"]]
    rows = read(mark + end.join(delimiter.join(line) for line in lines))
    assert [(row.line, row.url, dict(row.given)) for row in rows] == [
        (2, "https://a.example/", {"limit-pages": "5", "tags": "x, y; z"}),
        (4, "https://b.example/", {}),
    ]


def test_a_bad_line_is_refused_by_number_and_reason_and_the_others_go_in(workspace: Workspace) -> None:
    text = """url,every,tags
https://a.example/,*/5 * * * *,x
https://b.example/,61 * * * *,x
,0 * * * *,x
https://c.example/,"0 * * * *,x
https://d.example/,0 * * * *,x,y
ftp://e.example/,,
https://t.me/+invite,,
https://a.example/,,
https://f.example/,"0 * * * *","x,y"
https://g.example/\x00,,
"""
    done = list(put(workspace, read(text)))
    whys = {one.line: one.why for one in done if one.what is What.REFUSED}
    for line, why in {
        3: "61",
        4: "no address",
        5: "never closed",
        6: "4 cells",
        7: "http",
        8: "public",
        9: "line 2",
        11: "control",
    }.items():
        assert why in str(whys.pop(line))
    assert whys == {}
    assert [one.source.url for one in list_watched(workspace.catalog)] == ["https://a.example/", "https://f.example/"]


def test_what_differs_is_said_and_changed_only_when_asked(workspace: Workspace) -> None:
    first = read("url,every,tags\nhttps://a.example/,*/5 * * * *,x\nhttps://b.example/,,")
    list(put(workspace, first))
    other = read("url,every\nhttps://a.example/,0 * * * *\nhttps://b.example/,")
    assert {one.what for one in put(workspace, other, update=True, dry_run=True)} == {What.CHANGED, What.UNCHANGED}
    for update, what, every in ((False, What.DIFFERS, "*/5 * * * *"), (True, What.CHANGED, "0 * * * *")):
        a, b = put(workspace, other, update=update)
        assert (a.what, b.what) == (what, What.UNCHANGED)
        assert a.changes == {"every": ("*/5 * * * *", "0 * * * *")}
        watch = list_watched(workspace.catalog)[0].watch
        assert (watch.schedule, watch.tags) == (every, ("x",)), "what the file does not name stays"


def test_a_source_that_was_removed_comes_back_by_a_file_only_when_asked(workspace: Workspace) -> None:
    wanted = read("url\nhttps://a.example/")
    list(put(workspace, wanted))
    list(put(workspace, read("url,state\nhttps://a.example/,removed"), update=True))
    assert [one.what for one in put(workspace, wanted)] == [What.DIFFERS] and list_watched(workspace.catalog) == []
    assert [one.what for one in put(workspace, wanted, update=True)] == [What.CHANGED]
    assert len(list_watched(workspace.catalog)) == 1


@pytest.mark.parametrize(
    ("data", "form", "why"),
    [
        ("url,every\nhttps://a.example/".encode("utf-16"), "csv", "UTF-8"),
        ("url,name\nhttps://a.example/,Навіны".encode("cp1251"), "csv", "UTF-8"),
        (b"", "csv", "no column url"),
        (b"https://a.example/\n", "csv", "no column url"),
        (b"url,evry\nhttps://a.example/,x", "csv", "'evry'"),
        (b"url,url\n", "csv", "twice"),
        (b'url,"every\n', "csv", "first line"),
        (b"- url: [", "yaml", "no YAML"),
        (b"url: https://a.example/", "yaml", "no list"),
        (b"- url: a\n---\n- url: b", "yaml", "more than one document"),
        (b"- &a [x]\n- *a", "yaml", "an alias"),
        (b"- url: \x00", "yaml", "no YAML"),
        (b"", "yaml", "no list"),
        (b"[" * 100_000, "yaml", "no YAML"),
        (b"<opml><body>", "opml", "no XML"),
        (b"", "opml", "no XML"),
        (b"<rss/>", "opml", "not opml"),
        (b"<!DOCTYPE opml [<!ENTITY a 'b'>]><opml><body/></opml>", "opml", "document type"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_a_sentence(data: bytes, form: str, why: str) -> None:
    with pytest.raises(UnreadableList, match=why):
        read(data, form)


def test_a_bomb_and_a_stolen_file_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("https://stolen.example/")
    entities = "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 12))
    bomb = (
        f'<!DOCTYPE opml [<!ENTITY b0 "x">{entities}]><opml><body><outline text="&b11;" xmlUrl="&b11;"/></body></opml>'
    )
    stolen = f'<!DOCTYPE opml [<!ENTITY s SYSTEM "{tmp_path}/secret">]><opml><body><outline xmlUrl="a">&s;</outline></body></opml>'
    aliases = "- &a0 [x]\n" + "".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    began = time.monotonic()
    for data, form in ((bomb, "opml"), (stolen, "opml"), (aliases, "yaml")):
        with pytest.raises(UnreadableList):
            read(data, form)
    assert time.monotonic() - began < 5


def test_a_million_lines_are_left_at_the_limit() -> None:
    began = time.monotonic()
    with pytest.raises(UnreadableList, match="OSINT_IMPORT_LIMIT_ROWS"):
        read(b"url\n" + b"https://a.example/\n" * 1_000_000, most_rows=50_000)
    assert time.monotonic() - began < 15


def test_yaml_values_are_the_texts_that_stand_there() -> None:
    text = """
- url: https://a.example/
  name: no
  priority: 07
  every: "*/5 * * * *"
  tags: [x, "y", 2026-11-01]
  proxy: null
- https://b.example/
- url: https://c.example/
  evry: x
- url: https://d.example/
  tags: {a: [b, {c: d}]}
- [1, [2]]
- url: https://e.example/
  priority: !!python/object/apply:os.system ["true"]
- url: https://f.example/
  name: a
  name: b
- url: https://g.example/
"""
    rows = read(text, "yaml")
    assert dict(rows[0].given) == {
        "name": "no", "priority": "07", "every": "*/5 * * * *", "tags": "x,y,2026-11-01", "proxy": ""
    }  # fmt: skip
    assert rows[-1] == Wanted(url="https://g.example/", line=19)
    refused = refusals(rows)
    for line, why in {8: "no mapping", 9: "'evry'", 11: "neither a text", 13: "no mapping", 16: "twice"}.items():
        assert why in refused.pop(line)
    assert refused == {} and rows[5].given["priority"] == "true"


def test_opml_of_a_feed_reader_gives_sources_with_folders_as_tags(workspace: Workspace) -> None:
    text = """<?xml version="1.0" encoding="UTF-8"?>
<opml version="2.0"><head><title>Мае стужкі</title></head><body>
<outline text="Беларусь, навіны"><!-- x -->
  <outline text="Узорны веснік" type="rss" xmlUrl="https://outlet.example/api/xyz" htmlUrl="https://outlet.example/"/>
  <outline text="Суды"><outline title="Суд" htmlUrl="https://courts.example/" category="/courts,minsk"/></outline>
</outline>
<outline text="https://t.me/s/kanal" url="https://t.me/s/kanal"/>
<outline text="nothing"/>
</body></opml>"""
    rows = read(text, "opml")
    assert refusals(rows) == {8: "neither an address nor outlines in it"}
    list(put(workspace, rows))
    found = {one.source.url: one for one in list_watched(workspace.catalog)}
    feed, court, channel = (
        found[url] for url in ("https://outlet.example/api/xyz", "https://courts.example/", "https://t.me/s/kanal")
    )
    assert (feed.source.spider, feed.watch.name, feed.watch.tags) == ("news", "Узорны веснік", ("Беларусь навіны",))
    assert (court.watch.name, court.watch.tags) == ("Суд", ("Беларусь навіны", "Суды", "courts", "minsk"))
    assert (channel.source.spider, channel.watch.name) == ("telegram", None)


def test_sizes_are_written_as_they_are_read() -> None:
    for count in (1, 999, 1000, 1024, 500_000_000, 1 << 30, 3 << 20, 1234567):
        assert read_size(write_size(count)) == count
    assert (read_size("500MB"), read_size("2 GiB"), read_size("1k" + "B")) == (500_000_000, 2 << 30, 1000)
    assert write_size(500_000_000) == "500MB"


def test_the_format_is_told_by_the_name() -> None:
    assert [format_of(name) for name in ("a.csv", "A.TSV", "a.yml", "a.opml", "a.xml", "-", "a.doc")] == [
        "csv", "csv", "yaml", "opml", "opml", None, None
    ]  # fmt: skip
    assert set(COLUMNS) >= {"spider", "every", "tags", "state"}


def test_the_commands_end_with_3_where_lines_were_refused(workspace: Workspace, tmp_path: Path) -> None:
    osint = Inside(
        tmp_path / "home", OSINT_DATABASE_URL=str(workspace.service.database_url), OSINT_IMPORT_LIMIT_BYTES="300"
    )
    file = tmp_path / "sources.csv"
    file.write_text("url,every\nhttps://a.example/,*/5 * * * *\nhttps://b.example/,bad\n", "utf-8")
    done = osint.run("source", "import", "--dry-run", str(file), code=3)
    assert "line 3" in done.stderr and "nothing was written" in done.stdout and not list_watched(workspace.catalog)
    done = osint.run("source", "import", str(file), code=3)
    assert "1 added, 1 refused" in done.stdout
    exported = osint.run("source", "export", "--format", "yaml").stdout
    assert osint.run("source", "import", "-", "--format", "yaml", given=exported).stdout == "1 unchanged\n"
    assert (
        "OSINT_IMPORT_LIMIT_BYTES"
        in osint.run("source", "import", "-", "--format", "csv", given="x" * 301, code=2).stderr
    )
