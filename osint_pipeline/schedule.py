"""When a source is to be visited: cron of five fields in its own time zone, spread by a jitter that is always the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

FIELDS = 5


class BadSchedule(ValueError):
    """A schedule or a time zone that cannot be used."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{text!r}: {why}")
        self.text, self.why = text, why


def check_schedule(schedule: str, timezone: str) -> None:
    """Raise BadSchedule unless there are times to come by this cron expression in this IANA time zone."""
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError beneath, and an OSError for odd names
        raise BadSchedule(timezone, "no time zone; write an IANA name such as Europe/Minsk") from error
    except KeyError as error:
        raise BadSchedule(timezone, "no time zone; write an IANA name such as Europe/Minsk") from error
    if len(schedule.split()) != FIELDS:
        raise BadSchedule(schedule, "a schedule has five fields: minute hour day month weekday, as */15 * * * *")
    try:
        next(times(schedule, timezone, datetime.now(UTC)))
    except (CroniterError, ValueError, StopIteration) as error:
        raise BadSchedule(schedule, str(error)) from error


def times(schedule: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Yield the times of a schedule after a moment, aware UTC, without jitter.

    An hour that the clocks skip is made up for when it would have been over; one that comes twice counts twice.
    """
    moments = croniter(schedule, after.astimezone(ZoneInfo(timezone)))
    while True:
        yield moments.get_next(datetime).astimezone(UTC)


def jitter(source: UUID, moment: datetime, jitter_seconds: int) -> timedelta:
    """Give the delay of one visit: from 0 to jitter_seconds, always the same for the same source and moment."""
    if jitter_seconds <= 0:
        return timedelta(0)
    drawn = int.from_bytes(sha256(source.bytes + moment.isoformat().encode()).digest()[:8], "big")
    return timedelta(seconds=drawn % (jitter_seconds + 1))


def next_due(schedule: str, timezone: str, after: datetime, *, source: UUID, jitter_seconds: int = 0) -> datetime:
    """Give the first time after a moment at which a source is due, jitter included, however large that is."""
    best: datetime | None = None
    for moment in times(schedule, timezone, after - timedelta(seconds=jitter_seconds)):
        if best is not None and moment >= best:
            return best
        due = moment + jitter(source, moment, jitter_seconds)
        if due > after and (best is None or due < best):
            best = due
    raise BadSchedule(schedule, "never comes")


def missed(
    schedule: str, timezone: str, after: datetime, until: datetime, *, source: UUID, jitter_seconds: int, most: int
) -> list[datetime]:
    """List the times due after one moment and not after another, oldest first; the last `most` where there are more."""
    found: list[datetime] = []
    moments = croniter(schedule, until.astimezone(ZoneInfo(timezone)) + timedelta(microseconds=1))
    while len(found) < most:
        moment = moments.get_prev(datetime).astimezone(UTC)
        if moment + timedelta(seconds=jitter_seconds) <= after:
            break
        due = moment + jitter(source, moment, jitter_seconds)
        if after < due <= until:
            found.append(due)
    return sorted(found)
