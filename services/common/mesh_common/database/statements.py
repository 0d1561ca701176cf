"""Statements of the hot path, sent straight through asyncpg.

A transaction of four statements takes 0.85 ms of the client's CPU by SQLAlchemy and 0.23 ms so (docs/adr/0015), for
SQLAlchemy prepares, adapts and wraps each anew. What is built from parts (filters, pages) stays SQLAlchemy's.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import asyncpg
import orjson
from asyncpg import Record
from opentelemetry.trace import NonRecordingSpan, SpanKind, get_current_span
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_common.process.telemetry import tracer

# `:name`, and not the `::` of a cast.
_PLACEHOLDER: Final = re.compile(r"(?<![:\w]):([a-z]\w*)")


class Statement:
    """SQL with `:name` placeholders, made once; run within a unit of work of asyncpg.

    Values must be of the column's own Python type: asyncpg converts nothing. JSON goes in as `to_json` makes it and
    comes out as values (SQLAlchemy's codecs). Raises asyncpg's errors; of those that mean that the database is away the
    unit of work makes Unavailable.
    """

    def __init__(self, name: str, sql: str) -> None:
        """`name` is what spans are called by."""
        self.name = name
        self._names: list[str] = []
        self.sql = _PLACEHOLDER.sub(self._number, sql)
        self._span_attributes = {"db.system.name": "postgresql", "db.query.text": self.sql}

    def _number(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in self._names:
            self._names.append(name)
        return f"${self._names.index(name) + 1}"

    async def rows(self, connection: AsyncConnection, values: Mapping[str, Any]) -> list[Record]:
        driver = driver_of(connection)
        with self._span():
            rows: list[Record] = await driver.fetch(self.sql, *self._ordered(values))
        return rows

    async def row(self, connection: AsyncConnection, values: Mapping[str, Any]) -> Record | None:
        """The only row; None when there is none."""
        found = await self.rows(connection, values)
        if len(found) > 1:
            raise AssertionError(f"{self.name} gave {len(found)} rows")
        return found[0] if found else None

    async def count(self, connection: AsyncConnection, values: Mapping[str, Any]) -> int:
        """How many rows were written."""
        driver = driver_of(connection)
        with self._span():
            # The command's tag: INSERT 0 1, UPDATE 2, DELETE 3.
            tag: str = await driver.execute(self.sql, *self._ordered(values))
        return int(tag.rpartition(" ")[2])

    async def rows_of_each(self, connection: AsyncConnection, values: Sequence[Mapping[str, Any]]) -> list[Record]:
        """The rows of one run for each of `values`, all in one round trip."""
        driver = driver_of(connection)
        with self._span():
            rows: list[Record] = await driver.fetchmany(self.sql, [self._ordered(each) for each in values])
        return rows

    def _ordered(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] for name in self._names]

    def _span(self) -> AbstractContextManager[Any]:
        # Within a trace that is not recorded there is nothing to tell; a span of nothing costs as much as any. One that
        # ended, which records no more either, is none of nothing: what comes after it belongs to its trace.
        if isinstance(get_current_span(), NonRecordingSpan):
            return nullcontext()
        return tracer.start_as_current_span(
            self.name, kind=SpanKind.CLIENT, attributes=self._span_attributes, record_exception=False
        )


def driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    """What is beneath SQLAlchemy's connection. `get_raw_connection` gives the same, and makes a greenlet for it."""
    proxied = connection.sync_connection
    driver = proxied.connection.driver_connection if proxied else None
    if not isinstance(driver, asyncpg.Connection):
        raise TypeError("a Statement runs on asyncpg")
    return driver


def to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
