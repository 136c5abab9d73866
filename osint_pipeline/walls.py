"""Walls that a run meets: noted for each host, so that the browser is not asked in vain again and the operator sees them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from osint_pipeline.source import host_of
from osint_pipeline.workspace import Workspace
from spiders.page import Verdict
from storage.catalog import Catalog
from storage.rows import CaptureKind, CaptureRow, CaptureState
from storage.walls import Wall, lift_walls, note_walls, rendering_refused, walls_since

FETCHERS = {CaptureKind.PAGE: "wire", CaptureKind.RENDERED: "browser"}
OF_THE_HOST = (
    Verdict.CHALLENGE,
    Verdict.CONSENT_WALL,
    Verdict.BLOCKED,
)  # stand before all pages; other walls before one
_WELL = (Verdict.CONTENT, Verdict.PARTIAL)


class Walls:
    """Those of one run's hosts. `hours`: how long a wall that was met is not tried again by the browser.

    Walls are told apart by the way out, as a site may refuse one address and not another.
    """

    def __init__(self, catalog: Catalog, source_id: UUID, *, exit: str, now: datetime, hours: float) -> None:
        self.catalog, self.source_id, self.exit = catalog, source_id, exit
        self.since = now - timedelta(hours=hours)
        self._known: dict[str, set[tuple[str, str]]] = {}  # (fetcher, verdict) by host
        self._refused: set[str] = set()  # addresses

    def in_vain(self, url: str) -> bool:
        """Tell whether the browser met a wall at this address, or one that stands before the whole host, lately."""
        if any(("browser", verdict) in self._of(host_of(url)) for verdict in OF_THE_HOST) or url in self._refused:
            return True
        return rendering_refused(self.catalog, self.source_id, url, since=self.since)

    def closed(self, row: CaptureRow) -> None:
        """Take a capture that was closed; this run goes by it at once."""
        if row.kind is CaptureKind.RENDERED and _is_wall(row):
            self._refused.add(row.url)

    def committed(self, rows: Iterable[CaptureRow]) -> None:
        """Note the walls among captures that the catalogue has by now, and lift those that a capture went through."""
        met: dict[tuple[str, str, str], Wall] = {}
        for row in rows:
            host, fetcher = host_of(row.url), FETCHERS.get(row.kind)
            if fetcher is None:
                continue
            if _is_wall(row) and _says_something_of_the_host(row):
                wall = self._wall(row, host, fetcher)
                before = met.get(key := (host, fetcher, wall.verdict))
                met[key] = replace(wall, count=before.count + 1, since=before.since) if before else wall
                self._known[host] = self._of(host) | {(fetcher, wall.verdict)}
            elif row.state is CaptureState.CAPTURED and row.verdict in _WELL:
                for verdict in self._lift(host, fetcher, row.captured_at):
                    met.pop((host, fetcher, verdict), None)
        if met:
            note_walls(self.catalog, met.values(), fresh_after=self.since)

    def _lift(self, host: str, fetcher: str, at: datetime) -> list[str]:
        standing = {(fetcher, verdict.value) for verdict in OF_THE_HOST} & self._of(host)
        verdicts = [verdict for _, verdict in standing]
        if verdicts:
            lift_walls(self.catalog, host, self.exit, fetcher, verdicts, before=at)
            self._known[host] = self._of(host) - standing
        return verdicts

    def _of(self, host: str) -> set[tuple[str, str]]:
        if host not in self._known:
            with self.catalog.begin() as connection:
                found = walls_since(connection, self.since, host=host, exit=self.exit)
            self._known[host] = {(one.fetcher, one.verdict) for one in found}
        return self._known[host]

    def _wall(self, row: CaptureRow, host: str, fetcher: str) -> Wall:
        at = row.captured_at
        return Wall(
            host=host,
            exit=self.exit,
            fetcher=fetcher,
            verdict=row.verdict or Verdict.UNDECIDED.value,
            reason=row.reason,
            since=at,
            last_at=at,
            count=1,
        )


def walls_of(workspace: Workspace, url: str) -> list[Wall]:
    """List the walls that stand before a source's host now."""
    since = datetime.now(UTC) - timedelta(hours=workspace.service.wall_hours)
    with workspace.catalog.begin() as connection:
        return walls_since(connection, since, host=host_of(url))


def _is_wall(row: CaptureRow) -> bool:
    """A refusal of the server's own, whether its page says why or not; not that of robots.txt or of our guard."""
    return row.state is CaptureState.REFUSED and (row.verdict is not None or row.status is not None)


def _says_something_of_the_host(row: CaptureRow) -> bool:
    """Not a channel without a preview, nor a page of status 200 that nobody can make sense of."""
    if row.verdict in (None, Verdict.UNDECIDED):
        return (row.status or 0) >= 400
    return row.verdict != Verdict.NO_PREVIEW
