"""An encrypted file system is known as one; a plain one is not taken for it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import plain

from osint_pipeline.encryption import how_encrypted
from tests.commands import Osint


@pytest.fixture
def gocryptfs(tmp_path: Path) -> Iterator[Path]:
    """A folder that gocryptfs encrypts."""
    if shutil.which("gocryptfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("gocryptfs (Debian package gocryptfs) or /dev/fuse is missing")
    cipher, opened = tmp_path / "cipher", tmp_path / "opened"
    cipher.mkdir()
    opened.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n", "ascii")
    subprocess.run(["gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", secret, cipher], check=True)
    mounted = subprocess.run(["gocryptfs", "-q", "-passfile", secret, cipher, opened], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"gocryptfs cannot mount here: {mounted.stderr.strip()}")
    try:
        yield opened
    finally:
        subprocess.run(["fusermount", "-u", opened], check=True)


def test_a_plain_folder_is_not_encrypted(tmp_path: Path) -> None:
    assert how_encrypted(tmp_path) is None
    assert how_encrypted(tmp_path / "not" / "there" / "yet") is None


def test_gocryptfs_is_known_also_for_what_is_not_there_yet(gocryptfs: Path) -> None:
    assert how_encrypted(gocryptfs) == how_encrypted(gocryptfs / "home" / "spool") == "gocryptfs"


def test_a_crawl_is_refused_without_an_encrypted_spool(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home", OSINT_REQUIRE="encrypted_spool")
    done = osint.run("crawl", "--no-upload", "http://127.0.0.1:9/", code=7)
    assert "encrypted" in done.stderr and "docs/encryption.md" in done.stderr


def test_a_crawl_goes_on_with_one(gocryptfs: Path, embedded_url: str, tmp_path: Path) -> None:
    """Nothing is served there: the run fails for that, and not for the spool."""
    osint = Osint(
        tmp_path / "home",
        OSINT_SPOOL=str(gocryptfs / "spool"),
        OSINT_REQUIRE="encrypted_spool",
        OSINT_RETRIES="0",
        OSINT_DATABASE_URL=plain(embedded_url),
    )
    assert "encrypted" not in osint.run("crawl", "--no-upload", "http://127.0.0.1:9/", code=1).stderr
    assert list((gocryptfs / "spool" / "sealed").glob("*.warc.gz"))
