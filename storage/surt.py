"""Sort-friendly keys of URLs, equal to those that cdxj-indexer writes (the `surt` package's defaults)."""

import encodings.idna  # noqa: F401  (registers the codec that host names are encoded with)
import re
import socket
from urllib.parse import quote_from_bytes, unquote_to_bytes

_SCHEME = re.compile(rb"([a-zA-Z][a-zA-Z0-9+\-.]*):")
_REPEATED = re.compile(rb"(https?://)+")
_SPACES = re.compile(rb"[\n\r\t]")
_PARTS = re.compile(rb"(?:([a-zA-Z][a-zA-Z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
_NUMERIC_HOST = re.compile(rb"(?:0[0-7]*|[1-9][0-9]*)(?:\.[0-9]+){0,3}")
_WWW = re.compile(rb"www\d*\.")
_PATH_SESSIONS = (
    re.compile(rb"(.*/)\((?:[a-z]\([0-9a-z]{24}\))+\)/([^?]+\.aspx.*)", re.I),
    re.compile(rb"(.*/)\([0-9a-z]{24}\)/([^?]+\.aspx.*)", re.I),
)
_QUERY_SESSIONS = tuple(
    re.compile(rb"(.*)(?:" + name + rb")(?:&(.*))?", re.I)
    for name in (
        rb"jsessionid=[0-9a-z]{32}",
        rb"phpsessid=[0-9a-z]{32}",
        rb"sid=[0-9a-z]{32}",
        rb"aspsessionid[a-z]{8}=[a-z]{24}",
        rb"cfid=[^&]+&cftoken=[^&]+",
    )
)
_SAFE = "!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_PORTS = {b"http": 80, b"https": 443}


def surt(url: str) -> str:
    """Make the key; a URL that cannot be read as one is its own key, as in cdxj-indexer."""
    try:
        return _key(url.encode("utf-8")).decode("utf-8")
    except (ValueError, IndexError):
        return url


def _key(url: bytes) -> bytes:
    if not url:
        return b"-"
    if url.startswith(b"filedesc"):
        return url
    url = _SPACES.sub(b"", url.strip())
    if not _SCHEME.match(url):
        url = b"http://" + url
    url = _REPEATED.sub(lambda found: found[1], url)
    if not (parts := _PARTS.fullmatch(url)) or not parts[1]:
        raise ValueError("no scheme")
    scheme, netloc, path, query = parts[1], parts[2] or b"", parts[3], parts[4]
    host, port = _authority(netloc.rstrip(b":") if netloc.endswith(b":") else netloc)
    if not host and path and scheme.startswith(b"http"):
        host, _, rest = path.lstrip(b"/").partition(b"/")
        path = b"/" + rest
    host = _host(host, scheme)
    return _join(scheme, host, port, _path(path, bool(host)), _query(query))


def _join(scheme: bytes, host: bytes, port: int | None, path: bytes, query: bytes | None) -> bytes:
    key = scheme + b":"
    if host:
        key = b",".join(reversed(host.split(b".")))
        if port is not None and port != _PORTS.get(scheme.lower(), 0):
            key += b":%d" % port
        key += b")"
    key += path or (b"/" if query is not None else b"")
    return key + (b"?" + query if query is not None else b"")


def _authority(netloc: bytes) -> tuple[bytes, int | None]:
    place = netloc.rpartition(b"@")[2]
    _, bracket, inside = place.partition(b"[")
    if bracket:
        host, _, after = inside.partition(b"]")
        port = after.partition(b":")[2]
    else:
        host, _, port = place.partition(b":")
    if port and not (port.isdigit() and int(port) <= 65535):
        raise ValueError("no port number")
    return host.lower(), int(port) if port and int(port) else None


def _host(host: bytes, scheme: bytes) -> bytes:
    if not host:
        return b""
    host = _unescape(host)
    if not host.isascii():
        try:
            host = host.decode("utf-8", "ignore").encode("idna")
        except ValueError:
            pass
    host = host.replace(b"..", b".").strip(b".")
    host = (_address(host) or _escape(host.lower())).lower()
    found = _WWW.match(host) if scheme != b"dns" else None
    return host[found.end() :] if found else host


def _address(host: bytes) -> bytes | None:
    if host.isdigit() and host.isascii():
        return socket.inet_ntoa((int(host) & 0xFFFFFFFF).to_bytes(4, "big")).encode("ascii")
    if not _NUMERIC_HOST.fullmatch(host):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host.decode("ascii"))).encode("ascii")
    except OSError:
        return None


def _path(path: bytes, has_host: bool) -> bytes:
    path = _unescape(path)
    path = _escape(_normal(path) if has_host else path).lower()
    for pattern in _PATH_SESSIONS:
        if found := pattern.fullmatch(path):
            path = found[1] + found[2]
    return path[:-1] if path.endswith(b"/") and len(path) > 1 else path


def _normal(path: bytes) -> bytes:
    kept: list[bytes] = []
    for part in path.split(b"/")[1:]:
        if part == b"..":
            kept = kept[:-1] if kept else [part]
        elif part != b".":
            kept.append(part)
    return b"/" + b"".join(part + b"/" for part in kept[:-1] if part) + (kept[-1] if kept else b"")


def _query(query: bytes | None) -> bytes | None:
    if not query:
        return None
    query = _escape(_unescape(query))
    for pattern in _QUERY_SESSIONS:
        if found := pattern.fullmatch(query):
            query = found[1] + (found[2] or b"")
    query = query.lower()
    if len(query) > 1:
        query = b"&".join(b"=".join(pair) for pair in sorted(one.split(b"=", 1) for one in query.split(b"&")))
    return query or None


def _unescape(text: bytes) -> bytes:
    while (plain := unquote_to_bytes(text)) != text:
        text = plain
    return text


def _escape(text: bytes) -> bytes:
    return quote_from_bytes(text, safe=_SAFE).encode("ascii")
