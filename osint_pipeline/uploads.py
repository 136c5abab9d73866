"""How this machine's uploads went last: a small file in the data folder, for what watches over it."""

import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from osint_pipeline.errors import for_the_archive
from osint_pipeline.logs import logger

log = logger(__name__)
NAME = "last-upload.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUpload:
    """When an upload last took all that waited, and since when none has; times are aware UTC."""

    succeeded_at: datetime | None = None
    failing_since: datetime | None = None
    error: str | None = None


def last_upload(folder: Path) -> LastUpload:
    """Read what was noted in a data folder; nothing where nothing was, or what was cannot be read."""
    try:
        said = json.loads((folder / NAME).read_text("utf-8"))
        times = {name: said[name] and datetime.fromisoformat(said[name]) for name in ("succeeded_at", "failing_since")}
        return LastUpload(**times, error=said["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return LastUpload()


def note_upload(folder: Path, error: BaseException | None) -> None:
    """Note that an upload ended, and by what error; it names no address."""
    before, now = last_upload(folder), datetime.now(UTC)
    if error is None:
        noted = LastUpload(succeeded_at=now)
    else:
        since = before.failing_since or now
        noted = LastUpload(succeeded_at=before.succeeded_at, failing_since=since, error=for_the_archive(error))
    path = folder / NAME
    fresh = path.with_name(f"{NAME}.{os.getpid()}-{threading.get_ident()}")
    try:
        fresh.write_text(json.dumps(asdict(noted), default=datetime.isoformat), "utf-8")
        fresh.replace(path)
    except OSError as failed:  # a full disk: the upload itself must not fail for it
        log.warning("cannot note how the upload ended", why=str(failed))
