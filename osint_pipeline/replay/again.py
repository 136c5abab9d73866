"""Does on a replayed page what behaviours did on it live: the same ones, within the same bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from playwright.async_api import Page

from osint_pipeline.errors import UserError
from osint_pipeline.fetch.behaving import behave
from osint_pipeline.fetch.behaviours import Behaviours, behaviours_of
from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.hand import Hand
from osint_pipeline.fetch.stage import BehaviourLimits, Stage
from osint_pipeline.replay.proxy import ReplayProxy


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What is to be done again. `trouble` says why it is not, or not for certain, what was done live; None where it is."""

    behaviours: Behaviours | None = None
    bounds: BehaviourLimits = BehaviourLimits()
    trouble: str | None = None


def again_of(info: Mapping[str, Any], file: Path | None) -> Again:
    """Read from page info what behaviours did; `file` is the one that the settings name now."""
    told, steps = info.get("behaviours"), info.get("steps")
    if not isinstance(told, dict) or not isinstance(told.get("set"), list) or not steps:
        return Again()
    try:
        behaviours = behaviours_of(file, tuple(map(str, told["set"])))
    except UserError as error:
        return Again(trouble=f"behaviours were not done again: {error.what}")
    same = behaviours.sha256 == told.get("sha256")
    trouble = None if same else "behaviours were done again by a file that is not the one of the capture"
    return Again(behaviours=behaviours, bounds=_bounds(told.get("bounds")), trouble=trouble)


async def do_again(again: Again, page: Page, hand: Hand, proxy: ReplayProxy) -> None:
    """Do it; what goes wrong ends a step, and nothing else."""
    if again.behaviours is not None:
        stage = Stage(hand, cast(Recorder, _Listener(proxy)), again.behaviours, again.bounds, _always)
        await behave(stage, page.url)


class _Listener:
    """What a stage asks of the recorder: how long nothing came. Nothing is held up, there is nobody to send it to."""

    def __init__(self, proxy: ReplayProxy) -> None:
        self._proxy = proxy
        self.held: list[str] = []

    async def hold(self) -> bool:
        """Let everything go to the archive."""
        return True

    @property
    def quiet_seconds(self) -> float:
        """How long nothing was asked of the archive."""
        return self._proxy.quiet_seconds()

    def omit(self, what: str) -> None:
        """Nothing is kept, so nothing is omitted."""


async def _always(_: float) -> bool:
    return True


def _bounds(told: object) -> BehaviourLimits:
    if not isinstance(told, dict):
        return BehaviourLimits()
    numbers = {
        one.name: told[one.name] for one in fields(BehaviourLimits) if isinstance(told.get(one.name), int | float)
    }
    return BehaviourLimits(**numbers)
