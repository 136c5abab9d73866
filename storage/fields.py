"""Text of WARC record headers: what stands in a field can never become a field of its own."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from uuid import UUID

_UNSAFE_URL = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]")
_UNSAFE_VALUE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_NAME = re.compile(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
# ISO 28500:2017 5.2 to 5.22, and the two extensions that we write ourselves
RESERVED = re.compile(
    "warc-(record-id|date|type|concurrent-to|block-digest|payload-digest|ip-address|refers-to|refers-to-target-uri|"
    "refers-to-date|target-uri|truncated|warcinfo-id|filename|profile|identified-payload-type|segment-number|"
    "segment-origin-id|segment-total-length|protocol|cipher-suite)|content-(length|type)",
    re.IGNORECASE,
)
URL_LIMIT, NOTE_LIMIT = 32768, 8192  # characters; a header of a megabyte is read by no one
Fields = Iterable[tuple[str, str]]


def safe_url(url: str) -> str:
    """Percent-encode blanks and control characters of a URL; all else is kept as it is, up to URL_LIMIT characters.

    A page may ask for a URL of megabytes, and readers of WARCs bound a record's header: a longer one ends in the digest of the whole.
    """
    whole = _UNSAFE_URL.sub(_percent, url) if _UNSAFE_URL.search(url) else url
    if len(whole) <= URL_LIMIT:
        return whole
    ending = f"...sha256={sha256(whole.encode()).hexdigest()}"
    return whole[: URL_LIMIT - len(ending)] + ending


def cut_note(url: str) -> tuple[tuple[str, str], ...]:
    """Give the note that declares a URL that safe_url() cut; none where it did not."""
    if len(url) <= URL_LIMIT // 9 or len(_UNSAFE_URL.sub(_percent, url)) <= URL_LIMIT:
        return ()
    return (
        (
            "OSINT-Alteration",
            f"target URI cut at {URL_LIMIT} of {len(url)} characters, its end is the digest of the whole",
        ),
    )


def safe_value(value: str) -> str:
    """Percent-encode control characters and line separators of a value."""
    return _UNSAFE_VALUE.sub(_percent, value).strip() if _UNSAFE_VALUE.search(value) else value.strip()


def safe_note(name: str, value: str) -> tuple[str, str]:
    """Make a field of a note: a token for its name, prefixed with Note- where the standard has that name.

    Longer than NOTE_LIMIT characters it is cut, and ends in three dots.
    """
    name = _UNSAFE_NAME.sub("-", name) or "Note"
    value = value if len(value) <= NOTE_LIMIT else value[: NOTE_LIMIT - 3] + "..."
    return (f"Note-{name}" if RESERVED.fullmatch(name) else name), safe_value(value)


@lru_cache(maxsize=1024)
def safe_address(ip: str) -> tuple[str, str]:
    """Make the field of an IP address; what is none becomes a note."""
    try:
        return "WARC-IP-Address", str(ip_address(ip.partition("%")[0]))
    except ValueError:
        return safe_note("WARC-IP-Address", ip)


def safe_date(moment: datetime) -> str:
    """Write an aware time as WARC-Date, in UTC with microseconds (ISO 28500:2017 5.4)."""
    if moment.tzinfo is None:
        raise ValueError("a time without zone cannot be written as WARC-Date")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def urn(record_id: UUID) -> str:
    """Write a record's identifier as fields do."""
    return f"<urn:uuid:{record_id}>"


def to_header(fields: Fields) -> bytes:
    """Write the record header, blank line included. Values must be safe already."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    return f"WARC/1.1\r\n{lines}\r\n".encode()


def to_warc_fields(fields: Fields) -> bytes:
    """Write a block of application/warc-fields."""
    return "".join([f"{name}: {value}\r\n" for name, value in (safe_note(*pair) for pair in fields)]).encode()


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))
