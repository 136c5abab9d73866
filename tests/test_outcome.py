"""How a run's counts become its outcome."""

import pytest

from osint_pipeline.outcome import Tally, decide
from storage.rows import CaptureState, Outcome


@pytest.mark.parametrize(
    ("captured", "refused", "truncated", "failed", "more", "outcome"),
    [
        (3, 0, 0, 0, {}, Outcome.COMPLETE),
        (3, 1, 0, 0, {}, Outcome.PARTIAL),
        (3, 1, 0, 0, {"known_refusals": 1}, Outcome.COMPLETE),
        (3, 2, 0, 0, {"known_refusals": 1}, Outcome.PARTIAL),
        (3, 0, 1, 0, {}, Outcome.PARTIAL),
        (3, 0, 0, 1, {}, Outcome.PARTIAL),
        (3, 0, 0, 0, {"unread": 1}, Outcome.PARTIAL),
        (3, 0, 0, 0, {"broken": "the disk is full"}, Outcome.PARTIAL),
        (0, 2, 0, 0, {}, Outcome.REFUSED),
        (0, 2, 0, 0, {"known_refusals": 2}, Outcome.REFUSED),
        (0, 1, 0, 1, {}, Outcome.FAILED),
        (0, 0, 1, 0, {}, Outcome.FAILED),
        (0, 0, 0, 0, {}, Outcome.FAILED),
        (0, 1, 0, 0, {"broken": "the database is away"}, Outcome.FAILED),
    ],
)
def test_outcome(captured: int, refused: int, truncated: int, failed: int, more: dict, outcome: Outcome) -> None:
    counts = {"captured": captured, "refused": refused, "truncated": truncated, "failed": failed}
    tally = Tally(wanted=sum(counts.values()), **counts)
    assert decide(tally, **{"broken": None, "unread": 0, **more}) is outcome


def test_a_tally_balances_only_when_each_wanted_capture_ended_once() -> None:
    tally = Tally(wanted=2)
    tally.count(CaptureState.CAPTURED)
    assert not tally.balanced()
    tally.count(CaptureState.REFUSED)
    assert tally.balanced()
