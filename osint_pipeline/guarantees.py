"""What the object store was last found to guarantee, and what an operator will not crawl without."""

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from osint_pipeline.encryption import how_encrypted
from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from settings.errors import SettingError
from settings.service import Service
from settings.variables import variable
from storage.errors import StoreUnavailable
from storage.guarantee import Guarantee, Verdict

FILE = "store-guarantees.json"
ENCRYPTED = "encrypted_spool"  # of OSINT_REQUIRE; the one word that is not about the store
WORDS: Mapping[str, tuple[str, ...]] = {
    "worm": ("versioning", "object_lock", "retention_stays"),
    "versioning": ("versioning",),
    "checksums": ("content_md5", "signed_payload"),
    "put_if_absent": ("put_if_absent",),
    "no_delete": ("deletion_refused", "version_deletion_refused"),
    "private": ("unsigned_refused", "wrong_secret_refused", "wrong_key_refused"),
    "legal_hold": ("legal_hold",),
}
"""What OSINT_REQUIRE may name, and the guarantees that each word stands for (docs/stores.md)."""

_PROBE_SECONDS = 3.0  # a store that is away must not hold up a crawl: it is examined another time
_SPANS = ("patience_seconds", "connect_seconds", "read_seconds")
_EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """One examination of one bucket with one key; `endpoint` is "embedded" for the store that comes along."""

    endpoint: str
    bucket: str
    examined_at: datetime
    rows: tuple[Guarantee, ...]

    def verdict(self, name: str) -> Verdict | None:
        """Say what became of a guarantee; None where it was not tried."""
        return next((row.verdict for row in self.rows if row.name == name), None)

    def compact(self) -> dict[str, Any]:
        """Give what stands in a run's manifest: {"examined_at": ..., "guarantees": {name: verdict}}."""
        verdicts = {row.name: row.verdict.value for row in self.rows}
        return {"examined_at": self.examined_at.astimezone(UTC).isoformat(), "guarantees": verdicts}


def known(workspace: Workspace) -> Guarantees | None:
    """Give the last examination of this store, made anew where it is older than OSINT_DOCTOR_HOURS.

    A store that is away is not waited for: the last examination stands then, None if there never was one.
    """
    kept = _read(workspace)
    age = datetime.now(UTC) - kept.examined_at if kept else None
    if age is not None and timedelta(0) <= age < timedelta(hours=workspace.service.doctor_hours):
        return kept
    try:
        return examine_now(workspace, patience_seconds=_PROBE_SECONDS)
    except StoreUnavailable:
        return kept


def last(workspace: Workspace) -> Guarantees | None:
    """Give the last examination of this store, however old; nothing is asked of the store."""
    return _read(workspace)


def examine_now(workspace: Workspace, *, patience_seconds: float | None = None) -> Guarantees:
    """Examine the store and keep what was seen; raises StoreUnavailable."""
    from storage.doctor import examine
    from storage.objects import ObjectStore

    config = workspace.store_config
    if patience_seconds is not None:
        config = replace(config, **{name: min(patience_seconds, getattr(config, name)) for name in _SPANS})
    with ObjectStore.open(config) as store:
        rows = examine(store)
    endpoint, bucket = _place(workspace.service)
    found = Guarantees(endpoint=endpoint, bucket=bucket, examined_at=datetime.now(UTC), rows=rows)
    with suppress(OSError):  # a full disk: it is examined again the next time
        _write(workspace, found)
    return found


def require(service: Service, guarantees: Guarantees | None) -> None:
    """Refuse to go on without what OSINT_REQUIRE names.

    Raises SettingError for a word that is none of ours, UserError (Exit.STORE) naming what is missing.
    """
    for word in service.require:
        if word not in WORDS and word != ENCRYPTED:
            known_words = ", ".join((*WORDS, ENCRYPTED))
            raise SettingError(variable("require"), f"{word!r} is no guarantee", f"known are {known_words}")
    if ENCRYPTED in service.require and how_encrypted(service.spool) is None:
        what = f"OSINT_REQUIRE names {ENCRYPTED}, and {service.spool} lies on no encrypted file system that we know of"
        raise UserError(what, "see docs/encryption.md: LUKS, fscrypt or gocryptfs, and OSINT_SPOOL", Exit.DISK)
    if not set(service.require) - {ENCRYPTED}:
        return
    if guarantees is None:
        what = "what the object store guarantees is not known: it could not be examined"
        raise UserError(what, "run `osint store doctor` when it can be reached", Exit.STORE)
    wanted = [word for word in service.require if word != ENCRYPTED]
    missing = [f"{word} ({_missing(word, guarantees)})" for word in wanted if _missing(word, guarantees)]
    if missing:
        what = f"the object store does not keep what OSINT_REQUIRE names: {'; '.join(missing)}"
        raise UserError(what, "run `osint store doctor`, and set the bucket up as docs/stores.md says", Exit.STORE)


def _missing(word: str, guarantees: Guarantees) -> str:
    """Name the guarantees behind a word that are not kept."""
    found = {name: guarantees.verdict(name) for name in WORDS[word]}
    if word == "no_delete" and found["version_deletion_refused"] is Verdict.NOT_OFFERED:
        del found["version_deletion_refused"]  # no versions, so there are none to delete
    lacking = {name: verdict for name, verdict in found.items() if verdict is not Verdict.KEPT}
    told = {name: verdict.value.replace("_", " ") if verdict else "not tried" for name, verdict in lacking.items()}
    return ", ".join(f"{name}: {verdict}" for name, verdict in told.items())


def _place(service: Service) -> tuple[str, str]:
    return service.s3_endpoint or _EMBEDDED, service.s3_bucket


def _key_digest(service: Service) -> str:
    """Tell keys apart without keeping them: what a key may delete is its own."""
    return sha256((service.s3_access_key or "").encode()).hexdigest()[:16]


def _file(workspace: Workspace) -> Path:
    return workspace.folder / FILE


def _read(workspace: Workspace) -> Guarantees | None:
    """Read what was kept; None where it is of another store, bucket or key, or cannot be read."""
    try:
        kept = json.loads(_file(workspace).read_text("utf-8"))
        rows = tuple(Guarantee(**(row | {"verdict": Verdict(row["verdict"])})) for row in kept["rows"])
        place, key = (kept["endpoint"], kept["bucket"]), kept["key"]
        examined_at = datetime.fromisoformat(kept["examined_at"]).astimezone(UTC)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if place != _place(workspace.service) or key != _key_digest(workspace.service):
        return None
    return Guarantees(endpoint=place[0], bucket=place[1], examined_at=examined_at, rows=rows)


def _write(workspace: Workspace, found: Guarantees) -> None:
    """Write the file whole or not at all, also when two processes do so at once."""
    kept = {
        "endpoint": found.endpoint,
        "bucket": found.bucket,
        "key": _key_digest(workspace.service),
        "examined_at": found.examined_at.isoformat(),
        "rows": [asdict(row) for row in found.rows],
    }
    opened, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=workspace.folder)
    fresh = Path(name)
    try:
        with os.fdopen(opened, "w", encoding="utf-8") as out:
            json.dump(kept, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(_file(workspace))
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
