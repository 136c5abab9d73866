"""What a check says: one claim about one subject, and whether it holds."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """What a check came to. "Nothing failed" is not "everything was checked"."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNVERIFIABLE = "UNVERIFIABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim about one subject (a record, a WARC, an object) and whether it holds."""

    claim: str
    subject: str
    result: Result
    why: str = ""
    clause: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give the claim under the names of the contract in docs/design.md."""
        return asdict(self)


def compared(claim: str, subject: str, why: str, clause: str = "") -> Claim:
    """Claim that something is as it should be; `why` says why it is not."""
    return Claim(claim=claim, subject=subject, result=Result.FAIL if why else Result.PASS, why=why, clause=clause)
