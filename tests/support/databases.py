"""A database opened in each way that the services open theirs. The conformance suite runs on all of them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import asyncpg
import psycopg
from mesh_agent.store.checkpoint_database import open_checkpoint_database
from mesh_common.database import asyncpg_pool, sqlalchemy_engine
from mesh_common.database.pool import Pool
from mesh_common.process.settings import GrpcSettings
from mesh_common.subject import Subject
from sqlalchemy import text

from support.mesh import TestMesh
from support.scratch import SCHEMA, settings_for

Kind = Literal["sqlalchemy", "asyncpg", "psycopg"]
COUNT: Final = "SELECT count(*) FROM eval.notes"
KINDS: Final[Sequence[Kind]] = ("sqlalchemy", "asyncpg", "psycopg")


class AnyDatabase(Protocol):
    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[Any]: ...


@dataclass(frozen=True)
class Opened:
    """`subject` transactions on one pool, and statements in them that all drivers understand."""

    database: AnyDatabase

    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[Any]:
        return self.database.as_subject(subject)

    async def rows(self, subject: Subject, sql: str) -> list[tuple[Any, ...]]:
        """The rows of one statement in a transaction of its own."""
        async with self.as_subject(subject) as connection:
            return await rows(connection, sql)


async def rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    if isinstance(connection, asyncpg.Connection):
        return [tuple(row) for row in await connection.fetch(sql)]
    if isinstance(connection, psycopg.AsyncConnection):
        cursor = await connection.execute(sql.encode())
        found: Sequence[Mapping[str, Any]] = await cursor.fetchall() if cursor.description else []
        return [tuple(row.values()) for row in found]
    result = await connection.execute(text(sql))
    return [tuple(row) for row in result] if result.returns_rows else []


@asynccontextmanager
async def opened(kind: Kind, settings: GrpcSettings, name: str = "main") -> AsyncIterator[Opened]:
    """The scratch service's database."""
    pool = Pool(name, settings.database_pool_size, settings.database_max_overflow)
    match kind:
        case "sqlalchemy":
            opening: Any = sqlalchemy_engine.open_database(settings, schema=SCHEMA, pool=pool)
        case "asyncpg":
            opening = asyncpg_pool.open_database(settings, schema=SCHEMA, pool=pool)
        case "psycopg":
            opening = open_checkpoint_database(settings, schema=SCHEMA, pool=pool)
    async with opening as database:
        yield Opened(database)


def note_of(subject: Subject) -> str:
    """SQL that writes a note of the user."""
    return f"INSERT INTO eval.notes (user_id, text) VALUES ('{subject.user_id}', 'note')"  # noqa: S608 - an id


def narrow(scratch_mesh: TestMesh, **changes: Any) -> GrpcSettings:
    """Settings of a pool with one connection."""
    return settings_for(scratch_mesh, "scratch", database_pool_size=1, database_max_overflow=0, **changes)


def scratch_url(scratch_mesh: TestMesh, parameters: str = "") -> str:
    return scratch_mesh.database_url(SCHEMA).replace("/mesh", f"/scratch{parameters}")
