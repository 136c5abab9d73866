"""Walls that a run meets: noted for each host, so that the browser is not asked in vain again and the operator sees them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from osint_pipeline.source import host_of
from osint_pipeline.workspace import Workspace
from spiders.page import Verdict
from spiders.verdict_rules import rules
from storage.catalog import Catalog
from storage.rows import CaptureKind, CaptureRow, CaptureState
from storage.walls import Wall, cleared_at, lift_walls, note_walls, rendering_refused, walls_since

FETCHERS = {CaptureKind.PAGE: "wire", CaptureKind.RENDERED: "browser"}
OF_THE_HOST = (Verdict.CHALLENGE, Verdict.CONSENT_WALL)  # stand before all pages; a block where its rule says so
_LIFTED = (*OF_THE_HOST, Verdict.BLOCKED, Verdict.STUB, Verdict.UNDECIDED)  # a login wall stands before some pages only
_WELL = (Verdict.CONTENT, Verdict.PARTIAL)
_DIGITS = 12  # of the digest of an identity's name: enough to tell a few apart


class Walls:
    """Those of one run's hosts. `hours`: how long a wall that was met is not tried again by the browser.

    Walls are told apart by the way out, as a site may refuse one address and not another; those of the browser also by the
    identity that it has (`identity`: the digest of its name), as the wire has none.
    """

    def __init__(
        self, catalog: Catalog, source_id: UUID, *, exit: str, now: datetime, hours: float, identity: str | None = None
    ) -> None:
        self.catalog, self.source_id, self.exit, self.identity = catalog, source_id, exit, identity
        self.since = now - timedelta(hours=hours)
        self._known: dict[str, dict[tuple[str, str], str | None]] = {}  # by host: reasons by (fetcher, verdict)
        self._refused: set[str] = set()  # addresses

    def in_vain(self, url: str) -> bool:
        """Tell whether the browser met a wall at this address, or one that stands before the whole host, lately."""
        host = host_of(url)
        if url in self._refused or any(
            fetcher == "browser" and is_of_the_host(verdict, reason)
            for (fetcher, verdict), reason in self._of(host).items()
        ):
            return True
        with self.catalog.begin() as connection:
            cleared = cleared_at(connection, host)
        since = max(self.since, cleared or self.since)
        return rendering_refused(self.catalog, self.source_id, url, exit=self.exit, identity=self.identity, since=since)

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
                self._of(host)[fetcher, wall.verdict] = wall.reason
            elif row.state is CaptureState.CAPTURED and row.verdict in _WELL:
                for verdict in self._lift(host, fetcher, row.captured_at):
                    met.pop((host, fetcher, verdict), None)
        if met:
            note_walls(self.catalog, met.values(), fresh_after=self.since)

    def _lift(self, host: str, fetcher: str, at: datetime) -> list[str]:
        known = self._of(host)
        verdicts = [verdict.value for verdict in _LIFTED if (fetcher, verdict.value) in known]
        if verdicts:
            lift_walls(self.catalog, host, self._way(fetcher), fetcher, verdicts, before=at)
        for verdict in verdicts:
            del known[fetcher, verdict]
        return verdicts

    def _of(self, host: str) -> dict[tuple[str, str], str | None]:
        if host not in self._known:
            with self.catalog.begin() as connection:
                found = walls_since(connection, self.since, host=host)
            ours = (one for one in found if one.exit == self._way(one.fetcher))
            self._known[host] = {(one.fetcher, one.verdict): one.reason for one in ours}
        return self._known[host]

    def _way(self, fetcher: str) -> str:
        """The way out as the table tells it apart."""
        return f"{self.exit}, as {self.identity[:_DIGITS]}" if self.identity and fetcher == "browser" else self.exit

    def _wall(self, row: CaptureRow, host: str, fetcher: str) -> Wall:
        at = row.captured_at
        return Wall(
            host=host,
            exit=self._way(fetcher),
            fetcher=fetcher,
            verdict=row.verdict or Verdict.UNDECIDED.value,
            reason=row.reason,
            since=at,
            last_at=at,
            count=1,
        )


def is_of_the_host(verdict: str, reason: str | None) -> bool:
    """Tell whether a wall stands before all pages of its host: by what it is, or a block because its rule says so."""
    return verdict in OF_THE_HOST or (verdict == Verdict.BLOCKED and rules().of_host(reason))


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
