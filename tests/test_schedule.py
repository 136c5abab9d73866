"""When a source is due: cron with time zones, the hours that clocks skip or repeat, a jitter that is always the same."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest

from osint_pipeline.schedule import BadSchedule, check_schedule, jitter, missed, next_due, times
from storage.ids import new_id

SOURCE = new_id()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def following(schedule: str, timezone: str, after: str, count: int) -> list[str]:
    found, moment = [], at(after)
    for _ in range(count):
        moment = next_due(schedule, timezone, moment, source=SOURCE)
        found.append(f"{moment:%m-%dT%H:%M}")
    return found


@pytest.mark.parametrize(
    ("schedule", "timezone", "after", "wanted"),
    [
        ("*/15 * * * *", "UTC", "2026-11-25T10:00:00", ["11-25T10:15", "11-25T10:30"]),
        ("0 9 * * 1", "Europe/Minsk", "2026-11-25T10:00:00", ["11-30T06:00", "12-07T06:00"]),
        # 02:30 does not come on 29 March in Warsaw: made up for when it would have been over
        ("30 2 * * *", "Europe/Warsaw", "2026-03-28T12:00:00", ["03-29T01:00", "03-30T00:30"]),
        # it comes twice on 25 October: a visit too many rather than one too few
        ("30 2 * * *", "Europe/Warsaw", "2026-10-24T12:00:00", ["10-25T00:30", "10-25T01:30", "10-26T01:30"]),
        ("*/30 * * * *", "Europe/Warsaw", "2026-10-25T00:00:00", ["10-25T00:30", "10-25T01:00", "10-25T01:30"]),
    ],
)
def test_times_of_a_schedule(schedule: str, timezone: str, after: str, wanted: list[str]) -> None:
    assert following(schedule, timezone, after, len(wanted)) == wanted


@pytest.mark.parametrize(
    ("schedule", "timezone", "why"),
    [
        ("* * * *", "UTC", "five fields"),
        ("* * * * * *", "UTC", "five fields"),
        ("61 * * * *", "UTC", "61"),
        ("x * * * *", "UTC", "x"),
        ("0 0 30 2 *", "UTC", "date"),
        ("* * * * *", "Europe/Nowhere", "no time zone"),
        ("* * * * *", "", "no time zone"),
        ("* * * * *", "../../etc/passwd", "no time zone"),
        ("* * * * *", "Europe", "no time zone"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule: str, timezone: str, why: str) -> None:
    with pytest.raises(BadSchedule, match=why):
        check_schedule(schedule, timezone)


def test_jitter_is_the_same_each_time_differs_between_sources_and_skips_no_visit() -> None:
    start = at("2026-11-25T10:00:00")

    def a_day(source):
        moment, found = start, []
        while moment < start + timedelta(days=1):
            moment = next_due("*/10 * * * *", "UTC", moment, source=source, jitter_seconds=300)
            found.append(moment)
        return found

    one, other = new_id(), new_id()
    assert a_day(one) == a_day(one) != a_day(other)
    assert 144 <= len(a_day(one)) <= 146
    seconds = [(moment.minute % 10) * 60 + moment.second for moment in a_day(one)]
    assert 0 <= min(seconds) < 60 and 240 < max(seconds) <= 300


def test_what_was_missed_is_listed_to_a_bound() -> None:
    two_hours = (at("2026-11-25T10:00:00"), at("2026-11-25T12:00:00"))
    asked = {"source": SOURCE, "jitter_seconds": 0}
    found = missed("*/15 * * * *", "UTC", *two_hours, most=100, **asked)
    assert len(found) == 8 and found[-1] == two_hours[1]
    assert missed("*/15 * * * *", "UTC", *two_hours, most=3, **asked) == found[-3:]
    assert missed("*/15 * * * *", "UTC", two_hours[0], two_hours[0], most=3, **asked) == []


@pytest.mark.parametrize(("schedule", "jitter_seconds"), [("*/5 * * * *", 600), ("0 * * * *", 5400), ("* * * * *", 59)])
def test_a_jitter_longer_than_the_interval_skips_no_due_time(schedule: str, jitter_seconds: int) -> None:
    start, end = at("2026-11-25T00:00:00"), at("2026-11-27T00:00:00")
    moment, found = start, []
    while (moment := next_due(schedule, "UTC", moment, source=SOURCE, jitter_seconds=jitter_seconds)) <= end:
        found.append(moment)
    every = {
        due
        for one in takewhile(lambda one: one <= end, times(schedule, "UTC", start - timedelta(seconds=jitter_seconds)))
        if start < (due := one + jitter(SOURCE, one, jitter_seconds)) <= end
    }
    assert found == sorted(every)
