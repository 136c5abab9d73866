"""The answers that the archive has under an address, with the requests that they were given to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, select

from storage.exchange import RecordRef, RecordType
from storage.loading import load_records
from storage.schema import captures, records

ANSWERS = (RecordType.RESPONSE, RecordType.REVISIT)


@dataclass(frozen=True, slots=True)
class Answered:
    """A response or revisit, and the request beside it; None where it was not written."""

    ref: RecordRef
    request: RecordRef | None


def run_of(connection: Connection, capture: UUID) -> UUID | None:
    """Name the run that a capture was made in."""
    return connection.scalar(select(captures.c.run_id).where(captures.c.id == capture))


def answers_at(connection: Connection, run: UUID, addresses: Collection[str]) -> list[Answered]:
    """List the answers of a run whose URL, without what follows its `?`, is one of these; oldest first."""
    bare = func.split_part(records.c.url, "?", 1)
    found = load_records(
        connection, (records.c.run_id == run) & records.c.type.in_(ANSWERS) & bare.in_(list(addresses))
    )
    requests = load_records(
        connection,
        records.c.concurrent_to.in_([ref.record_id for ref in found]) & (records.c.type == RecordType.REQUEST),
    )
    return paired([*found, *requests])


def paired(refs: Sequence[RecordRef]) -> list[Answered]:
    """Put answers and their requests together, in the order of the answers."""
    requests = {ref.concurrent_to: ref for ref in refs if ref.type is RecordType.REQUEST and ref.concurrent_to}
    return [Answered(ref, requests.get(ref.record_id)) for ref in refs if ref.type in ANSWERS]


def original_of(connection: Connection, ref: RecordRef) -> RecordRef | None:
    """Find the response that a revisit refers to, else any whole one with its payload; None where the archive has neither."""
    wanted: list[ColumnElement[bool]] = [records.c.id == ref.refers_to] if ref.refers_to else []
    if ref.payload_sha256:
        whole = (records.c.type == RecordType.RESPONSE) & records.c.truncated.is_(None)
        wanted.append(whole & (records.c.payload_sha256 == ref.payload_sha256))
    for condition in wanted:
        if found := load_records(connection, condition):
            return found[0]
    return None
