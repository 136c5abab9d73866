"""moto's S3 server for tests, as a process of its own: for logic alone, it checks no secret and keeps all in memory."""

import os
import re
import secrets
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.s3_wire import S3

_ADDRESS = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")
_START_SECONDS = 30
_POLL_SECONDS = 0.02


def missing_packages() -> list[str]:
    """Name the Python packages that are not installed."""
    return [name for name in ("moto", "flask", "flask_cors") if find_spec(name) is None]


class MotoServer:
    """One moto in a process of its own, with its log in `folder`; ends with the test's process. Port 0 takes a free one."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._log, self._port = folder / "moto.log", port
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    def __enter__(self) -> Self:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "moto.server", "-H", "127.0.0.1"]
        command += ["-p", str(self._port)]
        environ = {**os.environ, "S3_UPLOAD_PART_MIN_SIZE": "65536"}
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, env=environ)
        try:
            self.endpoint = self._address()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def new_user(self, name: str) -> S3:
        """Name keys and a bucket; moto takes any."""
        return S3(
            endpoint=self.endpoint,
            bucket=f"{name}-captures",
            access_key=secrets.token_hex(10),
            secret_key=secrets.token_hex(20),
        )

    def version(self) -> str:
        """Name the server and its version."""
        return "moto " + version("moto")

    def stop(self) -> None:
        """End the server; may be called twice."""
        if self._process:
            self._process.kill()  # nothing of it is kept
            self._process.wait(30)
            self._process = None

    def _address(self) -> str:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while not (told := _ADDRESS.search(self._log.read_text("utf-8", "replace"))):
            assert self._process.poll() is None and time.monotonic() < deadline, "moto did not start"
            time.sleep(_POLL_SECONDS)
        return f"http://127.0.0.1:{told[1]}"
