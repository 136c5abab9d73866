"""The files of one message of a Telegram preview, and the index of its elements that they are found by."""

import re
from collections.abc import Callable, Iterable

from spiders.page import Media, MediaKind
from spiders.reading import Element, background_url, seconds_of, text_of, web_url

_PREFIX = "tgme_widget_message_"
_ASIDES = frozenset(_PREFIX + name for name in ("reply", "link_preview"))  # what others said: never part of a message
_BARS = ["bar"]  # a voice message draws its waveform with hundreds of empty elements
SINGLE = re.compile(r"([^/?#]+)/(\d{1,15})\?(?:.*&)?single\b")  # the address of one item of an album
_NOT_SHOWN = "Telegram shows no address for it in this preview"
_NO_FILES = "Telegram's preview never gives out documents and music"


class Parts:
    """The elements of a message, or a page, by class name, in the order of the page. Asides are named but not entered.

    `media` are its outermost players, pictures and files, each with the class that names its reader.
    """

    def __init__(self, root: Element, asides: frozenset[str] = _ASIDES) -> None:
        self.by_class: dict[str, list[Element]] = {}
        self.media: list[tuple[str, Element]] = []
        todo = [(root, False)]
        while todo:
            element, within = todo.pop()
            if element.tag == "svg":
                continue
            names = (element.get("class") or "").split()
            for name in names:
                self.by_class.setdefault(name, []).append(element)
                if name in _READERS and not within:
                    self.media.append((name, element))
                    within = True
            if (element is root or asides.isdisjoint(names)) and names != _BARS:
                for child in reversed(element):
                    todo.append((child, within))

    def all(self, name: str) -> list[Element]:
        """Give the elements of a class; a name that begins with ~ stands for the message prefix."""
        return self.by_class.get(name.replace("~", _PREFIX), [])

    def first(self, name: str) -> Element | None:
        found = self.all(name)
        return found[0] if found else None

    def text(self, name: str) -> str:
        return text_of(self.first(name))


def media_of(parts: Parts, base: str, number: str) -> list[Media]:
    """Read the files of a message, in the order of the page; an album's items bear their own ids."""
    items: list[Media] = []
    for name, element in parts.media:
        single = SINGLE.search(element.get("href") or "")
        items += _READERS[name](element, base, single[2] if single else number)
    return items


def media_item(
    kind: MediaKind,
    url: str | None,
    number: str,
    why: str = _NOT_SHOWN,
    length: float | None = None,
    title: str | None = None,
) -> Media:
    """Name one file, or say why there is none."""
    return Media(kind=kind, url=url, post_id=number, duration_seconds=length, title=title, why=None if url else why)


def _photo(element: Element, base: str, number: str) -> list[Media]:
    return [media_item(MediaKind.PHOTO, background_url(element.get("style"), base), number)]


def _src(elements: Iterable[Element], base: str) -> str | None:
    return next((url for element in elements if (url := web_url(element.get("src"), base))), None)


def _poster(thumbs: list[Element], base: str, number: str) -> list[Media]:
    urls = (background_url(thumb.get("style"), base) for thumb in thumbs)
    return [media_item(MediaKind.POSTER, url, number) for url in urls if url]


def _video(element: Element, base: str, number: str) -> list[Media]:
    """A player; its second, blurred video is decoration. Without play button and duration it is a GIF."""
    inner = Parts(element)
    url = _src(inner.all("js-message_video") + inner.all("~video"), base)
    label = inner.text("message_media_not_supported_label")
    refused = "not_supported" in (element.get("class") or "").split()
    why = f'Telegram gives it out only in its apps: "{label}"' if refused and label else _NOT_SHOWN
    length = seconds_of(inner.text("message_video_duration"))
    moving = url and length is None and inner.first("message_video_play") is None
    video = media_item(MediaKind.VIDEO, url, number, why, length=length, title="GIF" if moving else None)
    return [video, *_poster(inner.all("~video_thumb"), base, number)]


def _round_video(element: Element, base: str, number: str) -> list[Media]:
    inner = Parts(element)
    length = seconds_of(inner.text("~roundvideo_duration"))
    url = _src(inner.all("~roundvideo"), base)
    video = media_item(MediaKind.VIDEO, url, number, length=length, title="round video")
    return [video, *_poster(inner.all("~roundvideo_thumb"), base, number)]


def _voice(element: Element, base: str, number: str) -> list[Media]:
    inner = Parts(element)
    length = seconds_of(inner.text("~voice_duration"))
    return [media_item(MediaKind.VOICE, _src(element.iter("audio"), base), number, length=length)]


def _document(element: Element, base: str, number: str) -> list[Media]:
    """The link leads to the post, never to a file; the line below the name is a size, or a performer for music."""
    inner = Parts(element)
    icon = inner.first("~document_icon")
    music = icon is not None and "audio" in (icon.get("class") or "").split()
    title = ", ".join(filter(None, (inner.text("~document_title"), inner.text("~document_extra"))))
    return [media_item(MediaKind.AUDIO if music else MediaKind.DOCUMENT, None, number, _NO_FILES, title=title or None)]


def _sticker(element: Element, base: str, number: str) -> list[Media]:
    """A still one names its picture in data-webp (its background is a placeholder); others are files of their own."""
    inner = Parts(element)
    stills = (web_url(still.get("data-webp"), base) for still in inner.all("~sticker"))
    moving = (
        web_url(source.get("srcset"), base)
        for source in element.iter("source")
        if source.get("type") == "application/x-tgsticker"
    )
    clips = (web_url(clip.get("src"), base) for clip in inner.all("js-videosticker_video"))
    url = next(filter(None, (*moving, *clips, *stills)), None)
    return [media_item(MediaKind.STICKER, url, number)]


_READERS: dict[str, Callable[[Element, str, str], list[Media]]] = {
    _PREFIX + "photo_wrap": _photo,
    _PREFIX + "video_player": _video,
    _PREFIX + "roundvideo_player": _round_video,
    _PREFIX + "voice_player": _voice,
    _PREFIX + "document_wrap": _document,
    **dict.fromkeys((_PREFIX + name for name in ("sticker_wrap", "sticker", "tgsticker", "videosticker")), _sticker),
}
