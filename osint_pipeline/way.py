"""How a run goes out, as it notes it at its begin: the way, the exit's name, the sealed address, how far the clock is off."""

import json
import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from osint_pipeline.address import own_address
from osint_pipeline.clock import clock_of
from osint_pipeline.errors import ExitUnusable, UserError
from osint_pipeline.exits import check_exit, exit_of
from osint_pipeline.keys import Signer
from osint_pipeline.workspace import Workspace
from settings.exits import Exit
from settings.service import Service
from storage.runs import begun_run

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """The way out of a run. `trouble`: why there is none; then nothing is asked of anybody."""

    exit: Exit | None
    trouble: ExitUnusable | None = None

    @property
    def direct(self) -> bool:
        """Whether there is nothing between us and the sources."""
        return self.exit is None and self.trouble is None

    @property
    def declared(self) -> str:
        """The sentence of the warcinfo record; holds neither host nor credentials."""
        if self.trouble is not None:
            return f"none: {self.trouble}"
        if self.exit is None:
            return "direct; names resolved by this machine"
        return f"{self.exit.declared}; names resolved by the proxy"

    def check(self, seconds: float) -> None:
        """See that the way can be gone (blocking). Raises ExitUnusable."""
        if self.trouble is not None:
            raise self.trouble
        if self.exit is not None:
            check_exit(self.exit, seconds)


def way_of(service: Service, named: str | None) -> Way:
    """Find the way out that a source names."""
    try:
        return Way(exit_of(service, named))
    except ExitUnusable as error:
        return Way(None, error)


def noted(workspace: Workspace, way: Way, run: UUID) -> dict[str, Any]:
    """Give what a run's detail says of its way out and its clock.

    "egress": {"way", "exit", "names", "address": "unknown" or "sealed"}, "clock": {"offset_seconds", "source"}; an
    address that is known stands encrypted in "sealed" (docs/egress.md).
    """
    service, exit = workspace.service, way.exit
    sealed = _sealed_address(workspace, way, run)
    told: dict[str, Any] = {
        "proxy": exit is not None,
        "egress": {
            "way": "none" if way.trouble else exit.way if exit else "direct",
            "exit": way.trouble.label if way.trouble else exit.name if exit else None,
            "names": "resolved by the proxy" if exit else "resolved by this machine",
            "address": "sealed" if sealed else "unknown",
        },
        "clock": clock_of(service.ntp_server).as_json(),
    }
    return {**told, "sealed": sealed} if sealed else told


def _sealed_address(workspace: Workspace, way: Way, run: UUID) -> str | None:
    """Find out the egress address and encrypt it; None where it is unknown, or may not be opened by anyone later."""
    service = workspace.service
    if not service.address_url:
        return None
    try:
        way.check(service.exit_check_seconds)
        address = own_address(service, way.exit)
        signer = Signer.open(workspace.folder / "keys", service.key_passphrase) if address else None
    except ExitUnusable:
        return None  # the run will end with it
    except UserError as error:  # the key is locked: a capture is worth more than this note
        log.warning("the egress address is not noted: %s", error)
        return None
    return signer.seal(json.dumps({"address": address}).encode(), str(run)) if signer else None


def unsealed(workspace: Workspace, run: str) -> dict[str, str]:
    """Open a run's sealed note: {"run", "address"}. Raises UserError where there is none, NotOurs for another key."""
    try:
        id_ = UUID(run)
    except ValueError as error:
        raise UserError(f"{run!r} is no id of a run", "`osint runs` lists ids") from error
    found = begun_run(workspace.catalog, id_)
    if found is None:
        raise UserError(f"there is no run {run}", "`osint runs` lists ids")
    note = found[0].detail.get("sealed")
    if not note:
        raise UserError("the run's egress address is unknown", "OSINT_ADDRESS_URL names who is asked for it")
    signer = Signer.open(workspace.folder / "keys", workspace.service.key_passphrase)
    address = json.loads(signer.unseal(note, str(id_)))["address"]
    return {"run": str(id_), "address": address}
