"""Signed snapshots of what no WARC tells (sources, how they are watched, lists of words) in v1/state/: written after a change, stored later."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from osint_pipeline.due import set_due
from osint_pipeline.keys import Signer, check_signature
from osint_pipeline.workspace import Workspace
from storage.catalog import Catalog
from storage.durable import sync_folder, whole_file
from storage.events import add_event
from storage.finding import list_sources
from storage.objects import Found
from storage.rows import SourceRow
from storage.sources import put_source
from storage.watch_lists import WordList, list_words, restore_words
from storage.watched import CatchUp, WatchRow, list_watched, put_watch, watch_from

PREFIX = "v1/state/"
FORMAT = "osint-pipeline/state/2"
_READ = ("osint-pipeline/state/1", FORMAT)  # 1 knew no watches and no lists
_KEPT, _STORED = ".json", ".stored"
_TIMES = ("created_at", "added_at", "changed_at", "paused_at", "removed_at")
_IDS = ("id", "source_id")
_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class State:
    """A snapshot that was read; `watch_lists` are all versions; `doubts` are sentences about what else lies there."""

    key: str
    taken_at: datetime
    sources: tuple[SourceRow, ...]
    watches: tuple[WatchRow, ...] = ()
    watch_lists: tuple[WordList, ...] = ()
    doubts: tuple[str, ...] = ()


def note_state(workspace: Workspace) -> Path | None:
    """Write a snapshot to the data folder if anything changed since the last one there; its path, None if nothing did."""
    folder = _folder(workspace)
    with _alone(folder):
        return _noted(workspace, folder)


def _noted(workspace: Workspace, folder: Path) -> Path | None:
    last = _last(folder)
    taken_at = _clock(workspace.catalog)  # read first: what follows is at least as new as it says
    now = _now(workspace.catalog)
    if last and now.items() <= json.loads(last.read_text("ascii")).items():
        return None
    signer = Signer.open(workspace.folder / "keys", workspace.service.key_passphrase)
    if last and taken_at <= (before := datetime.fromisoformat(json.loads(last.read_text("ascii"))["taken_at"])):
        taken_at = before + timedelta(microseconds=1)  # the clock went back: the order of snapshots does not
    body = {
        "format": FORMAT,
        "taken_at": taken_at.isoformat(timespec="microseconds"),
        "previous_sha256": sha256(last.read_bytes()).hexdigest() if last else None,
        **now,
        "public_key": signer.public_hex,
    }
    text = canonical({**body, "signature": signer.sign(canonical(body))})
    path = folder / _name(taken_at, text)
    with whole_file(path) as file:
        file.write(text)
    sync_folder(folder)
    return path


def _clock(catalog: Catalog) -> datetime:
    """Ask the database for the time: of all machines' snapshots the newest is then the one that was taken last."""
    with catalog.begin() as connection:
        found = connection.scalar(select(func.clock_timestamp()))
    assert isinstance(found, datetime)
    return found.astimezone(UTC)


def _now(catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    return {
        "sources": [_plain(asdict(row)) for row in list_sources(catalog)],
        "watches": [_plain(asdict(one.watch)) for one in list_watched(catalog, removed=True)],
        "watch_lists": [_plain(asdict(one)) for one in list_words(catalog, history=True)],
    }


def store_state(workspace: Workspace) -> int:
    """Bring the snapshots that wait to the store; how many. Raises StoreUnavailable, after which they go on waiting."""
    folder, done = _folder(workspace), 0
    for path in sorted(folder.glob("*" + _KEPT)):
        marker = path.with_suffix(_STORED)
        if marker.exists():
            continue
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # another process has stored it, and a newer one
            continue
        workspace.store.put_bytes_once(data, PREFIX + path.name, media_type="application/json")
        add_event(workspace.catalog, "state stored", PREFIX + path.name, sha256(data).hexdigest())
        marker.touch()
        done += 1
    last = _last(folder)
    for path in folder.glob("*" + _STORED):
        if last and path.stem != last.stem:  # the store has it, and the newest is what the next is compared with
            path.with_suffix(_KEPT).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    return done


def newest_state(workspace: Workspace) -> State | None:
    """Read the newest snapshot of the store whose signature holds, one of our own keys before any other; None if there is none.

    A snapshot that was taken away, with all that came after it, is not missed: that needs an anchor outside.
    """
    doubts: list[str] = []
    own = Signer.known(workspace.folder / "keys", workspace.service.key_passphrase)
    strangers: list[State] = []
    for found in sorted(workspace.store.list(PREFIX), key=_key, reverse=True):
        try:
            if found.size_bytes > _LIMIT_BYTES:
                raise ValueError(f"it has {found.size_bytes} bytes")
            state, public = _read(found.key, b"".join(workspace.store.read(found.key)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            doubts.append(f"{found.key} is not used: {error}")
            continue
        if public in own:
            return replace(state, doubts=tuple(doubts))
        doubts.append(f"{found.key} is signed by the key {public}, which this data folder does not hold: compare it")
        strangers.append(state)
    return replace(strangers[0], doubts=tuple(doubts)) if strangers else None


def restore(catalog: Catalog, state: State) -> None:
    """Write what a snapshot tells. A watched source is due at once, unless nothing that it misses is made up for."""
    for row in state.sources:
        put_source(catalog, row)
    for watch in state.watches:
        put_watch(catalog, watch)
        set_due(catalog, watch, datetime.now(UTC), at_once=watch.catch_up is not CatchUp.NONE)
    restore_words(catalog, state.watch_lists)


def _read(key: str, text: bytes) -> tuple[State, str]:
    """Read a snapshot: what it says, and the public key that it is signed by. Raises ValueError, KeyError, TypeError."""
    told = json.loads(text)
    public, signature = str(told["public_key"]), str(told.pop("signature"))
    if told["format"] not in _READ or not check_signature(public, signature, canonical(told)):
        raise ValueError("its signature does not hold")
    taken_at = datetime.fromisoformat(told["taken_at"])
    if key != PREFIX + _name(taken_at, text):
        raise ValueError("it lies under another name than its own")
    sources = tuple(SourceRow(**_typed(one)) for one in told["sources"])
    watches = tuple(watch_from(_typed(one)) for one in told.get("watches", ()))
    lists = tuple(WordList(**_typed(one)) for one in told.get("watch_lists", ()))
    return State(key, taken_at, sources, watches, lists), public


def _name(taken_at: datetime, text: bytes) -> str:
    return f"{taken_at:%Y%m%dT%H%M%S.%fZ}-{sha256(text).hexdigest()[:16]}{_KEPT}"


def _key(found: Found) -> str:
    return found.key


def canonical(value: Mapping[str, Any]) -> bytes:
    """Write JSON with sorted keys, no spaces, ASCII only: what is signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _folder(workspace: Workspace) -> Path:
    folder = workspace.folder / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time takes a snapshot: two that began with the same last one would write the same file."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _last(folder: Path) -> Path | None:
    return max(folder.glob("*" + _KEPT), default=None, key=os.fspath)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_each(values))


def _each(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield name, value.astimezone(UTC).isoformat() if isinstance(value, datetime) else _text(value)


def _text(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, UUID) else value


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = {name: datetime.fromisoformat(values[name]) for name in _TIMES if values.get(name)}
    read |= {name: UUID(values[name]) for name in _IDS if values.get(name)}
    read |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return {**values, **read}
