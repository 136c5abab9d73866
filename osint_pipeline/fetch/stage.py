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
FREE_SECONDS = 4.0  # how long a page whose script was ended may take to answer again
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourLimits:
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

    `keep` is awaited before each click: what it keeps is what was there should the page be lost by the click; False: no click. It is given
    the share of the page's text that may go by the click.
    """

    def __init__(
        self,
        hand: Hand,
        recorder: Recorder,
        behaviours: Behaviours,
        bounds: BehaviourLimits,
        keep: Callable[[float], Awaitable[bool]],
    ) -> None:
        self.hand, self.recorder, self.behaviours, self.bounds, self.keep = hand, recorder, behaviours, bounds, keep
        self.steps: list[Step] = []
        self.clicks = 0
        self.busy = False  # a click made the page's scripts run without end
        self.dead = False  # and ending them did not make the page answer again
        self._loop = asyncio.get_running_loop()
        self._patience = PATIENCE_SECONDS
        self._never = behaviours.spoken(behaviours.never.words)

    @property
    def away(self) -> bool:
        """Whether the page went, or wanted to go, elsewhere, or is lost: nothing more is clicked then."""
        return self.busy or bool(self.hand.stopped) or bool(self.recorder.held) or self.gone

    @property
    def gone(self) -> bool:
        """Whether another document stands where the page was."""
        return self.hand.moved or self.hand.left_for is not None

    def now(self) -> float:
        """Give the loop's time, in seconds."""
        return self._loop.time()

    @contextmanager
    def step(self, behaviour: str, what: str, where: str = "") -> Iterator[Step]:
        """Write down what is done inside; what was done, and ended, just as the step before is counted there."""
        step, began = Step(behaviour=behaviour, what=what, where=where), self.now()
        self.steps.append(step)
        try:
            yield step
        except (HandFailed, PlaywrightError) as error:
            step.ended = "the page went to another document" if self.gone else f"failed: {str(error).splitlines()[0]}"
            raise
        finally:
            step.seconds = self.now() - began
            self._join()

    def _join(self) -> None:
        """Count the last step with the one before it where nothing tells them apart."""
        before, last = self.steps[-2:] if len(self.steps) > 1 else (None, None)
        if (
            before
            and last
            and (before.behaviour, before.what, before.where, before.ended)
            == (last.behaviour, last.what, last.where, last.ended)
        ):
            before.times, before.seconds = before.times + last.times, before.seconds + last.seconds
            self.steps.pop()

    def note(self, behaviour: str, what: str, ended: str) -> None:
        """Write down what was not done, and why."""
        self.steps.append(Step(behaviour=behaviour, what=what, ended=ended))

    async def call(self, method: str, *given: Any, gesture: bool = False) -> Any:
        """Call a method of our script, see Hand. Raises HandFailed, PlaywrightError."""
        call = asyncio.timeout(CALL_SECONDS)
        try:
            async with call:
                if gesture and not await self.recorder.hold():
                    raise HandFailed(method, "forms that the page may send by it could not be held up")
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

    async def press(self, ask: dict[str, Any], step: Step, takes: float) -> bool:
        """Click what `seek` found last, wait for what comes of it, and say in the step how it ended; False: it was not clicked.

        `takes` is the share of the page's text that may go by it.
        """
        aim = await self.call("aim", ask)
        if "why" in aim:
            step.ended = f"not clicked: {aim['why']}"
            return False
        if not await self.keep(takes):
            step.ended = "not clicked: what the page was made from is not kept yet"
            return False
        if not await self.recorder.hold():
            step.ended = "not clicked: forms that the page may send by it could not be held up"
            return False
        before, since = await self.call("ready", ask["known"]), self.now()
        self.clicks, step.times = self.clicks + 1, 1
        if await self._clicked(aim):
            if missed := await self._missed():
                step.ended, step.times = f"not clicked: {missed} came under the pointer", 0
                return False
            step.ended = await self._came(before, since)
        else:
            then = "it answers no more" if self.dead else "the script that it ran was ended"
            step.ended = f"the page did not take the click within {CLICK_SECONDS:g} s; {then}"
        return True

    async def _clicked(self, aim: dict[str, float]) -> bool:
        """Click; False where the page does not take it in time: what its script is in the middle of is then ended, until it does."""
        click = asyncio.ensure_future(self.hand.click(aim["x"], aim["y"]))
        try:
            await asyncio.wait({click}, timeout=CLICK_SECONDS)
            if click.done():
                click.result()
                return True
            self.busy = self.dead = True
            with suppress(TimeoutError, PlaywrightError):
                async with asyncio.timeout(FREE_SECONDS):
                    while not click.done():
                        await self.hand.free()
                        await asyncio.wait({click}, timeout=FREE_SECONDS / 8)
                    self.dead = False
            return False
        finally:
            click.add_done_callback(_seen)
            click.cancel()

    async def _missed(self) -> str | None:
        """Name what came under the pointer in the place of what was aimed at; a page that is gone tells nothing."""
        try:
            missed: str | None = await self.call("took")
        except (HandFailed, PlaywrightError):
            if not self.away:
                raise
            return None
        return missed

    async def _came(self, before: dict[str, int], since: float) -> str:
        """Wait for what a click brings, and say what it was."""
        try:
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
            return f"it wanted to lead to {self.hand.stopped[-1]}, which was not let out"
        if self.recorder.held:
            return f"it wanted to send {self.recorder.held[-1]}, which was not let out"
        return "the page changed" if changed else "nothing changed"


def _seen(click: asyncio.Future[None]) -> None:
    """Mark how a click ended as seen: nobody waits for one that came too late."""
    if not click.cancelled():
        click.exception()
