"""Lists of sources as files: CSV, YAML, OPML; read without trust, written so that reading gives the same again."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from lxml import etree

from osint_pipeline.options import COLUMNS, UNSET
from osint_pipeline.source import guess_spider
from osint_pipeline.sources import Wanted

FORMATS = ("csv", "yaml", "opml")
_SUFFIXES = {"csv": "csv", "tsv": "csv", "txt": "csv", "yaml": "yaml", "yml": "yaml", "opml": "opml", "xml": "opml"}
_FORMULA = "=+-@\t\r"  # a spreadsheet would run a cell that begins so
_OURS = "urn:osint-pipeline:source"  # namespace of our options in OPML
_DEPTH = 20
Row = tuple[str, Mapping[str, str]]  # address, option texts by name


class UnreadableList(Exception):
    """A file that cannot be read as a list at all."""


def format_of(name: str) -> str | None:
    """Tell a list's format by its name's suffix; None where that tells nothing."""
    return _SUFFIXES.get(name.rpartition(".")[2].lower())


def read_list(data: bytes, form: str, *, most_rows: int) -> Iterator[Wanted]:
    """Read a list; a row that cannot be used says so in `refused`, the others are not touched by it.

    Raises UnreadableList before the first row, or at its end where there are more than `most_rows`.
    """
    readers = {"csv": _read_csv, "yaml": _read_yaml, "opml": _read_opml}
    for number, row in enumerate(readers[form](data)):
        if number >= most_rows:
            raise UnreadableList(f"it has more than {most_rows} rows (OSINT_IMPORT_LIMIT_ROWS); split it")
        yield row


def write_list(rows: Sequence[Row], form: str) -> str:
    """Write a list. Options that are as by default are left out where the format lets them be."""
    return {"csv": _write_csv, "yaml": _write_yaml, "opml": _write_opml}[form](rows)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableList(f"it is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _read_csv(data: bytes) -> Iterator[Wanted]:
    """Read line by line: a quote that is never closed costs its own line and no other."""
    lines = iter(enumerate(re.split(r"\r\n|\n|\r", _text(data)), 1))
    header = next((line for _, line in lines if line.strip()), "")
    delimiter = max(",;\t", key=header.count)
    columns = [_column(cell) for cell in _header(header, delimiter)]
    _check_columns(columns)
    for number, line in lines:
        if line.strip(delimiter + " \t"):
            yield _csv_row(line, delimiter, columns, number)


def _check_columns(columns: list[str]) -> None:
    known = ("url", *COLUMNS)
    if "url" not in columns:
        raise UnreadableList(f"its first line names no column url; it may name {', '.join(known)}")
    if odd := [one for one in columns if one not in known]:
        raise UnreadableList(f"its first line names {odd[0]!r}, which is none of {', '.join(known)}")
    if twice := next((one for one in columns if columns.count(one) > 1), None):
        raise UnreadableList(f"its first line names {twice} twice")


def _csv_row(line: str, delimiter: str, columns: list[str], number: int) -> Wanted:
    try:
        cells = _cells(line, delimiter)
    except csv.Error as error:
        why = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
        return Wanted(url=line[:100], line=number, refused=why)
    if len(cells) > len(columns):
        return Wanted(url=line[:100], line=number, refused=f"{len(cells)} cells under {len(columns)} columns")
    row = dict(zip(columns, cells, strict=False))
    return _wanted(row.pop("url", ""), row, number)


def _header(line: str, delimiter: str) -> list[str]:
    try:
        return _cells(line, delimiter)
    except csv.Error as error:
        raise UnreadableList(f"its first line cannot be read: {error}") from error


def _cells(line: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    return [cell[1:] if _is_quoted(cell) else cell for cell in cells]


def _wanted(url: str, given: Mapping[str, str], line: int) -> Wanted:
    return Wanted(url=url.strip(), given=given, line=line, refused=None if url.strip() else "no address")


def _column(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _write_csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("url", *COLUMNS))
    for url, options in rows:
        writer.writerow(_harmless(cell) for cell in (url, *(options.get(name, "") for name in COLUMNS)))
    return out.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(tuple(_FORMULA)) or _is_quoted(cell) else cell


def _is_quoted(cell: str) -> bool:
    """Tell whether a cell begins with the apostrophe that keeps a spreadsheet from running it."""
    return cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'"))


def _read_yaml(data: bytes) -> Iterator[Wanted]:
    """Read a list of mappings from YAML's events: every value is the text that stands there, and no alias is followed."""
    events = _events(_text(data))
    if not isinstance(next(events, None), yaml.SequenceStartEvent):
        raise UnreadableList("it is no list; write each source as - url: https://... and its options below")
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        line = event.start_mark.line + 1
        if isinstance(event, yaml.MappingStartEvent):
            yield _yaml_row(events, line)
        else:
            _skip(event, events)
            yield Wanted(url="", line=line, refused="no mapping; write - url: https://...")
    if any(not isinstance(event, (yaml.DocumentEndEvent, yaml.StreamEndEvent)) for event in events):
        raise UnreadableList("it holds more than one document")


def _events(text: str) -> Iterator[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise UnreadableList(f"line {event.start_mark.line + 1}: an alias (*{event.anchor}); write it out")
            if not isinstance(event, (yaml.StreamStartEvent, yaml.DocumentStartEvent)):
                yield event
    except yaml.YAMLError as error:
        raise UnreadableList(f"it is no YAML: {' '.join(str(error).split())[:300]}") from error


def _yaml_row(events: Iterator[Any], line: int) -> Wanted:
    """Read one mapping to its end, whatever is wrong in it."""
    row: dict[str, str] = {}
    refused = None
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        name = _column(key.value) if isinstance(key, yaml.ScalarEvent) else None
        _skip(key, events)
        value = _yaml_value(next(events), events)
        if name is None or name not in ("url", *COLUMNS):
            refused = refused or f"{(name or 'a key')[:40]!r} is none of {', '.join(('url', *COLUMNS))}"
        elif value is None or name in row:
            refused = refused or f"{name}: " + ("given twice" if name in row else "neither a text nor a list of texts")
        else:
            row[name] = value
    made = _wanted(row.pop("url", ""), row, line)
    return Wanted(url=made.url, given=row, line=line, refused=refused or made.refused)


def _yaml_value(event: Any, events: Iterator[Any]) -> str | None:
    """Read a text, or a list of texts as one; None for anything else, which is read to its end."""
    if isinstance(event, yaml.ScalarEvent):
        plain = event.implicit[0] and event.value in ("", "~", "null")
        return "" if plain else str(event.value)
    parts, good = list[str](), isinstance(event, yaml.SequenceStartEvent)
    if not good:
        _skip(event, events)
        return None
    while not isinstance(one := next(events), yaml.SequenceEndEvent):
        good = good and isinstance(one, yaml.ScalarEvent) and "," not in one.value
        parts.append(one.value if isinstance(one, yaml.ScalarEvent) else "")
        _skip(one, events)
    return ",".join(parts) if good else None


def _skip(event: Any, events: Iterator[Any]) -> None:
    """Read what an event begins to its end, and look at nothing."""
    depth = int(isinstance(event, yaml.CollectionStartEvent))
    while depth:
        event = next(events)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)


def _write_yaml(rows: Sequence[Row]) -> str:
    plain = [{"url": url, **{name: text for name, text in options.items() if text}} for url, options in rows]
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=1000)


def _read_opml(data: bytes) -> Iterator[Wanted]:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False, dtd_validation=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableList(f"it is no XML: {str(error)[:300]}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise UnreadableList("it declares a document type of its own, which no list of feeds needs")
    if root.tag != "opml":
        raise UnreadableList(f"its root is {str(root.tag)[:60]}, not opml")
    yield from _outlines(root.find("body"), ())


def _outlines(parent: Any, folders: tuple[str, ...]) -> Iterator[Wanted]:
    """Read outlines; one without an address is a folder, whose name is a tag of what lies in it."""
    for one in parent if parent is not None and len(folders) <= _DEPTH else ():
        if one.tag != "outline":
            continue
        address = one.get("xmlUrl") or one.get("htmlUrl") or one.get("url")
        if address:
            yield _outline(one, address, folders)
        elif not len(one):
            yield Wanted(
                url=one.get("text") or "", line=one.sourceline, refused="neither an address nor outlines in it"
            )
        label = (one.get("text") or one.get("title") or "").replace(",", " ").strip()
        yield from _outlines(one, folders if address or not label else (*folders, label))


def _outline(one: Any, address: str, folders: tuple[str, ...]) -> Wanted:
    given = {name: text for name in COLUMNS if (text := one.get(f"{{{_OURS}}}{name}")) is not None}
    if not given:
        label = one.get("text") or one.get("title") or ""
        tags = [part.strip().strip("/") for part in (one.get("category") or "").split(",")]
        given = {"name": "" if label in (UNSET, address) else label, "tags": ",".join((*folders, *tags))}
        if one.get("xmlUrl") and guess_spider(address) == "page":
            given["spider"] = "news"  # a feed, wherever it lies
    return _wanted(address, given, one.sourceline)


def _write_opml(rows: Sequence[Row]) -> str:
    root = etree.Element("opml", version="2.0", nsmap={"osint": _OURS})
    etree.SubElement(etree.SubElement(root, "head"), "title").text = "Watched sources"
    body = etree.SubElement(root, "body")
    for url, options in rows:
        outline = etree.SubElement(body, "outline", text=options.get("name") or url)
        outline.set("type", "rss" if options["spider"] == "news" else "link")
        outline.set("xmlUrl" if options["spider"] == "news" else "htmlUrl", url)
        if options.get("tags"):
            outline.set("category", options["tags"])
        for name, text in _filled(options):
            outline.set(f"{{{_OURS}}}{name}", text)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="unicode", pretty_print=True)


def _filled(options: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    return ((name, text) for name, text in options.items() if text)
