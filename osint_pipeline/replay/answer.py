"""From a record to the answer that the replaying browser gets: as recorded, or the part of it that was asked for."""

import re
from dataclasses import dataclass, replace
from uuid import UUID

from osint_pipeline.replay.recorded import Asked, How, Match, Recorded
from storage.addressed import original_of
from storage.drafts import NOT_MODIFIED_STATUS
from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType
from storage.http import Head
from storage.records import Record, head_of, payload, read_record

PARTIAL = 206
KEPT_BYTES = 64 << 20  # the last large body, kept for the next part of it that is asked for
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_CONTENT_RANGE = re.compile(rb"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_OURS = frozenset(  # of the connection (RFC 9110 7.6.1), not of the answer; framing is made anew
    [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "alt-svc",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back to the browser. `fields` are those recorded, without framing; `shown` is the record's address."""

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    how: How
    shown: str | None = None


class Answers:
    """Answers requests out of the records of one capture. Safe to use from several threads."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self._last: tuple[UUID, Answer] | None = None

    def answer(self, asked: Asked) -> Answer | None:
        """Find, read, prove and cut. None where the archive has nothing; raises DamagedWarc where what it has is not whole."""
        matches = self.recorded.find(asked)
        if not matches and asked.method == "HEAD":
            matches = self.recorded.find(replace(asked, method="GET"))
        for match in matches:
            if answer := _cut(self._read(match), asked):
                return answer
        return self._permission(asked)

    def _permission(self, asked: Asked) -> Answer | None:
        if asked.method != "OPTIONS":
            return None
        allowed = [one for one in ("GET", "POST", "PUT", "PATCH", "DELETE") if self.recorded.permitted(one, asked.url)]
        if not allowed:
            return None
        said = {
            "Origin": asked.origin or "*",
            "Methods": ", ".join(allowed),
            "Headers": asked.wanted,
            "Credentials": "true",
        }
        fields = tuple((f"Access-Control-Allow-{name}", value) for name, value in said.items() if value)
        return Answer(status=204, reason="No Content", fields=fields, body=b"", how=How.MADE)

    def _read(self, match: Match) -> Answer:
        if (last := self._last) and last[0] == match.ref.record_id:
            return replace(last[1], how=match.how)
        record = read_record(self.recorded.archive.member(match.ref))
        if match.ref.type is RecordType.REVISIT:
            answer = self._of_revisit(match, record)
        else:
            answer = _of_response(match, head_of(record), payload(record))
        if (1 << 20) < len(answer.body) <= KEPT_BYTES:
            self._last = match.ref.record_id, answer
        return answer

    def _of_revisit(self, match: Match, record: Record) -> Answer:
        """Give the revisit's own head with the payload of the record that it refers to; for a 304 that record's head too."""
        with self.recorded.workspace.catalog.begin() as connection:
            ref: RecordRef | None = original_of(connection, match.ref)
        if ref is None:
            raise DamagedWarc(
                match.ref.warc, match.ref.offset_bytes, "the record that a revisit refers to is not there"
            )
        original = read_record(self.recorded.archive.member(ref))
        head = head_of(original if match.ref.status == NOT_MODIFIED_STATUS else record)
        return _of_response(match, head, payload(original))


def _of_response(match: Match, head: Head | None, body: bytes) -> Answer:
    if head is None:  # HTTP/0.9, or no HTTP at all: the block is the body
        return Answer(status=200, reason="", fields=(), body=body, how=match.how, shown=match.ref.url)
    first, *lines = head.raw.decode("latin-1").rstrip("\r\n").split("\n")
    pairs = (line.rstrip("\r").partition(":") for line in lines if ":" in line and line[:1] not in " \t")
    fields = tuple((name.strip(), value.strip()) for name, _, value in pairs if _passes(name.strip().lower()))
    reason = first.strip().split(" ", 2)[2] if first.strip().count(" ") > 1 else ""
    status = head.status or 200
    return Answer(status=status, reason=reason, fields=fields, body=body, how=match.how, shown=match.ref.url)


def _passes(name: str) -> bool:
    return name not in _OURS and not name.startswith("x-archive-orig-")


def _cut(answer: Answer, asked: Asked) -> Answer | None:
    """Give the part that was asked for; None where the record does not hold its beginning."""
    held = _held(answer)
    if answer.status not in (200, PARTIAL) or held is None:
        return answer
    first, whole = held
    if asked.range is None:
        complete = answer.status == PARTIAL and first == 0 and len(answer.body) == whole
        return replace(_without_range(answer), status=200, reason="OK") if complete else answer
    if (wanted := _wanted(asked.range, whole)) is None:
        return answer  # a range that nobody understands is none (RFC 9110 14.2)
    start, end = wanted
    if not first <= start < first + len(answer.body):
        return None
    body = answer.body[start - first : end - first + 1]
    fields = (*_without_range(answer).fields, ("Content-Range", f"bytes {start}-{start + len(body) - 1}/{whole}"))
    return replace(answer, status=PARTIAL, reason="Partial Content", fields=fields, body=body)


def _held(answer: Answer) -> tuple[int, int] | None:
    """Tell at which byte the body begins, and how long the whole is; None where that cannot be told."""
    if answer.status != PARTIAL:
        return 0, len(answer.body)
    named = next((value for name, value in answer.fields if name.lower() == "content-range"), "")
    found = _CONTENT_RANGE.fullmatch(named.encode("latin-1"))
    if not found:
        return None
    first = int(found[1])
    return first, int(found[3]) if found[3] != b"*" else first + len(answer.body)


def _wanted(text: str, whole: int) -> tuple[int, int] | None:
    found = _RANGE.fullmatch(text.replace(" ", ""))
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, whole - int(found[2])), whole - 1
    return int(found[1]), min(int(found[2] or whole - 1), whole - 1)


def _without_range(answer: Answer) -> Answer:
    return replace(answer, fields=tuple(one for one in answer.fields if one[0].lower() != "content-range"))
