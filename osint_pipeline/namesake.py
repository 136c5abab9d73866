"""Refuses a machine's name that a living process of another machine bears too: each would end the other's runs as dead."""

import os
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from osint_pipeline.errors import UserError
from storage.catalog import Catalog

BOOT = Path("/proc/sys/kernel/random/boot_id")
PIDS = Path("/proc/self/ns/pid")
POLL_SECONDS = 1.0
_UNTOLD = datetime.min.replace(tzinfo=UTC)  # another role's connection: it may be the earlier one


def place() -> str:
    """Name where this process's id means something: one boot of one kernel, one namespace of process ids. 12 hex digits."""
    try:
        known = BOOT.read_text("ascii").strip() + str(PIDS.readlink())
    except OSError:  # no Linux
        known = os.uname().nodename
    return sha256(known.encode()).hexdigest()[:12]


def connection_name(machine: str) -> str:
    """Name our connections for the server's list of them (application_name, at most 63 bytes): whose, and from where."""
    return f"{_ours(machine)}{place()}"


def refuse_namesake(catalog: Catalog, machine: str, wait_seconds: float) -> None:
    """Raise UserError where a process elsewhere bears this machine's name and was connected before any from here.

    Waits so long for it to go: the connections of a machine that vanished are listed for 15 seconds more.
    """
    deadline = time.monotonic() + wait_seconds
    while (since := _other(catalog, machine)) is not None:
        if time.monotonic() > deadline:
            when = "" if since == _UNTOLD else f", connected since {since:%Y-%m-%d %H:%M:%S}Z"
            what = f"another machine calls itself {machine} too{when}"
            raise UserError(what, "give each machine an OSINT_MACHINE of its own")
        time.sleep(POLL_SECONDS)


def _other(catalog: Catalog, machine: str) -> datetime | None:
    """Tell since when the one elsewhere is connected that came before us; None: there is none."""
    found = {name: since or _UNTOLD for name, since in catalog.connected(_ours(machine))}
    ours = found.pop(connection_name(machine), datetime.now(UTC))
    earliest = min(found.values(), default=ours)
    return earliest if earliest < ours else None


def _ours(machine: str) -> str:
    return f"osint-pipeline {sha256(machine.encode()).hexdigest()[:12]}@"
