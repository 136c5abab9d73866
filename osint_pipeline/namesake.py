"""Refuses a machine's name that a living process of another machine bears too: each would end the other's runs as dead."""

import os
from hashlib import sha256
from pathlib import Path

from osint_pipeline.errors import UserError
from storage.catalog import Catalog

BOOT = Path("/proc/sys/kernel/random/boot_id")
PIDS = Path("/proc/self/ns/pid")


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


def refuse_namesake(catalog: Catalog, machine: str) -> None:
    """Raise UserError where a process elsewhere, connected now, bears this machine's name."""
    ours = connection_name(machine)
    for name, since in catalog.connected(_ours(machine)):
        if name != ours:
            what = f"another machine calls itself {machine} too: it has been connected since {since:%Y-%m-%d %H:%M:%S}Z"
            raise UserError(
                what, "give each machine an OSINT_MACHINE of its own; one that has just died is gone in 15 s"
            )


def _ours(machine: str) -> str:
    return f"osint-pipeline {sha256(machine.encode()).hexdigest()[:12]}@"
