"""Turn 1,000 of a thread costs the database as much as turn 10: statements, commits, rows, bytes and blocks read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import median
from uuid import UUID

import pytest
from fakes.agent.neighbours import FakeEntitlements, FakeReceivers
from mesh_agent.store import messages
from mesh_common.database.postgres import Database
from mesh_common.database.statements import driver_of
from mesh_common.ids import UserId
from sqlalchemy import text
from support.agent import AgentUnderTest, agent_settings, owner_connection, running_agent, some_user
from support.grown_threads import grow
from support.mesh import TestMesh
from support.statements import counted
from support.subjects import personal

# The median excludes rare events: a full-page write after a checkpoint, a retried job, and the first pages of an empty
# table, of which four or five of the first nine turns begin one (8 kB of WAL).
MEASURED_TURNS = 21
SAID = "[[sim:tokens=20]] What was said before does not matter."


@dataclass(frozen=True)
class Cost:
    """Medians of one turn. `wal_bytes` covers everything the server does in that time."""

    statements: float
    commits: float
    rows: float
    wal_bytes: float


@pytest.fixture
async def own_agent(own_mesh: TestMesh, model_url: str) -> AsyncIterator[AgentUnderTest]:
    settings = agent_settings(own_mesh, model_url, AGENT_EVAL_SAMPLE_RATIO="0", AGENT_REMEMBER_DELAY_S="60")
    takers = FakeReceivers()
    neighbours = {"entitlements": FakeEntitlements(), "usage": takers, "memories": takers, "judge": takers}
    async with running_agent(own_mesh, settings, **neighbours) as agent:
        yield agent


async def reading(mesh: TestMesh) -> tuple[int, int]:
    """Rows of the tables that a turn may grow, and the WAL position."""
    async with owner_connection(mesh) as connection:
        row = (await connection.execute(_READING)).one()
        return int(row.row_count), int(row.wal)


_READING = text("""
    SELECT (SELECT count(*) FROM agent.runs) + (SELECT count(*) FROM agent.messages)
         + (SELECT count(*) FROM agent.checkpoints) + (SELECT count(*) FROM agent.checkpoint_blobs)
         + (SELECT count(*) FROM agent.checkpoint_writes) AS row_count,
           pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal
""")


async def cost_of_a_turn(mesh: TestMesh, agent: AgentUnderTest, user_id: UserId, thread_id: str, said: str) -> Cost:
    turns = []
    for _ in range(MEASURED_TURNS):
        rows, wal = await reading(mesh)
        with counted(user_id) as counts:
            await agent.run(user_id, said, thread_id=thread_id)
        rows_after, wal_after = await reading(mesh)
        turns.append((len(counts.statements), counts.commits, rows_after - rows, wal_after - wal))
    return Cost(*(median(column) for column in zip(*turns, strict=True)))


@pytest.mark.parametrize(
    "said", [SAID, f'{SAID} [[sim:tool=calculate {{"expression": "6*7"}}]]'], ids=["plain", "tool"]
)
async def test_turn_1000_costs_what_turn_10_does(own_mesh: TestMesh, own_agent: AgentUnderTest, said: str) -> None:
    user_id = some_user()
    thread_id = (await own_agent.create_thread(user_id)).id
    await grow(own_mesh, thread_id, user_id, 10)
    early = await cost_of_a_turn(own_mesh, own_agent, user_id, thread_id, said)
    await grow(own_mesh, thread_id, user_id, 980)

    late = await cost_of_a_turn(own_mesh, own_agent, user_id, thread_id, said)

    assert (late.statements, late.commits, late.rows) == (early.statements, early.commits, early.rows)
    assert late.wal_bytes == pytest.approx(early.wal_bytes, rel=0.1), (early, late)


async def blocks_to_remember_a_turn(database: Database, user_id: UserId, thread_id: str) -> int:
    """The blocks that PostgreSQL reads when the last turn is sent to memory."""
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(_REMEMBER_ALL_BUT_ONE, {"thread_id": thread_id})
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {messages.TO_REMEMBER.sql}"
        [found] = await driver_of(connection).fetchval(explain, UUID(thread_id), user_id, 50)
    return int(found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"])


_REMEMBER_ALL_BUT_ONE = text("""
    UPDATE agent.threads SET remembered_position = (
        SELECT max(position) - 1 FROM agent.messages WHERE thread_id = :thread_id)
    WHERE id = :thread_id
""")


async def test_remembering_turn_1000_reads_what_turn_10_does(
    own_mesh: TestMesh, own_agent: AgentUnderTest, own_database: Database
) -> None:
    user_id = some_user()
    thread_id = (await own_agent.create_thread(user_id)).id
    await grow(own_mesh, thread_id, user_id, 10)
    early = await blocks_to_remember_a_turn(own_database, user_id, thread_id)
    await grow(own_mesh, thread_id, user_id, 990)

    late = await blocks_to_remember_a_turn(own_database, user_id, thread_id)

    # An index of 1,000 turns is a few levels deeper than one of ten.
    assert early > 0
    assert late <= early + 10
