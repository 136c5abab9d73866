"""The clock's offset is told by who keeps it, or is unknown; nobody is asked whom the operator did not name."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from osint_pipeline import clock
from osint_pipeline.clock import Clock, ask_chrony, ask_kernel, ask_ntp, clock_of, read_sntp, read_tracking

TRACKING = (
    "C0000201,192.0.2.1,3,1764090000.123456789,0.000123000,-0.000001,0.00002,-12.345,0.001,0.02,0.010,0.002,64.5,Normal"
)
NTP_1970 = 2_208_988_800
Reply = Callable[[bytes], bytes | None]


def test_chrony_says_by_how_much_the_clock_is_slow() -> None:
    assert read_tracking(TRACKING + "\n") == Clock("-0.000123000", "chrony", "0.007000000")
    ahead = TRACKING.replace(",0.000123000,", ",-1.500000000,")
    assert read_tracking(ahead) == Clock("1.500000000", "chrony", "0.007000000")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "506 Cannot talk to daemon",
        TRACKING.replace("Normal", "Not synchronised"),
        TRACKING.replace("0.000123000", "soon"),
    ],
    ids=["nothing", "error", "unsynchronised", "garbage"],
)
def test_what_chrony_does_not_know_is_unknown(line: str) -> None:
    assert read_tracking(line) is None


def test_chronys_program_is_asked_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_chrony() is None
    program = tmp_path / "chronyc"
    program.write_text(f'#!/bin/sh\n[ "$*" = "-n -c tracking" ] && echo "{TRACKING}"\n')
    program.chmod(0o755)
    assert ask_chrony() == Clock("-0.000123000", "chrony", "0.007000000")
    program.write_text("#!/bin/sh\nexit 1\n")
    assert ask_chrony() is None


def test_the_kernel_tells_or_says_that_it_is_not_synchronised() -> None:
    told = ask_kernel()
    assert told is None or (told.source == "kernel" and abs(Decimal(told.offset_seconds)) < 1)


def stamp(seconds: float) -> bytes:
    return struct.pack("!II", int(seconds) + NTP_1970, int(seconds % 1 * (1 << 32)))


def right(question: bytes, ahead_seconds: float = 0.0, **other: int) -> bytes:
    """Answer as a server whose clock is `ahead_seconds` before ours."""
    assert len(question) == 48 and question[0] == 0x23 and not any(question[1:40])  # nothing of ours but a random mark
    now = stamp(time.time() + ahead_seconds)
    head = bytes((other.get("flags", 0x24), other.get("stratum", 2), 6, 0xEC))
    return head + bytes(20) + question[40:48] + now + now


@contextmanager
def server(reply: Reply) -> Iterator[tuple[str, list[bytes]]]:
    asked: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                question, client = sock.recvfrom(1024)
                if not question:
                    return
                asked.append(question)
                if (answer := reply(question)) is not None:
                    sock.sendto(answer, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{sock.getsockname()[1]}", asked
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", sock.getsockname())
            thread.join(10)


@pytest.mark.parametrize("ahead_seconds", [0.0, 90.0, -3600.5])
def test_a_named_server_tells_the_offset(ahead_seconds: float) -> None:
    with server(lambda question: right(question, ahead_seconds)) as (where, _):
        told = ask_ntp(where)
    assert told is not None and told.source == "sntp"
    assert abs(float(told.offset_seconds) + ahead_seconds) <= float(told.bound_seconds) + 0.001


@pytest.mark.parametrize(
    "reply",
    [
        lambda question: right(question, flags=0xE4),  # it is not synchronised itself
        lambda question: right(question, stratum=0),  # kiss of death
        lambda question: right(question, flags=0x23),  # a client
        lambda question: right(question)[:24] + b"forged.." + right(question)[32:],
        lambda question: b"short",
        lambda question: None,
    ],
    ids=["unsynchronised", "kiss", "client", "forged", "short", "silent"],
)
def test_what_is_no_answer_is_not_believed(reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "ASK_SECONDS", 0.3)
    with server(reply) as (where, asked):
        assert ask_ntp(where) is None and len(asked) == 1


def test_times_after_2036_are_read() -> None:
    late = struct.pack("!II", 100, 0)  # era 1
    answer = b"\x24\x02" + bytes(22) + b"markmark" + late + late
    sent_ns = (100 + (1 << 32) - NTP_1970) * 10**9
    assert read_sntp(answer, b"markmark", sent_ns, 0) == Clock("0.000000000", "sntp", "0.000000000")


def test_a_server_is_asked_once_in_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_known", {})
    with server(right) as (where, asked):
        assert clock_of(where) == clock_of(where) and clock_of(where).source == "sntp"
        assert len(asked) == 1
        assert clock_of(None).source != "sntp" and len(asked) == 1
    assert set(Clock().as_json().values()) == {"unknown"}
