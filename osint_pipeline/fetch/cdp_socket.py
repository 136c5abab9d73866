"""Records WebSockets as the browser tells of them: one line of JSON for the handshake's halves, each message, and the end.

docs/browser.md gives the form. Pings, pongs and the code of the closing frame are not told by CDP.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from osint_pipeline.fetch.cdp_link import Answer
from storage.exchange import Resource, Stored
from storage.ids import new_id

MEDIA_TYPE = "application/x-ndjson"
BUFFER_BYTES = 1 << 16
BINARY = 2  # RFC 6455 5.2


@dataclass(slots=True, kw_only=True)
class Socket:
    """One WebSocket: what was told of it, as lines, the last of them still in memory."""

    url: str
    session: str
    path: Path
    initiator: Answer
    clock: float = 0.0
    status: int | None = None
    frames: int = 0
    begun_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: bool = False
    cut: bool = False
    lines: bytearray = field(default_factory=bytearray)
    record_id: UUID = field(default_factory=new_id)


class Sockets:
    """The WebSockets of one fetch. `take` says whether so many more bytes may be kept, and counts them."""

    def __init__(self, folder: Path, take: Callable[[int], bool], omit: Callable[[str], None]) -> None:
        self.folder, self.take, self.omit = folder, take, omit
        self._all: dict[str, Socket] = {}
        self.handlers: dict[str, Callable[[Socket, Answer], None]] = {
            "Network.webSocketWillSendHandshakeRequest": self._asked,
            "Network.webSocketHandshakeResponseReceived": self._answered,
            "Network.webSocketFrameSent": lambda one, p: self._frame(one, p, "sent"),
            "Network.webSocketFrameReceived": lambda one, p: self._frame(one, p, "received"),
            "Network.webSocketFrameError": self._erred,
            "Network.webSocketClosed": self._closed,
        }

    def event(self, session: str, method: str, params: Answer) -> None:
        """Take one event of the Network domain; a target attached twice tells everything twice, the first is heard."""
        key = params["requestId"]
        if method == "Network.webSocketCreated":
            path = self.folder / f"{new_id()}.socket"
            self._all.setdefault(key, Socket(url=params["url"], session=session, path=path, initiator=params.get("initiator") or {}))  # fmt: skip
        elif (one := self._all.get(key)) is not None and one.session == session:
            self.handlers[method](one, params)

    def finish(self, about: UUID | None) -> list[tuple[Resource, dict[str, Any]]]:
        """Give the record of each, with its line for the page info. `about` is the record of the page."""
        return [(self._resource(one, about), _told(one)) for one in self._all.values()]

    def _asked(self, one: Socket, params: Answer) -> None:
        one.clock = params["wallTime"] - params["timestamp"]
        one.begun_at = datetime.fromtimestamp(params["wallTime"], UTC)
        self._line(one, params, "request", url=one.url, headers=params["request"]["headers"])

    def _answered(self, one: Socket, params: Answer) -> None:
        got = params["response"]
        one.status = got["status"]
        if got.get("requestHeadersText"):
            self._line(one, params, "request head", text=got["requestHeadersText"])
        self._line(one, params, "response", status=got["status"], reason=got["statusText"], headers=got["headers"], text=got.get("headersText", ""))  # fmt: skip

    def _erred(self, one: Socket, params: Answer) -> None:
        self._line(one, params, "error", message=params["errorMessage"])
        if one.status is None:
            self.omit(f"{one.url}: the WebSocket was not opened, and the browser does not give what the server answered ({params['errorMessage']})")  # fmt: skip

    def _frame(self, one: Socket, params: Answer, way: str) -> None:
        frame = params["response"]
        form = "base64" if frame["opcode"] == BINARY else "text"
        one.frames += 1
        self._line(one, params, way, opcode=int(frame["opcode"]), **{form: frame["payloadData"]})

    def _closed(self, one: Socket, params: Answer) -> None:
        self._line(one, params, "closed")
        one.ended = True

    def _line(self, one: Socket, params: Answer, event: str, **fields: Any) -> None:
        at = datetime.fromtimestamp(params["timestamp"] + one.clock, UTC) if one.clock else datetime.now(UTC)
        line = json.dumps({"time": at.isoformat(), "event": event, **fields}, ensure_ascii=True).encode() + b"\n"
        if one.cut or not self.take(len(line)):
            if not one.cut:
                self.omit(f"{one.url}: frames of the WebSocket after the first {one.frames} are not kept (limit of bytes)")  # fmt: skip
            one.cut = True
            return
        one.lines += line
        if len(one.lines) > BUFFER_BYTES:
            self._spill(one)

    def _spill(self, one: Socket) -> None:
        with one.path.open("ab") as out:
            out.write(one.lines)
        one.lines.clear()

    def _resource(self, one: Socket, about: UUID | None) -> Resource:
        notes = []
        if not one.ended:
            notes.append(("OSINT-Omission", "the page was left before the WebSocket was closed"))
        if one.cut:
            notes.append(("OSINT-Omission", "frames above the limit of bytes are not kept"))
        body: bytes | Stored = bytes(one.lines)
        if one.path.exists():
            self._spill(one)
            body = Stored(path=one.path, length_bytes=one.path.stat().st_size)
        return Resource(url=f"urn:websocket:{one.url}", made_at=one.begun_at, media_type=MEDIA_TYPE, body=body, about=about, notes=tuple(notes), record_id=one.record_id)  # fmt: skip


def _told(one: Socket) -> dict[str, Any]:
    return {
        "url": one.url,
        "method": "GET",
        "status": one.status,
        "kind": "WebSocket",
        "body": "frames",
        "frames": one.frames,
        "initiator": one.initiator.get("type"),
        "started_at": one.begun_at.isoformat(),
        "record": str(one.record_id),
    }
