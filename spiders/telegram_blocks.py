"""One message of a Telegram preview, as a Post. Markup seen in 2023-2026; class names without their common prefix."""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote, urldefrag, urljoin

from spiders.page import Media, MediaKind, Origin, Post, PostKind
from spiders.reading import Element, background_url, iso_time, language_of, number_of, text_of, web_url
from spiders.telegram_media import SINGLE, Parts, media_item, media_of

PLATFORM = "telegram"
_DATA_POST = re.compile(r"([^/\s]+)/(\d{1,15})")
Fact = tuple[str, str]


@dataclass(slots=True)
class _Draft:
    """What has been gathered of a message while it is read."""

    parts: Parts
    base: str
    texts: list[str] = field(default_factory=list)
    links: dict[str, None] = field(default_factory=dict)
    extra: list[Fact] = field(default_factory=list)

    def say(self, name: str, value: str | None) -> None:
        if value:
            self.extra.append((name, value))

    def link(self, href: str | None) -> str | None:
        """Note where a link leads. Telegram escapes the & of outside links twice since April 2024."""
        url = web_url((href or "").replace("&amp;", "&"), self.base)
        if url:
            self.links[url] = None
        return url


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The signed token of a message: who the channel is by number and when the server made the page."""

    channel_id: str | None = None
    rendered_at: datetime | None = None


def read_view(message: Element) -> View:
    """Read data-view (base64url JSON: c = minus channel id, t = server time), else data-peer; empty where unreadable."""
    token = message.get("data-view") or ""
    try:
        read = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        channel, epoch = read.get("c"), read.get("t")
        known = str(abs(channel)) if isinstance(channel, int) and channel else None
        at = datetime.fromtimestamp(epoch, UTC) if isinstance(epoch, int) else None
        return View(channel_id=known, rendered_at=at)
    except (ValueError, AttributeError, OverflowError, OSError, RecursionError):
        peer = re.match(r"c(\d{1,15})", message.get("data-peer") or "")
        return View(channel_id=peer[1] if peer else None)


def read_message(message: Element, base: str) -> Post | None:
    """Read one `div.tgme_widget_message`; None if it bears no id. `base` is the page's address."""
    own = _DATA_POST.fullmatch(message.get("data-post") or "")
    if not own:
        return None
    channel, number = own.groups()
    wrap = message.getparent()
    whole = wrap is not None and "tgme_widget_message_wrap" in (wrap.get("class") or "")
    draft = _Draft(parts=Parts(wrap if whole else message), base=base)
    service = "service_message" in (message.get("class") or "").split() or _says_service(draft.parts)
    for gather in (_body, _poll, _place, _contact, _invoice, _forward, _preview, _buttons):
        gather(draft)
    media = _media(draft, number, service)
    text = "\n\n".join(filter(None, draft.texts))
    _hidden(draft, bool(text or media or service))
    stamp = _stamp(draft.parts)
    raw_views = draft.parts.text("~views")
    return Post(
        kind=PostKind.POST,
        platform=PLATFORM,
        url=_address(draft.parts, base, f"/{channel}/{number}"),
        channel=channel,
        channel_id=read_view(message).channel_id,
        post_id=number,
        post_ids=_ids(draft.parts, channel, number),
        author=_author(draft.parts),
        text=text,
        language=language_of(text),
        published_at=iso_time(stamp),
        published_raw=stamp,
        edited=_edited(draft.parts),
        views=number_of(raw_views),
        views_raw=raw_views or None,
        forwarded_from=_origin_of_forward(draft.parts, base),
        reply_to=_origin_of_reply(draft.parts, base),
        links=tuple(draft.links),
        media=tuple(media),
        service=service,
        extra=tuple(draft.extra),
    )


def _address(parts: Parts, base: str, path: str) -> str:
    dated = parts.first("~date")
    href = web_url(dated.get("href"), base) if dated is not None else None
    return urldefrag(href or urljoin(base, path))[0].partition("?")[0]


def _stamp(parts: Parts) -> str | None:
    """Only the date link tells the date: a video's duration is a `time` too."""
    for link in parts.all("~date"):
        for time in link.iter("time"):
            if time.get("datetime"):
                return time.get("datetime")
    return None


def _ids(parts: Parts, channel: str, number: str) -> tuple[str, ...]:
    """All ids of an album: its items tell theirs only in `?single` links."""
    found = {int(number)}
    for element in [element for _, element in parts.media] + parts.all("message_media_view_in_telegram"):
        single = SINGLE.search(element.get("href") or "")
        if single and single[1].casefold() == channel.casefold():
            found.add(int(single[2]))
    return tuple(str(one) for one in sorted(found))


def _author(parts: Parts) -> str | None:
    signed = parts.text("~from_author")
    if signed:
        return signed
    for line in parts.all("~author"):  # in groups the sender's name stands where channels have their own
        for name in line.iterdescendants():
            if "tgme_widget_message_author_name" in (name.get("class") or ""):
                return text_of(name) or None
    return None


def _edited(parts: Parts) -> bool:
    """The word stands bare in the footer; a signature that says so stands in its own element."""
    metas = parts.all("~meta")
    bare = (text or "" for meta in metas for text in (meta.text, *(child.tail for child in meta)))
    return any(re.search(r"\bedited\b", text) for text in bare)


def _body(draft: _Draft) -> None:
    """The text proper: innermost, for album captions are wrapped twice; reply quotes lie in an aside."""
    found = draft.parts.all("js-message_text") or draft.parts.all("~text")
    outer = {ancestor for element in found for ancestor in element.iterancestors()}
    tags: dict[str, None] = {}
    for element in found:
        if element in outer:
            continue
        draft.texts.append(text_of(element))
        for link in element.iter("a"):
            href = link.get("href") or ""
            if href.startswith("?q="):
                tags[unquote(href[3:])] = None
            else:
                draft.link(href)
    draft.say("hashtags", " ".join(tags))


def _poll(draft: _Draft) -> None:
    """Options stand in the text; percentages change with every vote and stand apart."""
    for poll in draft.parts.all("~poll"):
        inner = Parts(poll)
        options = [Parts(option) for option in inner.all("~poll_option")]
        names = [option.text("~poll_option_text") for option in options]
        draft.texts.append("\n".join([inner.text("~poll_question"), *(f"- {name}" for name in names)]).strip())
        draft.say("poll_type", inner.text("~poll_type"))
        for option, name in zip(options, names, strict=True):
            draft.say("poll_option", f"{option.text('~poll_option_percent')} {name}".strip())
        draft.say("poll_voters", draft.parts.text("~voters"))


def _place(draft: _Draft) -> None:
    for place in draft.parts.all("~location_wrap"):
        inner = Parts(place)
        draft.texts.append("\n".join(filter(None, (inner.text("~location_title"), inner.text("~location_address")))))
        url = web_url(place.get("href"), draft.base)
        point = re.search(r"[?&]q=(-?[\d.]+),\s*(-?[\d.]+)", unquote(url or ""))
        draft.say("location", f"{point[1]},{point[2]}" if point else None)
        draft.say("location_url", url)


def _contact(draft: _Draft) -> None:
    name, phone = draft.parts.text("~contact_name"), draft.parts.text("~contact_phone")
    draft.texts.append("\n".join(filter(None, (name, phone))))
    draft.say("contact", " ".join(filter(None, (name, phone))))


def _invoice(draft: _Draft) -> None:
    title, about = draft.parts.text("~invoice_title"), draft.parts.text("~invoice_description")
    draft.texts.append("\n".join(filter(None, (title, about))))
    draft.say("invoice", title)
    draft.say("game", draft.parts.text("~game"))


def _forward(draft: _Draft) -> None:
    draft.say("forwarded_author", draft.parts.text("~forwarded_from_author"))
    draft.say("via_bot", draft.parts.text("~via_bot"))


def _preview(draft: _Draft) -> None:
    """The card of a linked page: told, but its pictures are the other site's, not the post's."""
    for card in draft.parts.all("~link_preview"):
        inner = Parts(card)
        draft.say("preview_url", draft.link(card.get("href")))
        for name in ("site_name", "title", "description"):
            draft.say("preview_" + name, inner.text("link_preview_" + name))
        for name in ("image", "right_image", "video_thumb"):
            for picture in inner.all("link_preview_" + name):
                draft.say("preview_image", background_url(picture.get("style"), draft.base))


def _buttons(draft: _Draft) -> None:
    for button in draft.parts.all("~inline_button"):
        url = draft.link(button.get("href"))
        draft.say("button", " ".join(filter(None, (text_of(button), url))))


def _says_service(parts: Parts) -> bool:
    """Embeds show an event only as an unsupported label of this wording."""
    return any(text_of(label) == "Service message" for label in parts.all("message_media_not_supported_label"))


def _hidden(draft: _Draft, shown: bool) -> None:
    """Say what the label says where the label is all there is; beside content it is a hint for old browsers."""
    if not shown and {name for name, _ in draft.extra} <= {"via_bot", "forwarded_author", "button"}:
        draft.say("hidden", draft.parts.text("message_media_not_supported_label") or "nothing is shown of this message")


def _origin_of_forward(parts: Parts, base: str) -> Origin | None:
    line = parts.first("~forwarded_from")
    if line is None:
        return None
    name = parts.first("~forwarded_from_name")
    if name is None:
        return Origin(name=text_of(line).removeprefix("Forwarded from").strip() or None)
    return Origin(name=text_of(name) or None, url=web_url(name.get("href"), base))


def _origin_of_reply(parts: Parts, base: str) -> Origin | None:
    reply = parts.first("~reply")
    if reply is None:
        return None
    inner = Parts(reply)
    quoted = inner.text("js-message_reply_text") or inner.text("~metatext") or inner.text("~text")
    return Origin(name=inner.text("~author_name") or None, url=web_url(reply.get("href"), base), text=quoted or None)


def _media(draft: _Draft, number: str, service: bool) -> list[Media]:
    items = media_of(draft.parts, draft.base, number)
    if service:  # a new channel picture stands as a bare img or video in the bubble
        for element in (found for bubble in draft.parts.all("~bubble") for found in bubble.iter("img", "video")):
            if "emoji" not in (element.get("class") or ""):
                kind = MediaKind.PHOTO if element.tag == "img" else MediaKind.VIDEO
                items.append(media_item(kind, web_url(element.get("src"), draft.base), number))
    return items
