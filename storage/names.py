"""The names of WARCs: which series a file is of, what stands before it, and whether several runs share the series."""

import re

SHARED = "shared"  # stands in a name where that of one run's WARC has the run's attempt
_FILE = re.compile(rf"(?P<series>.+-(?:\d+|{SHARED}))-(?P<serial>\d{{5}})\.warc\.gz")
_SHARED_SERIES = re.compile(rf"(?P<host>.+)-\d{{8}}T\d{{6}}Z-[0-9a-f]{{12}}-{SHARED}")


def series_of(warc: str) -> str | None:
    """Name the series of a WARC; None for names that are not ours."""
    named = _FILE.fullmatch(warc)
    return named["series"] if named else None


def before(warc: str) -> str | None:
    """Name the WARC before this one in its series; None for the first one and for names that are not ours."""
    named = _FILE.fullmatch(warc)
    serial = int(named["serial"]) if named else 0
    return f"{named['series']}-{serial - 1:05}.warc.gz" if named and serial else None


def shared_host(warc: str) -> str | None:
    """Give the host, as it stands in the name of a WARC that several runs share; None for others."""
    named = _SHARED_SERIES.fullmatch(series_of(warc) or "")
    return named["host"] if named else None
