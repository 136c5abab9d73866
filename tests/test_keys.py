"""The signing key is made once, kept private, may be encrypted, and comes back from its printed sheet."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from osint_pipeline.errors import UserError
from osint_pipeline.keys import NAME, Signer, check_signature, lock
from tests.commands import Osint


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with ThreadPoolExecutor(8) as pool:
        seen = {one.public_hex for one in pool.map(lambda _: Signer.open(folder), range(16))}
    assert len(seen) == 1 and Signer.known(folder) == seen
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_a_signature_holds_for_its_bytes_and_key_alone(tmp_path: Path) -> None:
    one, other = Signer.open(tmp_path / "a"), Signer.open(tmp_path / "b")
    signature = one.sign(b"said")
    assert check_signature(one.public_hex, signature, b"said")
    assert not check_signature(one.public_hex, signature, b"sald")
    assert not check_signature(other.public_hex, signature, b"said")
    with pytest.raises(ValueError):
        check_signature("zz", signature, b"said")
    assert repr(one) == f"Signer(public_hex={one.public_hex!r})"


def test_the_sheet_brings_the_same_key_back(tmp_path: Path) -> None:
    signer = Signer.open(tmp_path / "a")
    sheet = signer.sheet()
    assert max(map(len, sheet.splitlines())) <= 85 and sheet.isascii()
    assert Signer.restore(tmp_path / "b", sheet).public_hex == signer.public_hex
    spoken = sheet.upper().replace("1:  ", "1:").replace("   ", "  ")
    assert Signer.restore(tmp_path / "c", spoken).public_hex == signer.public_hex


def test_a_slip_is_named_by_its_line(tmp_path: Path) -> None:
    lines = Signer.open(tmp_path / "a").sheet().splitlines()
    at = next(place for place, line in enumerate(lines) if line.strip().startswith("3:"))
    wrong = lines[at].replace(lines[at][8], "0" if lines[at][8] != "0" else "1", 1)
    for changed, what in (([wrong], "line 3"), ([], "line 3 of the key is missing")):
        with pytest.raises(UserError, match=what):
            Signer.restore(tmp_path / "b", "\n".join([*lines[:at], *changed, *lines[at + 1 :]]))
    with pytest.raises(UserError, match="exists already"):
        Signer.restore(tmp_path / "a", "\n".join(lines))


def test_an_encrypted_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    signer = Signer.open(tmp_path, None)
    with pytest.raises(UserError, match="is not encrypted"):
        Signer.open(tmp_path, "correct horse")
    lock(tmp_path, "correct horse")
    assert b"ENCRYPTED" in (tmp_path / NAME).read_bytes()
    assert Signer.open(tmp_path, "correct horse").public_hex == signer.public_hex
    for wrong, what in (("battery", "cannot be opened"), (None, "is encrypted")):
        with pytest.raises(UserError, match=what):
            Signer.open(tmp_path, wrong)


def test_the_commands_never_show_the_private_key_but_on_its_sheet(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    sheet = osint.run("keys", "sheet").stdout
    secret = next(line for line in sheet.splitlines() if line.strip().startswith("2:")).split(":")[1].split()[0]
    shown = osint.run("keys", "show")
    (row,) = osint.rows("keys", "show")
    assert row["public_key"] in shown.stdout and secret not in shown.stdout.replace(row["public_key"], "")
    other = Osint(tmp_path / "other", OSINT_KEY_PASSPHRASE="correct horse")
    assert row["public_key"] in other.run("keys", "restore", "-", given=sheet).stdout
    assert b"ENCRYPTED" in (tmp_path / "other" / "keys" / NAME).read_bytes()
    assert "exists already" in other.run("keys", "restore", "-", given=sheet, code=2).stderr
    assert "correct horse" not in other.run("config").stdout
