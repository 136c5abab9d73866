"""Measures this machine."""

from typing import Any

from osint_pipeline.workspace import Workspace


def describe(workspace: Workspace, *, concurrency: int, hosts: list[str]) -> dict[str, Any]:
    return {"concurrency": concurrency, "running": hosts}
