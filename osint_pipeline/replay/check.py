"""The replay check: shows captures offline, compares them with what was seen live, writes down how near they come."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from playwright.async_api import Error as PlaywrightError

from osint_pipeline.errors import UserError
from osint_pipeline.fetch.browser import BrowserCrashed, BrowserMissing, first_line
from osint_pipeline.fingerprint import Fingerprints
from osint_pipeline.logs import logger
from osint_pipeline.replay.browser import ReplayBrowser, View
from osint_pipeline.replay.compare import Likeness, Resources, picture_bits, resources, score, text_ratio, unexplained
from osint_pipeline.replay.live import Live, live_of
from osint_pipeline.replay.proxy import ReplayProxy
from osint_pipeline.replay.recorded import Recorded
from osint_pipeline.workspace import Workspace
from storage.errors import StorageError
from storage.replays import RenderedCapture, ReplayRow, keep_replay, rendered_captures

log = logger(__name__)
NAMED = 50  # addresses that are written down of each kind; the counts are whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One capture's check; `row` is None where it could not be made, and `why` says why."""

    capture: RenderedCapture
    row: ReplayRow | None
    why: str | None = None


def check_replays(
    workspace: Workspace, captures: Sequence[RenderedCapture], tell: Callable[[Checked], None] = lambda _: None
) -> list[Checked]:
    """Check each of these captures in one Chromium, and write the results into the catalogue.

    Raises UserError where there is no Chromium. To be called outside of an event loop.
    """

    async def every() -> list[Checked]:
        done = []
        async for one in _every(workspace, captures):
            _warn(one)
            tell(one)
            done.append(one)
        return done

    if not captures:
        return []
    try:
        return asyncio.run(every())
    except BrowserMissing as error:
        raise UserError(str(error), "install Chromium, or name it in OSINT_CHROMIUM") from error


def check_sample(workspace: Workspace, runs: Sequence[UUID]) -> list[Checked]:
    """Check the share OSINT_REPLAY_SAMPLE of what these runs rendered; what cannot be done is logged, never raised."""
    catalog, share = workspace.catalog, workspace.service.replay_sample
    return _quietly(
        workspace,
        lambda: [one for run in runs for one in rendered_captures(catalog, run=run, share=share, unchecked=True)],
    )


def check_recent(workspace: Workspace, since: datetime, limit: int) -> list[Checked]:
    """Check the share OSINT_REPLAY_SAMPLE of what was rendered since a moment, is in the store and was not checked yet.

    As check_sample().
    """
    catalog, share = workspace.catalog, workspace.service.replay_sample

    def choose() -> list[RenderedCapture]:
        return rendered_captures(catalog, since=since, share=share, unchecked=True, preserved=True, limit=limit)

    return _quietly(workspace, choose)


def _quietly(workspace: Workspace, choose: Callable[[], list[RenderedCapture]]) -> list[Checked]:
    if not workspace.service.replay_sample:
        return []
    try:
        return check_replays(workspace, choose())
    except (UserError, StorageError, PlaywrightError, OSError) as error:
        log.warning("captures could not be replayed for a check", why=str(error))
        return []


async def _every(workspace: Workspace, captures: Sequence[RenderedCapture]) -> AsyncIterator[Checked]:
    service = workspace.service
    with ReplayProxy() as proxy, Fingerprints(limit_pixels=service.image_limit_pixels) as hasher:
        async with ReplayBrowser(proxy, service.chromium, hung_seconds=service.browser_hung_seconds) as browser:
            check = _Check(workspace, proxy, browser, hasher)
            for capture in captures:
                try:
                    yield Checked(capture=capture, row=await check.of(capture))
                except (UserError, StorageError, PlaywrightError, BrowserCrashed) as error:
                    yield Checked(capture=capture, row=None, why=first_line(error))


class _Check:
    def __init__(self, workspace: Workspace, proxy: ReplayProxy, browser: ReplayBrowser, hasher: Fingerprints) -> None:
        self.workspace, self.proxy, self.browser, self.hasher = workspace, proxy, browser, hasher

    async def of(self, capture: RenderedCapture) -> ReplayRow:
        """Replay a capture, compare, keep. Where it is not as it was live, it is replayed again and compared with itself."""
        recorded = await asyncio.to_thread(Recorded, self.workspace, capture.id)
        live = await asyncio.to_thread(live_of, recorded, capture.url)
        view = await self._look(recorded, live)
        found = resources(self.proxy.seen, live.answered)
        row = self._compared(capture, live, view, found)
        if (row.text_ratio is not None and row.text_ratio < 1) or row.picture_bits:
            row = replace(row, detail={**row.detail, "steadiness": await self._again(recorded, live, row, found, view)})
        await asyncio.to_thread(keep_replay, self.workspace.catalog, row)
        return row

    async def _again(self, recorded: Recorded, live: Live, row: ReplayRow, found: Resources, view: View) -> dict[str, Any]:  # fmt: skip
        """Replay once more; a browser that ends meanwhile explains nothing, and takes nothing from what was seen first."""
        try:
            return self._steadiness(row, found, view, await self._look(recorded, live))
        except (PlaywrightError, BrowserCrashed) as error:
            return {"explains": False, "why": first_line(error)}

    async def _look(self, recorded: Recorded, live: Live) -> View:
        recorded.restart()
        self.proxy.show(recorded)
        return await self.browser.look(live.look, self.workspace.service.page_timeout_seconds)

    def _compared(self, capture: RenderedCapture, live: Live, view: View, found: Resources) -> ReplayRow:
        text = text_ratio(live.text, view.text) if live.text is not None else None
        bits = picture_bits(self.hasher, live.picture, view.picture)
        worst = score(text, found.ratio, bits) if view.html is not None else 0.0
        return ReplayRow(
            capture_id=capture.id,
            checked_at=datetime.now(UTC),
            browser=self.browser.version,
            text_ratio=None if text is None else round(text, 4),
            dom_equal=None if live.html is None else live.html == view.html,
            asked=len(found.found) + len(found.missing),
            found=len(found.found),
            alike=len(found.alike),
            missing=len(found.missing),
            unasked=len(found.unasked),
            picture_bits=bits,
            score=worst,
            bad=worst < self.workspace.service.replay_warn_score,
            detail=_detail(live, view, found),
        )

    def _steadiness(self, row: ReplayRow, found: Resources, one: View, other: View) -> dict[str, Any]:
        """Compare two replays with each other: what differs here differs by the page's own doing."""
        again = Likeness(
            text=round(text_ratio(one.text, other.text), 4),
            bits=picture_bits(self.hasher, one.picture, other.picture),
        )
        left = unexplained(found.ratio, Likeness(text=row.text_ratio, bits=row.picture_bits), again)
        explains = None not in (one.html, other.html) and left >= self.workspace.service.replay_warn_score
        return {"text_ratio": again.text, "picture_bits": again.bits, "explains": explains}


def _detail(live: Live, view: View, found: Resources) -> dict[str, Any]:
    named = {
        name: sorted(getattr(found, name))[:NAMED] for name in ("missing", "damaged", "alike", "of_run", "unasked")
    }
    detail: dict[str, Any] = {name: urls for name, urls in named.items() if urls}
    detail |= {"picture_equal": live.picture == view.picture if live.picture and view.picture else None}
    if view.trouble:
        detail["trouble"] = list(view.trouble)
    if live.altered:
        detail["altered_live"] = len(live.altered)
    return detail


def _warn(one: Checked) -> None:
    facts = {"capture": str(one.capture.id), "url": one.capture.url}
    if one.row is None:
        log.warning("a capture could not be replayed", why=one.why, **facts)
    elif one.row.bad:
        log.warning("a capture does not replay as it was seen", score=one.row.score, missing=one.row.missing, **facts)
