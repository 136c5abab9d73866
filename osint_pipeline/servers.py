"""Starts and stops the embedded database and store for `osint up` and `osint down`."""

from typing import Any

from osint_pipeline.errors import UserError
from settings.service import Service
from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_store import EmbeddedStore


def start(service: Service) -> list[dict[str, Any]]:
    """Start what the settings leave to us, and hold it running until stop()."""
    rows = []
    for name, server in _embedded(service):
        if server is None:
            rows.append({"server": name, "state": "named in the settings", "where": ""})
            continue
        server.start()
        server.users.pin()
        server.leave()
        rows.append({"server": name, "state": "running", "where": str(server.folder)})
    return rows


def stop(service: Service) -> list[dict[str, Any]]:
    """Stop what start() started."""
    rows = []
    for name, server in _embedded(service):
        if server is None:
            rows.append({"server": name, "state": "named in the settings: left alone", "where": ""})
            continue
        with server.users.gate():
            server.users.unpin()
            if server.users.in_use():
                what = f"the embedded {name} is in use by another command"
                raise UserError(what, "it stops with its last user; or wait, and run `osint down` again")
        server.stop()
        rows.append({"server": name, "state": "stopped", "where": str(server.folder)})
    return rows


def _embedded(service: Service) -> list[tuple[str, Any]]:
    home = service.home
    return [
        ("database", None if service.database_url else EmbeddedPostgres(home / "postgres")),
        ("store", None if service.s3_endpoint else EmbeddedStore(home / "store", service.s3_bucket)),
    ]
