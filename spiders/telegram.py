"""Telegram's public previews: channel pages (t.me/s/<name>), single messages, and the cards that stand for a refusal.

Readers go by paths and markup, never by host. The markup is that of 2023-2026.
"""

import re
from itertools import pairwise
from urllib.parse import urljoin, urlsplit

from spiders.page import Gap, LayoutChanged, Link, LinkKind, Media, MediaKind, Page, Post, Verdict
from spiders.reading import Element, text_of, tree_of, web_url
from spiders.telegram_address import matches as matches
from spiders.telegram_address import wanted, wanted_url
from spiders.telegram_blocks import PLATFORM, Fact, read_message, read_view


def _xpath(*names: str) -> str:
    """Say by XPath: any element that has all these classes."""
    return ".//*[" + " and ".join(f"contains(concat(' ', @class, ' '), ' {name} ')" for name in names) + "]"


def _find(root: Element, *names: str) -> Element | None:
    return next(iter(root.xpath(_xpath(*names))), None)


def _text(root: Element, name: str) -> str:
    return text_of(_find(root, name))


def _meta(root: Element, name: str) -> str | None:
    found = root.xpath(".//meta[@property=$name or @name=$name]/@content", name=name)
    return str(found[0]).strip() if found else None


def parse(html: bytes, url: str) -> Page:
    """Read a page for what it is: a channel's list, one message, or a card that stands for a refusal.

    Raises LayoutChanged if it is none of them.
    """
    root = _root(html, url)
    if _history(root) is not None:
        return _channel(root, html, url)
    if _find(root, "tgme_widget_message") is not None:
        return _single(root, url)
    return _landing(root, html, url)


def parse_channel(html: bytes, url: str) -> Page:
    """Read one preview page of a channel (t.me/s/<name>), oldest message first.

    A landing card in its place is a refusal. Raises LayoutChanged if there is neither a message list nor a card.
    """
    root = _root(html, url)
    return _channel(root, html, url) if _history(root) is not None else _landing(root, html, url)


def parse_landing(html: bytes, url: str) -> Page:
    """Read the card at t.me/<name>: what kind of thing bears the name, and why its messages are not shown.

    Raises LayoutChanged if the page has no such card.
    """
    return _landing(_root(html, url), html, url)


def parse_post(html: bytes, url: str) -> Page:
    """Read one message (t.me/<name>/<id>?embed=1&mode=tme). Raises LayoutChanged if there is no message and no card."""
    root = _root(html, url)
    return _single(root, url) if _find(root, "tgme_widget_message") is not None else _landing(root, html, url)


def _root(html: bytes, url: str) -> Element:
    root = tree_of(html)
    if root is None:
        raise LayoutChanged(PLATFORM, url, "readable elements")
    return root


def _history(root: Element) -> Element | None:
    found = _find(root, "tgme_channel_history")
    return found if found is not None else _find(root, "js-message_history")


def _messages(root: Element) -> list[Element]:
    return list(root.xpath(".//div[@data-post]"))


def _channel(root: Element, html: bytes, url: str) -> Page:
    messages = _messages(root)
    posts = tuple(post for message in messages if (post := read_message(message, url)))
    verdict, reason = _list_verdict(root, html, url, posts)
    views = [read_view(message) for message in messages]
    name = _name(root, url, posts)
    facts = _facts(root, html)
    facts += [("server_time", view.rendered_at.isoformat()) for view in views[:1] if view.rendered_at]
    return Page(
        url=url,
        verdict=verdict,
        reason=reason,
        title=_text(root, "tgme_channel_info_header_title") or _meta(root, "og:title"),
        channel=name,
        channel_id=next((view.channel_id for view in views if view.channel_id), None),
        posts=posts,
        media=_avatar(root, url),
        links=tuple(_pagers(root, url)),
        gaps=_gaps(posts, url),
        extra=tuple(facts),
    )


def _list_verdict(root: Element, html: bytes, url: str, posts: tuple[Post, ...]) -> tuple[Verdict, str | None]:
    """Posts outweigh the words "no posts found", which anybody may write. An empty list must be whole to be believed."""
    if posts:
        return Verdict.CONTENT, None
    for name in ("tme_no_messages_found", "tgme_no_messages_found"):
        if (notice := _find(root, name)) is not None:
            return Verdict.EMPTY, f'the page says "{text_of(notice)}"'
    if _find(root, "tgme_widget_message_wrap") is None and b"</main>" in html:
        return Verdict.EMPTY, "the list of messages is empty"
    raise LayoutChanged(PLATFORM, url, "message with an id")


def _name(root: Element, url: str, posts: tuple[Post, ...]) -> str | None:
    if posts:
        return posts[0].channel
    main = _find(root, "tgme_main")
    shown = (main.get("data-url") or "").strip("/") if main is not None else ""
    return shown or wanted(url).name


def _facts(root: Element, html: bytes) -> list[Fact]:
    """What the channel says of itself. Counters are kept as shown ("2.49K")."""
    about = _text(root, "tgme_channel_info_description") or _meta(root, "og:description") or ""
    facts = [("description", about)] if about else []
    labels = _find(root, "tgme_channel_info_header_labels")
    if labels is not None and _find(labels, "verified-icon") is not None:
        facts.append(("verified", "yes"))
    for counter in root.xpath(_xpath("tgme_channel_info_counter")):
        name, value = _text(counter, "counter_type"), _text(counter, "counter_value")
        if name and value:
            facts.append((name if name.endswith("s") else name + "s", value))
    if b"</html>" not in html:
        facts.append(("cut_off", "the page has no end; messages may be missing"))
    return facts


def _avatar(root: Element, url: str) -> tuple[Media, ...]:
    for image in root.xpath(_xpath("tgme_page_photo_image") + "/descendant-or-self::img"):
        if address := web_url(image.get("src"), url):
            return (Media(kind=MediaKind.AVATAR, url=address),)
    return ()


def _cursor(url: str, key: str) -> int | None:
    found = re.search(rf"[?&]{key}=(\d{{1,15}})(?!\d)", url)
    return int(found[1]) if found else None


def _pagers(root: Element, url: str) -> list[Link]:
    """Follow the page's own cursors only, and only onward: before=0 would silently give the newest page again."""
    links = []
    for kind, key, rel in ((LinkKind.OLDER, "before", "prev"), (LinkKind.NEWER, "after", "next")):
        shown = root.xpath(f"{_xpath('tme_messages_more')}[@data-{key}]/@href | .//link[@rel='{rel}']/@href")
        at = _cursor(url, key)
        for href in shown:
            onward, to = web_url(str(href), url), _cursor(str(href), key)
            if onward is None or to is None or urlsplit(onward).netloc != urlsplit(url).netloc:
                continue
            if (key == "before" and 1 < to < (at or to + 1)) or (key == "after" and to > (at or 0)):
                links.append(Link(kind=kind, url=onward))
                break
    return links


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


def _single(root: Element, url: str) -> Page:
    posts = tuple(post for message in _messages(root) if (post := read_message(message, url)))
    if posts:
        view = read_view(_messages(root)[0])
        stamp = view.rendered_at
        return Page(
            url=url,
            verdict=Verdict.CONTENT,
            title=_text(root, "tgme_widget_message_owner_name") or None,
            channel=posts[0].channel,
            channel_id=posts[0].channel_id,
            posts=posts,
            extra=(("server_time", stamp.isoformat()),) if stamp else (),
        )
    says = _text(root, "tgme_widget_message_error")
    if not says and _find(root, "err_message") is None:
        raise LayoutChanged(PLATFORM, url, "message with an id")
    verdict, reason = _post_refusal(says)
    return Page(url=url, verdict=verdict, reason=reason, channel=wanted(url).name)


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


def _landing(root: Element, html: bytes, url: str) -> Page:
    card = _find(root, "tgme_page")
    if card is None:
        raise LayoutChanged(PLATFORM, url, "message list, message or landing card")
    name = wanted(url).name or _resolved(root)
    kind, verdict, reason = _refusal(root, card, html, url)
    extras = [text_of(extra) for extra in card.xpath(_xpath("tgme_page_extra"))]
    links = [Link(kind=LinkKind.LISTING, url=preview) for preview in _previews(card, url)]
    if kind == "message":
        links = [Link(kind=LinkKind.LANDING, url=wanted_url(url))]
    elif kind == "blocked" and name:  # the sentence that says why stands in the frame of any message
        links = [Link(kind=LinkKind.LANDING, url=urljoin(url, f"/{name}/1?embed=1&mode=tme"))]
    about = _text(card, "tgme_page_description") or (_meta(root, "og:description") or "" if kind == "message" else "")
    facts = [("kind", kind), *(("counter", text) for text in extras), *([("description", about)] if about else [])]
    return Page(
        url=url,
        verdict=verdict,
        reason=reason,
        title=_text(card, "tgme_page_title") or _meta(root, "og:title"),
        channel=name,
        media=_avatar(root, url),
        links=tuple(links[:1]),
        extra=tuple(facts),
    )


def _resolved(root: Element) -> str | None:
    found = re.search(r"domain=(\w+)", _meta(root, "al:ios:url") or "")
    return found[1] if found else None


def _previews(card: Element, url: str) -> list[str]:
    """Where the card's own "Preview channel" leads; links of a description are its author's."""
    hrefs = card.xpath(_xpath("tgme_page_context_link") + "/@href")
    return [whole for href in hrefs if (whole := web_url(str(href), url)) and urlsplit(whole).path.startswith("/s/")]


def _refusal(root: Element, card: Element, html: bytes, url: str) -> tuple[str, Verdict, str]:
    """Tell refusals apart by their card. Status is 200 for all of them; a half card decides nothing."""
    extras = " ".join(text_of(extra) for extra in card.xpath(_xpath("tgme_page_extra"))).lower()
    about = _text(card, "tgme_page_description").lower()
    about = about or _text(card, "tgme_page_additional").lower()
    button = _text(card, "tgme_page_action").lower()
    nameless = "noindex" in (_meta(root, "robots") or "")
    action = " ".join(str(href) for href in card.xpath(_xpath("tgme_page_action") + "//a/@href"))
    if b"</html>" not in html:
        return "unknown", Verdict.UNDECIDED, "the landing card is cut off"
    if "tg://join?invite=" in action or re.search(r"/(\+|joinchat/)", urlsplit(url).path):
        return "invite", Verdict.NO_PREVIEW, "a private invite link: such a chat cannot be read without joining it"
    if _find(card, "tgme_page_widget") is not None or card.xpath(".//@data-telegram-post"):
        return "message", Verdict.UNDECIDED, "the page shows the message in a frame that has an address of its own"
    if re.search(r"\bmonthly users?\b", extras) or button == "start bot":
        return "bot", Verdict.NO_PREVIEW, "a bot, not a channel: it has no messages to show"
    if re.search(r"\d\s*subscribers?\b", extras):
        return _channel_refusal(bool(_previews(card, url)))
    if re.search(r"\d\s*members?\b", extras):
        return "group", Verdict.NO_PREVIEW, "a group: Telegram gives no list of its messages without an account"
    if nameless and "invited to" in about:
        return "invite", Verdict.NO_PREVIEW, "a private invite link: such a chat cannot be read without joining it"
    if nameless and re.search(r"\bview (posts|and join)\b", about):
        return "blocked", Verdict.BLOCKED, "a channel that Telegram has blocked, at least for where we asked from"
    if nameless:
        return "name", Verdict.UNDECIDED, "nobody to be seen under this name: it is free, deleted or private"
    if button == "send message":
        return "person", Verdict.NO_PREVIEW, "a person's account, not a channel"
    return "unknown", Verdict.UNDECIDED, "a landing card of a kind that is not known here"


def _channel_refusal(offered: bool) -> tuple[str, Verdict, str]:
    if offered:
        return "channel", Verdict.UNDECIDED, "a channel that offers a preview, yet its card came instead of the list"
    return "channel", Verdict.NO_PREVIEW, "a channel whose web preview is switched off"
