"""The one way out for Chromium and yt-dlp: a SOCKS5 server on loopback that resolves names itself and dials what Guard allows.

RFC 1928, CONNECT only. It asks for no password, because Chromium cannot give one to a SOCKS5 proxy: any local user who
finds the port while a fetch runs may use it, and reaches through it only what Guard allows.
"""

import asyncio
import ipaddress
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

from osint_pipeline.fetch.guard import AddressRefused, Guard, NameUnknown
from osint_pipeline.fetch.tunnel import Pipe, TunnelFailed, dial_async, talk
from settings.exits import Exit

DIAL_SECONDS = 15.0
GREETING_SECONDS = 15.0
CHUNK_BYTES = 1 << 16

OK, FAILED, NOT_ALLOWED, UNREACHABLE, REFUSED, NO_COMMAND, NO_ADDRESS_TYPE = 0, 1, 2, 4, 5, 7, 8


class RelayRefused(Exception):
    """A connection was not made; `reply` is the SOCKS reply code (RFC 1928 6)."""

    def __init__(self, host: str, port: int, reply: int, why: str) -> None:
        super().__init__(f"{host}:{port} was not dialled: {why}")
        self.host, self.port, self.reply, self.why = host, port, reply, why


class Relay:
    """`async with Relay(guard) as relay:` listens on 127.0.0.1; give `relay.url` to the client as its proxy.

    `refused` lists what Guard refused, oldest first; `dialled` says at which addresses each (host, port) was dialled,
    the last one last, the host as the client wrote it in lower case. With `exit` every connection goes through that
    proxy, no name is looked up here and `dialled` stays empty.
    """

    def __init__(self, guard: Guard, exit: Exit | None = None) -> None:
        self.guard, self.exit = guard, exit
        self.refused: list[AddressRefused] = []
        self.failed: list[RelayRefused] = []
        self.dialled: dict[tuple[str, int], tuple[str, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The address to hand to a client; names are resolved here."""
        return f"socks5://127.0.0.1:{self.port}"

    @property
    def addresses(self) -> dict[tuple[str, int], str]:
        """At which address each (host, port) was last dialled: a copy."""
        return {place: at[-1] for place, at in self.dialled.items()}

    def forget(self) -> None:
        """Drop what is remembered of earlier connections; only while nobody reads it."""
        self.refused.clear()
        self.failed.clear()
        self.dialled.clear()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                host, port = await _read_request(reader, writer)
            remote = await self._dial(host, port)
        except RelayRefused as error:
            self.failed.append(error)
            await _close(writer, _reply(error.reply))
            return
        except (OSError, EOFError, TimeoutError):
            await _close(writer)
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        await _join((reader, writer), remote)

    async def _dial(self, host: str, port: int) -> Pipe:
        try:
            if self.exit is not None:
                self._check_literal(host)
                return await dial_async(self.exit, talk(self.exit, host, port))
            addresses = await asyncio.to_thread(self.guard.resolve, host, port)
        except AddressRefused as error:
            self.refused.append(error)
            raise RelayRefused(host, port, NOT_ALLOWED, str(error)) from error
        except NameUnknown as error:
            raise RelayRefused(host, port, UNREACHABLE, error.why) from error
        except TunnelFailed as error:
            raise RelayRefused(host, port, FAILED, f"{error.word}: {error.why}") from error
        return await self._dial_first(host, port, addresses)

    def _check_literal(self, host: str) -> None:
        self.guard.check_url(f"http://[{host}]/" if ":" in host else f"http://{host}/")

    async def _dial_first(self, host: str, port: int, addresses: tuple[str, ...]) -> Pipe:
        last: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    pipe = await asyncio.open_connection(address, port)
            except OSError as error:  # TimeoutError is one
                last = error
                continue
            place = (host.lower(), port)
            self.dialled[place] = (*(one for one in self.dialled.get(place, ()) if one != address), address)
            return pipe
        reply = REFUSED if isinstance(last, ConnectionRefusedError) else UNREACHABLE
        raise RelayRefused(host, port, reply, str(last) or type(last).__name__) from last


class ThreadedRelay:
    """The same relay in a thread of its own, for callers without an event loop: `with ThreadedRelay(guard) as relay:`."""

    def __init__(self, guard: Guard, exit: Exit | None = None) -> None:
        self._relay = Relay(guard, exit)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    @property
    def url(self) -> str:
        """See Relay."""
        return self._relay.url

    @property
    def refused(self) -> tuple[AddressRefused, ...]:
        """What Guard refused so far, oldest first."""
        return tuple(self._relay.refused)

    @property
    def failed(self) -> tuple[RelayRefused, ...]:
        """Every connection that was not made so far, oldest first, with its reason."""
        return tuple(self._relay.failed)

    @property
    def addresses(self) -> dict[tuple[str, int], str]:
        """At which address each (host, port) was dialled: a copy."""
        return self._relay.addresses

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._relay.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._relay.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
    version, methods = await reader.readexactly(2)
    offered = await reader.readexactly(methods)
    if version != 5 or 0 not in offered:
        raise RelayRefused("", 0, 0xFF, "the client speaks no SOCKS5 without a password")
    writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    if kind == 1:
        host = str(ipaddress.IPv4Address(await reader.readexactly(4)))
    elif kind == 4:
        host = str(ipaddress.IPv6Address(await reader.readexactly(16)))
    elif kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii", "replace")
    else:
        raise RelayRefused("", 0, NO_ADDRESS_TYPE, f"unknown address type {kind}")
    port = int.from_bytes(await reader.readexactly(2), "big")
    if command != 1:
        raise RelayRefused(host, port, NO_COMMAND, f"command {command} is not CONNECT")
    return host, port


def _reply(code: int) -> bytes:
    return b"\x05\xff" if code == 0xFF else bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))


async def _join(near: Pipe, far: Pipe) -> None:
    """Tell the client that it is connected and carry bytes both ways until both directions have ended."""
    near[1].write(_reply(OK))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(near[0], far[1]))
            group.create_task(_carry(far[0], near[1]))
        await _close(far[1])
        await _close(near[1])  # flushes; abort would lose what is still in the buffer
    except* OSError:
        pass  # a reset ends both directions; each end sees it on its own connection
    finally:
        near[1].transport.abort()
        far[1].transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _close(writer: asyncio.StreamWriter, last: bytes = b"") -> None:
    with suppress(OSError):
        if last:
            writer.write(last)
        writer.close()
        await writer.wait_closed()
