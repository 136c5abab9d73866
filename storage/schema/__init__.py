"""The catalogue's tables (SQLAlchemy Core), as the newest migration leaves them; what each row means.

Keys are UUIDv7 of the caller's, times are aware UTC, digests are 32 bytes here and lower-case hex outside.
All tables are collected here, so that `metadata` holds every one of them.
"""

from storage.schema.capture import captures, records
from storage.schema.columns import Sha256, metadata
from storage.schema.custody import events
from storage.schema.notes import replays, validators, walls
from storage.schema.operation import alerts, counted, machines, totals
from storage.schema.picture import fingerprints, similar
from storage.schema.post import PLAIN, TITLE_WORDS, media, post_versions, posts, version_captures
from storage.schema.run import SUCCESS, gaps, runs, sources
from storage.schema.warc import journal, rebuilding, warc_files, warc_runs
from storage.schema.watch import due, visits, watch_lists, watches

__all__ = [
    "PLAIN",
    "SUCCESS",
    "TITLE_WORDS",
    "Sha256",
    "alerts",
    "captures",
    "counted",
    "due",
    "events",
    "fingerprints",
    "gaps",
    "journal",
    "machines",
    "media",
    "metadata",
    "post_versions",
    "posts",
    "rebuilding",
    "records",
    "replays",
    "runs",
    "similar",
    "sources",
    "totals",
    "validators",
    "version_captures",
    "visits",
    "walls",
    "warc_files",
    "warc_runs",
    "watch_lists",
    "watches",
]
