"""Bytes at rest: exchanges, WARC files, the spool, the object store, the catalogue."""
