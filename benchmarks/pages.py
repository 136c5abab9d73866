"""Serves numbered 40 KB pages on 127.0.0.1 as fast as Python can: /N.html, no two alike. Prints its port, ends with its input."""

import asyncio
import sys

FILL = "".join(
    f"<p>Абзац {number}: у горадзе нічога асаблівага не адбылося, акрамя дажджу.</p>\n" for number in range(290)
)


def page(number: int) -> bytes:
    """Make a page of about 40 KB that holds its number."""
    title = f"Старонка {number}"
    body = f"<!DOCTYPE html><html><head><meta charset=utf-8><title>{title}</title></head><body><h1>{title}</h1>{FILL}</body></html>"
    return body.encode()[:40_000]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            number = int(head.split(b" ", 2)[1].strip(b"/").partition(b".")[0] or b"0")
            body = page(number)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve until the standard input ends."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
