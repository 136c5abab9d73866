"""What an address at Telegram asks for, and which address shows it without an account."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

HOSTS = frozenset({"t.me", "telegram.me", "telegram.dog", "www.t.me"})
_NAME = re.compile(r"[A-Za-z]\w{2,63}", re.ASCII)
_NO_CHANNEL = (  # first steps of paths at t.me that are services, not names
    "a addemoji addlist addstickers addtheme bg boost call confirmphone contact giftcode invoice iv joinchat k login m "
    "msg nft proxy setlanguage share socks url web"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an address asks for; `name` None: nothing that a preview shows."""

    base: str
    name: str | None = None
    post: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    history: bool = False


def wanted(url: str) -> Wanted:
    """Take an address apart. Reads all that `wanted_url` reads."""
    text = url.strip()
    if text.startswith("@") or _NAME.fullmatch(text):
        text = "https://t.me/" + text.removeprefix("@")
    if text.startswith("tg://resolve"):
        asked = parse_qs(urlsplit(text).query)
        text = "https://t.me/" + "/".join([*asked.get("domain", [""]), *asked.get("post", [])])
    try:
        parts = urlsplit(text if "://" in text else "https://" + text)
        host = (parts.hostname or "").lower()
    except ValueError:
        return Wanted(base="")
    steps = [step for step in parts.path.split("/") if step]
    if host.endswith(".t.me") and host not in HOSTS:
        steps.insert(0, host.removesuffix(".t.me"))
    known = host in HOSTS or host.endswith(".t.me")
    base = "https://t.me" if known else f"{parts.scheme}://{parts.netloc}"
    history = len(steps) > 1 and steps[0] == "s"
    name, *rest = steps[1:] if history else steps or [""]
    if not _NAME.fullmatch(name) or name.lower() in _NO_CHANNEL.split():
        return Wanted(base=base)
    post = next((step for step in reversed(rest[:2]) if re.fullmatch(r"\d{1,15}", step)), None)
    return Wanted(base=base, name=name, post=post, query=tuple(parse_qsl(parts.query)), history=history)


def wanted_url(url: str) -> str:
    """Turn what a person types into the address to fetch: a channel's newest page, or one message.

    Reads @name, name, t.me/name, t.me/s/name?before=N, name.t.me, telegram.me/name/123, tg://resolve?domain=name.
    On other hosts (a sample site) only the path is changed. What no preview shows (an invite) is given back as it is.
    """
    want = wanted(url)
    if want.name is None:
        text = url.strip()
        return text if "://" in text else "https://" + text
    if want.post and not want.history:
        return f"{want.base}/{want.name}/{want.post}?embed=1&mode=tme"
    cursor = urlencode([(key, value) for key, value in want.query if key in ("before", "after", "q")])
    path = f"{want.base}/s/{want.name}" + (f"/{want.post}" if want.post else "")
    return path + ("?" + cursor if cursor else "")


def history_url(url: str, name: str, before: int) -> str:
    """Name the page of a channel's history that shows what lies below an id; `url` is any address of the same host."""
    return f"{wanted(url).base}/s/{name}?before={before}"


def matches(url: str) -> bool:
    """Tell whether this module reads an address. Invites match too: their card says why they cannot be read."""
    text = url.strip()
    if text.startswith("@") or text.startswith("tg://resolve"):
        return wanted(text).name is not None
    try:
        parts = urlsplit(text if "://" in text else "https://" + text)
        host = (parts.hostname or "").lower()
    except ValueError:
        return False
    if host not in HOSTS and not host.endswith(".t.me"):
        return False
    return parts.scheme in ("http", "https") and (is_private(parts.geturl()) or wanted(text).name is not None)


def is_private(url: str) -> bool:
    """Tell whether an address is an invite or lies in a private chat, by its path."""
    return bool(re.match(r"/(\+\w|joinchat/\w|c/\d)", urlsplit(url).path))
