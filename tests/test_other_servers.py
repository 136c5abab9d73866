"""The same job against a PostgreSQL and an S3 that the operator named."""

from pathlib import Path

from osint_pipeline.samples import SampleSites
from storage.embedded_store import EmbeddedStore
from tests.commands import Osint


def test_a_named_database_and_a_named_store_are_used(tmp_path: Path, empty_database_url: str) -> None:
    with EmbeddedStore(tmp_path / "elsewhere", "captures") as server, SampleSites() as sites:
        config = server.start()
        osint = Osint(
            tmp_path / "home",
            OSINT_DATABASE_URL=empty_database_url,
            OSINT_S3_ENDPOINT=config.endpoint,
            OSINT_S3_BUCKET="captures",
            OSINT_S3_ACCESS_KEY=config.access_key,
            OSINT_S3_SECRET_KEY=config.secret_key,
        )
        (run,) = osint.rows("crawl", "--spider", "page", sites.troubled("chain"))
        assert (run["outcome"], run["preserved"]) == ("complete", 1)
        counts = osint.claims()
        assert counts["PASS"] > 3 and counts["UNVERIFIABLE"] == 0
        assert not (osint.home / "postgres").exists() and not (osint.home / "store").exists()
        assert list((tmp_path / "elsewhere").rglob("v1/warc/*/*/*/*/*/*.manifest.json"))
        (osint.home / "spool" / "sealed").rename(tmp_path / "gone")  # the local copies are away: the store answers
        page = osint.rows("find", "--kind", "page")[0]
        assert osint.rows("verify", page["id"])[0]["result"] == "PASS"
        (pulled,) = osint.rows("pull", page["id"], "--out", str(tmp_path / "pulled"))
        assert Path(pulled["path"]).stat().st_size > 500
