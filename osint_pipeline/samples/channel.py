"""What the sample channel has published at each of two visits."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random

from osint_pipeline.samples import words

CHANNEL = "prykladny_kanal"
CHANNEL_NUMBER = 1700000001
FIRST_POST = datetime(2026, 11, 2, 5, 30, tzinfo=UTC)
VISITED = {1: datetime(2026, 11, 21, 9, 0, tzinfo=UTC), 2: datetime(2026, 11, 22, 9, 0, tzinfo=UTC)}
POSTS, PAGE_IDS = 200, 20
REPOSTED = (3, 8, 21)  # scenes that the news site shows recompressed
HARD = ("photo", "album", "video", "too_big", "voice", "sticker", "poll", "service", "document", "gif")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePost:
    """One block of the channel. `ids` are several in an album; `photos` and `clip` are seeds of its media."""

    id: int
    ids: tuple[int, ...]
    kind: str
    text: str
    language: str
    published_at: datetime
    views: int
    edited: bool = False
    signed: str | None = None
    forwarded: bool = False
    reply_to: int | None = None
    photos: tuple[int, ...] = ()
    clip: int | None = None


@lru_cache(maxsize=4)
def posts(visit: int) -> tuple[SamplePost, ...]:
    """List what the channel shows at a visit, oldest first: at the second, 3 new, 2 edited, 1 deleted, other views."""
    first = _first_visit()
    if visit == 1:
        return first
    plain = [one.id for one in first if one.kind == "text" and one.text and not one.edited]
    edits, deleted = (plain[-2], plain[-4]), plain[-6]
    kept = [_later(one, edited=one.id in edits) for one in first if one.id != deleted]
    last = first[-1]
    fresh, number = [], last.ids[-1]
    for place in range(3):
        number += 1 + place % 2
        post = _post(POSTS + place, number, last.published_at + timedelta(hours=7 + 3 * place), kind="photo")
        fresh.append(post)
    return (*kept, *fresh)


@lru_cache(maxsize=1)
def _first_visit() -> tuple[SamplePost, ...]:
    random, made = Random("channel"), list[SamplePost]()
    number, when = 1, FIRST_POST
    for place in range(POSTS):
        post = _post(place, number, when, kind=_kind(place), previous=made[-3] if place > 9 else None)
        made.append(post)
        number = post.ids[-1] + random.choice((1, 1, 1, 1, 1, 2, 3))
        when += timedelta(minutes=random.randrange(20, 210), seconds=random.randrange(60))
    return tuple(made)


def _kind(place: int) -> str:
    if place == 0:
        return "created"
    return HARD[place // 4 % len(HARD)] if place % 4 == 3 else ("photo" if place % 4 == 1 else "text")


def _post(place: int, number: int, when: datetime, *, kind: str, previous: SamplePost | None = None) -> SamplePost:
    random = Random(f"post-{place}")
    language = random.choice(("be", "be", "be", "ru", "ru", "uk", "pl", "en"))
    count = {"photo": 1, "album": 3}.get(kind, 0)
    seeds = tuple(place * 10 + offset for offset in range(count))
    if kind == "photo" and place % 16 == 13:
        seeds = (REPOSTED[place % len(REPOSTED)],)
    wordless = kind in ("created", "voice", "sticker", "poll", "service") or place % 23 == 22
    return SamplePost(
        id=number,
        ids=tuple(range(number, number + max(1, count))),
        kind=kind,
        text="" if wordless else words.message(f"post-{place}", language),
        language=language,
        published_at=when,
        views=random.randrange(300, 60_000),
        edited=place % 17 == 5,
        signed="Рэдакцыя" if place % 19 == 7 else None,
        forwarded=place % 13 == 6,
        reply_to=previous.id if previous and place % 11 == 4 else None,
        photos=seeds,
        clip=place if kind in ("video", "gif", "too_big") else None,
    )


def _later(post: SamplePost, *, edited: bool) -> SamplePost:
    post = replace(post, views=post.views + 37 + post.id % 211)
    if edited:
        note = words.TONGUES[post.language].correction
        post = replace(post, edited=True, text=f"{post.text}\n{note}".strip())
    return post
