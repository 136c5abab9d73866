"""What each kind of behaviour does on a page: scroll, click, choose, reveal, play. Each ends by itself or at a bound."""

import asyncio
from typing import Any

from osint_pipeline.fetch.behaviours import Choice, Choose, Click, Play, Reveal, Scroll
from osint_pipeline.fetch.stage import POLL_SECONDS, Stage

BANNER_TAKES, BUTTON_TAKES = 0.9, 0.5  # a banner on a short page may be most of its text
MISSES = 10  # so many finds that cannot be clicked end a search
NEXT_SECONDS = 2.0  # how long the next part of a banner may take to come
BUTTONS = ("button", "[role=button]", "a", "input[type=button]", "[onclick]")


async def scroll(stage: Stage, rule: Scroll, _: str) -> None:
    """Scroll by views until the page grows no more."""
    steps, pixels = stage.bounds.scroll_steps, stage.bounds.scroll_pixels
    steps, pixels, moved = min(steps, rule.steps or steps), min(pixels, rule.pixels or pixels), 0
    with stage.step(rule.name, f"scrolled {rule.direction}") as step:
        at = await stage.call("where")
        while True:
            if step.times >= steps or moved >= pixels:
                step.ended = f"the bound of {steps} steps" if step.times >= steps else f"the bound of {pixels} pixels"
                break
            before, by = at, min(at["view"], pixels - moved)
            at = await _move(stage, -by if rule.direction == "up" else by)
            moved, step.times = moved + round(at["moved"]), step.times + 1
            step.where = f"{moved} pixels of {round(at['height'])}"
            if not (at["edge"] and at["height"] == before["height"]):
                continue
            if rule.more and not await stage.call("has", rule.more):
                step.ended = "there is nothing more"
                break
            at = await _wait(stage, at)
            if at["height"] == before["height"]:
                step.ended = "the page grows no more"
                break


async def _move(stage: Stage, by: float) -> dict[str, Any]:
    """Scroll once and wait for what that begins: where the page stands then, how far it `moved`, whether it is at its `edge`."""
    since = stage.now()
    moved = (await stage.call("move", by))["moved"]
    await stage.settle(since)
    at = await stage.call("where")
    edge = at["top"] <= 1 if by < 0 else at["top"] + at["view"] >= at["height"] - 1
    return {**at, "since": since, "moved": moved, "edge": edge or not moved}


async def _wait(stage: Stage, at: dict[str, Any]) -> dict[str, Any]:
    """Give a page at its edge time for a first sign of more."""
    await stage.signs(at["since"])
    await stage.settle(at["since"])
    return {**at, **await stage.call("where")}


async def click(stage: Stage, rule: Click, _: str) -> None:
    """Click what fits, one after the other, until there is none left or a click led elsewhere."""
    ask = stage.ask(rule.candidates, stage.behaviours.spoken(rule.words))
    most = min(stage.bounds.clicks - stage.clicks, rule.times or stage.bounds.clicks)
    clicks = misses = 0
    while not stage.away and misses <= MISSES:
        found = await stage.call("seek", ask)
        if "where" not in found:
            if found.get("capped"):
                stage.note(rule.name, "looked no further", "too many elements that could be clicked")
            if found.get("why") and not clicks:
                stage.note(rule.name, "left as it is", found["why"])
            return
        if clicks >= most:
            return stage.note(rule.name, "clicked no more", f"the bound of {stage.bounds.clicks} clicks of a page")
        with stage.step(rule.name, "clicked", found["where"]) as step:
            pressed = await stage.press(ask, step, BUTTON_TAKES)
        clicks, misses = clicks + pressed, misses + (not pressed)
    if misses > MISSES:
        stage.note(rule.name, "clicked no more", f"{misses} finds could not be clicked")


async def choose(stage: Stage, rule: Choose, found: str) -> None:
    """Answer a banner by the first choice that can be made; where none can, it is left as it is."""
    for choice in rule.choices:
        if stage.away or await _make(stage, rule, choice):
            return
    stage.note(rule.name, f"left {found} as it is", "no button was found that refuses")


async def _make(stage: Stage, rule: Choose, choice: Choice) -> bool:
    what = f"chose {choice.choice} ({choice.manager})"
    for number, ask in enumerate(_asks(stage, rule, choice)):
        found = await stage.call("seek", ask)
        end = stage.now() + NEXT_SECONDS
        while number and "where" not in found and stage.now() < end:
            await asyncio.sleep(POLL_SECONDS)
            found = await stage.call("seek", ask)
        if "where" not in found:
            if number:
                stage.note(rule.name, what, f"its part {number + 1} did not come: {choice.steps[number]}")
            return number > 0
        if stage.clicks >= stage.bounds.clicks:
            stage.note(rule.name, what, f"the bound of {stage.bounds.clicks} clicks of a page")
            return True
        with stage.step(rule.name, what, found["where"]) as step:
            if not await stage.press(ask, step, BANNER_TAKES) or stage.away:
                return step.times > 0
    return True


def _asks(stage: Stage, rule: Choose, choice: Choice) -> list[dict[str, Any]]:
    """List what is looked for, part by part."""
    more = {"shadow": rule.shadow, "unless": stage.behaviours.spoken(rule.unless)}
    if choice.steps:
        return [stage.ask(selectors, known=True, **more) for selectors in choice.steps]
    more |= {"within": choice.within, "overlays": rule.overlays if choice.overlays else ()}
    words = stage.behaviours.spoken(choice.words)
    return [stage.ask(BUTTONS, words, known=bool(choice.within), **more)]


async def reveal(stage: Stage, rule: Reveal, _found: str) -> None:
    """Bring everything that is loaded late into view, view by view, and wait for it."""
    since, got = stage.now(), await stage.call("reveal", rule.lazy)
    if not got["shown"]:
        return  # it has come already
    with stage.step(rule.name, "brought into view") as step:
        for _ in range(stage.bounds.scroll_steps):
            step.times += got["shown"]
            await stage.settle(since)
            if not got["left"]:
                unseen = await _unseen(stage, rule, since)
                step.ended = f"{unseen} pictures have not come" if unseen else "all have come"
                break
            since, got = stage.now(), await stage.call("reveal", rule.lazy)
        else:
            step.ended = f"the bound of {stage.bounds.scroll_steps} steps"


async def _unseen(stage: Stage, rule: Reveal, since: float) -> int:
    """Count the pictures that have not come; a page's own script may need a moment to ask for them."""
    if await stage.call("unseen", rule.lazy):
        await stage.signs(since)
        await stage.settle(since)
    return int(await stage.call("unseen", rule.lazy))


async def play(stage: Stage, rule: Play, _: str) -> None:
    """Play what stands still, without sound, until its bytes have come or for a bound of seconds."""
    held = len(stage.recorder.held)
    if not (count := await stage.call("play", rule.media, stage.bounds.media, gesture=True)):
        return
    with stage.step(rule.name, "played without sound") as step:
        step.times, end = count, stage.now() + stage.bounds.media_seconds
        while (state := await stage.call("played"))["waiting"] and stage.now() < end:
            await asyncio.sleep(5 * POLL_SECONDS)
        await stage.call("pause")
        step.where = f"to second {', '.join(str(one) for one in state['seconds'])}"
        step.ended = (
            f"the bound of {stage.bounds.media_seconds:g} s" if state["waiting"] else "what they asked for has come"
        )
        if state["failed"]:
            step.ended += f"; {state['failed']} cannot be played"
        if sent := stage.recorder.held[held:]:
            step.ended += f"; it wanted to send {', '.join(sent)}, which was not let out"
