"""Video platforms: pages whose file only the media fetcher finds."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from spiders.page import LayoutChanged, Media, MediaKind, Page, Post, PostKind, Verdict
from spiders.reading import language_of

HOSTS = re.compile(
    r"(^|\.)(youtube\.com|youtu\.be|vimeo\.com|tiktok\.com|dailymotion\.com|rutube\.ru|vkvideo\.ru|ok\.ru|odysee\.com)$"
)


def matches(url: str) -> bool:
    """Tell whether the URL's host is a known video platform."""
    return bool(HOSTS.search((urlsplit(url).hostname or "").rstrip(".").lower()))


def parse_info(body: bytes, url: str) -> Page:
    """Read yt-dlp's info.json (its documented field names) as a post with one video.

    Raises LayoutChanged if the body is no such object.
    """
    try:
        info = json.loads(body)
    except ValueError as error:
        raise LayoutChanged("video", url, "readable info.json") from error
    if not isinstance(info, dict) or "id" not in info:
        raise LayoutChanged("video", url, "video in its info.json")
    text = str(info.get("description") or "")
    address = str(info.get("webpage_url") or url)
    published, raw = _published(info)
    video = Media(kind=MediaKind.VIDEO, url=_file_url(info), duration_seconds=info.get("duration"))
    post = Post(
        kind=PostKind.POST,
        platform=str(info.get("extractor_key") or "video").lower(),
        url=address,
        channel=info.get("channel") or info.get("uploader_id"),
        channel_id=info.get("channel_id"),
        post_id=str(info["id"]),
        author=info.get("uploader"),
        title=info.get("title"),
        text=text,
        language=language_of(f"{info.get('title') or ''}\n{text}"),
        published_at=published,
        published_raw=raw,
        views=info.get("view_count"),
        views_raw=str(info["view_count"]) if info.get("view_count") is not None else None,
        media=(video,),
    )
    return Page(url=address, verdict=Verdict.CONTENT, title=post.title, text=text, posts=(post,))


def _published(info: dict[str, Any]) -> tuple[datetime | None, str | None]:
    if (stamp := info.get("timestamp")) is not None:
        return datetime.fromtimestamp(stamp, UTC), str(stamp)
    day = info.get("upload_date")
    return (datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC), day) if day else (None, None)


def _file_url(info: dict[str, Any]) -> str | None:
    for download in info.get("requested_downloads") or ():
        if download.get("url"):
            return str(download["url"])
    return info.get("url")
