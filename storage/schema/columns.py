"""What the tables have in common: where they are collected, and the kinds of their columns."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, LargeBinary, MetaData, TypeDecorator, Uuid, text

metadata = MetaData()
TIME = DateTime(timezone=True)


class Sha256(TypeDecorator[str]):
    """A digest: lower-case hex in Python, 32 bytes in the table (half of the room of the text, in its indexes too)."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        return None if value is None else bytes(value).hex()


def id_column() -> Column[Any]:
    """Make the column of a UUIDv7 that the caller gives."""
    return Column("id", Uuid, primary_key=True)


def count_column(name: str) -> Column[Any]:
    """Make a column that counts from zero."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"))
