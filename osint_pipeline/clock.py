"""How far this machine's clock is off, by those who keep it: an NTP server that the operator named, chrony, the kernel."""

import ctypes
import logging
import secrets
import shutil
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

KEPT_SECONDS = 300.0
ASK_SECONDS = 2.0
UNKNOWN = "unknown"
_UNSYNCHRONISED, _NANO, _ERROR = 0x0040, 0x2000, 5  # sys/timex.h: STA_UNSYNC, STA_NANO, TIME_ERROR
_EPOCH = 2_208_988_800  # 1970-01-01 in seconds of NTP (RFC 5905 6)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clock:
    """`offset_seconds`: this clock less the true time, as text, or "unknown". `source`: "sntp", "chrony", "kernel", "unknown".

    `bound_seconds`: how far from that the truth may be, as the source tells it.
    """

    offset_seconds: str = UNKNOWN
    source: str = UNKNOWN
    bound_seconds: str = UNKNOWN

    def as_json(self) -> dict[str, str]:
        """Give it for a run's detail; texts, as a journal holds no floats."""
        told = {"offset_seconds": self.offset_seconds, "source": self.source}
        return told if self.source == UNKNOWN else {**told, "bound_seconds": self.bound_seconds}


_known: dict[str | None, tuple[float, Clock]] = {}


def clock_of(server: str | None = None) -> Clock:
    """Tell how far the clock is off (blocking, for seconds at most); asked at most each five minutes in a process."""
    when, clock = _known.get(server, (0.0, Clock()))
    if not when or time.monotonic() - when > KEPT_SECONDS:
        clock = (ask_ntp(server) if server else None) or ask_chrony() or ask_kernel() or Clock()
        _known[server] = (time.monotonic(), clock)
    return clock


def ask_chrony() -> Clock | None:
    """Ask chrony's own program, where there is one."""
    program = shutil.which("chronyc")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-n", "-c", "tracking"], capture_output=True, text=True, timeout=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired, UnicodeError):
        return None
    return read_tracking(done.stdout) if done.returncode == 0 else None


def read_tracking(line: str) -> Clock | None:
    """Read `chronyc -c tracking`: field 5 is what the clock is slow by, 11 and 12 are root delay and dispersion."""
    fields = line.strip().split(",")
    if len(fields) < 14 or fields[13] not in ("Normal", "Insert second", "Delete second"):
        return None
    try:
        slow, delay, dispersion = (Decimal(fields[at]) for at in (4, 10, 11))
    except InvalidOperation:
        return None
    return _clock(-slow, "chrony", delay / 2 + dispersion)


class _Timex(ctypes.Structure):
    """struct timex of Linux (adjtimex(2)), as far as it is read; the rest is room."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    ]


def ask_kernel() -> Clock | None:
    """Ask the kernel what whoever disciplines the clock told it (timesyncd, ntpd); None where it is not synchronised."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None  # not Linux
    read = _Timex(modes=0)
    state = adjtimex(ctypes.byref(read))
    if state in (-1, _ERROR) or read.status & _UNSYNCHRONISED:
        return None
    slow = Decimal(read.offset) / (1_000_000_000 if read.status & _NANO else 1_000_000)
    return _clock(-slow, "kernel", Decimal(read.maxerror) / 1_000_000)


def ask_ntp(server: str) -> Clock | None:
    """Ask a server once by SNTP (RFC 4330 5); None where it gives no usable answer in time."""
    host, _, port = server.partition(":") if server.count(":") == 1 else (server.strip("[]"), "", "")
    mark = secrets.token_bytes(8)  # in the place of our time, which is nobody's business
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, int(port or 123), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sock:
            sock.settimeout(ASK_SECONDS)
            sock.connect(where)
            sent, started = time.time_ns(), time.monotonic_ns()
            sock.send(b"\x23" + bytes(39) + mark)
            answer = sock.recv(1024)
            took = time.monotonic_ns() - started
    except (OSError, ValueError, UnicodeError) as error:
        log.warning("OSINT_NTP_SERVER gave no time (%s)", type(error).__name__)
        return None
    return read_sntp(answer, mark, sent, took)


def read_sntp(answer: bytes, mark: bytes, sent_ns: int, took_ns: int) -> Clock | None:
    """Read a server's answer to what was sent at `sent_ns` of our clock and came back after `took_ns`."""
    if len(answer) < 48 or answer[24:32] != mark or answer[0] & 7 != 4 or answer[0] >> 6 == 3 or not 0 < answer[1] < 16:
        return None
    received, transmitted = (_nanoseconds(answer[at : at + 8]) for at in (32, 40))
    ahead_ns = (sent_ns - received + sent_ns + took_ns - transmitted) // 2
    return _clock(Decimal(ahead_ns) / 10**9, "sntp", Decimal(took_ns) / 2 / 10**9)


def _nanoseconds(stamp: bytes) -> int:
    seconds, fraction = struct.unpack("!II", stamp)
    era = 0 if seconds >> 31 else 1 << 32  # RFC 4330 3: the era that began in 2036
    return (seconds + era - _EPOCH) * 10**9 + (fraction * 10**9 >> 32)


def _clock(offset: Decimal, source: str, bound: Decimal) -> Clock:
    return Clock(f"{offset:.9f}" if offset else "0.000000000", source, f"{bound:.9f}")
