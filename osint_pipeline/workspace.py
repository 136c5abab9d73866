"""The parts that every command works with: settings, data folder, spool, catalogue, store."""

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.fetch.guard import Guard, read_networks
from osint_pipeline.logs import logger
from osint_pipeline.namesake import connection_name, refuse_namesake
from settings.folders import private_folder
from settings.service import Service
from storage.ownership import Claim, Owner
from storage.spool import Spool
from storage.warc import OPEN_SUFFIX

if TYPE_CHECKING:
    from osint_pipeline.pictures import KnownPictures
    from storage.catalog import Catalog
    from storage.objects import S3, ObjectStore

log = logger(__name__)
PLACES = "spools"  # in the data folder: where this machine's spools were made
_IDENTITY = """SELECT system_identifier || ':' || oid FROM pg_control_system(), pg_database
    WHERE datname = current_database()"""


@dataclass(slots=True)
class Workspace:
    """Opens each part when it is first asked for, and leaves the servers it joined when it is closed.

    The embedded servers stop with their last user, unless `osint up` holds them.
    """

    service: Service
    rebuilds: bool = False  # whether the catalogue may be used while it is not whole
    named: bool = (
        False  # whether this machine's name was found to be its own already, by the worker that this is part of
    )
    _database: str | None = None
    _catalog: "Catalog | None" = None
    _store: "ObjectStore | None" = None
    _store_config: "S3 | None" = None
    _spool: Spool | None = None
    _pictures: "KnownPictures | None" = None
    _left: list[Any] = field(default_factory=list)

    def __enter__(self) -> Self:
        private_folder(self.service.home)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave what was joined, in the reverse order."""
        if self._pictures:
            self._pictures.close()
        if self._catalog:
            self._catalog.close()
        while self._left:
            self._left.pop()()
        self._catalog = self._store = self._spool = self._store_config = self._database = self._pictures = None

    @property
    def guard(self) -> Guard:
        return Guard(allow=read_networks(self.service.allow_networks))

    @property
    def folder(self) -> Path:
        return self.service.home

    @property
    def spool(self) -> Spool:
        if self._spool is None:
            if not self.named:
                refuse_namesake(self.catalog, self.service.machine, self.service.name_wait_seconds)
            claim = self.claim
            claim.take(self.owner)
            self._left.append(claim.leave)
            self._spool = Spool.open(claim.folder)
        return self._spool

    @property
    def claim(self) -> Claim:
        """Our use of the spool, not taken yet."""
        return Claim(self.service.spool, self.folder / PLACES)

    @property
    def owner(self) -> Owner:
        """Whose the spool has to be: this database's, on this machine."""
        from sqlalchemy import text

        with self.catalog.begin() as connection:
            return Owner(archive=str(connection.scalar(text(_IDENTITY))), host=self.service.machine)

    def local_copy(self, warc: str) -> Path | None:
        """Find a sealed WARC's file on this machine."""
        path = self.spool.sealed_folder / warc
        return path if path.is_file() else None

    def open_copy(self, warc: str) -> Path | None:
        """Find the file of a WARC that a run on this machine still writes."""
        path = self.spool.open_folder / (warc + OPEN_SUFFIX)
        return path if path.is_file() else None

    def without_folders(self, text: str) -> str:
        """Take this machine's folders out of what is written into the archive: they may name a person."""
        folders = {str(self.service.spool), str(self.service.home), str(Path.home())}
        for folder in sorted(folders, key=len, reverse=True):
            text = text.replace(folder, "...") if len(folder) > 1 else text
        return text

    @property
    def catalog(self) -> "Catalog":
        if self._catalog is None:
            from storage.catalog import Catalog
            from storage.rebuilding import rebuilding_since

            patience, name = self.service.database_connect_seconds, connection_name(self.service.machine)
            self._catalog = Catalog.open(self.database, connect_seconds=patience, name=name)
            if not self.rebuilds and (since := rebuilding_since(self._catalog)):
                what = f"the catalogue is being made again since {since:%Y-%m-%d %H:%M:%S}Z"
                advice = "wait for `osint rebuild`; if it was interrupted, run it again: it begins anew"
                raise UserError(what, advice, Exit.DATABASE)
        return self._catalog

    @property
    def pictures(self) -> "KnownPictures":
        """What is known of the archive's pictures: the same for all runs of this process."""
        if self._pictures is None:
            from osint_pipeline.pictures import KnownPictures

            self._pictures = KnownPictures(self.catalog, self.service.image_limit_pixels)
        return self._pictures

    @property
    def database(self) -> str:
        """The database's URL, its password in it; the embedded one is started. Its tables may be older, or not there."""
        if self.service.database_url:
            return self.service.database_url
        if self._database is None:
            from storage.embedded_postgres import EmbeddedPostgres

            server = EmbeddedPostgres(self.folder / "postgres")
            self._database = server.start()
            self._left.append(server.leave)
        return self._database

    @property
    def store(self) -> "ObjectStore":
        """The object store, connected; raises StoreUnavailable."""
        if self._store is None:
            from storage.objects import ObjectStore

            store = ObjectStore.open(self.store_config)
            store.ensure_bucket()
            self._store = store
        return self._store

    @property
    def store_config(self) -> "S3":
        """Where the object store is; the embedded one is started. Nothing is asked of it."""
        if self._store_config is None:
            self._store_config = self._configured_store() if self.service.s3_endpoint else self._embedded_store()
        return self._store_config

    def _configured_store(self) -> "S3":
        from storage.objects import S3

        service = self.service
        return S3(
            endpoint=service.s3_endpoint or "",
            bucket=service.s3_bucket,
            region=service.s3_region,
            access_key=service.s3_access_key or "",
            secret_key=service.s3_secret_key or "",
            patience_seconds=service.store_patience_seconds,
            attempts=1000,  # patience alone decides
            durable=True,
        )

    def share(self, path: Path, key: str) -> bool:
        """Let the spool's file and the embedded store's copy, proven equal, be one file with two names.

        False where that is not wanted (OSINT_ONE_DISK), not the embedded store, or not possible: then both copies stay.
        """
        from storage.embedded_store import EmbeddedStore
        from storage.errors import StoreUnavailable

        if self.service.s3_endpoint or self.service.one_disk != "link":
            return False
        try:
            return EmbeddedStore(self.folder / "store", self.service.s3_bucket).share(path, key)
        except (OSError, StoreUnavailable) as error:
            log.warning("%s and its copy in the store stay two files: %s", path.name, error)
            return False

    def tidy_store(self) -> int:
        """Delete what cut off uploads left in the embedded store, unless somebody uses it; how many files."""
        from storage.embedded_store import EmbeddedStore

        return 0 if self.service.s3_endpoint else EmbeddedStore(self.folder / "store", self.service.s3_bucket).tidy()

    def _embedded_store(self) -> "S3":
        from storage.embedded_store import EmbeddedStore

        server = EmbeddedStore(self.folder / "store", self.service.s3_bucket)
        config = server.start()
        self._left.append(server.leave)
        return config
