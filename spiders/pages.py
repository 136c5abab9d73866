"""Any page: its charset, what sort of document it is, its visible text and pictures, and what it turned out to be."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from lxml.etree import _Element as Element
from w3lib.encoding import html_to_unicode

from spiders.language import language_of
from spiders.page import Media, MediaKind, Page, Post, PostKind, Verdict
from spiders.reading import text_of, tree_of
from spiders.structured import Declared, absolute, base_of, declared
from spiders.verdict import judge

Sort = Literal["feed", "sitemap", "article", "listing", "page", "file"]

EXTRACTED_CHARS = 5_000_000  # a longer page is read as plain visible text: a bound, no page of an outlet comes near
SAMPLE_CHARS = 5_000  # of a text, enough to tell its language
_ENDS = re.compile(r"</(?:body|html)\s*>", re.IGNORECASE)
_CHARSETS = ("cp1251", "koi8-u", "iso-8859-2", "cp1250", "iso-8859-5", "cp866", "cp1252")
_ASCII = bytes(range(128))
_COMMON = "абвгдежзийклмнопрстуфхцчшщыьэюяіўєїґёąćęłńóśźż"
_MAGIC = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF-", b"PK\x03\x04", b"\x1aE\xdf\xa3", b"OggS", b"ID3", b"fLaC"),
    *(b"Rar!", b"7z\xbc\xaf", b"BM", b"II*\0", b"MM\0*", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"\0\0\1\0", b"wOF"),
)
_FILE_TYPES = re.compile(r"(?:image|video|audio|font)/(?!svg)|application/(?:pdf|zip|octet-stream|msword|vnd\.|x-)")
_MARKUP_TYPES = re.compile(r"html|xml|json|rss|atom|text/", re.IGNORECASE)
_FEED = re.compile(r"<(?:\w+:)?(?:rss|feed|rdf|channel)[\s>]", re.IGNORECASE)
_SITEMAP = re.compile(r"<(?:\w+:)?(?:urlset|sitemapindex)[\s>]", re.IGNORECASE)
_JSON_FEED = re.compile(r"https?:\\?/\\?/jsonfeed\.org", re.IGNORECASE)
_TRACKING = re.compile(r"^(?:utm_\w+|fbclid|gclid|yclid|ysclid|_openstat|ref|from|mc_[ce]id|cmpid|at_\w+|amp|share)$")

_NO_ARTICLE = re.compile(
    r"/(?:tags?|category|categories|authors?|login|signin|register|search|page|rss|feeds?|about|contacts?|comments|subscribe"
    r"|newsletter|account|users?|wp-admin|wp-login\.php|privacy|terms|topics?|rubrics?|archive|help|print|donate|advertising"
    r"|tema|temy|autor|avtor|szukaj|kategoria)/"
)
_FILE_NAME = re.compile(r"\.(?:jpe?g|png|gif|webp|svg|pdf|docx?|xlsx?|zip|mp[34]|m4a|webm|css|js|xml|rss|json|ico)$")
_ICON = re.compile(
    r"(?:^|[\s_/.-])(?:logos?|icons?|sprites?|avatars?|emojis?|pixel|blank|spacer|counter|badge|userpic|banner)(?:$|[\s_/.-])",
    re.IGNORECASE,
)
_LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-full", "data-image", "data-url", "src")
_LAZY_SETS = ("data-srcset", "data-lazy-srcset", "srcset")
_PLAYERS = re.compile(
    r"//(?:[\w-]+\.)*(?:youtube(?:-nocookie)?\.com/embed|player\.vimeo\.com|rutube\.ru/(?:play|video)|dailymotion\.com/embed"
    r"|(?:vk\.com|vkvideo\.ru|vk\.ru)/video_ext|ok\.ru/videoembed|facebook\.com/plugins/video|tiktok\.com/embed|coub\.com/embed"
    r"|peertube[\w.-]*/videos/embed|[\w.-]+/videos/embed|player\.twitch\.tv|streamable\.com/|w\.soundcloud\.com/player)"
)
_DOCUMENTS = (".pdf", ".doc", ".docx", ".odt", ".xls", ".xlsx", ".rtf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A page read once for all its readers; `tree` is None where it holds no element."""

    url: str
    source: str
    tree: Element | None
    said: Declared


def document(html: bytes, url: str, content_type: str | None = None) -> Document:
    """Read a page's bytes into text, elements and what it declares about itself."""
    source, tree = read(html, content_type)
    return Document(url=url, source=source, tree=tree, said=Declared() if tree is None else declared(tree, url))


def parse_page(html: bytes, url: str, content_type: str | None = None) -> Page:
    """Read any page as one PAGE post: title, visible text, language, pictures, players, addresses that it names.

    A file (picture, film, PDF) is CONTENT without text. Nothing of it is meant to be followed: `links` stays empty.
    """
    if sort_by_head(html, url, content_type) == "file":
        return Page(url=url, verdict=Verdict.CONTENT, reason=f"a file, {_plain_type(content_type) or 'type unknown'}")
    return page_of(document(html, url, content_type))


def page_of(doc: Document) -> Page:
    """Read a document as a generic page."""
    url, tree, said = doc.url, doc.tree, doc.said
    if tree is None:
        return refusal(doc, doc.source.strip())
    text, title = extracted(doc.source, tree), said.title or title_of(tree)
    judged = judge(doc.source, url, text, tree=tree)
    if not judged.verdict.readable:
        return Page(url=url, **judged._asdict(), title=title)
    post = Post(
        kind=PostKind.PAGE,
        platform=site_of(url),
        url=url,
        post_id=stable_path(url),
        author=", ".join(said.authors) or None,
        title=title,
        text=text,
        language=language_of(text[:SAMPLE_CHARS]) or said.language,
        links=links_of(tree, url),
        media=media_of(tree, url, said),
        extra=(("canonical", said.canonical),) if said.canonical else (),
    )
    return Page(url=url, **judged._asdict(), title=title, language=post.language, posts=(post,))


def refusal(doc: Document, text: str) -> Page:
    """Say what a page is that has nothing to read."""
    return Page(url=doc.url, **judge(doc.source, doc.url, text, tree=doc.tree)._asdict())


def classify(body: bytes, url: str, content_type: str | None = None) -> Sort:
    """Tell which reader a body is for, by what it is; the declared type decides only where the body does not."""
    return sort_by_head(body, url, content_type) or sort_of_html(document(body, url, content_type))


def sort_by_head(body: bytes, url: str, content_type: str | None = None) -> Sort | None:
    """Tell feeds, sitemaps and files by their first bytes and declared type; None for HTML."""
    kind, head = _plain_type(content_type), _head(body)
    if body[:2] == b"\x1f\x8b" and "sitemap" in url.lower():
        return "sitemap"
    if _has_magic(body):  # decisive: a picture may carry RDF inside
        return "file"
    if _SITEMAP.search(head):
        return "sitemap"
    if (_FEED.search(head) and not re.search(r"<html[\s>]", head, re.IGNORECASE)) or _JSON_FEED.search(head):
        return "feed"
    if _is_file(body, kind):
        return "file"
    if kind == "text/plain" and "sitemap" in url.lower():
        return "sitemap"
    return "feed" if re.search(r"rss|atom|feed\+json", kind) and "<html" not in head.lower() else None


def _plain_type(content_type: str | None) -> str:
    return (content_type or "").split(";")[0].strip().lower()


def _head(body: bytes) -> str:
    """The first signs of a document, comments and prologue left out, in whatever ASCII-like or wide charset."""
    raw = body[:16_384]
    text = raw.replace(b"\0", b"").decode("latin-1")
    return re.sub(r"<!--.*?(?:-->|$)|<\?.*?(?:\?>|$)", " ", text, flags=re.DOTALL)[:2_000]


def _has_magic(body: bytes) -> bool:
    riff = body[:4] == b"RIFF" and body[8:12] in (b"WEBP", b"WAVE", b"AVI ")
    return body.startswith(_MAGIC) or body[4:8] == b"ftyp" or riff


def _is_file(body: bytes, kind: str) -> bool:
    head = _head(body)
    if head.lstrip()[:1] in ("{", "[") and "html" not in kind:
        return True
    if "<" in head and re.search(r"<(?:!doctype|html|head|body|title|meta|p|div)\b", head, re.IGNORECASE):
        return False
    return bool(_FILE_TYPES.match(kind)) and not _MARKUP_TYPES.search(kind)


def sort_of_html(doc: Document) -> Sort:
    """Tell an article, a page of links to articles and any other page apart."""
    tree, url, said = doc.tree, doc.url, doc.said
    if tree is None:
        return "page"
    shaped, root = article_shaped(url), not urlsplit(url).path.strip("/")
    prose = sum(len(text) for p in tree.iter("p") if len(text := "".join(p.itertext()).strip()) > 60)
    named = {link for link in links_of(tree, url) if article_shaped(link) and same_site(link, url)}
    if not root and (said.is_article or shaped):
        return "article" if shaped or said.articles == 1 or prose > min(1_500, 150 * len(named)) else "listing"
    return "listing" if len(named) >= (2 if root else 5) else "page"


def decode(body: bytes, content_type: str | None = None) -> str:
    """Give a page's text: charset by BOM, HTTP, meta, then by what the bytes look like; a false UTF-8 label is overruled."""
    charset, text = html_to_unicode(content_type, body, "utf-8", _detect)
    if charset == "utf-8" and "\ufffd" in text and text.count("\ufffd") > 3 + len(body.translate(None, _ASCII)) // 20:
        text = body.decode(_detect(body), "replace")
    return text


def _detect(body: bytes) -> str:
    sample = body[:200_000]
    try:
        sample[: sample.rfind(b"<") if len(body) > len(sample) else None].decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        return max(_CHARSETS, key=lambda charset: _likeness(sample.translate(None, _ASCII)[:20_000], charset))


def _likeness(high: bytes, charset: str) -> int:
    """How much bytes above ASCII look like small letters of our languages when read in a charset."""
    text = high.decode(charset, "replace")
    return sum(2 if sign in _COMMON else -2 if not sign.isalpha() else 0 for sign in text)


def read(body: bytes, content_type: str | None = None) -> tuple[str, Element | None]:
    """Give a page as text and as elements; no elements where it holds none.

    Tags that end body or html are left out: libxml2 2.14 drops what follows them, a browser shows it.
    """
    source = _ENDS.sub(" ", decode(body, content_type).replace("\0", ""))
    return source, tree_of(source.encode("utf-8", "replace")) if source.strip() else None


def extracted(source: str, tree: Element) -> str:
    """The page's own text without menus where it can be told apart, else all visible text."""
    from trafilatura import extract  # takes 0.3 s to import

    found = None
    if len(source) <= EXTRACTED_CHARS:
        found = extract(source, include_comments=False, favor_recall=True)
    return found if found and len(found) > 200 else max(found or "", text_of(tree), key=len)


def title_of(tree: Element) -> str | None:
    """The page's first title or heading."""
    lines = (" ".join("".join(tag.itertext()).split()) for tag in (*tree.iter("title"), *tree.iter("h1")))
    return next((line for line in lines if line), None)


def site_of(url: str) -> str:
    """The host that a person would name: without www."""
    return (urlsplit(url).hostname or "").rstrip(".").removeprefix("www.")


def same_site(one: str, other: str) -> bool:
    """Whether two addresses lie on one site: www., m. and further subdomains make no difference."""
    first, second = (re.sub(r"^(?:m|amp|mobile)\.", "", site_of(url)) for url in (one, other))
    return bool(first) and (first == second or first.endswith("." + second) or second.endswith("." + first))


def stable_path(url: str) -> str:
    """Name a page within its site: path and telling query, the same for all spellings of one address."""
    parts = urlsplit(url)
    path = quote(unquote(parts.path).rstrip("/") or "/", safe="/:@!$&'()*+,;=~-._")
    asked = sorted(pair for pair in parse_qsl(parts.query) if not _TRACKING.match(pair[0].lower()))
    return f"{path}?{urlencode(asked)}" if asked else path


def article_shaped(url: str) -> bool:
    """Whether an address looks like an article's: a number, a dated path or a long slug, and no section's name in it."""
    parts = urlsplit(url)
    steps = [step.lower() for step in unquote(parts.path).split("/") if step]
    if not steps:
        return bool(re.search(r"(?:^|&)(?:p|id|newsid|news_id|article)=\d+", parts.query))
    last = steps[-1]
    if _NO_ARTICLE.search(f"/{'/'.join(steps)}/") or _FILE_NAME.search(last) or re.search(r"_print\.\w+$", last):
        return False
    if any(re.fullmatch(r"\d{4,}", step) and not re.fullmatch(r"(?:19|20)\d\d", step) for step in steps):
        return True
    stem, page = re.subn(r"\.(?:s?html?|php|aspx?)$", "", last)
    if re.search(r"(?<!\d)(?!(?:19|20)\d\d(?!\d))\d{4,}", stem) or (len(steps) > 1 and page and stem != "index"):
        return True
    dated = re.search(r"/(?:19|20)\d\d[/-]\d{1,2}[/-]\d{1,2}/[^/]+", "/" + "/".join(steps))
    return bool(dated) or (len(stem) >= 20 and len(re.findall(r"[-_]", stem)) >= 3)


def links_of(root: Element, url: str) -> tuple[str, ...]:
    """All http(s) addresses that anchors name, in their order, each once."""
    base = base_of(root, url)
    found = (absolute(base, tag.get("href")) for tag in root.iter("a") if tag.get("href"))
    return tuple(dict.fromkeys(link for link in found if link))[:5_000]


def media_of(root: Element, url: str, said: Declared) -> tuple[Media, ...]:
    """Pictures, films, sounds and documents: the declared first, then those below `root`; each address once."""
    base, media = base_of(root, url), dict[str, Media]()
    for kind, found in ((MediaKind.PHOTO, said.images), (MediaKind.VIDEO, said.videos)):
        media |= {each: Media(kind=kind, url=each) for each in found}
    for kind, href, title in _shown(root):
        each = absolute(base, href)
        if each and each not in media and len(media) < 1_000:
            media[each] = Media(kind=kind, url=each, title=title)
    return tuple(media.values())


def _shown(root: Element) -> Iterator[tuple[MediaKind, str | None, str | None]]:
    for tag in root.iter("img", "amp-img", "video", "audio", "iframe", "a", "meta"):
        if tag.tag in ("img", "amp-img"):
            yield MediaKind.PHOTO, _best_source(tag), tag.get("alt") or None
        elif tag.tag in ("video", "audio"):
            kind = MediaKind.VIDEO if tag.tag == "video" else MediaKind.AUDIO
            yield kind, tag.get("src") or next((each.get("src") for each in tag.iter("source")), None), tag.get("title")
            yield MediaKind.POSTER, tag.get("poster"), None
        elif tag.tag == "iframe" and _PLAYERS.search(source := tag.get("src") or tag.get("data-src") or ""):
            yield MediaKind.VIDEO, source, tag.get("title")
        elif tag.tag == "a" and urlsplit_path(tag.get("href")).endswith(_DOCUMENTS):
            yield MediaKind.DOCUMENT, tag.get("href"), " ".join("".join(tag.itertext()).split())[:200] or None


def urlsplit_path(href: str | None) -> str:
    """The path of a link as it stands in the page, in small letters."""
    return (href or "").split("#")[0].split("?")[0].lower()


def _best_source(img: Element) -> str | None:
    """The largest file that an image offers; None for icons, spacers and pictures inside the page itself."""
    if any((size := img.get(side, "")).isdigit() and int(size) < 60 for side in ("width", "height")):
        return None
    sets = [img.get(name) for name in _LAZY_SETS]
    parent = img.getparent()
    if parent is not None and parent.tag == "picture":
        sets += [source.get(name) for source in parent.iter("source") for name in _LAZY_SETS]
    offered = [pair for each in sets if each for pair in _candidates(each)]
    plain = [value for name in _LAZY if (value := img.get(name)) and not value.startswith("data:")]
    best = max(offered, default=(0.0, None), key=lambda pair: pair[0])[1] or next(iter(plain), None)
    spoken = f"{img.get('class', '')} {urlsplit_path(best).rpartition('/')[2]}"
    return None if best is None or best.endswith(".svg") or _ICON.search(spoken) else best


def _candidates(srcset: str) -> Iterator[tuple[float, str]]:
    """Split a srcset into (width or density, address); linear in its length (HTML standard 4.8.4.2.1)."""
    pieces = [*srcset.split()[:400], ""]
    for piece, after in pairwise(pieces):
        size = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)[wxh],?", after)
        if piece.startswith("data:") or re.fullmatch(r"[\d.]+[wxh],?|,", piece):
            continue
        yield float(size[1]) if size else 1.0, piece.strip(",")
