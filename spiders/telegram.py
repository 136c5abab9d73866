"""Telegram's public previews: channel pages (t.me/s/<name>), single messages, and the cards that stand for a refusal.

Readers go by paths and markup, never by host. The markup is that of 2023-2026.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urljoin, urlsplit

from spiders.page import Gap, LayoutChanged, Link, LinkKind, Media, MediaKind, Page, Post, Verdict
from spiders.reading import Element, text_of, tree_of, web_url
from spiders.telegram_address import history_url as history_url
from spiders.telegram_address import is_private, wanted, wanted_url
from spiders.telegram_address import matches as matches
from spiders.telegram_blocks import PLATFORM, Fact, read_message, read_view
from spiders.telegram_media import Parts

_MESSAGE = "tgme_widget_message"


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A page taken apart: `parts` are its elements outside of messages, which are named but not entered."""

    html: bytes
    url: str
    root: Element
    parts: Parts

    @property
    def messages(self) -> list[Element]:
        return [message for message in self.parts.all(_MESSAGE) if message.get("data-post")]

    @property
    def whole(self) -> bool:
        return b"</html>" in self.html

    def meta(self, name: str) -> str | None:
        found = self.root.xpath(".//meta[@property=$name or @name=$name]/@content", name=name)
        return str(found[0]).strip() if found else None


def _sheet(html: bytes, url: str) -> _Sheet:
    root = tree_of(html)
    if root is None:
        raise LayoutChanged(PLATFORM, url, "readable elements")
    return _Sheet(html, url, root, Parts(root, frozenset({_MESSAGE})))


def parse(html: bytes, url: str) -> Page:
    """Read a page for what it is: a channel's list, one message, or a card that stands for a refusal.

    Raises LayoutChanged if it is none of them.
    """
    sheet = _sheet(html, url)
    if _history(sheet):
        return _channel(sheet)
    return _single(sheet) if sheet.parts.all(_MESSAGE) else _landing(sheet)


def parse_channel(html: bytes, url: str) -> Page:
    """Read one preview page of a channel (t.me/s/<name>), oldest message first.

    A landing card in its place is a refusal. Raises LayoutChanged if there is neither a message list nor a card.
    """
    sheet = _sheet(html, url)
    return _channel(sheet) if _history(sheet) else _landing(sheet)


def parse_landing(html: bytes, url: str) -> Page:
    """Read the card at t.me/<name>: what kind of thing bears the name, and why its messages are not shown.

    Raises LayoutChanged if the page has no such card.
    """
    return _landing(_sheet(html, url))


def parse_post(html: bytes, url: str) -> Page:
    """Read one message (t.me/<name>/<id>?embed=1&mode=tme). Raises LayoutChanged if there is no message and no card."""
    sheet = _sheet(html, url)
    return _single(sheet) if sheet.parts.all(_MESSAGE) else _landing(sheet)


def _history(sheet: _Sheet) -> bool:
    return bool(sheet.parts.all("tgme_channel_history") or sheet.parts.all("js-message_history"))


def _channel(sheet: _Sheet) -> Page:
    posts = tuple(post for message in sheet.messages if (post := read_message(message, sheet.url)))
    verdict, reason = _list_verdict(sheet, posts)
    views = [read_view(message) for message in sheet.messages[:1]]
    facts = _facts(sheet)
    facts += [("server_time", view.rendered_at.isoformat()) for view in views if view.rendered_at]
    return Page(
        url=sheet.url,
        verdict=verdict,
        reason=reason,
        title=sheet.parts.text("tgme_channel_info_header_title") or sheet.meta("og:title"),
        channel=_name(sheet, posts),
        channel_id=next((post.channel_id for post in posts if post.channel_id), None),
        posts=posts,
        media=_avatar(sheet),
        links=tuple(_pagers(sheet)),
        gaps=_gaps(posts, sheet.url),
        extra=tuple(facts),
    )


def _list_verdict(sheet: _Sheet, posts: tuple[Post, ...]) -> tuple[Verdict, str | None]:
    """Posts outweigh the words "no posts found", which anybody may write. An empty list must be whole to be believed."""
    if posts:
        return Verdict.CONTENT, None
    for name in ("tme_no_messages_found", "tgme_no_messages_found"):
        if says := sheet.parts.text(name):
            return Verdict.EMPTY, f'the page says "{says}"'
    if not sheet.parts.all("tgme_widget_message_wrap") and b"</main>" in sheet.html:
        return Verdict.EMPTY, "the list of messages is empty"
    raise LayoutChanged(PLATFORM, sheet.url, "message with an id")


def _name(sheet: _Sheet, posts: tuple[Post, ...]) -> str | None:
    if posts:
        return posts[0].channel
    main = sheet.parts.first("tgme_main")
    shown = (main.get("data-url") or "").strip("/") if main is not None else ""
    return shown or wanted(sheet.url).name


def _facts(sheet: _Sheet) -> list[Fact]:
    """What the channel says of itself. Counters are kept as shown ("2.49K")."""
    about = sheet.parts.text("tgme_channel_info_description") or sheet.meta("og:description") or ""
    facts = [("description", about)] if about else []
    labels = sheet.parts.first("tgme_channel_info_header_labels")
    if labels is not None and Parts(labels).all("verified-icon"):
        facts.append(("verified", "yes"))
    for counter in map(Parts, sheet.parts.all("tgme_channel_info_counter")):
        name, value = counter.text("counter_type"), counter.text("counter_value")
        if name and value:
            facts.append((name if name.endswith("s") else name + "s", value))
    if not sheet.whole:
        facts.append(("cut_off", "the page has no end; messages may be missing"))
    return facts


def _avatar(sheet: _Sheet) -> tuple[Media, ...]:
    for photo in sheet.parts.all("tgme_page_photo_image"):
        for image in photo.iter("img"):
            if address := web_url(image.get("src"), sheet.url):
                return (Media(kind=MediaKind.AVATAR, url=address),)
    return ()


def _cursor(url: str, key: str) -> int | None:
    found = re.search(rf"[?&]{key}=(\d{{1,15}})(?!\d)", url)
    return int(found[1]) if found else None


def _pagers(sheet: _Sheet) -> list[Link]:
    """Follow the page's own cursors only, and only onward: before=0 would silently give the newest page again."""
    links = []
    for kind, key, rel in ((LinkKind.OLDER, "before", "prev"), (LinkKind.NEWER, "after", "next")):
        shown = [pager.get("href") for pager in sheet.parts.all("tme_messages_more") if pager.get("data-" + key)]
        shown += sheet.root.xpath(".//link[@rel=$rel]/@href", rel=rel)
        onward = (whole for href in shown if (whole := web_url(href, sheet.url)) and _is_onward(whole, sheet.url, key))
        links += [Link(kind=kind, url=whole) for whole in list(onward)[:1]]
    return links


def _is_onward(to_url: str, from_url: str, key: str) -> bool:
    to, at = _cursor(to_url, key), _cursor(from_url, key)
    if to is None or urlsplit(to_url).netloc != urlsplit(from_url).netloc:
        return False
    return to > 1 and (at is None or to < at) if key == "before" else to > (at or 0)


def _gaps(posts: tuple[Post, ...], url: str) -> tuple[Gap, ...]:
    """Find the ids that the page skips, up to the cursors it was asked with. A search skips on purpose."""
    if not posts or re.search(r"[?&]q=", url):
        return ()
    after, before = _cursor(url, "after"), _cursor(url, "before")
    seen = sorted({int(one) for post in posts for one in post.post_ids})
    edges = [
        *([after] if after and after < seen[0] else []),
        *seen,
        *([before] if before and before > seen[-1] else []),
    ]
    return tuple(Gap(first=left + 1, last=right - 1) for left, right in pairwise(edges) if right - left > 1)


# --- one message ---

_BLOCKED = re.compile(
    r"terms of service|copyright|\blaws?\b|court|porn|violat|unavailable|blocked|restrict|banned", re.I
)


def _single(sheet: _Sheet) -> Page:
    posts = tuple(post for message in sheet.messages if (post := read_message(message, sheet.url)))
    shown = Parts(sheet.parts.all(_MESSAGE)[0])
    if posts:
        stamp = read_view(sheet.messages[0]).rendered_at
        return Page(
            url=sheet.url,
            verdict=Verdict.CONTENT,
            title=shown.text("~owner_name") or None,
            channel=posts[0].channel,
            channel_id=posts[0].channel_id,
            posts=posts,
            extra=(("server_time", stamp.isoformat()),) if stamp else (),
        )
    says = shown.text("~error")
    if not says and not shown.all("err_message"):
        raise LayoutChanged(PLATFORM, sheet.url, "message with an id")
    verdict, reason = _post_refusal(says)
    return Page(url=sheet.url, verdict=verdict, reason=reason, channel=wanted(sheet.url).name)


def _post_refusal(says: str) -> tuple[Verdict, str]:
    quoted = f': "{says}"' if says else ""
    if "private" in says.lower():
        return Verdict.NO_PREVIEW, "the channel is private" + quoted
    if re.search(r"\b(post|message)\b.*not found", says, re.I):
        return Verdict.GONE, f"no such message as seen from here (deleted, never there, or withheld here){quoted}"
    if _BLOCKED.search(says):
        return Verdict.BLOCKED, "Telegram withholds it" + quoted
    return Verdict.UNDECIDED, "Telegram shows no message" + quoted


# --- landing cards ---


def _landing(sheet: _Sheet) -> Page:
    found = sheet.parts.first("tgme_page")
    if found is None:
        raise LayoutChanged(PLATFORM, sheet.url, "message list, message or landing card")
    card = Parts(found)
    name = wanted(sheet.url).name or _resolved(sheet)
    kind, verdict, reason = _refusal(sheet, card)
    about = card.text("tgme_page_description") or (kind == "message" and sheet.meta("og:description")) or ""
    counters = [("counter", text_of(extra)) for extra in card.all("tgme_page_extra")]
    return Page(
        url=sheet.url,
        verdict=verdict,
        reason=reason,
        title=card.text("tgme_page_title") or sheet.meta("og:title"),
        channel=name,
        media=_avatar(sheet),
        links=tuple(_ways_on(kind, name, card, sheet.url)),
        extra=(("kind", kind), *counters, *([("description", about)] if about else [])),
    )


def _resolved(sheet: _Sheet) -> str | None:
    found = re.search(r"domain=(\w+)", sheet.meta("al:ios:url") or "")
    return found[1] if found else None


def _ways_on(kind: str, name: str | None, card: Parts, url: str) -> list[Link]:
    if kind == "message":
        return [Link(kind=LinkKind.LANDING, url=wanted_url(url))]
    if kind == "blocked" and name:  # the sentence that says why stands in the frame of any message
        return [Link(kind=LinkKind.LANDING, url=urljoin(url, f"/{name}/1?embed=1&mode=tme"))]
    return [Link(kind=LinkKind.LISTING, url=preview) for preview in _previews(card, url)[:1]]


def _previews(card: Parts, url: str) -> list[str]:
    """Where the card's own "Preview channel" leads; links of a description are its author's."""
    links = (web_url(link.get("href"), url) for link in card.all("tgme_page_context_link"))
    return [link for link in links if link and urlsplit(link).path.startswith("/s/")]


def _refusal(sheet: _Sheet, card: Parts) -> tuple[str, Verdict, str]:
    """Tell refusals apart by their card. Status is 200 for all of them; a half card decides nothing."""
    extras = " ".join(text_of(extra) for extra in card.all("tgme_page_extra")).lower()
    button = card.text("tgme_page_action").lower()
    if not sheet.whole:
        return "unknown", Verdict.UNDECIDED, "the landing card is cut off"
    if _is_invite(sheet, card):
        return "invite", Verdict.NO_PREVIEW, "a private invite link: such a chat cannot be read without joining it"
    if card.all("tgme_page_widget"):
        return "message", Verdict.UNDECIDED, "the page shows the message in a frame that has an address of its own"
    if re.search(r"\bmonthly users?\b", extras) or button == "start bot":
        return "bot", Verdict.NO_PREVIEW, "a bot, not a channel: it has no messages to show"
    if re.search(r"\d\s*subscribers?\b", extras):
        return _channel_refusal(bool(_previews(card, sheet.url)))
    if re.search(r"\d\s*members?\b", extras):
        return "group", Verdict.NO_PREVIEW, "a group: Telegram gives no list of its messages without an account"
    if "noindex" in (sheet.meta("robots") or ""):
        return _nameless_refusal((card.text("tgme_page_description") or card.text("tgme_page_additional")).lower())
    if button == "send message":
        return "person", Verdict.NO_PREVIEW, "a person's account, not a channel"
    return "unknown", Verdict.UNDECIDED, "a landing card of a kind that is not known here"


def _is_invite(sheet: _Sheet, card: Parts) -> bool:
    hrefs = [link.get("href") or "" for action in card.all("tgme_page_action") for link in action.iter("a")]
    return any(href.startswith("tg://join?") for href in hrefs) or is_private(sheet.url)


def _nameless_refusal(about: str) -> tuple[str, Verdict, str]:
    """A card that asks not to be indexed stands for something that may not be seen, or is not there."""
    if "invited to" in about:
        return "invite", Verdict.NO_PREVIEW, "a private invite link: such a chat cannot be read without joining it"
    if re.search(r"\bview (posts|and join)\b", about):
        return "blocked", Verdict.BLOCKED, "a channel that Telegram has blocked, at least for where we asked from"
    return "name", Verdict.UNDECIDED, "nobody to be seen under this name: it is free, deleted or private"


def _channel_refusal(offered: bool) -> tuple[str, Verdict, str]:
    if offered:
        return "channel", Verdict.UNDECIDED, "a channel that offers a preview, yet its card came instead of the list"
    return "channel", Verdict.NO_PREVIEW, "a channel whose web preview is switched off"
