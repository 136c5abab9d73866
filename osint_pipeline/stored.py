"""Checks the store's copies of a preserved WARC, its manifest and its index, by reading them back."""

import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from osint_pipeline.claims import Claim, Result, compared
from osint_pipeline.committed import CHAIN, record_claims, run_claims
from osint_pipeline.preserve import cdxj_path, manifest_path
from osint_pipeline.workspace import Workspace
from storage.digest import file_sha256
from storage.errors import DamagedWarc, StorageError
from storage.manifest import SealedWarc, read_manifest, write_cdxj
from storage.newest import newest
from storage.objects import ObjectMissing
from storage.rows import WarcRow

READ_BACK = "design.md promise 2"
_MANIFEST_BYTES = 64 << 20  # and as many as its WARC has: nobody else's object is to fill this disk


def store_claims(workspace: Workspace, warc: WarcRow, *, local: bool) -> Iterator[Claim]:
    """Check the three objects of a WARC; where no copy is left here (`local`), its records in the catalogue as well."""
    assert warc.key is not None
    yield _digest(workspace, "store-sha256", warc.key, warc.sha256 or "", warc.version_id)
    if warc.version_id:
        yield _newest(workspace, warc.key, warc.version_id, warc.sha256 or "")
    key = str(manifest_path(Path(warc.key)))
    try:
        with tempfile.TemporaryDirectory(dir=workspace.folder, prefix="verify-") as folder:
            yield from _beside(workspace, warc, key, Path(folder), local)
    except (StorageError, OSError) as error:
        damaged = isinstance(error, (ObjectMissing, DamagedWarc))
        why = f"it cannot be read here: {error.strerror}" if isinstance(error, OSError) else str(error)
        yield Claim(
            claim="store-manifest",
            subject=f"{workspace.service.s3_bucket}/{key}",
            result=Result.FAIL if damaged else Result.UNVERIFIABLE,
            why=why,
            clause=CHAIN,
        )


def _beside(workspace: Workspace, warc: WarcRow, key: str, folder: Path, local: bool) -> Iterator[Claim]:
    """Check the manifest of a WARC, and the index by what it says. Raises StorageError, OSError."""
    path = folder / warc.name
    manifest = manifest_path(path)
    got = _fetch(workspace, key, manifest, _MANIFEST_BYTES + (warc.size_bytes or 0))
    wanted = warc.manifest_sha256 or got
    why = f"wanted {wanted}, got {got}" if wanted != got else ""
    facts = None if why else read_manifest(manifest)
    if facts and facts.sha256 != warc.sha256:
        why = f"it is of a WARC with sha256 {facts.sha256}, the catalogue's has {warc.sha256}"
    yield compared("store-manifest", f"{workspace.service.s3_bucket}/{key}", why, CHAIN)
    if why or facts is None:
        return  # the index is to be what this manifest says
    if not local:
        yield from record_claims(workspace, warc.name, manifest)
        yield from run_claims(workspace, warc.name, manifest)
    sealed = SealedWarc(
        path=path,
        sha256=facts.sha256,
        size_bytes=facts.size_bytes,
        record_count=facts.record_count,
        manifest_sha256=got,
    )
    write_cdxj(sealed)
    assert warc.key is not None
    yield _digest(workspace, "store-index", str(cdxj_path(Path(warc.key))), file_sha256(sealed.cdxj))


def _newest(workspace: Workspace, key: str, ours: str, sha256: str) -> Claim:
    """Claim that who asks for the key without a version gets our bytes."""
    subject = f"{workspace.service.s3_bucket}/{key}"
    try:
        there = newest(workspace.store, key)
        if there.deleted:
            why = f"the delete marker {there.version_id or '(its version is not told)'} stands over our version {ours}"
        elif there.version_id == ours or workspace.store.sha256_of(key, there.version_id) == sha256:
            why = ""
        else:
            why = f"the version {there.version_id}, with other bytes, stands over ours, {ours}"
    except StorageError as error:
        return Claim(
            claim="store-newest", subject=subject, result=Result.UNVERIFIABLE, why=str(error), clause=READ_BACK
        )
    return compared("store-newest", subject, why, READ_BACK)


def _digest(workspace: Workspace, claim: str, key: str, wanted: str, version: str | None = None) -> Claim:
    subject = f"{workspace.service.s3_bucket}/{key}"
    try:
        got = workspace.store.sha256_of(key, version)
    except StorageError as error:
        result = Result.FAIL if isinstance(error, ObjectMissing) else Result.UNVERIFIABLE
        return Claim(claim=claim, subject=subject, result=result, why=str(error), clause=READ_BACK)
    return compared(claim, subject, "" if got == wanted else f"wanted {wanted}, got {got}", READ_BACK)


def _fetch(workspace: Workspace, key: str, path: Path, limit_bytes: int) -> str:
    digest, size = sha256(), 0
    with path.open("wb") as file:
        for part in workspace.store.read(key):
            if (size := size + len(part)) > limit_bytes:
                raise DamagedWarc(key, limit_bytes, f"more than the {limit_bytes} bytes that its manifest may have")
            digest.update(part)
            file.write(part)
    return digest.hexdigest()
