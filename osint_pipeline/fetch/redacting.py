"""Takes a named identity out of what is recorded: no cookie and no authorization of it reaches a WARC, and each record says so."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from osint_pipeline.credentials import Words, looks_secret
from osint_pipeline.fetch.sink import Sink
from storage.exchange import Block, Exchange, RecordRef, Resource, Stored
from storage.http import HEAD_LIMIT_BYTES, split

if TYPE_CHECKING:
    from osint_pipeline.fetch.visit import RenderedPage

REDACTED = "[redacted]"
_LOGIN = re.compile(r"(?:set-)?cookie2?|(?:proxy-)?authorization", re.IGNORECASE)
_LOGIN_LINE = re.compile(rb"(?im)^((?:set-)?cookie2?|(?:proxy-)?authorization)[ \t]*:(.*(?:\n[ \t].*)*)")
_COOKIE_NAME = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})=")
_NEVER = re.compile(rb"(?:content-(?!location)[a-z-]+|accept[a-z-]*|date)[ \t]*:", re.IGNORECASE)
_HANDSHAKE = re.compile(rb'\{(?:"time": "[^"]*", )?"event": "re(?:quest|quest head|sponse)"')


class Redacting:
    """A Sink before another one, for pages that a named identity sees. `used`: the browser has asked for something with it.

    Lines with cookies or credentials are redacted whole, whoever set them. Elsewhere an x stands for each byte of the
    identity's own secrets, never for what a server said: it could blank what it likes.
    """

    def __init__(self, sink: Sink, words: Words) -> None:
        self._sink, self.words = sink, words
        self.used = False

    def exchange(self, exchange: Exchange, capture: UUID | None) -> RecordRef:
        """Pass on an exchange without what would let another take the identity's place."""
        self.used = True
        head, body = _cut(exchange.request)
        head, asked = self._head(head)
        body, posted = self.words.redact(body)
        response, answered = self._response(exchange.response)
        url, noted = self.words.text(exchange.url), _told("request head", *asked)
        if url != exchange.url:
            noted.append("values redacted in the address, also where it is the record's (an x for each letter)")
        noted += [f"{posted} values redacted in the request body, its length kept"] if posted else []
        noted += _told("response head", *answered)
        failure = exchange.failure and self.words.text(exchange.failure)
        notes = (*self._plain(exchange.notes), *_alterations(noted))
        made = replace(exchange, url=url, request=head + body, response=response, failure=failure, notes=notes)
        return self._sink.exchange(made, capture)

    def resource(self, resource: Resource, capture: UUID | None) -> RecordRef:
        """Pass on what was made of the page without values of the identity."""
        block, found, lines = self._made(resource)
        noted = [f"{found} values redacted, an x for each byte"] if found else []
        noted += [f"{lines} fields of cookies or credentials redacted whole in the handshake"] if lines else []
        url = self.words.text(resource.url)
        noted += ["values redacted in the record's address"] if url != resource.url else []
        notes = (*self._plain(resource.notes), *_alterations(noted))
        return self._sink.resource(replace(resource, url=url, body=block, notes=notes), capture)

    def rendered(self, page: "RenderedPage") -> "RenderedPage":
        """Give what is read of a page as the records hold it."""
        text = self.words.text
        return replace(
            page,
            final_url=text(page.final_url),
            html=text(page.html),
            text=text(page.text),
            failure=page.failure and text(page.failure),
            omissions=tuple(map(text, page.omissions)),
            alterations=tuple(map(text, page.alterations)),
            head=tuple((name, _blank(name, value) or text(value)) for name, value in page.head),
        )

    def _plain(self, notes: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple((name, self.words.text(value)) for name, value in notes)

    def _made(self, resource: Resource) -> tuple[Block, int, int]:
        """Redact what was made of a page; what a WebSocket said line by line, as only that is a file."""
        block = resource.body
        if isinstance(block, bytes) and not resource.url.startswith("urn:websocket:"):
            made, found = (block, 0) if resource.media_type.startswith("image/") else self.words.redact(block)
            return made, found, 0
        if isinstance(block, bytes):
            done = [self._line(line) for line in block.splitlines(keepends=True)]
            return b"".join(line for line, _, _ in done), sum(one for _, one, _ in done), sum(one for *_, one in done)
        path, found, lines = Path(f"{block.path}.redacted"), 0, 0
        with block.path.open("rb") as file, path.open("xb") as out:
            for line in file:
                told, in_words, whole = self._line(line)
                out.write(told)
                found, lines = found + in_words, lines + whole
        block.path.unlink()
        return Stored(path=path, length_bytes=path.stat().st_size), found, lines

    def _line(self, line: bytes) -> tuple[bytes, int, int]:
        """Redact one line of a WebSocket's record (docs/browser.md); the heads of its handshake as other heads."""
        whole = 0
        if _HANDSHAKE.match(line):
            told = json.loads(line)
            blanked = {name: blank for name, value in told.get("headers", {}).items() if (blank := _blank(name, value))}
            text, in_text = _LOGIN_LINE.subn(_without, told.get("text", "").encode("utf-8", "surrogatepass"))
            if whole := len(blanked) + in_text:
                told |= {"headers": {**told["headers"], **blanked}} if blanked else {}
                told |= {"text": text.decode("utf-8", "surrogatepass")} if in_text else {}
                line = json.dumps(told, ensure_ascii=True).encode() + b"\n"
        return *self.words.redact(line), whole

    def _response(self, block: Block | None) -> tuple[Block | None, tuple[int, int]]:
        if block is None:
            return None, (0, 0)
        if isinstance(block, Stored):
            return self._stored(block)
        head, body = _cut(block)
        head, found = self._head(head)
        return head + body, found

    def _stored(self, block: Stored) -> tuple[Stored, tuple[int, int]]:
        """Write the file anew where its head holds what must not stand there."""
        with block.path.open("rb") as file:
            head, _ = _cut(file.read(HEAD_LIMIT_BYTES))
            made, found = self._head(head)
            if made == head:
                return block, found
            path = Path(f"{block.path}.redacted")
            file.seek(len(head))
            with path.open("xb") as out:
                out.write(made)
                shutil.copyfileobj(file, out)
        block.path.unlink()
        return Stored(path=path, length_bytes=block.length_bytes - len(head) + len(made)), found

    def _head(self, head: bytes) -> tuple[bytes, tuple[int, int]]:
        """Redact a head, its first line too; count the lines that went whole, and the values elsewhere."""
        head, whole = _LOGIN_LINE.subn(_without, head)
        lines, found = head.split(b"\n"), 0
        for at, line in enumerate(lines):
            if not _NEVER.match(line):
                lines[at], count = self.words.redact(line)
                found += count
        return b"\n".join(lines), (whole, found)


def _cut(block: bytes) -> tuple[bytes, bytes]:
    """Part a message into head and body; without an end of the head all of it is one."""
    head = split(block)
    length = len(head.raw) if head else len(block)
    return block[:length], block[length:]


def _without(line: re.Match[bytes]) -> bytes:
    name, value = line[1].decode(), line[2].decode("latin-1")
    return f"{name}: {_blank(name, value)}".encode("latin-1") + (b"\r" if line[0].endswith(b"\r") else b"")


def _blank(name: str, value: str) -> str | None:
    """Give what stands for the value of a field, None where it may stay. What a cookie is called says which guard set it."""
    if not _LOGIN.fullmatch(name.strip()):
        return None
    called = _COOKIE_NAME.match(value) if name.strip().lower().startswith("set-cookie") else None
    return f"{called[1]}={REDACTED}" if called and not looks_secret(called[1]) else REDACTED


def _told(where: str, whole: int, found: int) -> list[str]:
    told = [f"{whole} lines of cookies or credentials redacted whole in the {where}"] if whole else []
    return [*told, f"{found} values redacted in the {where}, an x for each letter"] if found else told


def _alterations(sentences: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple(("OSINT-Alteration", f"named identity: {one}") for one in sentences)
