"""Runs on a page the behaviours that fit it; what goes wrong on the way ends a step, never the visit."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Error as PlaywrightError

from osint_pipeline.fetch import acts
from osint_pipeline.fetch.behaviours import Behaviour, Behaviours, Choose, Click, Play, Reveal, Scroll, behaviours_of
from osint_pipeline.fetch.hand import HandFailed
from osint_pipeline.fetch.stage import BehaviourLimits, Stage
from settings.service import Service

ACTS: Mapping[type, Callable[..., Awaitable[None]]] = {
    Scroll: acts.scroll,
    Click: acts.click,
    Choose: acts.choose,
    Reveal: acts.reveal,
    Play: acts.play,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaving:
    """What is done on each page before it is kept, and how much of it; nothing by default."""

    behaviours: Behaviours | None = None
    bounds: BehaviourLimits = field(default_factory=BehaviourLimits)

    @property
    def on(self) -> bool:
        """Whether there is anything to be done at all."""
        return self.behaviours is not None and bool(self.behaviours.rules)

    def told(self) -> dict[str, Any]:
        """Give it as page info holds it."""
        if self.behaviours is None or not self.on:
            return {"set": "off"}
        bounds = {name: getattr(self.bounds, name) for name in BehaviourLimits.__dataclass_fields__}
        return {
            "set": [rule.name for rule in self.behaviours.rules],
            "sha256": self.behaviours.sha256,
            "bounds": bounds,
        }


def behaving_of(service: Service) -> Behaving:
    """Read what the settings ask for. Raises UserError."""
    bounds = BehaviourLimits(
        seconds=service.behaviour_seconds,
        scroll_pixels=service.page_scroll_pixels,
        scroll_steps=service.page_scroll_steps,
        clicks=service.page_clicks,
        media=service.page_media,
        media_seconds=service.page_media_seconds,
    )
    return Behaving(behaviours=behaviours_of(service.behaviour_file, service.behaviours), bounds=bounds)


async def behave(stage: Stage, url: str) -> tuple[str, ...]:
    """Do what fits this page, within the bound of seconds; give the names of what was looked for."""
    rules = [rule for rule in stage.behaviours.rules if rule.fits(url)]
    try:
        async with asyncio.timeout(stage.bounds.seconds):
            await _behave(stage, rules)
    except TimeoutError:
        stage.note("all", "ended", f"the bound of {stage.bounds.seconds:g} s")
    return tuple(rule.name for rule in rules)


async def _behave(stage: Stage, rules: list[Behaviour]) -> None:
    try:
        await stage.hand.enter()
        page = await stage.call("probe", [_asked(rule) for rule in rules])
    except (HandFailed, PlaywrightError) as error:
        return stage.note("all", "not done", f"the page could not be looked at: {str(error).splitlines()[0]}")
    if not page["whole"]:
        stage.recorder.omit(
            "screenshot: a part of the page scrolls by itself; what it does not show is not in the picture"
        )
    without: set[str] = set()
    for rule in rules:
        found = page["found"].get(rule.name)
        if found is None or rule.name in without or (isinstance(rule, Scroll) and not _scrolls(rule, page)):
            continue
        without.update(rule.instead_of)
        if found.startswith("bad: "):
            stage.note(rule.name, "not done", found.removeprefix("bad: "))
        elif not await _done(stage, rule, found):
            return
    if stage.steps and not stage.busy:
        await _return(stage)


async def _done(stage: Stage, rule: Behaviour, found: str) -> bool:
    """Do one; False: the page is another one, or lost, and no other may follow."""
    try:
        await ACTS[type(rule)](stage, rule, found)
    except (HandFailed, PlaywrightError) as error:
        if not stage.steps or stage.steps[-1].behaviour != rule.name:
            stage.note(rule.name, "not done", str(error).splitlines()[0])
    return not stage.gone and not stage.busy


async def _return(stage: Stage) -> None:
    """Bring the page back to where it stood."""
    try:
        await stage.call("back")
    except (HandFailed, PlaywrightError) as error:
        stage.note("all", "the page was not brought back to where it stood", str(error).splitlines()[0])


def _asked(rule: Behaviour) -> dict[str, Any]:
    choose = isinstance(rule, Choose)
    overlays, shadow = (rule.overlays, rule.shadow) if isinstance(rule, Choose) else ((), ())
    return {"name": rule.name, "present": rule.present, "overlays": overlays, "shadow": shadow, "visible": choose}


def _scrolls(rule: Scroll, page: Mapping[str, Any]) -> bool:
    """Whether scrolling can bring anything: the page is taller than the view, and has scripts that could see it."""
    return bool(page["scripts"]) and page["height"] > page["view"] + 1
