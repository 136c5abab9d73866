"""Named identities: a browser's cookies and storage that the operator set for one source, encrypted with the archive's key."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osint_pipeline.credentials import MOST_SECRETS, secrets_in
from osint_pipeline.errors import UserError
from osint_pipeline.identity_names import NAME, check_name
from osint_pipeline.keys import Signer
from osint_pipeline.sealing import NotOurs
from osint_pipeline.storage_state import read_state
from osint_pipeline.workspace import Workspace
from storage.durable import sync_folder
from storage.ids import new_id
from storage.watched import list_watched

LIMIT_BYTES = 4 << 20  # a storage state of a browser that was used for months has some hundred kilobytes
_SUFFIX = ".sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One that was opened; `state` is what Playwright calls a storage state. Nothing of it is ever printed."""

    name: str
    state: Mapping[str, Any] = field(repr=False)

    @property
    def secrets(self) -> frozenset[str]:
        """Values that must stand in no record."""
        return _secrets(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One that lies here, without what it holds."""

    name: str
    path: Path


def add(workspace: Workspace, name: str, data: bytes, *, file: str = "the storage state") -> Kept:
    """Check a storage state, encrypt it and keep it; one of this name is replaced. `file` is named in a UserError."""
    try:
        check_name(name)
    except ValueError as error:
        raise UserError(
            f"{name[:60]!r}: {error}", "it is written into the list of sources: no person's name"
        ) from error
    _check(data, file)
    signer = Signer.open(workspace.folder / "keys", workspace.service.key_passphrase)
    path = _folder(workspace) / (name + _SUFFIX)
    fresh = path.with_name(f"{name}.{new_id().hex}.tmp")
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(number, "wb") as sealed:
            sealed.write(signer.seal(data.rstrip(), _about(name)).encode("ascii"))
            sealed.flush()
            os.fsync(sealed.fileno())
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)
    return Kept(name=name, path=path)


def kept(workspace: Workspace) -> list[Kept]:
    """List those that lie on this machine, by name."""
    return [Kept(name=path.stem, path=path) for path in sorted(_folder(workspace).glob("*" + _SUFFIX))]


def remove(workspace: Workspace, name: str) -> None:
    """Delete one. Raises UserError where there is none of this name."""
    path = _folder(workspace) / (name + _SUFFIX)
    if not NAME.fullmatch(name) or not path.is_file():
        raise _unknown(name)
    path.unlink()
    sync_folder(path.parent)


def open_identity(workspace: Workspace, name: str) -> Identity:
    """Decrypt one. Raises UserError where it is not here, or was sealed for another key."""
    path = _folder(workspace) / (name + _SUFFIX)
    if not NAME.fullmatch(name) or not path.is_file():
        raise _unknown(name)
    signer = Signer.open(workspace.folder / "keys", workspace.service.key_passphrase)
    try:
        data = signer.unseal(path.read_text("ascii"), _about(name))
    except (NotOurs, UnicodeDecodeError) as error:
        what = f"the identity {name} was sealed for another key, or it was changed"
        raise UserError(what, f"add it again: osint identity add {name} FILE") from error
    return Identity(name=name, state=_check(data, f"identity {name}"))


def is_kept(workspace: Workspace, name: str) -> bool:
    """Tell whether one of this name lies on this machine."""
    return (_folder(workspace) / (name + _SUFFIX)).is_file()


def named_by(workspace: Workspace, name: str) -> list[str]:
    """List the watched sources that name an identity, by slug."""
    return [one.source.slug for one in list_watched(workspace.catalog) if one.watch.identity == name]


def _unknown(name: str) -> UserError:
    return UserError(
        f"there is no identity {name[:60]!r} on this machine", "osint identity list; osint identity add NAME FILE"
    )


def _about(name: str) -> str:
    return f"identity {name}"


def _folder(workspace: Workspace) -> Path:
    folder = workspace.folder / "identities"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _check(data: bytes, file: str) -> dict[str, Any]:
    if len(data) > LIMIT_BYTES:
        raise UserError(f"{file}: more than {LIMIT_BYTES} bytes", "a storage state of Playwright, of the one site")
    state = read_state(data, file)
    if len(_secrets(state)) > MOST_SECRETS:
        what = f"{file}: more than {MOST_SECRETS} secrets, which would be looked for in every record"
        raise UserError(what, "make one in a fresh profile, of the one site alone")
    return state


def _secrets(state: Mapping[str, Any]) -> frozenset[str]:
    cookies = [one["value"] for one in state["cookies"]]
    stored = [[item["value"] for item in one.get("localStorage", ())] for one in state.get("origins", ())]
    return secrets_in([cookies, stored, [one.get("indexedDB") for one in state.get("origins", ())]])
