"""Every setting of the service: its unit, its default, where its value came from. Read once, at start."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from settings.checks import check
from settings.folders import default_home
from settings.masking import shown
from settings.values import MOST_HOURS, read_value
from settings.variables import find_text, read_file, refuse_unknown, variable


def _say(
    default: Any, about: str, *, secret: bool = False, at_least: float | None = None, at_most: float | None = None
) -> Any:
    facts = {"about": about, "secret": secret, "at_least": at_least, "at_most": at_most}
    return field(default=default, repr=not secret, metadata=facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """All settings. The environment variable of a field is OSINT_ and its name in capitals."""

    home: Path = _say(None, "data folder: embedded database and store, spool, keys")
    spool: Path = _say(None, "folder of the spool, may be on another disk; none: spool in the data folder")
    collector: str = _say("collector-1", "code of the person or account that collects; never a name")
    machine: str = _say("", "name of this machine among those that share the archive; none: its host name")
    organisation: str = _say("unnamed", "who the collection is made for, as written into each WARC")
    database_url: str | None = _say(None, "PostgreSQL >= 15; none: the embedded one", secret=True)
    database_connect_seconds: int = _say(10, "how long a connection to the database may take", at_least=1)
    s3_endpoint: str | None = _say(None, "URL of the object store; none: the embedded one")
    s3_bucket: str = _say("osint", "bucket that the captures go to")
    s3_region: str = _say("us-east-1", "region that requests are signed for")
    s3_access_key: str | None = _say(None, "key of the writer", secret=True)
    s3_secret_key: str | None = _say(None, "secret of the writer", secret=True)
    key_passphrase: str | None = _say(
        None, "encrypts the signing key on disk; none: its folder is private", secret=True
    )
    allow_networks: tuple[str, ...] = _say((), "CIDRs opened besides the public internet, comma-separated")
    proxy: str | None = _say(
        None, "way out of every source that names none: http:// or socks5:// proxy, or an exit's name", secret=True
    )
    exits: tuple[str, ...] = _say(
        (),
        "proxies that sources may go out through: name=http://user:password@host:port,name=socks5://...",
        secret=True,
    )
    exit_check_seconds: float = _say(10.0, "how long an exit may take to answer before it is used", at_least=0.1)
    address_url: str | None = _say(
        None, "URL that answers with the caller's address; none: egress addresses are unknown", secret=True
    )
    address_hours: float = _say(24.0, "after this the egress address of an exit is asked for anew", at_least=0)
    ntp_server: str | None = _say(None, "host of an NTP server that is asked how far our clock is off; none: nobody")
    chromium: Path | None = _say(None, "Chromium's executable; none: Playwright's own, then the system's")
    user_agent: str = _say(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        "User-Agent of the wire and media fetchers; nothing attributable unless you say so",
    )
    robots: str = _say("obey", "obey, or ignore:<reason>; the reason stands in each run")
    robots_seconds: float = _say(3600.0, "how long a process keeps what a robots.txt says", at_least=0)
    delay_seconds: float = _say(1.0, "pause between two requests to one host", at_least=0)
    concurrency_per_host: int = _say(2, "requests at once to one host", at_least=1)
    timeout_seconds: float = _say(60.0, "limit of one answer on the wire", at_least=0.1)
    retries: int = _say(2, "tries after the first for what may pass by itself", at_least=0)
    retry_after_limit_seconds: float = _say(120.0, "longest Retry-After that is waited for", at_least=0)
    memory_body_bytes: int = _say(8 << 20, "an answer above this goes to disk only and is not parsed", at_least=0)
    body_limit_bytes: int = _say(4 << 30, "an answer above this is cut and declared", at_least=1)
    decoded_limit_bytes: int = _say(64 << 20, "an answer that unpacks to more is recorded but not read", at_least=1)
    page_timeout_seconds: float = _say(45.0, "limit of one page in the browser", at_least=1)
    page_limit_bytes: int = _say(512 << 20, "limit of all answers of one page in the browser", at_least=1)
    page_requests: int = _say(5000, "requests of one page in the browser; beyond it none is sent", at_least=1)
    browser_pages: int = _say(
        2, "pages of one run in browsers at once, each in a Chromium of its own", at_least=1, at_most=64
    )
    browser_tries: int = _say(
        2, "tries after the first for a page whose browser ended under it", at_least=0, at_most=100
    )
    browser_hung_seconds: float = _say(30.0, "a browser that does not answer for so long is killed", at_least=1)
    browser_idle_seconds: float = _say(60.0, "a browser without a page is ended after this", at_least=0)
    headed: bool = _say(False, "yes: Chromium shows its window, which needs a screen")
    behaviours: tuple[str, ...] = _say(
        (), "what the browser does on a page before it is kept: names, comma-separated, or off; none: all that fit"
    )
    behaviour_file: Path | None = _say(None, "file of behaviours in place of the program's own: docs/behaviours.md")
    behaviour_seconds: float = _say(20.0, "limit of what is done on one page after it has loaded", at_least=0.1)
    page_scroll_pixels: int = _say(30_000, "how far one page is scrolled", at_least=0)
    page_scroll_steps: int = _say(60, "how many times one page is scrolled by a view", at_least=0)
    page_clicks: int = _say(20, "clicks on one page", at_least=0, at_most=10_000)
    page_media: int = _say(3, "videos and sounds played on one page", at_least=0, at_most=1000)
    page_media_seconds: float = _say(5.0, "how long these are played", at_least=0)
    replay_sample: float = _say(
        0.0,
        "share of the rendered captures of each run that are replayed offline and compared; 0: none, each takes as long as a page",
        at_least=0,
        at_most=1,
    )
    replay_warn_score: float = _say(
        0.9, "a replay that comes less near to what was seen live is a warning: docs/replay.md", at_least=0, at_most=1
    )
    media_timeout_seconds: float = _say(1800.0, "limit of one media page", at_least=1)
    media_limit_bytes: int = _say(4 << 30, "limit of one media file", at_least=1)
    warc_limit_bytes: int = _say(1_000_000_000, "a WARC is sealed when it has grown to this", at_least=1)
    spool_high_bytes: int = _say(
        50_000_000_000, "what may wait for the store before a crawl pauses; 0: any", at_least=0
    )
    spool_free_bytes: int = _say(
        2_000_000_000, "free space below which a crawl pauses, at most a tenth of the spool's disk; 0: none", at_least=0
    )
    spool_low_share: float = _say(
        0.8, "share of these above which a crawl slows, and below which a paused one goes on", at_least=0.01, at_most=1
    )
    spool_wait_seconds: float = _say(600.0, "how long a paused crawl waits while nothing leaves the spool", at_least=0)
    retain_hours: float | None = _say(None, "how long a preserved WARC's local copy stays; none: for ever", at_least=0)
    readback_hours: float = _say(
        0.0, "a local copy goes only if the store's was read back whole within this time; 0: just now", at_least=0
    )
    one_disk: str = _say("link", "spool and embedded store on one disk: link (one copy, two names) or copy")
    sync_seconds: float = _say(0.5, "longest wait before appended records are synced and counted", at_least=0)
    phash_radius_bits: int = _say(10, "pictures whose hashes differ by at most this are linked", at_least=0)
    image_limit_pixels: int = _say(64_000_000, "a picture above this is not decoded for its hash", at_least=1)
    store_patience_seconds: float = _say(20.0, "how long a crawl's own upload waits for the store", at_least=0)
    upload_threads: int = _say(4, "WARCs that are brought to the store at once", at_least=1)
    upload_wait_seconds: float = _say(0.0, "how long `osint upload` waits for a store that is away", at_least=0)
    doctor_hours: float = _say(24.0, "after this the store's guarantees are examined anew", at_least=0)
    require: tuple[str, ...] = _say((), "guarantees without which nothing is crawled, comma-separated: docs/stores.md")
    clock_margin_seconds: float = _say(
        86400.0,
        "a WARC's date further ahead of this machine's clock is a fault to `osint verify`",
        at_least=0,
        at_most=MOST_HOURS * 3600,
    )
    worker_concurrency: int = _say(2, "hosts that one worker visits at once", at_least=1, at_most=1000)
    visit_attempts: int = _say(3, "a visit whose process died this often is parked for a person to look at", at_least=1)
    visit_again_seconds: float = _say(10.0, "before a visit is made again whose process died", at_least=0)
    hung_seconds: float = _say(
        120.0, "how long beyond its limit a visit may go on before its process is killed", at_least=0
    )
    catch_up_visits: int = _say(100, "visits made up for at most after an outage, for each source", at_least=1)
    name_wait_seconds: float = _say(
        20.0,
        "how long a command waits for another machine of this machine's name to go, before it is refused",
        at_least=0,
    )
    host_wait_seconds: float = _say(
        30.0,
        "how long `osint crawl` waits for another process that visits its host; then it goes on beside it",
        at_least=0,
    )
    linger_seconds: float = _say(75.0, "how long a visited host's process waits for its next visit", at_least=0)
    process_seconds: float = _say(3600.0, "a host's process takes no more visits after this time", at_least=1)
    crawl_memory_bytes: int = _say(
        3 << 30, "memory of a host's process and its browser, above which it is ended; 0: any", at_least=0
    )
    warc_open_seconds: float = _say(600.0, "a WARC that several runs share is sealed after this time", at_least=1)
    heartbeat_seconds: float = _say(4.0, "how often a worker says that it lives", at_least=0.1)
    worker_gone_seconds: float = _say(15.0, "silence after which a worker counts as gone", at_least=1)
    visits_days: int = _say(400, "how long the list of visits that ended is kept", at_least=1, at_most=36_500)
    backup_folder: Path | None = _say(None, "folder that the worker backs the database up to; none: no backups")
    backup_keep: int = _say(7, "backups of this archive that stay in that folder", at_least=1, at_most=100_000)
    backup_hours: float = _say(24.0, "how old the newest backup may grow", at_least=0.01)
    upload_every_seconds: float = _say(30.0, "how often a worker brings sealed WARCs to the store", at_least=0.1)
    stop_seconds: float = _say(6.0, "how long open requests may take after SIGTERM or Ctrl-C", at_least=0)
    limit: int = _say(1000, "pages of one crawl where --limit is not given", at_least=1)
    import_limit_bytes: int = _say(20 << 20, "a larger list of sources is not imported", at_least=1, at_most=1 << 30)
    import_limit_rows: int = _say(50_000, "a longer list of sources is not imported", at_least=1, at_most=10_000_000)
    visit_seconds: int = _say(1800, "how long a visit of a watched source may take", at_least=1)
    visit_bytes: int = _say(20_000_000_000, "how much a visit of a watched source may bring", at_least=1)
    again_hours: float = _say(168.0, "a visit asks again for pages that were captured longer ago than this", at_least=0)
    validator_hours: float = _say(
        720.0, "after this a page is asked without ETag and Last-Modified; 0: always", at_least=0
    )
    overlap_pages: int = _say(
        1, "pages of known posts that a visit of a channel asks besides the first", at_least=0, at_most=1000
    )
    missing_tries: int = _say(3, "visits that ask for what an earlier one did not get", at_least=0, at_most=1000)
    wall_hours: float = _say(
        24.0, "the browser does not try a wall again that it met within this time", at_least=0, at_most=MOST_HOURS
    )
    gap_tries: int = _say(
        3, "visits that look at a gap of a channel's ids before it is confirmed", at_least=1, at_most=1000
    )
    gap_pages: int = _say(5, "pages that a visit asks for gaps and failed files of old posts", at_least=0, at_most=1000)
    log_level: str = _say("warning", "debug, info, warning or error")
    log_format: str = _say("auto", "json, text, or auto: json in a file and where workers run without a terminal")
    log_file: Path | None = _say(None, "file that log lines go to, shared by all processes; none: standard error")
    log_bytes: int = _say(50_000_000, "the log file is rotated when it has grown to this", at_least=10_000)
    log_keep: int = _say(10, "rotated log files that stay", at_least=1, at_most=1000)
    metrics_listen: str = _say("127.0.0.1:9464", "host:port of /metrics, /healthz and /readyz; or off")
    alerts: tuple[str, ...] = _say((), "where alerts go: apprise URLs, comma-separated: docs/watching.md", secret=True)
    alert_silent_hours: float = _say(24.0, "a source is silent after this, and three of its intervals", at_least=0.01)
    alert_block_share: float = _say(
        0.5, "share of a host's last captures that were refused, from which on it blocks us", at_least=0.01, at_most=1
    )
    alert_block_captures: int = _say(20, "captures of a host below which nothing is said of its share", at_least=1)
    alert_spool_hours: float = _say(6.0, "a WARC may wait this long for the store", at_least=0.01)
    alert_store_seconds: float = _say(300.0, "uploads may fail this long", at_least=0)
    alert_unstamped_hours: float = _say(24.0, "a sealed WARC is to be preserved within this", at_least=0.01)
    alert_disk_free_bytes: int = _say(
        5_000_000_000, "free space of a machine's disk, at most a tenth of it, below which it is low", at_least=0
    )
    alert_machine_seconds: float = _say(120.0, "a machine that was not seen for this long is gone", at_least=15)
    alert_clock_seconds: float = _say(1.0, "offset of a machine's clock from which on it is off", at_least=0.001)
    alert_late_seconds: float = _say(1800.0, "a visit may wait this long after it is due", at_least=1)
    alert_replay_share: float = _say(
        0.1,
        "share of a source's replayed captures that look otherwise than live, from which on it is told",
        at_least=0.001,
        at_most=1,
    )
    alert_calm_seconds: float = _say(300.0, "a trouble must be gone for this long before its alert ends", at_least=0)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and for each the place that its value came from: default, file, or an environment variable."""

    service: Service
    sources: Mapping[str, str]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """List (variable, value with secrets masked, where from, what it is) for each setting."""
        out = []
        for one in fields(Service):
            value = getattr(self.service, one.name)
            out.append(
                (
                    variable(one.name),
                    shown(value, one.metadata["secret"]),
                    self.sources[one.name],
                    one.metadata["about"],
                )
            )
        return out


def load(environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the settings: environment first, then the file OSINT_CONFIG or <home>/osint.toml, then defaults.

    A secret may be read from a file: OSINT_S3_SECRET_KEY_FILE. Raises SettingError for an unknown key or a bad value.
    """
    environ = os.environ if environ is None else environ
    names = {one.name: one for one in fields(Service)}
    refuse_unknown(environ, names)
    home = Path(environ.get(variable("home")) or default_home(environ)).expanduser()
    from_file, path = read_file(environ, home, names)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, one in names.items():
        text, source = find_text(environ, name, from_file, path)
        if text is None:
            values[name] = home.absolute() if name == "home" else one.default
            sources[name] = "default"
            continue
        values[name], sources[name] = read_value(one, text), source
    values["home"] = Path(values["home"]).expanduser().absolute()
    values["machine"] = values["machine"] or socket.gethostname()
    values["spool"] = Path(values["spool"] or values["home"] / "spool").expanduser().absolute()
    check(values)
    return Loaded(Service(**values), sources)
