"""Chromium's debugging pipe, shared with Playwright: each gets what is its own, and hears when the other end has gone."""

import asyncio
import os
import signal
import socket
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from osint_pipeline.fetch.cdp_link import Link, LinkFailed
from osint_pipeline.fetch.cdp_pipe import LAUNCHER, Handover, HandoverFailed, Pipe
from osint_pipeline.fetch.chromium import FLAGS, find_chromium, launched


@pytest.fixture
def home():
    """A folder whose sockets' paths are short enough for Chromium."""
    with tempfile.TemporaryDirectory(prefix="osint-browser-") as folder:
        yield Path(folder)


@asynccontextmanager
async def shared(home: Path):
    """A Chromium, Playwright's handle to it and our link."""
    async with async_playwright() as playwright:
        executable = find_chromium(None, playwright)
        handle, pipe = await launched(playwright, executable, home, headless=True, args=list(FLAGS))
        try:
            yield handle, await Link.open(pipe)
        finally:
            await handle.close()
            pipe.abort()


def test_both_work_on_one_page_and_neither_hears_the_others_messages(home):
    async def work() -> None:
        async with shared(home) as (handle, link):
            heard: list[tuple[str, str]] = []
            passed: list[bytes] = []
            passing = link._pipe._playwright.write
            link._pipe._playwright.write = lambda data: (passed.append(data), passing(data))[1]
            link.listener = lambda session, method, params: heard.append((session, method))
            await link.send("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True})  # fmt: skip
            page = await (await handle.new_context()).new_page()
            target = (await (await page.context.new_cdp_session(page)).send("Target.getTargetInfo"))["targetInfo"]
            got = await link.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
            session = got["sessionId"]
            await link.send("Runtime.enable", session=session)
            long = "ў" * (3 << 20)  # a message that comes in many pieces, both ways
            told = await link.send("Runtime.evaluate", {"expression": f"globalThis.both = '{long}'"}, session)
            assert told["result"]["value"] == long
            assert await page.evaluate("both.length") == len(long)
            assert "Runtime.executionContextCreated" in {method for one, method in heard if one == session}
            assert {one for one, _ in heard} == {"", session}
            assert "Target.attachedToTarget" in {method for one, method in heard if one == ""}
            assert passed and not [one for one in passed if session.encode() in one.rpartition(b'"sessionId"')[2]]
            with pytest.raises(LinkFailed, match=r"Runtime\.nothing"):
                await link.send("Runtime.nothing", session=session)

    asyncio.run(work())


def test_a_command_to_a_session_that_has_gone_is_refused(home):
    """Chromium refuses it without naming the session."""

    async def work() -> None:
        async with shared(home) as (_, link):
            with pytest.raises(LinkFailed, match="not found"):
                await asyncio.wait_for(link.send("Network.enable", session="0" * 32), 30)

    asyncio.run(work())


def test_what_waits_at_a_target_ends_when_it_goes(home):
    async def work() -> None:
        async with shared(home) as (handle, link):
            page = await handle.new_page()
            target = (await (await page.context.new_cdp_session(page)).send("Target.getTargetInfo"))["targetInfo"]
            session = (await link.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}))["sessionId"]  # fmt: skip
            never = {"expression": "new Promise(() => {})", "awaitPromise": True}
            waits = link.send("Runtime.evaluate", never, session)
            await link.send("Runtime.evaluate", {"expression": "1"}, session)
            await page.close()
            with pytest.raises(LinkFailed):
                await asyncio.wait_for(waits, 30)
            assert not link._waiting

    asyncio.run(work())


def test_what_chromium_said_last_is_heard():
    """More than is read at a time lies in the pipe when Chromium is gone."""

    async def work() -> None:
        ends = [os.pipe() for _ in range(4)]
        pipe = await Pipe.over(ends[0][0], ends[1][1], ends[2][0], ends[3][1])
        heard: list[bytes] = []
        pipe.received = lambda message, session: heard.append(message)
        pipe.own("s")
        lost = asyncio.Event()
        pipe.lost = lost.set
        told = b'{"method":"a.b","params":{"x":"' + b"x" * 2000 + b'"},"sessionId":"s"}\0'
        os.set_blocking(ends[2][1], False)
        count = 0
        while True:  # as much as the pipe holds
            try:
                if os.write(ends[2][1], told) < len(told):
                    break
            except BlockingIOError:
                break
            count += 1
        assert count * len(told) > 256 << 10
        for one in (ends[2][1], ends[3][0]):  # Chromium's own
            os.close(one)
        await asyncio.wait_for(lost.wait(), 30)
        assert len(heard) == count
        for one in (ends[0][1], ends[1][0]):
            os.close(one)

    asyncio.run(work())


def test_a_link_on_a_pipe_that_has_ended_fails_at_once(home):
    async def work() -> None:
        async with shared(home) as (_, link):
            link._pipe.abort()
            with pytest.raises(LinkFailed, match="gone"):
                await asyncio.wait_for(Link.open(link._pipe), 5)

    asyncio.run(work())


def test_chromium_is_told_nothing_of_the_handing_over(home):
    async def work() -> None:
        async with shared(home) as (_, link):
            processes = (await link.send("SystemInfo.getProcessInfo"))["processInfo"]
            (main,) = [one["id"] for one in processes if one["type"] == "browser"]
            assert b"OSINT_" not in Path(f"/proc/{main}/environ").read_bytes()
            opened = [str(one.readlink()) for one in Path(f"/proc/{main}/fd").iterdir() if one.name in ("3", "4")]
            assert all(one.startswith("pipe:") for one in opened), opened

    asyncio.run(work())


def test_both_hear_that_chromium_is_gone(home):
    async def work() -> None:
        async with shared(home) as (handle, link):
            gone = asyncio.Event()
            handle.on("disconnected", lambda _: gone.set())
            processes = (await link.send("SystemInfo.getProcessInfo"))["processInfo"]
            waits = link.send("Target.attachToTarget", {"targetId": "x" * (4 << 20), "flatten": True})
            os.kill(next(one["id"] for one in processes if one["type"] == "browser"), signal.SIGKILL)
            with pytest.raises(LinkFailed):
                await waits
            await asyncio.wait_for(gone.wait(), 30)
            with pytest.raises(LinkFailed, match="gone"):
                await link.send("Browser.getVersion")

    asyncio.run(work())


def test_what_one_message_does_costs_no_other(home):
    async def work() -> None:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        async with shared(home) as (handle, link):
            link.listener = lambda *_: 1 / 0
            await link.send("Target.setDiscoverTargets", {"discover": True})
            page = await handle.new_page()
            assert await page.evaluate("6 * 7") == 42
        assert any("Target.targetCreated" in one for one in complaints)

    asyncio.run(work())


def test_a_launcher_that_hands_over_too_little_is_refused(tmp_path):
    async def work() -> None:
        handover = Handover(tmp_path / "chromium", tmp_path)
        with socket.socket(socket.AF_UNIX) as launcher:
            coming = asyncio.create_task(handover.pipe())
            launcher.connect(handover.environment["OSINT_HANDOVER_SOCKET"])
            socket.send_fds(launcher, [b"\0"], [launcher.fileno()])
            with pytest.raises(HandoverFailed, match="1 descriptors"):
                await coming

    asyncio.run(work())


def test_ending_twice_is_ending_once():
    async def work() -> None:
        ends = [os.pipe(), os.pipe(), os.pipe(), os.pipe()]
        pipe = await Pipe.over(ends[0][0], ends[1][1], ends[2][0], ends[3][1])
        lost: list[bool] = []
        pipe.lost = lambda: lost.append(True)
        for _ in range(2):
            pipe.end()
            pipe.abort()
        await asyncio.sleep(0)
        assert lost == [True]
        pipe.send(b"{}")
        for one in (ends[0][1], ends[1][0], ends[2][1], ends[3][0]):
            os.close(one)

    asyncio.run(work())


def test_the_launcher_may_be_run():
    assert os.access(LAUNCHER, os.X_OK)
