"""The WARCs of a run until the catalogue knows them: it is told of one when it has all that is in it."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from osint_pipeline.workspace import Workspace
from storage.catalog import Catalog
from storage.manifest import SealedWarc
from storage.rows import WarcState, WrittenBy
from storage.series import Section, WarcSeries
from storage.warc_files import warc_sealed


class RunWarcs(Protocol):
    """Where a run's records go: WARCs of its own, or those that it shares. The methods are called by one thread at a time."""

    @property
    def series(self) -> Section:
        """What the run appends to."""

    @property
    def waiting_bytes(self) -> int:
        """What is sealed, and the catalogue was not told of."""

    def gather(self) -> None:
        """Note what is sealed by now, so that register() may tell of it once all that is in it is told."""

    def turn(self) -> None:
        """Seal what is open."""

    def register(self, held: Collection[str] = ()) -> None:
        """Tell the catalogue of what was gathered; not of `held`, which have something in them that it was not told."""

    def seal(self, whole: bool) -> None:
        """Seal what is the run's alone, before its end is told.

        `whole`: the catalogue has been told all that the run wrote but its end.
        """

    def leave(self, settled: bool) -> None:
        """Take nothing more; `settled`: the catalogue has been told everything, the end too."""


class OwnWarcs:
    """The WARCs of one run."""

    def __init__(self, workspace: Workspace, series: WarcSeries, run: UUID) -> None:
        self.workspace, self.series, self.run = workspace, series, run
        self._waiting: list[SealedWarc] = []

    @property
    def waiting_bytes(self) -> int:
        return sum(one.size_bytes for one in self._waiting)

    def gather(self) -> None:
        self._waiting += self.series.take_sealed()

    def turn(self) -> None:
        self.series.turn()

    def register(self, held: Collection[str] = ()) -> None:
        for warc in [one for one in self._waiting if one.path.name not in held]:
            register_here(self.workspace, warc, self.run)
            self._waiting.remove(warc)

    def seal(self, whole: bool) -> None:
        """Seal; the catalogue knows WARCs only once it has all that is in them: the others are for `osint recover`."""
        self.series.close()
        if whole:
            self.gather()
            self.register()

    def leave(self, settled: bool) -> None:
        self.series.end()


def register_here(workspace: Workspace, warc: SealedWarc, run_id: UUID) -> None:
    """Tell the catalogue of a WARC that lies in this machine's spool (see register_sealed)."""
    register_sealed(workspace.catalog, warc, run_id, machine=workspace.service.machine)


def register_sealed(
    catalog: Catalog,
    warc: SealedWarc,
    run_id: UUID,
    state: WarcState = WarcState.SEALED,
    *,
    machine: str | None = None,
) -> None:
    """Tell the catalogue that a WARC is whole and closed; may be repeated.

    `run_id` is its run where its manifest names none.
    """
    runs = warc.runs or (WrittenBy(run_id),)
    warc_sealed(
        catalog,
        warc.path.name,
        run_id=runs[0].run,
        path=str(warc.path),
        size_bytes=warc.size_bytes,
        sha256=warc.sha256,
        records=warc.record_count,
        sealed_at=warc.sealed_at or datetime.now(UTC),
        state=state,
        manifest_sha256=warc.manifest_sha256,
        runs=runs,
        machine=machine,
    )
