"""Threads with a generated history."""

from mesh_common.ids import UserId
from sqlalchemy import text

from support.agent import owner_connection
from support.mesh import TestMesh


async def grow(mesh: TestMesh, thread_id: str, user_id: UserId, turns: int) -> None:
    """Inserts ended turns in their stored form: a thousand real ones take a minute."""
    async with owner_connection(mesh) as connection:
        await connection.execute(_GROW, {"thread_id": thread_id, "user_id": user_id, "turns": turns})
        await connection.execute(text("ANALYZE agent.runs"))
        await connection.execute(text("ANALYZE agent.messages"))


_GROW = text("""
    WITH turns AS (
        INSERT INTO agent.runs (id, user_id, thread_id, status, attempt, started_at, ended_at, input_tokens,
                                output_tokens, cost_micro_usd)
        SELECT gen_random_uuid(), :user_id, :thread_id, 'succeeded', 1, now(), now(), 10, 20, 30
        FROM generate_series(1, :turns)
        RETURNING id, position
    )
    INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
    SELECT gen_random_uuid(), :user_id, :thread_id, turns.id, turns.position, part,
           CASE part WHEN 0 THEN 'user' ELSE 'assistant' END, repeat('what was said ', 8)
    FROM turns CROSS JOIN generate_series(0, 1) AS part
""")
