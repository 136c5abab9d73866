"""Draws what a message holds, its text and each kind of media, with the element classes of t.me's own."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from html import escape
from random import Random

from osint_pipeline.samples.channel import SamplePost


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which channel, at which addresses, seen when."""

    base: str
    cdn: str
    name: str
    number: int
    seen_at: datetime

    def post(self, number: int) -> str:
        """Give the address of a post."""
        return f"{self.base}/{self.name}/{number}"

    def file(self, kind: str, seed: int, where: int, suffix: str) -> str:
        """Give the address of a file; that of a photo has an opaque tail, the others a token that ages."""
        if kind in ("photo", "poster", "avatar"):
            return f"{self.cdn}/file/{kind}-{seed}.{_opaque(f'{seed}-{where}', 60)}.{suffix}"
        token = _opaque(f"{kind}-{seed}-{self.seen_at:%d}", 40)
        return f"{self.cdn}/file/{kind}-{seed}.{_opaque(str(seed), 10)}.{suffix}?token={token}"


def _opaque(text: str, length: int) -> str:
    digest = hashlib.sha512(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:length]


def formatted(place: Place, post: SamplePost) -> str:
    """Lay out the text: bold, emoji, hashtag, link."""
    lines = [escape(line, quote=False) for line in post.text.split("\n")]
    if post.id % 3 == 0:
        lines[0] = f"<b>{lines[0]}</b>"
    if post.id % 6 == 1:
        lines[0] = f"{emoji('❗')} {lines[0]}"
    if post.id % 7 == 2:
        lines.append('<a href="?q=%23%D0%B7%D0%B0%D1%82%D1%80%D1%8B%D0%BC%D0%B0%D0%BD%D0%BD%D1%96">#затрыманні</a>')
    if post.id % 9 == 4:
        link = f"{place.base}/{place.name}?single&amp;amp;from=post"
        lines.append(
            f'<a href="{link}" target="_blank" rel="noopener" onclick="return confirm(\'Open this link?\');">Падрабязней</a>'
        )
    return "<br/>".join(lines)


def emoji(sign: str) -> str:
    """Draw an emoji."""
    code = sign.encode().hex().upper()
    return f'<i class="emoji" style="background-image:url(\'/img/emoji/40/{code}.png\')"><b>{sign}</b></i>'


def media(place: Place, post: SamplePost) -> str:
    """Draw the photo, album, film, voice and so on of a message; nothing where it has none."""
    if post.kind == "photo":
        return _photo(place, post)
    drawing = {
        "album": _album, "video": _video, "gif": _video, "too_big": _video, "voice": _voice,
        "sticker": _sticker, "poll": _poll, "document": _document,
    }  # fmt: skip
    return drawing[post.kind](place, post) if post.kind in drawing else ""


def _photo(place: Place, post: SamplePost) -> str:
    url = place.file("photo", post.photos[0], post.id, "jpg")
    return (
        f'<a class="tgme_widget_message_photo_wrap {5200000000000000000 + post.id} 1210{post.id:06d}_4560{post.id:05d}" '
        f'href="{place.post(post.id)}" style="width:640px;background-image:url(\'{url}\')">'
        '<div class="tgme_widget_message_photo" style="padding-top:75%"></div></a>'
    )


def _album(place: Place, post: SamplePost) -> str:
    items = "".join(
        f'<a class="tgme_widget_message_photo_wrap grouped_media_wrap blured js-message_photo" style="left:0px;top:{302 * row}px;'
        f"width:453px;height:301px;background-image:url('{place.file('photo', seed, number, 'jpg')}')\" "
        f'data-ratio="1.3333333333333" href="{place.post(number)}?single"><div class="grouped_media_helper">'
        '<div class="tgme_widget_message_photo grouped_media"></div></div></a>'
        for row, (number, seed) in enumerate(zip(post.ids, post.photos, strict=True))
    )
    text = formatted(place, post)
    inner = f'<div class="tgme_widget_message_text js-message_text" dir="auto">{text}</div>'
    return (
        '<div class="tgme_widget_message_grouped_wrap js-message_grouped_wrap" data-margin-w="2" data-margin-h="2" style="width:453px;">'
        '<div class="tgme_widget_message_grouped js-message_grouped" style="padding-top:133.333%">'
        f'<div class="tgme_widget_message_grouped_layer js-message_grouped_layer" style="width:453px;height:906px">{items}</div></div></div>'
        f'<div class="tgme_widget_message_text js-message_text" dir="auto">{inner}</div>'
    )


def _video(place: Place, post: SamplePost) -> str:
    big, seed = post.kind == "too_big", post.clip or 0
    poster = place.file("poster", 5000 + seed, post.id, "jpg")
    url = place.file("vid", seed, post.id, "mp4")
    film = (
        ""
        if big
        else (
            f'<video src="{url}" class="tgme_widget_message_video blured js-message_video_blured" width="100%" height="100%" muted></video>'
            '<div class="tgme_widget_message_video_wrap" style="width:320px;padding-top:75%">'
            f'<video src="{url}" class="tgme_widget_message_video js-message_video" width="100%" height="100%"></video></div>'
        )
    )
    label = "Media is too big" if big else "This media is not supported in your browser"
    play = (
        ""
        if post.kind == "gif"
        else (
            '<div class="message_video_play js-message_video_play"></div>'
            f'<time class="message_video_duration js-message_video_duration">{"47:10" if big else "0:02"}</time>'
        )
    )
    return (
        f'<a class="tgme_widget_message_video_player{" not_supported" if big else ""} blured js-message_video_player" href="{place.post(post.id)}">'
        f'<i class="tgme_widget_message_video_thumb" style="background-image:url(\'{poster}\')"></i>{film}{play}'
        f'<div class="message_media_not_supported_wrap"><div class="message_media_not_supported"><div class="message_media_not_supported_label">{label}</div>'
        '<span class="message_media_view_in_telegram">VIEW IN TELEGRAM</span></div></div></a>'
    )


def _voice(place: Place, post: SamplePost) -> str:
    url = place.file("voice", post.id, post.id, "ogg")
    return (
        f'<a class="tgme_widget_message_voice_player js-message_voice_player" href="{place.post(post.id)}">'
        f'<audio src="{url}" data-waveform="0,3,9,14,11,6,2" class="tgme_widget_message_voice js-message_voice" width="100%" height="100%"></audio>'
        f'<time class="tgme_widget_message_voice_duration js-message_voice_duration">0:{post.id % 7 + 2:02d}</time></a>'
    )


def _sticker(place: Place, post: SamplePost) -> str:
    url = place.file("stick", post.id % 3 + 1, post.id, "webp")
    return (
        '<div class="tgme_widget_message_sticker_wrap media_supported_cont">'
        f'<a href="{place.post(post.id)}"><i class="tgme_widget_message_sticker js-sticker_image" style="width:160px;'
        f'background-image:url(\'data:image/svg+xml;base64,PHN2Zy8+\')" data-webp="{url}"></i></a></div>'
    )


def _poll(place: Place, post: SamplePost) -> str:
    shares = Random(f"poll-{post.id}").choice(((61, 39), (52, 48), (88, 12)))
    options = "".join(
        f'<div class="tgme_widget_message_poll_option"><div class="tgme_widget_message_poll_option_percent">{share}%</div>'
        f'<div class="tgme_widget_message_poll_option_value"><div class="tgme_widget_message_poll_option_text">{text}</div></div></div>'
        for share, text in zip(shares, ("Так", "Не"), strict=True)
    )
    return (
        '<div class="tgme_widget_message_poll js-poll"><div class="tgme_widget_message_poll_question">Ці бачылі вы затрыманні ў сваім горадзе?</div>'
        f'<div class="tgme_widget_message_poll_type">Anonymous Poll</div><a class="tgme_widget_message_poll_options" href="{place.post(post.id)}">{options}</a></div>'
    )


def _document(place: Place, post: SamplePost) -> str:
    return (
        f'<a class="tgme_widget_message_document_wrap" href="{place.post(post.id)}">'
        '<div class="tgme_widget_message_document_icon accent_bg"></div><div class="tgme_widget_message_document">'
        f'<div class="tgme_widget_message_document_title accent_color" dir="auto">pratakol-{post.id}.pdf</div>'
        '<div class="tgme_widget_message_document_extra" dir="auto">212.4 KB</div></div></a>'
    )
