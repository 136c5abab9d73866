"""How long a visit may take and how much it may bring, besides its pages."""

from dataclasses import dataclass

from osint_pipeline.source import Source
from settings.service import Service

LIMIT = "limit"  # the reason with which a crawl is ended in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None: no limit."""

    limit_seconds: float | None = None
    limit_bytes: int | None = None

    def reached(self, *, spent_seconds: float, got_bytes: int) -> str | None:
        """Say which limit is reached; None while none is."""
        if self.limit_bytes is not None and got_bytes >= self.limit_bytes:
            return f"stopped at the limit of bytes ({self.limit_bytes})"
        if self.limit_seconds is not None and spent_seconds >= self.limit_seconds:
            return f"stopped at the limit of time ({self.limit_seconds:g} s)"
        return None


def limits_of(source: Source, service: Service) -> Limits:
    """Take the source's own limits; a visit that asks for what is new has those of the settings where it names none."""
    seconds, size = source.limit_seconds, source.limit_bytes
    if source.new:
        seconds = service.visit_seconds if seconds is None else seconds
        size = service.visit_bytes if size is None else size
    return Limits(limit_seconds=seconds, limit_bytes=size)
