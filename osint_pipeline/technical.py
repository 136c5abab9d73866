"""What a run was made with: exact versions, for each WARC's warcinfo and manifest."""

import json
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import UUID

from osint_pipeline.source import Source
from settings.service import Service
from storage.rows import SourceRow

PACKAGES = (
    "scrapy",
    "twisted",
    "playwright",
    "yt-dlp",
    "warcio",
    "isal",
    "trafilatura",
    "imagehash",
    "pillow",
    "boto3",
)


@cache
def software() -> dict[str, str]:
    """Name the versions of this program, Python and the packages that touch the bytes; "unknown", never left out."""
    found = {"osint-pipeline": _version("osint-pipeline"), "commit": _commit(), "python": platform.python_version()}
    found["platform"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    found.update({name: _version(name) for name in PACKAGES})
    found["lock-sha256"] = _lock()
    return found


# what decides what is captured and how; nothing of where it goes, and nothing secret
CONFIGURATION = (
    "user_agent", "robots", "delay_seconds", "concurrency_per_host", "timeout_seconds", "retries",
    "retry_after_limit_seconds", "memory_body_bytes", "body_limit_bytes", "decoded_limit_bytes", "page_timeout_seconds",
    "page_limit_bytes", "page_requests", "browser_pages", "browser_tries", "headed", "media_timeout_seconds", "media_limit_bytes", "warc_limit_bytes", "phash_radius_bits",
    "image_limit_pixels", "limit", "visit_seconds", "visit_bytes", "again_hours", "validator_hours", "overlap_pages",
    "missing_tries", "gap_tries", "gap_pages", "wall_hours",
)  # fmt: skip


def configuration(service: Service) -> dict[str, Any]:
    """Give the settings that a run is made with, for the record; the journal holds them, the manifest their digest."""
    return {name: _exact(getattr(service, name)) for name in CONFIGURATION}


def digest_of(detail: Mapping[str, Any]) -> str:
    """Digest a run's detail: SHA-256 of its JSON with sorted keys, no spaces, ASCII only."""
    return sha256(json.dumps(detail, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _exact(value: Any) -> Any:
    return str(value) if isinstance(value, float) else value


def warc_info(service: Service, run: UUID, source: Source | SourceRow, egress: str | None = None) -> dict[str, str]:
    """Give the fields of a run's warcinfo records (ISO 28500:2017 6.2); the collector is a code.

    `egress`: the way out; None for a WARC that holds nothing that was fetched for it.
    """
    found = software()
    told = {
        "software": f"osint-pipeline/{found['osint-pipeline']} ({found['commit']}) scrapy/{found['scrapy']} python/{found['python']}",
        "format": "WARC File Format 1.1",
        "conformsTo": "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/",
        "operator": service.collector,
        "publisher": service.organisation,
        "run": str(run),
        "isPartOf": source.slug,
        "description": f"run {run} of {source.url} by {source.spider}",
        "robots": source.robots or "unknown",
        "http-header-user-agent": service.user_agent,
    }
    if getattr(source, "identity", None):
        told["identity"] = (
            "a named identity is set for pages in the browser; their cookies and credentials are redacted"
        )
    return told if egress is None else {**told, "egress": egress}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _lock() -> str:
    path = Path(__file__).resolve().parent.parent / "requirements.lock"
    return sha256(path.read_bytes()).hexdigest() if path.exists() else "unknown"
