"""Where behaviours act: what they may do at most, how they wait, how they click, and what is written down of it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch.behaviours import Behaviours
from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.hand import Hand, HandFailed

CALM_SECONDS = 0.1  # nothing under way for so long: what a step began has come
GROW_SECONDS = 0.3  # how long the first sign of more is waited for, at a page's end and after a click
PATIENCE_SECONDS = 3.0  # the longest wait for what a step began; halved each time that it was in vain
CALL_SECONDS = 5.0  # a page that does not let our script run within this is busy with itself
CLICK_SECONDS = 3.0  # the same for a click
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is done on one page at most."""

    seconds: float = 20.0
    scroll_pixels: int = 30_000
    scroll_steps: int = 60
    clicks: int = 20
    media: int = 3
    media_seconds: float = 5.0


@dataclass(slots=True, kw_only=True)
class Step:
    """One thing that was done: of which behaviour, what, where, how often, how it ended, how long it took."""

    behaviour: str
    what: str
    where: str = ""
    times: int = 0
    ended: str = "the time was up"
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0

    def told(self) -> dict[str, Any]:
        """Give it as page info holds it."""
        return {**asdict(self), "began_at": self.began_at.isoformat(), "seconds": round(self.seconds, 3)}

    def line(self) -> str:
        """Say it in one line."""
        where = f" {self.where}" if self.where else ""
        return f"behaviour {self.behaviour}: {self.what}{where}, {self.times} times in {self.seconds:.1f} s; ended: {self.ended}"


class Stage:
    """One page while behaviours act on it.

    `keep` is awaited before each click: what it keeps is what was there should the page be lost by the click; False: no click.
    """

    def __init__(
        self,
        hand: Hand,
        recorder: Recorder,
        behaviours: Behaviours,
        bounds: Bounds,
        keep: Callable[[], Awaitable[bool]],
    ) -> None:
        self.hand, self.recorder, self.behaviours, self.bounds, self.keep = hand, recorder, behaviours, bounds, keep
        self.steps: list[Step] = []
        self.clicks = 0
        self.busy = False  # a click made the page's scripts run without end
        self._loop = asyncio.get_running_loop()
        self._patience = PATIENCE_SECONDS
        self._never = behaviours.spoken(behaviours.never.words)

    @property
    def away(self) -> bool:
        """Whether the page went, or wanted to go, elsewhere, or is lost: nothing more is clicked then."""
        return self.busy or bool(self.hand.stopped) or self.gone

    @property
    def gone(self) -> bool:
        """Whether another document stands where the page was."""
        return self.hand.moved or self.hand.left_for is not None

    def now(self) -> float:
        """Give the loop's time, in seconds."""
        return self._loop.time()

    @contextmanager
    def step(self, behaviour: str, what: str, where: str = "") -> Iterator[Step]:
        """Write down what is done inside; the same as just before is counted there."""
        last = self.steps[-1] if self.steps else None
        if last is None or (last.behaviour, last.what, last.where) != (behaviour, what, where) or not where:
            last = Step(behaviour=behaviour, what=what, where=where)
            self.steps.append(last)
        began = self.now()
        last.ended = "the time was up"
        try:
            yield last
        except (HandFailed, PlaywrightError) as error:
            last.ended = "the page went to another document" if self.gone else f"failed: {str(error).splitlines()[0]}"
            raise
        finally:
            last.seconds += self.now() - began

    def note(self, behaviour: str, what: str, ended: str) -> None:
        """Write down what was not done, and why."""
        self.steps.append(Step(behaviour=behaviour, what=what, ended=ended))

    async def call(self, method: str, *given: Any, gesture: bool = False) -> Any:
        """Call a method of our script, see Hand. Raises HandFailed, PlaywrightError."""
        call = asyncio.timeout(CALL_SECONDS)
        try:
            async with call:
                return await self.hand.call(method, *given, gesture=gesture)
        except TimeoutError:
            if not call.expired():
                raise
            raise HandFailed(method, f"the page did not answer within {CALL_SECONDS:.0f} s") from None

    async def settle(self, since: float) -> None:
        """Wait until what began after `since` (the loop's time) has come; at once where nothing began."""
        end = self.now() + self._patience
        while self.now() < end:
            silent = self.recorder.quiet_seconds
            if silent >= CALM_SECONDS or not self._heard(since, silent):
                return
            await asyncio.sleep(max(POLL_SECONDS, CALM_SECONDS - silent))
        self._patience = max(GROW_SECONDS, self._patience / 2)

    async def signs(self, since: float) -> None:
        """Wait for a first sign that something began after `since`, for GROW_SECONDS at most."""
        end = self.now() + GROW_SECONDS
        while self.now() < end and not self.away and not self._heard(since, self.recorder.quiet_seconds):
            await asyncio.sleep(POLL_SECONDS)

    def _heard(self, since: float, silent: float) -> bool:
        return self.now() - silent > since

    def ask(
        self, candidates: Sequence[str], words: Sequence[str] = (), *, known: bool = False, **more: Any
    ) -> dict[str, Any]:
        """Say what is looked for: `known` buttons are named by selector, and may stand anywhere but in a form that is sent."""
        within = () if known else self.behaviours.never.within
        asked = {"candidates": candidates, "never": self._never, "neverWithin": within, "known": known}
        return asked | ({"words": words} if words else {}) | more

    async def press(self, ask: dict[str, Any], step: Step) -> bool:
        """Click what `seek` found last, wait for what comes of it, and say in the step how it ended; False: it was not clicked."""
        aim = await self.call("aim", ask)
        if "why" in aim:
            step.ended = f"not clicked: {aim['why']}"
            return False
        if not await self.keep():
            step.ended = "not clicked: what the page was made from is not kept yet"
            return False
        before, since = await self.call("size"), self.now()
        self.clicks += 1
        step.times += 1
        if await self._clicked(aim):
            step.ended = await self._came(before, since)
        else:
            self.busy = True
            step.ended = (
                f"the page did not take the click within {CLICK_SECONDS:.0f} s; the script that it ran was ended"
            )
        return True

    async def _clicked(self, aim: dict[str, float]) -> bool:
        click = asyncio.timeout(CLICK_SECONDS)
        try:
            async with click:
                await self.hand.click(aim["x"], aim["y"])
                return True
        except TimeoutError:
            if not click.expired():
                raise
            with suppress(PlaywrightError):
                await self.hand.free()
            return False

    async def _came(self, before: dict[str, int], since: float) -> str:
        """Wait for what a click brings, and say what it was."""
        try:
            await self.call("frame")
            if not await self.call("changed", before):
                await self.signs(since)
            await self.settle(since)
            changed = await self.call("changed", before)
        except (HandFailed, PlaywrightError):
            if not self.away:
                raise
        if self.hand.left_for is not None:
            return f"the page went to {self.hand.left_for}"
        if self.hand.stopped:
            return f"it wanted to lead to {self.hand.stopped[-1]}, which was stopped"
        return "the page changed" if changed else "nothing changed"
