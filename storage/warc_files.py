"""The WARCs as the catalogue keeps them: open, sealed, uploaded, preserved; which runs wrote into each."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.rows import WarcRow, WarcState, WrittenBy
from storage.schema import warc_files, warc_runs


def warc_opened(
    catalog: Catalog, name: str, run_id: UUID, path: str, offset_bytes: int = 0, machine: str | None = None
) -> None:
    """Write that a run writes into a WARC that is not sealed yet, from an offset; may be repeated, and for other runs."""
    values = {"name": name, "run_id": run_id, "path": path, "state": WarcState.OPEN}
    with catalog.begin() as connection:
        connection.execute(insert(warc_files).values(values).on_conflict_do_nothing())
        _written_by(connection, name, (WrittenBy(run_id, offset_bytes),), machine)


def warc_sealed(
    catalog: Catalog,
    name: str,
    *,
    run_id: UUID,
    path: str,
    size_bytes: int,
    sha256: str,
    records: int,
    sealed_at: datetime,
    state: WarcState = WarcState.SEALED,
    manifest_sha256: str | None = None,
    runs: Sequence[WrittenBy] = (),
    machine: str | None = None,
) -> None:
    """Write that a WARC is whole and closed (or torn: closed by another than its writer); may be repeated.

    `runs` are all that wrote into it where there are several; `run_id` is the first. `machine`: in whose spool it lies.
    """
    values = {"run_id": run_id, "path": path, "size_bytes": size_bytes, "sha256": sha256, "records": records}
    values |= {"sealed_at": sealed_at, "state": state, "manifest_sha256": manifest_sha256}
    sealed = insert(warc_files).values(name=name, **values)
    early = warc_files.c.state.in_((WarcState.OPEN, WarcState.SEALED, WarcState.TORN))
    with catalog.begin() as connection:
        connection.execute(sealed.on_conflict_do_update(index_elements=["name"], set_=values, where=early))
        _written_by(connection, name, runs or (WrittenBy(run_id),), machine)


def warc_found(catalog: Catalog, row: WarcRow, runs: Sequence[WrittenBy] = ()) -> None:
    """Write a WARC as the store has it, and the runs that wrote into it; nothing if it is known."""
    with catalog.begin() as connection:
        connection.execute(insert(warc_files).values(asdict(row)).on_conflict_do_nothing())
        _written_by(connection, row.name, runs or (WrittenBy(row.run_id),))


def warc_uploaded(
    catalog: Catalog, name: str, *, key: str, version_id: str | None = None, manifest_sha256: str | None = None
) -> None:
    """Write that the store took a WARC, which proves nothing yet. Does not take back `preserved`."""
    values = {"key": key, "version_id": version_id, "manifest_sha256": manifest_sha256}
    with catalog.begin() as connection:
        connection.execute(
            update(warc_files)
            .where(warc_files.c.name == name, warc_files.c.state != WarcState.PRESERVED)
            .values(**values, state=WarcState.UPLOADED)
        )


def warc_preserved(catalog: Catalog, name: str, *, at: datetime, **changed: str | None) -> None:
    """Write that the store's bytes were read back and are equal.

    `changed` may name key, version_id and manifest_sha256 anew, and path=None once the local copy is gone.
    """
    with catalog.begin() as connection:
        connection.execute(
            update(warc_files)
            .where(warc_files.c.name == name)
            .values(state=WarcState.PRESERVED, preserved_at=at, **changed)
        )


def list_warcs(
    catalog: Catalog, *, state: WarcState | None = None, run_id: UUID | None = None, names: Sequence[str] | None = None
) -> list[WarcRow]:
    """List WARC files by name: those in a state, that a run wrote into, of these names, or all."""
    wanted = select(warc_files).order_by(warc_files.c.name)
    if state is not None:
        wanted = wanted.where(warc_files.c.state == state)
    if run_id is not None:
        wanted = wanted.where(warc_files.c.name.in_(select(warc_runs.c.warc).where(warc_runs.c.run_id == run_id)))
    if names is not None:
        wanted = wanted.where(warc_files.c.name.in_(names))
    with catalog.begin() as connection:
        rows = [dict(row._mapping) for row in connection.execute(wanted)]
    return [WarcRow(**{**row, "state": WarcState(row["state"])}) for row in rows]


def warcinfo_offsets(catalog: Catalog, names: Sequence[str]) -> dict[str, list[int]]:
    """Tell for each WARC where the warcinfo records of its runs stand, in the order of the file."""
    wanted = select(warc_runs.c.warc, warc_runs.c.offset_bytes).where(warc_runs.c.warc.in_(names))
    found: dict[str, list[int]] = {}
    with catalog.begin() as connection:
        for row in connection.execute(wanted.order_by(warc_runs.c.warc, warc_runs.c.offset_bytes)):
            found.setdefault(row.warc, []).append(row.offset_bytes)
    return found


def warcs_elsewhere(catalog: Catalog, machine: str) -> dict[str, str]:
    """Name the WARCs that are not preserved and were written in another machine's spool, with that machine."""
    there = warc_runs.c.machine != machine
    query = select(warc_runs.c.warc, warc_runs.c.machine).join(warc_files, warc_files.c.name == warc_runs.c.warc)
    with catalog.begin() as connection:
        found = connection.execute(query.where(there, warc_files.c.state != WarcState.PRESERVED))
        return {row.warc: row.machine for row in found}


def _written_by(connection: Connection, warc: str, runs: Sequence[WrittenBy], machine: str | None = None) -> None:
    values = [{"warc": warc, "run_id": one.run, "offset_bytes": one.offset_bytes, "machine": machine} for one in runs]
    connection.execute(insert(warc_runs).values(values).on_conflict_do_nothing())
