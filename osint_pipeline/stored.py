"""Checks the store's copies of a preserved WARC, its manifest and its index, by reading them back."""

import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from osint_pipeline.claims import Claim, Result, compared
from osint_pipeline.committed import CHAIN, record_claims
from osint_pipeline.preserve import cdxj_path, manifest_path
from osint_pipeline.workspace import Workspace
from storage.digest import file_sha256
from storage.errors import DamagedWarc, StorageError
from storage.manifest import SealedWarc, read_manifest, write_cdxj
from storage.objects import ObjectMissing
from storage.rows import WarcRow

READ_BACK = "design.md promise 2"


def store_claims(workspace: Workspace, warc: WarcRow, *, local: bool) -> Iterator[Claim]:
    """Check the three objects of a WARC; where no copy is left here (`local`), its records in the catalogue as well."""
    assert warc.key is not None
    yield _digest(workspace, "store-sha256", warc.key, warc.sha256 or "", warc.version_id)
    with tempfile.TemporaryDirectory(dir=workspace.folder, prefix="verify-") as folder:
        path = Path(folder, warc.name)
        manifest = manifest_path(path)
        key = str(manifest_path(Path(warc.key)))
        subject = f"{workspace.service.s3_bucket}/{key}"
        try:
            got = _fetch(workspace, key, manifest)
            size, whole = (facts := read_manifest(manifest)).size_bytes, facts.sha256
        except StorageError as error:
            damaged = isinstance(error, (ObjectMissing, DamagedWarc))
            result = Result.FAIL if damaged else Result.UNVERIFIABLE
            yield Claim(claim="store-manifest", subject=subject, result=result, why=str(error), clause=CHAIN)
            return
        wanted = warc.manifest_sha256 or got
        why = f"wanted {wanted}, got {got}" if wanted != got else ""
        if not why and whole != warc.sha256:
            why = f"it is of a WARC with sha256 {whole}, the catalogue's has {warc.sha256}"
        yield compared("store-manifest", subject, why, CHAIN)
        if why:
            return  # the index is to be what this manifest says
        if not local:
            yield from record_claims(workspace, warc.name, manifest)
        sealed = SealedWarc(
            path=path, sha256=whole, size_bytes=size, record_count=facts.record_count, manifest_sha256=got
        )
        write_cdxj(sealed)
        yield _digest(workspace, "store-index", str(cdxj_path(Path(warc.key))), file_sha256(sealed.cdxj))


def _digest(workspace: Workspace, claim: str, key: str, wanted: str, version: str | None = None) -> Claim:
    subject = f"{workspace.service.s3_bucket}/{key}"
    try:
        got = workspace.store.sha256_of(key, version)
    except StorageError as error:
        result = Result.FAIL if isinstance(error, ObjectMissing) else Result.UNVERIFIABLE
        return Claim(claim=claim, subject=subject, result=result, why=str(error), clause=READ_BACK)
    return compared(claim, subject, "" if got == wanted else f"wanted {wanted}, got {got}", READ_BACK)


def _fetch(workspace: Workspace, key: str, path: Path) -> str:
    digest = sha256()
    with path.open("wb") as file:
        for part in workspace.store.read(key):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()
