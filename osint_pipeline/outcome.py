"""What a run came to: wanted = captured + refused + truncated + failed."""

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from spiders.page import Page, Verdict
from storage.rows import CaptureState, Counters, Outcome

REFUSING_STATUS = {401, 403, 407, 429, 451, 999}
GONE_STATUS = {404, 410}
CAPTURED_VERDICTS = {Verdict.CONTENT, Verdict.PARTIAL, Verdict.EMPTY, Verdict.SHELL, Verdict.GONE}


def by_status(status: int) -> tuple[CaptureState, str] | None:
    """Tell what an answer is by its status alone, and why; None where its content decides."""
    said = f"status {status}"
    if status in REFUSING_STATUS:
        return CaptureState.REFUSED, said
    if status in GONE_STATUS:
        return CaptureState.CAPTURED, said
    return (CaptureState.FAILED, said) if status >= 400 else None


def by_reading(page: Page, status: int | None) -> tuple[CaptureState, Verdict | None, str | None]:
    """Tell what a page is by its status and by what was read from it: state, verdict, reason.

    The page of a refusing status may say which wall it is; where it does not, the status is all there is to say.
    """
    known = by_status(status) if status else None
    refuses = page.verdict not in CAPTURED_VERDICTS
    if known is None:
        return (CaptureState.REFUSED if refuses else CaptureState.CAPTURED), page.verdict, page.reason
    state, said = known
    if state is CaptureState.CAPTURED:
        return state, Verdict.GONE, said
    if not refuses or page.verdict is Verdict.UNDECIDED:
        return state, None, said
    why = page.reason if page.reason in (None, said) else f"{said}: {page.reason}"
    return CaptureState.REFUSED, page.verdict, why or said


@dataclass(slots=True)
class Tally:
    """Counts of one run while it goes on; its names are the catalogue's. `bytes` are those of the WARCs.

    `edited` are posts that are not as an earlier visit saw them.
    """

    wanted: int = 0
    captured: int = 0
    refused: int = 0
    truncated: int = 0
    failed: int = 0
    revisits: int = 0
    similar: int = 0
    gaps: int = 0
    not_offered: int = 0
    posts: int = 0
    media: int = 0
    bytes: int = 0
    edited: int = 0

    def count(self, state: CaptureState) -> None:
        """Count one wanted capture that came to its end."""
        setattr(self, state.value, getattr(self, state.value) + 1)

    def counters(self) -> Counters:
        """Give the counts as the catalogue takes them."""
        return Counters(**{name: value for name, value in asdict(self).items() if name != "edited"})

    def balanced(self) -> bool:
        """Tell whether every wanted capture is accounted for, once."""
        return self.wanted == self.captured + self.refused + self.truncated + self.failed


def decide(tally: Tally, *, broken: str | None, unread: int, known_refusals: int = 0) -> Outcome:
    """Decide how a run ended.

    `broken` says why the run itself stopped early; `unread` counts pages whose content was not reached or understood;
    `known_refusals` are refusals that the source is known for.
    """
    if tally.captured == 0:
        refused = tally.refused and not broken and not tally.failed and not tally.truncated
        return Outcome.REFUSED if refused else Outcome.FAILED
    if broken or tally.failed or tally.truncated or unread or tally.refused > known_refusals:
        return Outcome.PARTIAL
    return Outcome.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run as `osint crawl --json` ends with it. `error` is what broke the run itself, if anything did."""

    run: UUID
    outcome: Outcome
    tally: Tally
    warc_files: int = 0
    preserved: int = 0
    reason: str | None = None
    source: str = ""
    spider: str = ""
    error: Exception | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the summary under the names of the contract in docs/design.md."""
        return {
            "run": str(self.run),
            "outcome": self.outcome.value,
            **asdict(self.tally),
            "warc_files": self.warc_files,
            "preserved": self.preserved,
            "reason": self.reason,
            "source": self.source,
            "spider": self.spider,
        }
