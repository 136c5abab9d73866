"""What an object store may guarantee, and what became of a guarantee when it was tried."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of a guarantee when it was tried."""

    KEPT = "kept"  # tried, and it held
    IGNORED = "ignored"  # accepted with a success, without effect
    BROKEN = "broken"  # the opposite of what was promised happened
    NOT_OFFERED = "not_offered"  # refused or not configured


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One guarantee: what was seen, and what this program does about it."""

    name: str
    verdict: Verdict
    detail: str
    what_we_do: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What one trial came to; `detail` names no key, id or address, so that two examinations can be compared."""

    verdict: Verdict
    detail: str


def kept(detail: str) -> Seen:
    """Tried, and it held."""
    return Seen(Verdict.KEPT, detail)


def ignored(detail: str) -> Seen:
    """Accepted with a success, without effect."""
    return Seen(Verdict.IGNORED, detail)


def broken(detail: str) -> Seen:
    """The opposite of what was promised happened."""
    return Seen(Verdict.BROKEN, detail)


def not_offered(detail: str) -> Seen:
    """Refused or not configured."""
    return Seen(Verdict.NOT_OFFERED, detail)
