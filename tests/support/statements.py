"""Counts the statements that a user's requests and runs send to the database, in the process that sends them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest
from mesh_common import caller
from mesh_common.database.asyncpg_pool import AsyncpgPool
from mesh_common.ids import UserId

type Note = Callable[[str], None]


@dataclass
class Counted:
    statements: list[str] = field(default_factory=list)
    commits: int = 0


@contextmanager
def counted(user_id: UserId) -> Iterator[Counted]:
    """Counts what requests and runs of this user send, without the outbox and without the process's loops."""
    counts = Counted()

    def note(statement: str) -> None:
        current = caller._current.get()
        if (
            current is None
            or current.subject is None
            or current.subject.user_id != user_id
            or current.service == "outbox"
        ):
            return
        if statement == "COMMIT":
            counts.commits += 1
        else:
            counts.statements.append(" ".join(statement.split())[:80])

    with _heard_by(note):
        yield counts


@contextmanager
def _heard_by(note: Note) -> Iterator[None]:
    """Statements on the pools of asyncpg. Checkpoints, which psycopg writes, are not counted."""

    def on_query(query: asyncpg.connection.LoggedQuery) -> None:
        note(query.query)

    take, release = AsyncpgPool.take, AsyncpgPool.release

    async def take_and_hear(pool: AsyncpgPool) -> asyncpg.Connection:
        connection = await take(pool)
        connection.add_query_logger(on_query)
        return connection

    async def release_unheard(pool: AsyncpgPool, connection: asyncpg.Connection, error: BaseException | None) -> None:
        if not connection.is_closed():
            connection.remove_query_logger(on_query)
        await release(pool, connection, error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncpgPool, "take", take_and_hear)
        patch.setattr(AsyncpgPool, "release", release_unheard)
        yield
