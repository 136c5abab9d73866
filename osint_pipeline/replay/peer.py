"""Which user of this machine a connection over the loopback comes from."""

import os
import socket
import struct
from pathlib import Path

_TABLE = Path("/proc/net/tcp")  # proc_net_tcp(5): local address, remote address, ..., uid in the eighth column


def is_ours(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as this user; it is believed where the system does not tell (no Linux)."""
    try:
        lines = _TABLE.read_text("ascii").splitlines()[1:]
        wanted = _written(connection.getpeername()), _written(connection.getsockname())
    except OSError:
        return not _TABLE.exists()
    for line in lines:
        columns = line.split()
        if (columns[1], columns[2]) == wanted:
            return int(columns[7]) in (os.geteuid(), os.getuid())
    return False


def _written(address: tuple[str, int]) -> str:
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
