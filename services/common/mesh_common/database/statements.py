"""Statements sent directly through asyncpg.

A transaction of four statements takes 0.85 ms of the client's CPU with SQLAlchemy and 0.23 ms without (docs/adr/0015),
because SQLAlchemy prepares, adapts and wraps every statement each time. The agent has no other SQL on its pools of
asyncpg, also for lists with optional conditions: it has one Statement for each combination. Other services still use
SQLAlchemy for statements that are assembled from parts (filters, pages).
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson
from asyncpg import Record
from opentelemetry.trace import NonRecordingSpan, SpanKind, get_current_span

from mesh_common.process.telemetry import tracer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

type AnyConnection = asyncpg.Connection | AsyncConnection

# `:name`, and not the `::` of a cast.
_PLACEHOLDER: Final = re.compile(r"(?<![:\w]):([a-z]\w*)")


class Statement:
    """SQL with `:name` placeholders. Created once, executed inside a unit of work on asyncpg.

    Values must have the column's own Python type: asyncpg converts nothing. Pass JSON as `to_json` encodes it; results
    contain decoded values. Raises asyncpg's errors; the unit of work turns those that mean that
    the database is unavailable into Unavailable.
    """

    def __init__(self, name: str, sql: str) -> None:
        """`name` is the name of its spans."""
        self.name = name
        self._names: list[str] = []
        self.sql = _PLACEHOLDER.sub(self._number, sql)
        self._span_attributes = {"db.system.name": "postgresql", "db.query.text": self.sql}

    def _number(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in self._names:
            self._names.append(name)
        return f"${self._names.index(name) + 1}"

    async def rows(self, connection: AnyConnection, values: Mapping[str, Any]) -> list[Record]:
        driver = driver_of(connection)
        with self._span():
            rows: list[Record] = await driver.fetch(self.sql, *self._ordered(values))
        return rows

    async def row(self, connection: AnyConnection, values: Mapping[str, Any]) -> Record | None:
        """The only row, or None."""
        found = await self.rows(connection, values)
        if len(found) > 1:
            raise AssertionError(f"{self.name} returned {len(found)} rows")
        return found[0] if found else None

    async def count(self, connection: AnyConnection, values: Mapping[str, Any]) -> int:
        """The number of rows written."""
        driver = driver_of(connection)
        with self._span():
            # The command's tag: INSERT 0 1, UPDATE 2, DELETE 3.
            tag: str = await driver.execute(self.sql, *self._ordered(values))
        return int(tag.rpartition(" ")[2])

    async def rows_of_each(self, connection: AnyConnection, values: Sequence[Mapping[str, Any]]) -> list[Record]:
        """Executes the statement once for each of `values`, in one round trip, and returns all rows."""
        driver = driver_of(connection)
        with self._span():
            rows: list[Record] = await driver.fetchmany(self.sql, [self._ordered(each) for each in values])
        return rows

    def _ordered(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] for name in self._names]

    def _span(self) -> AbstractContextManager[Any]:
        # Skip the span if the trace is not sampled: a non-recording span costs as much as a real one. A sampled span
        # that has ended no longer records either, but is no NonRecordingSpan: later statements join its trace.
        if isinstance(get_current_span(), NonRecordingSpan):
            return nullcontext()
        return tracer.start_as_current_span(
            self.name, kind=SpanKind.CLIENT, attributes=self._span_attributes, record_exception=False
        )


def driver_of(connection: AnyConnection) -> asyncpg.Connection:
    """asyncpg's connection, also under SQLAlchemy's. `get_raw_connection` returns the same but creates a greenlet."""
    if isinstance(connection, asyncpg.Connection):
        return connection
    proxied = connection.sync_connection
    driver = proxied.connection.driver_connection if proxied else None
    if not isinstance(driver, asyncpg.Connection):
        raise TypeError("a Statement needs a connection of asyncpg")
    return driver


def to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
