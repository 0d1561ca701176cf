"""Counts lock waits in PostgreSQL, for tests that act while a transaction waits."""

from mesh_common.database.postgres import Database
from sqlalchemy import text


async def waiting_for_locks(database: Database) -> int:
    """The number of pending lock requests, for rows or tables, of all users."""
    async with database.as_worker() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one())
