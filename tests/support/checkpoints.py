"""A transaction on psycopg, like those that write checkpoints."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from mesh_common.database.postgres import Database
from mesh_common.ids import UserId

from support.subjects import personal


@asynccontextmanager
async def checkpoint_transaction(database: Database, user_id: UserId) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """`database` must be opened with psycopg."""
    async with database.as_subject(personal(user_id)) as connection:
        raw = await connection.get_raw_connection()
        yield cast("psycopg.AsyncConnection[Any]", raw.driver_connection)
