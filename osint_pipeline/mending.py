"""Writes what is told late of a run (by recovery, by reading again) into a WARC of its own, so that the archive tells it too."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from osint_pipeline.journal import Journal
from osint_pipeline.registering import register_here
from osint_pipeline.technical import software, warc_info
from osint_pipeline.workspace import Workspace
from storage.ids import new_id
from storage.rows import RunRow, SourceRow
from storage.series import WarcSeries


class Mending:
    """The journal of a run whose own WARCs are closed; its WARC is made at the first entry."""

    def __init__(self, workspace: Workspace, run: RunRow, source: SourceRow) -> None:
        self.workspace, self.run, self.source = workspace, run, source
        self.troubles: list[str] = []  # sentences about entries that could not be told
        self._series: WarcSeries | None = None
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The journal, opened when it is first asked for."""
        if self._journal is None:
            service, run = self.workspace.service, self.run.id
            self._series = WarcSeries(
                self.workspace.spool,
                f"{self.source.slug}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run.hex[-12:]}-mended-{new_id().hex[-6:]}",
                self.run.attempt,
                warc_info(service, run, self.source),
                service.warc_limit_bytes,
                {
                    "run": str(run),
                    "source": self.source.slug,
                    "collector": service.collector,
                    "software": software(),
                    "mended": True,
                },
            )
            self._journal = Journal(self._series, self.workspace.catalog, self.run, self.source)
        return self._journal

    @property
    def wrote(self) -> bool:
        """Whether anything was written."""
        return self._journal is not None

    def close(self) -> None:
        """Seal what was written, and tell the catalogue of the WARC."""
        if self._series:
            for warc in self._series.close():
                register_here(self.workspace, warc, self.run.id)


@contextmanager
def mending(workspace: Workspace, run: RunRow, source: SourceRow) -> Iterator[Mending]:
    """Open a journal for a run that is over; sealed at the end, whatever happens."""
    opened = Mending(workspace, run, source)
    try:
        yield opened
    finally:
        opened.close()
