"""Watched sources: added, changed, paused, resumed, removed; each change is an event, each removed one keeps its history."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Any
from uuid import UUID

from osint_pipeline.due import due_at
from osint_pipeline.errors import UserError
from osint_pipeline.options import BadOption, apply_options, read_options, with_state, write_options
from osint_pipeline.source import UnusableUrl, host_of, same_source, slug_of, watched_address
from osint_pipeline.workspace import Workspace
from storage.catalog import Catalog
from storage.finding import list_sources
from storage.rows import SourceRow
from storage.visits import cancel_waiting
from storage.watched import Change, Watched, WatchRow, list_watched, put_changes

ALONE = 74214  # the advisory lock: one who changes sources at a time, or changes made at once undo each other
NOW_PRIORITY = 100  # of a visit that somebody waits for
_AT_ONCE = 200  # changes in one transaction
_SHOWN = 8
_EVENTS = {"": "resumed", "paused": "paused", "removed": "removed"}


class What(StrEnum):
    """What was done with a source, or would be."""

    ADDED = "added"
    UNCHANGED = "unchanged"
    DIFFERS = "differs"  # another wish than what is stored, and nobody said that it should win
    CHANGED = "changed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A source as a person or a file asks for it: option texts by name; what is not named stays as it is."""

    url: str
    given: Mapping[str, str] = field(default_factory=dict)
    line: int | None = None
    refused: str | None = None  # why it could not even be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one. `changes` are (before, after) by option; `change` is what is to be written, if anything."""

    what: What
    url: str
    spider: str = ""
    slug: str | None = None
    line: int | None = None
    changes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    due_at: datetime | None = None
    why: str | None = None
    change: Change | None = None

    def as_json(self) -> dict[str, Any]:
        """Give it under the names of --json."""
        return {
            "source": self.slug,
            "url": self.url,
            "result": self.what.value,
            "line": self.line,
            "changes": {name: {"before": one[0], "after": one[1]} for name, one in self.changes.items()},
            "due_at": self.due_at and self.due_at.astimezone(UTC).isoformat(),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks and when. `update`: what is watched otherwise is changed. `again`: what was removed is watched again.

    `later`: a new one is not due before its schedule says.
    """

    who: str
    now: datetime
    update: bool = False
    again: bool = False
    later: bool = False


class Known:
    """What the catalogue knows: sources by address, watched or not."""

    def __init__(self, catalog: Catalog) -> None:
        self.watched = {
            same_source(one.source.url, one.source.spider): one for one in list_watched(catalog, removed=True)
        }
        self.by_hand = {same_source(row.url, row.spider): row for row in list_sources(catalog)}
        self.spiders: dict[str, list[str]] = {}
        for url, spider in self.watched:
            self.spiders.setdefault(url, []).append(spider)

    def address(self, url: str, spider: str | None) -> tuple[str, str]:
        """Tell which source an address means: where no spider is named, the one that is watched already."""
        address, name = watched_address(url, spider)
        there = self.spiders.get(address, []) if spider is None else []
        return (address, there[0]) if len(there) == 1 else (address, name)


def plan(wanted: Wanted, known: Known, asking: Asking) -> Done:
    """Decide what is to be done for a source that is asked for; nothing is written."""
    if wanted.refused:
        return Done(what=What.REFUSED, url=wanted.url, line=wanted.line, why=wanted.refused)
    try:
        values = read_options(wanted.given)
        address, spider = known.address(wanted.url, wanted.given.get("spider", "").strip() or None)
        before = known.watched.get(same_source(address, spider))
        if before is None:
            row = SourceRow(slug=slug_of(address), url=address, spider=spider, created_at=asking.now)
            if there := known.by_hand.get(same_source(address, spider)):  # the same source, watched from now on
                row = replace(row, id=there.id, slug=there.slug, url=there.url, created_at=there.created_at)
            return _new(wanted, row, values, asking)
        update = asking.update or (asking.again and before.watch.removed_at is not None)
        return replace(changed(before, wanted.given, replace(asking, update=update)), line=wanted.line)
    except (BadOption, UnusableUrl) as error:
        return Done(what=What.REFUSED, url=wanted.url, line=wanted.line, why=str(error))


def _new(wanted: Wanted, row: SourceRow, values: Mapping[str, Any], asking: Asking) -> Done:
    now = asking.now
    made = apply_options(Watched(row, WatchRow(source_id=row.id, added_at=now, changed_at=now)), values)
    watch = with_state(made.watch, wanted.given.get("state", "").strip(), now)
    due = due_at(watch, now, at_once=not asking.later)
    told = {name: text for name, text in write_options(Watched(made.source, watch)).items() if text}
    detail = {"who": asking.who, "url": row.url, "options": told}
    change = Change(source=made.source, watch=watch, event="source added", detail=detail, due_at=due)
    named = Done(what=What.ADDED, url=row.url, spider=row.spider, slug=row.slug, line=wanted.line)
    return replace(named, due_at=due, change=change)


def changed(before: Watched, given: Mapping[str, str], asking: Asking) -> Done:
    """Decide what is to be done so that a watched source is as it is asked for. Raises BadOption."""
    made, source = apply_options(before, read_options(given)), before.source
    if given.get("spider", "").strip() not in ("", source.spider):
        raise BadOption("spider", given["spider"], "another spider makes another source: add it, and remove this one")
    state = given.get("state", "" if before.watch.removed_at else None)  # to ask for a removed one is to have it back
    watch = made.watch if state is None else with_state(made.watch, state.strip(), asking.now)
    after = Watched(made.source, replace(watch, changed_at=asking.now))
    old, new = write_options(before), write_options(after)
    changes = {name: (old[name], new[name]) for name in old if old[name] != new[name]}
    done = Done(what=What.UNCHANGED, url=source.url, spider=source.spider, slug=source.slug, changes=changes)
    if not changes or not asking.update:
        return replace(done, what=What.DIFFERS) if changes else done
    change = _change(before, after, changes, asking)
    return replace(done, what=What.CHANGED, change=change, due_at=change.due_at)


def _change(before: Watched, after: Watched, changes: Mapping[str, tuple[str, str]], asking: Asking) -> Change:
    kind, since, at_once = "changed", None, False
    if "state" in changes:
        kind = _EVENTS[changes["state"][1].partition(":")[0]]
        since = before.watch.paused_at if kind == "resumed" else None
    if before.watch.removed_at is not None and after.watch.removed_at is None:
        kind, since, at_once = "added", None, not asking.later
    told = {name: list(one) for name, one in changes.items()}
    return Change(
        source=after.source,
        watch=after.watch,
        event=f"source {kind}",
        detail={"who": asking.who, "url": after.source.url, "changes": told},
        due_at=due_at(after.watch, asking.now, since=since, at_once=at_once),
        keeps_due=not ({"state", "every", "timezone", "jitter"} & changes.keys()),
    )


def write(catalog: Catalog, planned: Sequence[Done]) -> list[Done]:
    """Write what was decided, in one transaction; the slugs are those that were free."""
    changes = [(place, one.change) for place, one in enumerate(planned) if one.change]
    done = list(planned)
    written = put_changes(catalog, [change for _, change in changes])
    for (place, _), one in zip(changes, written, strict=True):
        done[place] = replace(done[place], slug=one.source.slug)
    _cancel_what_waits(catalog, [one for one in written if not one.watch.active])
    return done


def _cancel_what_waits(catalog: Catalog, inactive: Sequence[Watched]) -> None:
    """Cancel the visits of paused and removed sources that no worker has taken; one that does meanwhile finds it out itself."""
    with catalog.begin() as connection:
        for one in inactive:
            why = "the source was removed" if one.watch.removed_at else "the source is paused"
            cancel_waiting(connection, one.source.id, one.watch.changed_at, why)


def put(
    workspace: Workspace,
    wanted: Iterable[Wanted],
    *,
    update: bool = False,
    again: bool = False,
    later: bool = False,
    dry_run: bool = False,
) -> Iterator[Done]:
    """Add what is not watched yet, and change what is asked for otherwise if told so (Asking); one result for each, in order.

    To be read to its end.
    """
    catalog, seen = workspace.catalog, dict[tuple[str, str], int | None]()
    with catalog.alone(ALONE):
        known, ready = Known(catalog), list[Done]()
        asking = Asking(who=workspace.service.collector, now=datetime.now(UTC), update=update, again=again, later=later)
        for one in wanted:
            ready.append(_once(plan(one, known, asking), seen))
            if len(ready) == _AT_ONCE:
                yield from ready if dry_run else write(catalog, ready)
                ready = []
        yield from ready if dry_run else write(catalog, ready)


def _once(done: Done, seen: dict[tuple[str, str], int | None]) -> Done:
    """Refuse what stands twice in one list."""
    if done.what is What.REFUSED:
        return done
    key = same_source(done.url, done.spider)
    if key in seen:
        where = f"line {seen[key]}" if seen[key] else "one before it"
        return replace(done, what=What.REFUSED, why=f"the same source as {where}", change=None)
    seen[key] = done.line
    return done


def find(catalog: Catalog, name: str, *, removed: bool = False) -> Watched:
    """Find a watched source by its slug, its address, or a beginning of its slug that no other has. Raises UserError."""
    every = list_watched(catalog, removed=True)
    fits = [one for one in every if one.source.slug == name] or _by_address(every, name)
    fits = fits or [one for one in every if one.source.slug.startswith(name.lower()) and name]
    there = [one for one in fits if removed or one.watch.removed_at is None]
    if len(there) == 1:
        return there[0]
    if there:
        shown = ", ".join(one.source.slug for one in there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "")
        raise UserError(f"{name!r} may be any of {len(there)} sources", f"write more of the slug: {shown}")
    if fits:
        raise UserError(f"{fits[0].source.slug} was removed", f"osint source add {fits[0].source.url} watches it again")
    raise UserError(f"no watched source is called {name!r}", _near(catalog, every, name))


def _by_address(every: Sequence[Watched], name: str) -> list[Watched]:
    if not any(sign in name for sign in ":/@."):
        return []
    try:
        address = watched_address(name, None)[0]
    except UnusableUrl:
        return []
    rows = ((one, one.source.spider) for one in every)
    return [one for one, spider in rows if same_source(address, spider) == same_source(one.source.url, spider)]


def _near(catalog: Catalog, every: Sequence[Watched], name: str) -> str:
    if any(name in (row.slug, row.url) for row in list_sources(catalog)):
        return "it was only crawled by hand; `osint source add URL` watches it"
    slugs = [one.source.slug for one in every if one.watch.removed_at is None]
    near = [slug for slug in slugs if name.lower() in slug] or get_close_matches(name, slugs, 3, 0.5)
    return f"did you mean {', '.join(near[:_SHOWN])}?" if near else "`osint source list` shows what is watched"


def edit(workspace: Workspace, names: Sequence[str], given: Mapping[str, str]) -> list[Done]:
    """Change options of watched sources; all of them, or none where one is refused. Raises UserError."""
    catalog = workspace.catalog
    with catalog.alone(ALONE):
        asking = Asking(who=workspace.service.collector, now=datetime.now(UTC), update=True)
        found = {one.source.id: one for one in (find(catalog, name) for name in names)}
        try:
            planned = [changed(one, given, asking) for one in found.values()]
        except BadOption as error:
            raise UserError(str(error), "osint source edit --help tells what each option takes") from error
        return write(catalog, planned)


def set_state(workspace: Workspace, names: Sequence[str], state: str) -> list[Done]:
    """Let sources be watched, paused (paused:<why>) or removed. Raises UserError."""
    return edit(workspace, names, {"state": state})


def run_now(workspace: Workspace, names: Sequence[str]) -> list[tuple[Watched, UUID | None]]:
    """Ask for a visit of each as soon as a worker can; None where the same was asked for already. Raises UserError."""
    from storage.visits import ask_now

    found = {one.source.id: one for one in (find(workspace.catalog, name) for name in names)}
    for one in found.values():
        if not one.watch.active:
            raise UserError(f"{one.source.slug} is paused", f"osint source resume {one.source.slug}")
    asked = []
    for one in found.values():
        hosts, at = [(one.source.id, host_of(one.source.url))], datetime.now(UTC)
        priority = max(NOW_PRIORITY, one.watch.priority)
        asked.append((one, next(iter(ask_now(workspace.catalog, hosts, priority=priority, at=at)), None)))
    return asked
