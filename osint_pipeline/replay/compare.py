"""Compares what a replay shows with what was seen live, in numbers. What each means stands in docs/replay.md."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from osint_pipeline.fingerprint import Fingerprints
from osint_pipeline.replay.alike import plain
from osint_pipeline.replay.proxy import Seen
from osint_pipeline.replay.recorded import FOUND, How

UNRELATED_BITS = 32  # two pictures that have nothing to do with each other differ in half of 64 bits
ABOUT_TEXT, ABOUT_BITS = 0.02, 2  # figures that differ by no more are the same
OWN_ERRANDS = "https://127.0.0.1:9/"  # where FLAGS of fetch/chromium.py send what Chromium asks for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Addresses, each counted once: those asked for and found or not, and those recorded and not asked for."""

    found: frozenset[str]
    alike: frozenset[str]
    of_run: frozenset[str]
    missing: frozenset[str]
    damaged: frozenset[str]
    unasked: frozenset[str]

    @property
    def ratio(self) -> float:
        """The share of all of them that the replay asked for and found."""
        every = len(self.found) + len(self.missing) + len(self.unasked)
        return len(self.found) / every if every else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How near two looks at a page are: `text` as text_ratio(), `bits` as picture_bits(); None where there is nothing to compare."""

    text: float | None
    bits: int | None


def resources(seen: Sequence[Seen], answered: Iterable[str]) -> Resources:
    """Sort a replay's requests; what live asked in vain, Chromium's own errands and WebSockets are no resources."""
    counted = [
        one for one in seen if not one.socket and not one.url.startswith(OWN_ERRANDS) and one.how is not How.FAILED
    ]
    urls = {how: {plain(one.url) for one in counted if one.how is how} for how in How}
    found = set[str]().union(*(urls[how] for how in FOUND))
    missing = (urls[How.MISSING] | urls[How.DAMAGED]) - found
    reached = {plain(one.url) for one in seen} | {plain(one.shown) for one in seen if one.shown}
    return Resources(
        found=frozenset(found),
        alike=frozenset(urls[How.ALIKE]),
        of_run=frozenset(urls[How.RUN]),
        missing=frozenset(missing),
        damaged=frozenset(urls[How.DAMAGED]),
        unasked=frozenset(answered) - reached,
    )


def text_ratio(one: str, other: str) -> float:
    """Give the share of the words of both texts that stand in both, as often; their order does not count."""
    mine, theirs = Counter(one.split()), Counter(other.split())
    words = mine.total() + theirs.total()
    return 2 * (mine & theirs).total() / words if words else 1.0


def picture_bits(hasher: Fingerprints, one: bytes | None, other: bytes | None) -> int | None:
    """Count the bits in which the perceptual hashes of two pictures differ; None where one cannot be hashed."""
    if one is None or other is None:
        return None
    if one == other:
        return 0
    hashes = [hasher.variants(body)[:1] for body in (one, other)]  # flat pictures have a hash here too
    if not all(hashes):
        return None
    return ((hashes[0][0] ^ hashes[1][0]) & 0xFFFFFFFFFFFFFFFF).bit_count()


def score(text: float | None, found: float, bits: int | None) -> float:
    """Give the worst part: 1 is as it was seen, 0 is something else."""
    parts = [found, *([text] if text is not None else [])]
    if bits is not None:
        parts.append(max(0.0, 1 - bits / UNRELATED_BITS))
    return round(min(parts), 4)


def unexplained(found: float, ours: Likeness, again: Likeness) -> float:
    """Give the score of what differs, leaving out text and picture where two replays are as far from each other as from live."""
    text, bits = ours.text, ours.bits
    if text is not None and again.text is not None and again.text <= text + ABOUT_TEXT:
        text = None
    if bits is not None and again.bits is not None and again.bits >= bits - ABOUT_BITS:
        bits = None
    return score(text, found, bits)
