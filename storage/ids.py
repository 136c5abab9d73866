"""Identifiers that sort by the time they were made (UUID version 7, RFC 9562 5.7)."""

import os
import time
from uuid import UUID


def new_id() -> UUID:
    """Make a UUIDv7: 48 bits of Unix milliseconds, the rest random."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def first_id(seconds: float) -> UUID:
    """Give an id that is not greater than any made at or after a time, in seconds since 1970."""
    return UUID(int=int(1000 * seconds) << 80)
