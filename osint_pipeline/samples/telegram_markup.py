"""Draws a channel's pages with the element classes and nesting of t.me's own."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from osint_pipeline.samples.channel import SamplePost
from osint_pipeline.samples.telegram_media import Place, emoji, formatted, media

TITLE = "Прыкладны канал"
ABOUT = "Выдуманыя навіны выдуманых гарадоў. Усе імёны прыдуманыя."
STYLE = "body{font:15px sans-serif;max-width:44em;margin:auto}.tgme_widget_message_photo_wrap{display:block;background-size:cover}"
OPEN_APP = "Please open Telegram to view this post"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the landing page of a name says."""

    title: str = ""
    about: str = ""
    extra: str = ""
    preview: bool = False
    bot: bool = False
    person: bool = False
    hidden: bool = False


def _count(views: int) -> str:
    if views < 1000:
        return str(views)
    return f"{views / 1000:.3g}K" if views < 1_000_000 else f"{views / 1_000_000:.3g}M"


def page(
    place: Place,
    shown: Sequence[SamplePost],
    *,
    older: int | None,
    newer: int | None,
    last: int,
    counters: Sequence[tuple[str, str]],
    texts: Mapping[int, str],
    searched: str | None = None,
) -> str:
    """Draw one preview page, oldest message first."""
    blocks = "".join(message(place, one, texts) for one in shown)
    if searched is not None and not shown:
        blocks = _nothing_found()
    top = _pager(place, "before", older) if older else ""
    bottom = _pager(place, "after", newer) if newer else ""
    links = f'<link rel="prev" href="/s/{place.name}?before={older}">\n' if older else ""
    links += f'<link rel="canonical" href="/s/{place.name}?before={last + 1}">'
    main = (
        f'<main class="tgme_main" data-url="/{place.name}">\n<div class="tgme_container">\n'
        f'<section class="tgme_channel_history js-message_history">\n{top}{blocks}{bottom}</section>\n</div>\n</main>'
    )
    body = f'<body class="widget_frame_base tgme_webpreview emoji_image">\n{_header(place, counters)}\n{main}\n</body>'
    return f"{_head(place, links)}\n{body}\n</html>\n<!-- page generated in 12.34ms -->\n"


def _head(place: Place, links: str) -> str:
    avatar = place.file("avatar", 900, 0, "jpg")
    meta = "".join(
        f'<meta property="{name}" content="{escape(text)}">\n'
        for name, text in (
            ("og:title", TITLE),
            ("og:image", avatar),
            ("og:site_name", "Telegram"),
            ("og:description", ABOUT),
            ("twitter:title", TITLE),
            ("twitter:site", "@Telegram"),
            ("al:android:url", f"tg://resolve?domain={place.name}"),
        )
    )
    return (
        f'<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n<title>{TITLE} – Telegram</title>\n{meta}{links}\n'
        '<link href="/css/widget-frame.css?74" rel="stylesheet" media="screen">\n'
        '<link href="/css/telegram-web.css?39" rel="stylesheet" media="screen">\n</head>'
    )


def _header(place: Place, counters: Sequence[tuple[str, str]]) -> str:
    avatar = place.file("avatar", 900, 0, "jpg")
    photo = f'<i class="tgme_page_photo_image bgcolor6" data-content="П"><img src="{avatar}"></i>'
    counted = "".join(
        f'<div class="tgme_channel_info_counter"><span class="counter_value">{value}</span> '
        f'<span class="counter_type">{kind}</span></div>'
        for value, kind in counters
    )
    return f"""<header class="tgme_header search_collapsed"><div class="tgme_container">
<div class="tgme_header_search"><form class="tgme_header_search_form" action="/s/{place.name}">
<input class="tgme_header_search_form_input js-header_search" placeholder="Search" name="q" autocomplete="off" value="">
</form></div>
<div class="tgme_header_right_column"><section class="tgme_right_column"><div class="tgme_channel_info">
<div class="tgme_channel_info_header">{photo}
<div class="tgme_channel_info_header_title_wrap">
<div class="tgme_channel_info_header_title"><span dir="auto">{TITLE}</span></div>
<div class="tgme_channel_info_header_labels"></div></div>
<div class="tgme_channel_info_header_username"><a href="{place.base}/{place.name}">@{place.name}</a></div></div>
<div class="tgme_channel_info_counters">{counted}</div>
<div class="tgme_channel_info_description">{ABOUT}</div>
</div></section></div>
<div class="tgme_header_info"><a class="tgme_header_link" href="{place.base}/{place.name}">{photo}
<div class="tgme_header_title_wrap"><div class="tgme_header_title"><span dir="auto">{TITLE}</span></div></div>
<div class="tgme_header_counter">{counters[0][0]} {counters[0][1]}</div></a></div>
</div></header>"""


def _pager(place: Place, way: str, number: int) -> str:
    return (
        '<div class="tgme_widget_message_centered js-messages_more_wrap">'
        f'<a href="/s/{place.name}?{way}={number}" class="tme_messages_more js-messages_more" data-{way}="{number}"></a></div>\n'
    )


def _nothing_found() -> str:
    return (
        '<div class="tgme_widget_message_wrap js-widget_message_wrap"><div class="tgme_widget_message_centered">'
        '<div class="tme_no_messages_found">No posts found</div></div></div>\n'
    )


def message(place: Place, post: SamplePost, texts: Mapping[int, str]) -> str:
    """Draw one message block, an album being one."""
    service = " service_message" if post.kind in ("service", "created") else ""
    avatar = place.file("avatar", 900, 0, "jpg")
    inner = _service(place, post) if service else _content(place, post, texts)
    return f"""<div class="tgme_widget_message_wrap js-widget_message_wrap"><div class="tgme_widget_message text_not_supported_wrap{service} js-widget_message" data-post="{place.name}/{post.id}" data-view="{_view(place, post)}">
<div class="tgme_widget_message_user"><a href="{place.base}/{place.name}"><i class="tgme_widget_message_user_photo bgcolor6" data-content="П"><img src="{avatar}"></i></a></div>
<div class="tgme_widget_message_bubble"><i class="tgme_widget_message_bubble_tail"></i>
<div class="tgme_widget_message_author accent_color"><a class="tgme_widget_message_owner_name" href="{place.base}/{place.name}"><span dir="auto">{TITLE}</span></a></div>
{inner}
{_footer(place, post, bool(service))}
</div></div></div>
"""


def _view(place: Place, post: SamplePost) -> str:
    number = f"{post.id}g" if len(post.ids) > 1 else post.id
    seen = int(place.seen_at.timestamp())
    told = {
        "c": -place.number,
        "p": number,
        "t": seen,
        "h": hashlib.sha256(f"{number}{seen}".encode()).hexdigest()[:18],
    }
    return base64.urlsafe_b64encode(json.dumps(told, separators=(",", ":")).encode()).decode().rstrip("=")


def _service(place: Place, post: SamplePost) -> str:
    name = f'<a class="tgme_widget_message_author_name" href="{place.base}/{place.name}"><span dir="auto">{TITLE}</span></a>'
    said = (
        "Channel created"
        if post.kind == "created"
        else (f'{name} pinned «<span class="tgme_widget_service_strong_text" dir="auto">Правілы канала</span>»')
    )
    return f'<div class="tgme_widget_message_text js-message_text" dir="auto">{said}</div>'


def _content(place: Place, post: SamplePost, texts: Mapping[int, str]) -> str:
    parts = []
    if post.forwarded:
        parts.append(_forwarded(place, post))
    if post.reply_to:
        parts.append(_reply(place, post, texts))
    parts.append(media(place, post))
    if post.text and post.kind != "album":
        parts.append(f'<div class="tgme_widget_message_text js-message_text" dir="auto">{formatted(place, post)}</div>')
    if post.id % 5 == 0:
        parts.append(_reactions(post))
    if not post.text and post.kind == "text":
        parts.append(_unsupported(place, post))
    return "\n".join(part for part in parts if part)


def _forwarded(place: Place, post: SamplePost) -> str:
    if post.id % 2:
        name = '<span class="tgme_widget_message_forwarded_from_name" dir="auto">Схаваны адпраўнік</span>'
    else:
        name = (
            f'<a class="tgme_widget_message_forwarded_from_name" href="{place.base}/inszy_prykladny/{post.id + 500}">'
            '<span dir="auto">Іншы прыкладны</span></a>'
        )
    return f'<div class="tgme_widget_message_forwarded_from accent_color">Forwarded from&nbsp;{name}</div>'


def _reply(place: Place, post: SamplePost, texts: Mapping[int, str]) -> str:
    said = texts.get(post.reply_to or 0, "").split("\n")[0]
    kind = "text js-message_reply_text" if said else "metatext js-message_reply_text"
    return (
        f'<a class="tgme_widget_message_reply" href="{place.post(post.reply_to or 0)}">'
        f'<div class="tgme_widget_message_author accent_color"><span class="tgme_widget_message_author_name" dir="auto">{TITLE}</span></div>'
        f'<div class="tgme_widget_message_{kind}" dir="auto">{escape(said[:90] or "Photo")}</div></a>'
    )


def _reactions(post: SamplePost) -> str:
    return (
        '<div class="tgme_widget_message_reactions js-message_reactions">'
        f'<span class="tgme_reaction">{emoji("👍")}{post.views % 90 + 3}</span>'
        f'<span class="tgme_reaction"><tg-emoji emoji-id="5{post.id:018d}"></tg-emoji>{post.views % 20 + 1}</span></div>'
    )


def _unsupported(place: Place, post: SamplePost) -> str:
    return (
        '<div class="message_media_not_supported_wrap"><div class="message_media_not_supported">'
        f'<div class="message_media_not_supported_label">{OPEN_APP}</div>'
        f'<a href="{place.post(post.id)}" class="message_media_view_in_telegram">VIEW IN TELEGRAM</a></div></div>'
    )


def _footer(place: Place, post: SamplePost, service: bool) -> str:
    views = f'<span class="tgme_widget_message_views">{_count(post.views)}</span><span class="copyonly"> views</span>'
    signed = (
        f'<span class="tgme_widget_message_from_author" dir="auto">{post.signed}</span>,&nbsp;' if post.signed else ""
    )
    edited = "edited &nbsp;" if post.edited and not service else ""
    voters = (
        f'<span class="tgme_widget_message_voters">{post.views // 9} </span><span class="copyonly"> voters</span>'
        if post.kind == "poll"
        else ""
    )
    at = post.published_at
    return (
        '<div class="tgme_widget_message_footer compact js-message_footer"><div class="tgme_widget_message_info short js-message_info">'
        f'{voters}{"" if service else views}<span class="tgme_widget_message_meta">{"" if service else signed}{edited}'
        f'<a class="tgme_widget_message_date" href="{place.post(post.id)}"><time datetime="{at.isoformat()}" class="time">{at:%H:%M}</time></a>'
        "</span></div></div>"
    )


def single(place: Place, post: SamplePost | None, texts: Mapping[int, str]) -> str:
    """Draw the embedded page of one message; a missing one is an error with status 200."""
    block = (
        message(place, post, texts)
        if post
        else (
            '<div class="tgme_widget_message js-widget_message"><div class="tgme_widget_message_error err_message">Post not found</div></div>'
        )
    )
    return (
        '<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n<title>Telegram Widget</title>\n'
        '<meta name="robots" content="noindex, nofollow">\n<link href="/css/widget-frame.css?74" rel="stylesheet">\n</head>\n'
        f'<body class="widget_frame_base body_widget_post emoji_image">\n{block}\n</body>\n</html>\n'
    )


def landing(base: str, cdn: str, name: str, card: Card) -> str:
    """Draw the landing card of a name: its kind stands in the extra line, and all arrive with status 200."""
    robots = '<meta name="robots" content="noindex, nofollow">\n' if card.hidden else ""
    kind = "Contact" if card.person else ("Launch" if card.bot else "View")
    button = "Send Message" if card.person else ("Start Bot" if card.bot else "View in Telegram")
    if card.hidden:
        about = (
            card.about
            or f'If you have <strong>Telegram</strong>, you can contact <a href="tg://resolve?domain={name}">@{name}</a> right away.'
        )
        middle = f'<div class="tgme_page_icon"><i class="tgme_icon_user"></i></div>\n<div class="tgme_page_description">{about}</div>'
    else:
        handle = f'<div class="tgme_page_extra">@{name}</div>\n' if card.bot else ""
        middle = (
            f'<div class="tgme_page_photo"><img class="tgme_page_photo_image" src="{cdn}/file/avatar-900.jpg"></div>\n'
            f'<div class="tgme_page_title" dir="auto"><span>{card.title}</span></div>\n{handle}'
            f'<div class="tgme_page_extra">{card.extra}</div>\n<div class="tgme_page_description" dir="auto">{card.about}</div>'
        )
    preview = (
        f'<div class="tgme_page_context_link_wrap"><a class="tgme_page_context_link" href="/s/{name}">Preview channel</a></div>'
        if card.preview
        else ""
    )
    return f"""<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>Telegram: {kind} @{name}</title>
{robots}<meta property="og:title" content="{card.title or f"Telegram: {kind} @{name}"}">
<meta property="og:site_name" content="Telegram">
<meta property="og:description" content="{escape(card.about)}">
<link href="/css/telegram.css?254" rel="stylesheet" media="screen">
</head>
<body class="no_transition">
<div class="tgme_page_wrap"><div class="tgme_body_wrap"><div class="tgme_page">
{middle}
<div class="tgme_page_action"><a class="tgme_action_button_new shine" href="tg://resolve?domain={name}">{button}</a></div>
{preview}
</div></div></div>
</body>
</html>
"""
