"""The commands of docs/operating.md that can run here are run as they stand there; only names of places are ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from osint_pipeline.cli import osint as command
from tests.commands import ROOT, Osint
from tests.rawserver import RawServer, answer
from tests.watching import Cluster, wait_for

GUIDE = (ROOT / "docs" / "operating.md").read_text("utf-8")
PAGE = answer(
    b"<html><head><title>t</title></head><body><article>"
    + "Затрымалі чалавека. ".encode() * 40
    + b"</article></body></html>"
)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```sh {kind}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def run(block: str, osint: Osint, folder: Path, places: dict[str, str]) -> str:
    """Run a block in a shell that stops at the first command that fails; what it said."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "osint").write_text(f'#!/bin/sh\nexec {sys.executable} -m osint_pipeline "$@"\n')
    (programs / "osint").chmod(0o700)
    for there, ours in places.items():
        block = block.replace(there, ours)
    environ = {**osint.environ, "PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", block], env=environ, cwd=ROOT, capture_output=True, text=True
    )
    assert not done.returncode and "Traceback" not in done.stderr, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_guides_commands_for_one_machine_work_in_their_order(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    with RawServer({"/an/article": PAGE}) as server:
        places = {
            "https://outlet.example": server.url,
            "/var/backups/osint-pipeline": str(tmp_path / "backups"),
        }
        osint.run("up", "--servers")  # they stay until the guide says `osint down`
        said = [run(block, osint, tmp_path, places) for block in blocks("test")]
    first, backup, restored, recovered = said
    assert "complete" in first and " 0 failed" in first
    assert "is written and read back" in backup and "is whole" in backup
    assert "is restored" in restored and "complete" in restored and " 0 failed" in restored
    assert "nothing to mend" in recovered


def test_the_guides_commands_for_several_machines_work(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        for name in ("m1", "m2"):
            cluster.start(name)
        wait_for(lambda: len(cluster.rows("SELECT 1 FROM machines")) == 2, 60)
        (block,) = blocks("test-cluster")
        said = run(block, cluster.machine("m1"), tmp_path, {})
        assert all(re.search(rf"^{name} +alive", said, re.MULTILINE) for name in ("m1", "m2")), said
        assert "spool " in said
        for name in ("m1", "m2"):
            assert cluster.stop(name) == 0


@pytest.mark.parametrize("line", re.findall(r"^osint (?!source|up).*$", GUIDE, re.MULTILINE))
def test_every_command_of_the_guide_has_its_options(line: str) -> None:
    words = line.split("#")[0].split()
    options = [one for one in words if one.startswith("--")]
    names = [one for one in words[1:3] if re.fullmatch(r"[a-z]+", one)]
    said = CliRunner().invoke(command, [*names, "--help"])
    assert said.exit_code == 0 and all(one in said.output for one in options), line
