"""Counts lock waits in PostgreSQL, for tests that act while a transaction waits."""

from mesh_common.database.postgres import Database
from sqlalchemy import text


async def waiting_for_locks(database: Database) -> int:
    """The number of pending lock requests, for rows or tables, of all users."""
    async with database.as_worker() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one())


async def runs_waiting_for(database: Database, table: str) -> int:
    """The number of transactions of runs that wait for the table: they have changed a run or its lease before."""
    async with database.as_worker() as connection:
        return int((await connection.execute(_RUNS_WAITING, {"table": f"agent.{table}"})).scalar_one())


_RUNS_WAITING = text("""
    SELECT count(*) FROM pg_locks waiting
    WHERE NOT granted AND relation = to_regclass(:table) AND EXISTS (
        SELECT FROM pg_locks held WHERE held.pid = waiting.pid AND held.granted
        AND held.relation IN ('agent.runs'::regclass, 'agent.leases'::regclass) AND held.mode = 'RowExclusiveLock')
""")
