"""Takes a named identity out of what is recorded: no cookie and no authorization of it reaches a WARC, and each record says so."""

import re
import shutil
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from osint_pipeline.fetch.sink import Sink
from storage.exchange import Block, Exchange, RecordRef, Resource, Stored

REDACTED = b"[redacted]"
SHORTEST = 8  # bytes of a value that is looked for outside of cookies
_HEAD_BYTES = 1 << 20  # a head that is longer counts as one without an end, and is not kept
_END = b"\r\n\r\n"
_IN_JSON = re.compile(rb'((?:"|\\r\\n)(?:(?:set-)?cookie|(?:proxy-)?authorization)"?\s*:\s*"?)([^"\\]+)', re.IGNORECASE)
_COOKIES, _CREDENTIALS = (b"cookie",), (b"authorization", b"proxy-authorization")


class Redacting:
    """A Sink before another one, for pages that a named identity sees. Values that servers set on the way are its own too."""

    def __init__(self, sink: Sink, secrets: Iterable[str]) -> None:
        self._sink = sink
        self._secrets = {one.encode("utf-8", "replace") for one in secrets}
        self._lock = threading.Lock()

    def exchange(self, exchange: Exchange, capture: UUID | None) -> RecordRef:
        """Pass on an exchange without what would let another take the identity's place."""
        response, set_values = self._response(exchange.response)
        head, end, body = exchange.request.partition(_END)
        head, in_head = self._head(head, _COOKIES)
        plain, in_body = self._elsewhere(body, same_length=True)
        told = []
        if in_head:
            told.append(f"named identity: {in_head} values of cookies or credentials redacted in the request head")
        if in_body:
            told.append(f"named identity: {in_body} values redacted in the request body, its length kept")
        if set_values:
            told.append(f"named identity: {set_values} values redacted in the response head")
        notes = (*exchange.notes, *(("OSINT-Alteration", one) for one in told))
        made = replace(exchange, request=head + end + plain, response=response, notes=notes)
        return self._sink.exchange(made, capture)

    def resource(self, resource: Resource, capture: UUID | None) -> RecordRef:
        """Pass on what was made of the page without values of the identity."""
        socket = resource.url.startswith("urn:websocket:")
        body, found = self._made(resource.body, socket=socket)
        if found:
            note = ("OSINT-Alteration", f"named identity: {found} values redacted, the length kept")
            resource = replace(resource, body=body, notes=(*resource.notes, note))
        return self._sink.resource(resource, capture)

    def _made(self, block: Block, *, socket: bool) -> tuple[Block, int]:
        """Redact what was made of a page; a file line by line, as only what a WebSocket said is one."""
        if not isinstance(block, Stored):
            return self._told(block, socket=socket)
        path, found = Path(f"{block.path}.redacted"), 0
        with block.path.open("rb") as file, path.open("xb") as out:
            for line in file:
                made, count = self._told(line, socket=socket)
                out.write(made)
                found += count
        block.path.unlink()
        return Stored(path=path, length_bytes=block.length_bytes), found

    def _told(self, data: bytes, *, socket: bool) -> tuple[bytes, int]:
        in_heads = 0
        if socket:
            data, in_heads = _IN_JSON.subn(lambda hit: hit[1] + b"x" * len(hit[2]), data)
        data, found = self._elsewhere(data, same_length=True)
        return data, found + in_heads

    def _response(self, block: Block | None) -> tuple[Block | None, int]:
        if block is None:
            return None, 0
        if isinstance(block, Stored):
            return self._stored(block)
        head, end, body = block.partition(_END)
        head, found = self._head(head, (b"set-cookie",))
        return head + end + body, found

    def _stored(self, block: Stored) -> tuple[Stored, int]:
        """Write the file anew where its head holds what must not stand there."""
        with block.path.open("rb") as file:
            head = file.read(_HEAD_BYTES).partition(_END)[0]
            made, found = self._head(head, (b"set-cookie",))
            if not found:
                return block, 0
            path = Path(f"{block.path}.redacted")
            file.seek(len(head))
            with path.open("xb") as out:
                out.write(made)
                shutil.copyfileobj(file, out)
        block.path.unlink()
        return Stored(path=path, length_bytes=block.length_bytes - len(head) + len(made)), found

    def _head(self, head: bytes, cookies: tuple[bytes, ...]) -> tuple[bytes, int]:
        """Redact the lines of a head behind its first; the first is the address, which the record bears anyway."""
        first, *lines = head.split(b"\r\n")
        found = 0
        for at, line in enumerate(lines):
            name, colon, value = line.partition(b":")
            lower = name.strip().lower()
            if lower in cookies:
                made, count = self._cookies(value, several=lower == b"cookie")
            elif lower in _CREDENTIALS:
                scheme, blank, _ = value.strip().partition(b" ")
                made, count = b" " + (scheme + blank if blank else b"") + REDACTED, 1
            else:
                made, count = self._elsewhere(value)
            lines[at], found = name + colon + made, found + count
        return b"\r\n".join([first, *lines]), found

    def _cookies(self, value: bytes, *, several: bool) -> tuple[bytes, int]:
        parts = value.split(b";")
        pairs = len(parts) if several else 1  # what follows in Set-Cookie are attributes
        for at, part in enumerate(parts[:pairs]):
            name, equals, secret = part.partition(b"=")
            self._learn(secret.strip() if equals else part.strip())
            parts[at] = name + equals + REDACTED if equals else b" " + REDACTED
        return b";".join(parts), pairs

    def _learn(self, secret: bytes) -> None:
        if len(secret) >= SHORTEST:
            with self._lock:
                self._secrets.add(secret)

    def _elsewhere(self, data: bytes, *, same_length: bool = False) -> tuple[bytes, int]:
        with self._lock:
            words = sorted(self._secrets, key=len, reverse=True)
        if not words or not data:
            return data, 0
        pattern = re.compile(b"|".join(map(re.escape, words)))
        return pattern.subn(lambda hit: b"x" * len(hit[0]) if same_length else REDACTED, data)
