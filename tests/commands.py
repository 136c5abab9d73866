"""Calls `osint` as a person would: a process of its own, a data folder of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from osint_pipeline.cli import osint
from osint_pipeline.errors import UserError

ROOT = Path(__file__).parent.parent


class Osint:
    """Runs commands against one data folder; `more` are settings that win over the tests' own."""

    def __init__(self, home: Path, **more: str) -> None:
        self.home = home
        plain = {key: value for key, value in os.environ.items() if not key.startswith("OSINT_")}
        self.environ = {
            **plain,
            "OSINT_HOME": str(home),
            "OSINT_ALLOW_NETWORKS": "127.0.0.0/8",
            "OSINT_DELAY_SECONDS": "0",
            "OSINT_CONCURRENCY_PER_HOST": "8",
            "PYTHONWARNINGS": "error",
            **more,
        }

    def start(self, *words: str, **more: Any) -> "subprocess.Popen[str]":
        """Start a command in a process group of its own."""
        command = [sys.executable, "-m", "osint_pipeline", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        return subprocess.Popen(command, env=self.environ, cwd=ROOT, start_new_session=True, **pipes)

    def run(self, *words: str, code: int | None = 0, given: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; its exit code must be `code`, unless that is None."""
        command = [sys.executable, "-m", "osint_pipeline", *words]
        done = subprocess.run(
            command, env=self.environ, cwd=ROOT, capture_output=True, text=True, input=given, timeout=280
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def rows(self, *words: str, code: int | None = 0) -> list[dict[str, Any]]:
        """Run a command with --json and read its lines."""
        return [json.loads(line) for line in self.run(*words, "--json", code=code).stdout.splitlines()]

    def claims(self) -> dict[str, int]:
        """Verify everything and count the answers."""
        counts = {"PASS": 0, "FAIL": 0, "UNVERIFIABLE": 0}
        for row in self.rows("verify", "--all", code=None):
            counts[row["result"]] += 1
            assert row["result"] != "FAIL", row
        return counts


class Inside(Osint):
    """Calls `osint` within this process: the same commands, a second less for each. Not for what needs a reactor."""

    def run(self, *words: str, code: int | None = 0, given: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; its exit code must be `code`, unless that is None."""
        done = CliRunner().invoke(osint, words, input=given, env=self.environ, standalone_mode=False)
        error, err = done.exception, done.stderr
        if isinstance(error, UserError):
            returned, err = int(error.exit_code), f"{err}osint: {error.what}\n       {error.advice}\n"
        elif error is not None:
            raise error
        else:
            returned = int(done.return_value or 0)
        assert code is None or returned == code, f"{words}: {returned}\n{done.stdout}\n{err}"
        return subprocess.CompletedProcess(words, returned, done.stdout, err)


def kill_group(process: "subprocess.Popen[str]") -> None:
    """Kill a command and all that it started in its group, as a power cut would."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
