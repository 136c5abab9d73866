"""The sample channel's web preview: which answer each address gets, as t.me and its CDN give them."""

from collections.abc import Callable

from osint_pipeline.samples import clips, pictures
from osint_pipeline.samples import telegram_markup as markup
from osint_pipeline.samples.channel import CHANNEL, CHANNEL_NUMBER, PAGE_IDS, VISITED, SamplePost, posts
from osint_pipeline.samples.server import Answer, Asked, Framing, html, redirect
from osint_pipeline.samples.telegram_media import Place

IN_APP = "If you have <strong>Telegram</strong>, you can view posts from this channel in the app only."
CARDS = {
    "prykladnaja_hrupa": markup.Card(
        title="Прыкладная група", about="Размовы пра вымысел.", extra="1 957 members, 38 online"
    ),
    "biez_pierahladu": markup.Card(
        title="Без перагляду", about="Канал без перагляду ў браўзеры.", extra="3 204 subscribers"
    ),
    "prykladny_bot": markup.Card(
        title="Прыкладны бот", about="Бот, якога няма.", extra="8 122 monthly users", bot=True
    ),
    "prykladny_czalaviek": markup.Card(title="Тодар Ліпавіч", extra="@prykladny_czalaviek", person=True),
    "zablakavany": markup.Card(about=IN_APP, hidden=True),
}


class Telegram:
    """Answers as t.me does. `base` and `cdn` are its own addresses, known once they are served."""

    def __init__(self, visit: Callable[[], int]) -> None:
        self._visit = visit
        self.base = self.cdn = ""

    def __call__(self, asked: Asked) -> Answer:
        """Answer one request."""
        parts = [part for part in asked.path.split("/") if part]
        if parts[:1] in (["css"], ["js"], ["img"]):
            return _asset(parts)
        if parts[:1] == ["v"]:
            return Answer(body=b"true", media_type="application/json")
        if len(parts) >= 2 and parts[0] == "s":
            return self._preview(parts[1], parts[2:], asked)
        if len(parts) == 1:
            return self._landing(parts[0])
        if len(parts) == 2 and parts[0].lower() == CHANNEL and parts[1].isdigit():
            return self._single(int(parts[1]))
        return html("<html><body>Not Found</body></html>", status=404)

    def _preview(self, name: str, rest: list[str], asked: Asked) -> Answer:
        if name.lower() != CHANNEL:
            return redirect(f"{self.base}/{name}")
        found = posts(self._visit())
        if "q" in asked.query:
            found = tuple(one for one in found if asked.query["q"].lower() in one.text.lower())[-PAGE_IDS:]
            return html(self._page(found, None, None, searched=asked.query["q"]))
        before, after = asked.query.get("before", ""), asked.query.get("after", "")
        if rest and rest[0].isdigit():
            before = str(int(rest[0]) + PAGE_IDS // 2)
        shown = _window(found, before, after)
        older = shown[0].id if shown and shown[0].id != found[0].id else None
        newer = shown[-1].ids[-1] if shown and shown[-1].id != found[-1].id and (after or rest) else None
        return html(self._page(shown, older, newer))

    def _page(
        self, shown: tuple[SamplePost, ...], older: int | None, newer: int | None, *, searched: str | None = None
    ) -> str:
        visit = self._visit()
        everything = posts(visit)
        return markup.page(
            self._place(),
            shown,
            older=older,
            newer=newer,
            last=everything[-1].ids[-1],
            counters=_counters(everything, visit),
            texts={one.id: one.text for one in everything},
            searched=searched,
        )

    def _single(self, number: int) -> Answer:
        everything = posts(self._visit())
        found = next((one for one in everything if number in one.ids), None)
        return html(markup.single(self._place(), found, {one.id: one.text for one in everything}))

    def _place(self) -> Place:
        seen_at = VISITED[self._visit()]
        return Place(base=self.base, cdn=self.cdn, name=CHANNEL, number=CHANNEL_NUMBER, seen_at=seen_at)

    def _landing(self, name: str) -> Answer:
        exact = {1: "12 480", 2: "12 493"}[self._visit()]
        own = markup.Card(title=markup.TITLE, about=markup.ABOUT, extra=f"{exact} subscribers", preview=True)
        free = markup.Card(hidden=True, person=True)
        card = own if name.lower() == CHANNEL else CARDS.get(name.lower(), free)
        return html(markup.landing(self.base, self.cdn, name, card))


def _window(found: tuple[SamplePost, ...], before: str, after: str) -> tuple[SamplePost, ...]:
    """Choose the blocks of one page: at most 20 ids, albums counted by their ids; before=0 is the newest page."""
    if after.isdigit() and not before:
        return _filled([one for one in found if one.id > int(after)])
    limit = int(before) if before.isdigit() and before != "0" else found[-1].ids[-1] + 1
    return _filled([one for one in found if one.id < limit][::-1])[::-1]


def _filled(candidates: list[SamplePost]) -> tuple[SamplePost, ...]:
    taken: list[SamplePost] = []
    room = PAGE_IDS
    for one in candidates:
        room -= len(one.ids)
        if room < 0:
            break
        taken.append(one)
    return tuple(taken)


def _counters(found: tuple[SamplePost, ...], visit: int) -> tuple[tuple[str, str], ...]:
    photos = sum(len(one.photos) for one in found)
    videos = sum(one.clip is not None for one in found)
    return (("12.4K" if visit == 1 else "12.5K", "subscribers"), (str(photos), "photos"), (str(videos), "videos"))


def _asset(parts: list[str]) -> Answer:
    if parts[0] == "css":
        return Answer(body=markup.STYLE.encode(), media_type="text/css", coding="gzip")
    if parts[0] == "js":
        return Answer(body=b"'use strict';\n", media_type="application/javascript")
    return Answer(body=pictures.sticker(0), media_type="image/webp")


def files(asked: Asked) -> Answer:
    """Answer as the channel's CDN does: photos by an opaque path, video and voice with a token."""
    kind, _, rest = asked.path.removeprefix("/file/").partition("-")
    seed, _, _ = rest.partition(".")
    forever = (("Cache-Control", "max-age=86400"),)
    if not seed.isdigit():
        return Answer(status=404, media_type="text/plain", body=b"Not Found")
    if kind in ("vid", "voice") and not asked.query.get("token"):
        return Answer(status=403, media_type="text/plain", body=b"Forbidden")
    if kind in ("photo", "poster", "avatar"):
        return Answer(body=pictures.photo(int(seed)), media_type="image/jpeg", headers=forever)
    if kind == "stick":
        return Answer(body=pictures.sticker(int(seed)), media_type="image/webp", headers=forever)
    if kind == "vid":
        return Answer(body=clips.mp4(int(seed)), media_type="video/mp4", ranges=True)
    if kind == "voice":
        return Answer(body=clips.voice(int(seed) % 7 + 2), media_type="audio/ogg", framing=Framing.CHUNKED)
    return Answer(status=404, media_type="text/plain", body=b"Not Found")
