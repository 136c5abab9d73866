"""Writes the heads of requests and responses as they were on the wire, as far as the browser tells it.

It shows the fields of a head as characters of Windows-1252, one for each octet (Chromium 156): a field in UTF-8 must not be
written as it is shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from osint_pipeline.fetch.cdp_hop import Hop, Note

WINDOWS_1252 = {
    ord(shown): octet for octet in range(0x80, 0xA0) if (shown := bytes((octet,)).decode("windows-1252", "ignore"))
}
ORDER_LOST = ", order lost"


def request_bytes(url: str, method: str, headers: Mapping[str, str], posted: bytes | None) -> bytes:
    """Write a request in HTTP/1.1 form; the pseudo-fields of HTTP/2 become the request line and Host."""
    parts = urlsplit(url)
    named = {name.lower() for name in headers}
    lines = [f"{method} {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1"]
    if "host" not in named:
        lines.append(f"Host: {headers.get(':authority') or parts.netloc.rpartition('@')[2]}")
    lines += [f"{name}: {value}" for name, value in headers.items() if not name.startswith(":")]
    if posted is not None and "content-length" not in named:
        lines.append(f"Content-Length: {len(posted)}")
    return _encoded(_shown("\r\n".join(lines)) + "\r\n\r\n") + (posted or b"")


def response_head(hop: Hop, status: int, raw: str, length: int | None, octets: Mapping[str, str] | None = None) -> tuple[bytes, list[Note]]:  # fmt: skip
    """Write a response's head so that it fits the decoded body; what does not fit is kept as X-Archive-Orig-*.

    `raw` is the head as received ("" where the browser gave none), read by the browser as UTF-8: what is none it drops,
    also the end of a line. `octets` are the fields as it shows them beside, each octet as a character of Windows-1252,
    without their order. `length` is that of the body, None where none is kept.
    """
    notes: list[Note] = []
    first, *lines = _octets(raw).rstrip("\r\n").split("\r\n")
    listed = _listed((_shown(name), _shown(value)) for name, value in (octets or {}).items())
    if not raw:
        lines = _listed((_octets(name), _octets(value)) for name, value in hop.fields)
        told = [_name(line) for line in lines]
        lines = _in_order(listed, lines) if listed else lines
        # the list of one that was not paused has no order, and none tells where a field stood that came more than once
        known = hop.paused and len({*told}) == len(told) and told == [_name(line) for line in lines]
        notes.append(("OSINT-Alteration", f"response head rebuilt from the browser's list{'' if known else ORDER_LOST}"))  # fmt: skip
    elif _dropped(lines, listed):
        first, lines = "", listed
        notes.append(("OSINT-Alteration", f"response head rebuilt from the browser's list{ORDER_LOST}"))
    if not first.startswith("HTTP/1."):
        version = raw[:8] if raw.startswith("HTTP/1.") else "HTTP/1.1"
        first = f"{version} {status} {_octets(hop.reason)}"
    if length is not None:
        lines, changes = _fit(lines, length)
        notes += changes
    return _encoded("\r\n".join([first, *lines, "", ""])), notes


def _octets(text: str) -> str:
    """The octets of a text in UTF-8, each as a Latin-1 character."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _listed(fields: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {part}" for name, value in fields for part in value.split("\n")]


def _in_order(lines: Sequence[str], known: Sequence[str]) -> list[str]:
    """Bring lines into the order of others that name most of the same fields; those of no known place stand last."""
    places: dict[str, int] = {}
    for line in known:
        places.setdefault(_name(line), len(places))
    return sorted(lines, key=lambda line: places.get(_name(line), len(places)))


def _dropped(lines: Sequence[str], listed: Sequence[str]) -> bool:
    """Whether a field with octets above 127 stands in the list and not, as it is there, among the lines."""
    there = {_plain(line) for line in lines}
    return any(not line.isascii() and _plain(line) not in there for line in listed)


def _plain(line: str) -> tuple[str, str]:
    return _name(line), line.partition(":")[2].strip(" \t")


def _name(line: str) -> str:
    return line.partition(":")[0].strip().lower()


def _fit(lines: Sequence[str], length: int) -> tuple[list[str], list[Note]]:
    coded = {line.partition(":")[0].strip().lower() for line in lines}
    out, notes, fits = [], [], False
    for line in lines:
        name, _, value = line.partition(":")
        lower = name.strip().lower()
        if lower in ("content-encoding", "transfer-encoding"):
            line = "X-Archive-Orig-" + line
        elif lower == "content-length":
            same = value.strip() == str(length)
            fits = fits or same
            line = line if same else "X-Archive-Orig-" + line
        out.append(line)
    if not fits:
        out.append(f"Content-Length: {length}")
    if "content-encoding" in coded:
        notes.append(("OSINT-Alteration", "content-decoding removed by the browser"))
    if "transfer-encoding" in coded:
        notes.append(("OSINT-Alteration", "transfer-coding removed by the browser"))
    return out, notes


def _encoded(text: str) -> bytes:
    """Give back the bytes of a head, of which each character is an octet; what is none is written as UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _shown(text: str) -> str:
    """The octets of a field as the browser shows it beside its head, each as a Latin-1 character."""
    return text.translate(WINDOWS_1252)
