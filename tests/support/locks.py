"""What waits in PostgreSQL, for tests that make something happen in its midst."""

from mesh_common.database.postgres import Database
from sqlalchemy import text


async def waiting_for_locks(database: Database) -> int:
    """How many wait, for rows or tables, over all users."""
    async with database.as_worker() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one())
