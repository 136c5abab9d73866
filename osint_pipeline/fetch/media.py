"""Fetches what a page plays, with yt-dlp as a library, and proves each file by the records of its bytes."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import yt_dlp
import yt_dlp.globals
from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.networking import RequestDirector
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import (
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnsupportedError,
    YoutubeDLError,
)

from osint_pipeline.fetch.guard import Guard
from osint_pipeline.fetch.media_proof import MediaFile, prove
from osint_pipeline.fetch.media_tee import Tee
from osint_pipeline.fetch.media_wire import RecordingRH
from osint_pipeline.fetch.sink import Sink
from settings.exits import Exit
from storage.exchange import RecordRef, Resource, Truncated
from storage.ids import new_id

NATIVE = ("HttpFD", "HlsFD", "DashSegmentsFD", "IsmFD", "F4mFD", "MhtmlFD")  # what records; others start programs
LOGIN = re.compile(r"log ?in|sign in|registered users|account|cookies|members[- ]only|subscriber", re.IGNORECASE)
GONE = re.compile(r"removed|deleted|no longer|does not exist|not found|terminated", re.IGNORECASE)
ADVICE = re.compile(r";? ?(please report this issue|use --|confirm you are on the latest).*", re.IGNORECASE | re.DOTALL)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class MediaFailure(StrEnum):
    """Why there is no file."""

    UNSUPPORTED = "unsupported"  # nothing on the page that yt-dlp knows to be media
    LOGIN = "login"
    GEO = "geo"  # not shown where we are
    FORBIDDEN = "forbidden"  # 401, 403, 451
    GONE = "gone"  # 404, 410, or the platform says so
    BUSY = "busy"  # 429
    ADDRESS = "address"  # the guard refused
    LIMIT = "limit"  # of our own, in bytes or time
    NETWORK = "network"
    OTHER = "other"


REFUSALS = (MediaFailure.LOGIN, MediaFailure.GEO, MediaFailure.FORBIDDEN, MediaFailure.GONE, MediaFailure.ADDRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaResult:
    """What one page of media gave. `reconciled` says that every byte of every file was found in a recorded response.

    `missing` names files without such proof. `info` is yt-dlp's description as JSON, `info_record` its record.
    `failure` says in words why there is nothing, `kind` in one; `refused` where the platform said no.
    """

    files: tuple[MediaFile, ...] = ()
    info: bytes | None = None
    info_record: RecordRef | None = None
    records: tuple[RecordRef, ...] = ()
    reconciled: bool = False
    missing: tuple[str, ...] = ()
    failure: str | None = None
    kind: MediaFailure | None = None

    @property
    def refused(self) -> bool:
        """Say whether the platform (or our guard) said no."""
        return self.kind in REFUSALS


def fetch_media(
    url: str,
    *,
    capture: UUID,
    sink: Sink,
    guard: Guard,
    scratch: Path,
    user_agent: str,
    limit_bytes: int,
    timeout_seconds: float,
    exit: Exit | None = None,
) -> MediaResult:
    """Fetch a page's media, thumbnails and subtitles (blocking), recording every exchange.

    A page without media, a refusal or a limit reached is an answer. Raises what the sink raises (SpoolFull and so on).
    """
    folder = scratch / f"media-{new_id()}"
    folder.mkdir(mode=0o700)
    tee = Tee(
        sink=sink, guard=guard, capture=capture, folder=folder,
        limit_bytes=limit_bytes, timeout_seconds=timeout_seconds, exit=exit,
    )  # fmt: skip
    try:
        try:
            info, failed = _download(url, tee, folder, user_agent)
        finally:
            tee.finish()
        if tee.error is not None:
            raise tee.error
        if failed is not None:
            kind, why = _why(failed, tee)
            return MediaResult(records=tuple(tee.records), failure=why, kind=kind)
        return _result(url, info, tee, folder, sink, capture)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Recorded(yt_dlp.YoutubeDL):
    """A YoutubeDL whose only request handler records, and that starts no other program."""

    def __init__(self, tee: Tee, params: dict[str, Any]) -> None:
        self._tee = tee
        super().__init__(params)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        def recording(**more: Any) -> RecordingRH:
            return RecordingRH(self._tee, **more)

        return super().build_request_director([recording], None)

    def dl(self, name: Any, info: Any, subtitle: bool = False, test: bool = False) -> Any:
        chosen = get_suitable_downloader(dict(info), self.params)
        if chosen is None or chosen.__name__ not in NATIVE:
            raise DownloadError(f"{info.get('protocol')} needs another program, whose traffic cannot be recorded")
        return super().dl(name, info, subtitle, test)


class _Quiet:
    """Takes what yt-dlp would print."""

    def debug(self, message: str) -> None: ...

    def info(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...


def _params(folder: Path, user_agent: str) -> dict[str, Any]:
    return {
        "logger": _Quiet(),
        "quiet": True,
        "noprogress": True,
        "http_headers": {"User-Agent": user_agent},
        "proxy": "",  # none, the environment's neither: the tee dials
        "geo_bypass": False,  # else a false X-Forwarded-For is sent
        "cachedir": False,
        "js_runtimes": {},
        "ffmpeg_location": str(folder / "no-ffmpeg"),
        "external_downloader": {"default": "native"},
        "hls_prefer_native": True,
        "fixup": "never",
        "format": "bv*/b,ba",  # the best picture and the best sound as two files: nothing is merged
        "outtmpl": {"default": "%(autonumber)05d-%(format_id).40B.%(ext)s"},
        "restrictfilenames": True,
        "paths": {"home": str(folder), "temp": str(folder)},
        "noplaylist": True,
        "playlistend": 50,
        "writethumbnail": True,
        "writesubtitles": True,
        "subtitleslangs": ["all", "-live_chat"],
        "keep_fragments": True,
        "skip_unavailable_fragments": False,
        "continuedl": False,
        "updatetime": False,
        "socket_timeout": 20,
        "retries": 2,
        "fragment_retries": 2,
        "extractor_retries": 1,
        "file_access_retries": 0,
    }


def _download(url: str, tee: Tee, folder: Path, user_agent: str) -> tuple[dict[str, Any], YoutubeDLError | None]:
    yt_dlp.globals.all_plugins_loaded.value = True  # so that none is looked for
    with _Recorded(tee, _params(folder, user_agent)) as downloader:
        try:
            info = downloader.extract_info(url, download=True)
        except (YoutubeDLError, RequestError) as error:
            return {}, error
        if tee.stopped is not None or info is None:
            return {}, DownloadError("nothing was found")
        return _told(downloader, info), None


def _told(downloader: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Keep what the page said; leave out where files lay on this machine."""
    entries = [one for one in info.get("entries") or () if one]
    told: dict[str, Any] = downloader.sanitize_info(info, remove_private_keys=True)
    if entries:
        told["entries"] = [_told(downloader, one) for one in entries]
    return told


def _why(error: Exception, tee: Tee) -> tuple[MediaFailure, str]:
    """Classify a failure and put it into a sentence."""
    if tee.stopped is not None:
        limit = "time" if tee.stopped is Truncated.TIME else f"{tee.limit_bytes} bytes"
        return MediaFailure.LIMIT, f"stopped by our limit of {limit}"
    if tee.refused:
        return MediaFailure.ADDRESS, str(tee.refused[0])
    causes = tuple(_causes(error))
    words = ADVICE.sub("", COLOUR.sub("", _words(causes))).removeprefix("ERROR: ").strip()
    return _kind(causes, words), words


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = (getattr(error, "exc_info", None) or (None, None))[1] if isinstance(error, DownloadError) else None
        error = inner or getattr(error, "cause", None) or error.__cause__


def _words(causes: tuple[BaseException, ...]) -> str:
    for one in causes:
        if isinstance(one, ExtractorError):
            return f"{one.orig_msg}" + (f": {one.cause}" if one.cause else "")
    return str(causes[0])


def _kind(causes: tuple[BaseException, ...], words: str) -> MediaFailure:
    for one in causes:
        if isinstance(one, UnsupportedError):
            return MediaFailure.UNSUPPORTED
        if isinstance(one, GeoRestrictedError):
            return MediaFailure.GEO
        if isinstance(one, HTTPError):
            return _status_kind(one.status)
    if any(isinstance(one, (RequestError, OSError)) for one in causes):
        return MediaFailure.NETWORK
    if LOGIN.search(words):
        return MediaFailure.LOGIN
    return MediaFailure.GONE if GONE.search(words) else MediaFailure.OTHER


def _status_kind(status: int) -> MediaFailure:
    known = {401: "FORBIDDEN", 403: "FORBIDDEN", 451: "FORBIDDEN", 404: "GONE", 410: "GONE", 429: "BUSY"}
    return MediaFailure[known.get(status, "NETWORK")]


def _result(url: str, info: dict[str, Any], tee: Tee, folder: Path, sink: Sink, capture: UUID) -> MediaResult:
    body = json.dumps(info, ensure_ascii=False, sort_keys=True).encode()
    page = next((one.ref for one in tee.kept if one.ref.url == url.partition("#")[0]), None)
    resource = Resource(
        url=f"urn:info:{url}", made_at=datetime.now(UTC), media_type="application/json", body=body,
        about=page.record_id if page else None,
    )  # fmt: skip
    told = sink.resource(resource, capture)
    files, missing = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix in (".answer", ".ytdl") or "-Frag" in path.name:
            continue
        proof = prove(path, tee.kept)
        if proof is None:
            missing.append(path.name)
            continue
        files.append(proof)
    return MediaResult(
        files=tuple(files),
        info=body,
        info_record=told,
        records=(*tee.records, told),
        reconciled=bool(files) and not missing,
        missing=tuple(missing),
    )
