"""Chromium's debugging pipe, shared by Playwright and ourselves.

Playwright opens the pipe and knows only its own sessions. Chromium is therefore started by a launcher that hands the pipe to
us (handover.py); what belongs to Playwright is passed on as it is, what belongs to the sessions that we attached comes here. No
port stands open to other users of the machine, and nothing that is recorded passes through Playwright's driver.
"""

import asyncio
import fcntl
import os
import re
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

from osint_pipeline.fetch.handover import EXECUTABLE, PYTHON, SCRIPT, SOCKET

LAUNCHER = Path(__file__).parents[1] / "data" / "chromium-launcher"
SESSION = re.compile(rb'"sessionId":"([^"\\]+)"\}\Z')  # Chromium appends it to whatever belongs to a session
SESSION_BYTES = 80
ANSWER = re.compile(rb'\{"id":(\d+)[,}]')  # without a session: of the browser itself, also where a session has gone
METHOD = re.compile(rb'\{"method":"([A-Za-z.]+)"')
DESCRIPTORS = 4
PIPE_BYTES = 1 << 20  # how much Chromium may write ahead of us; the system's own limit is not passed
FIRST_ID = 1 << 30  # of our commands to the browser itself; Playwright counts from 1

Message = Callable[[bytes], None]


class HandoverFailed(OSError):
    """Chromium's launcher did not hand the pipe over."""


class Handover:
    """Waits for the launcher in a folder that only we may enter. `environment` is what it needs to be told."""

    def __init__(self, executable: Path, folder: Path) -> None:
        path = folder / "handover"
        self.environment = {
            EXECUTABLE: str(executable),
            SOCKET: str(path),
            PYTHON: sys.executable,
            SCRIPT: str(Path(__file__).with_name("handover.py")),
        }
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._socket.listen(1)

    async def pipe(self) -> "Pipe":
        """Take the pipe. Raises HandoverFailed; to be cancelled where the launcher never comes."""
        loop = asyncio.get_running_loop()
        try:
            came, _ = await loop.sock_accept(self._socket)
            with came:
                await _readable(came)
                _, descriptors, _, _ = socket.recv_fds(came, 1, DESCRIPTORS)
        finally:
            self._socket.close()
        for one in descriptors:
            os.set_inheritable(one, False)
        if len(descriptors) != DESCRIPTORS:
            for one in descriptors:
                os.close(one)
            raise HandoverFailed(f"{len(descriptors)} descriptors came, not {DESCRIPTORS}")
        return await Pipe.over(*descriptors)


async def _readable(came: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(came, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(came)


class Pipe:
    """Passes messages between Playwright and Chromium, and ours to `received`. `lost` is called once when either has gone."""

    def __init__(self) -> None:
        self.received: Callable[[bytes, str], None] = lambda message, session: None  # session: "" is the browser itself
        self.lost: Callable[[], None] = lambda: None
        self._sessions: set[str] = set()
        self._chromium: asyncio.WriteTransport
        self._playwright: asyncio.WriteTransport
        self._readers: list[asyncio.ReadTransport] = []
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether either end has gone."""
        return self._ended

    @classmethod
    async def over(cls, commands: int, answers: int, from_chromium: int, to_chromium: int) -> Self:
        """Take over descriptors: Playwright's commands and answers, and Chromium's."""
        loop, pipe = asyncio.get_running_loop(), cls()
        read = [os.fdopen(one, "rb", 0) for one in (from_chromium, commands)]
        written = [os.fdopen(one, "wb", 0) for one in (answers, to_chromium)]
        try:
            _widen(from_chromium)
            pipe._playwright, _ = await loop.connect_write_pipe(partial(_End, pipe.end), written[0])
            # that Chromium has gone is known once what it said last is read: this end tells nothing
            pipe._chromium, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, written[1])
            for file, take in zip(read, (pipe._from_chromium, pipe.send), strict=True):
                made, _ = await loop.connect_read_pipe(partial(_Messages, take, pipe.end), file)
                pipe._readers.append(made)
        except BaseException:
            for file in (*read, *written):
                file.close()
            raise
        return pipe

    def send(self, message: bytes) -> None:
        """Send a command to Chromium."""
        if not self._ended and not self._chromium.is_closing():
            self._chromium.write(message + b"\0")

    def own(self, session: str) -> None:
        """Take what belongs to a session from now on."""
        self._sessions.add(session)

    def end(self) -> None:
        """Close all: whoever is left at an end sees that it is one. What Chromium said last still reaches Playwright."""
        if self._ended:
            return
        self._ended = True
        for one in self._readers:
            one.close()
        if not self._chromium.is_closing():
            self._chromium.abort()
        self._playwright.close()
        self.lost()

    def abort(self) -> None:
        """End, and wait for no reader."""
        self.end()
        if self._playwright.get_write_buffer_size():  # otherwise it has closed
            self._playwright.abort()

    def _from_chromium(self, message: bytes) -> None:
        found = SESSION.search(message, max(0, len(message) - SESSION_BYTES))
        if found is None:
            answer = ANSWER.match(message)
            if answer is not None and int(answer[1]) >= FIRST_ID:
                return self.received(message, "")
        elif (session := found[1].decode()) in self._sessions:
            return self.received(message, session)
        if not self._ended:
            self._playwright.write(message + b"\0")


class _End(asyncio.BaseProtocol):
    """The writing end of a pipe."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()


class _Messages(asyncio.Protocol):
    """The reading end of a pipe: messages end with a zero byte."""

    def __init__(self, take: Message, ended: Callable[[], None]) -> None:
        self._take, self._ended = take, ended
        self._begun: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        *ends, rest = data.split(b"\0")
        for end in ends:
            message = b"".join((*self._begun, end))
            self._begun.clear()
            try:
                self._take(message)
            except Exception as error:  # noqa: BLE001 - as asyncio does: what one message does must not cost the next
                name = METHOD.match(message)  # no more: the rest may hold a secret
                told = {
                    "message": f"a message could not be taken: {name[1]!r}" if name else "an answer could not be taken",
                    "exception": error,
                }
                asyncio.get_running_loop().call_exception_handler(told)
        if rest:
            self._begun.append(rest)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()


def _widen(descriptor: int) -> None:
    with suppress(OSError):  # the limit of a user's pipes
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
