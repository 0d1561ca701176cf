"""Owners that are lost while they run something."""

from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from mesh_common.ids import UserId
from sqlalchemy import text

from support.agent import AgentUnderTest, eventually


async def take_away(database: Database) -> None:
    """As when another replica has claimed the run and then died: the fencing number is a newer one."""
    async with database.as_worker() as connection:
        await connection.execute(
            text("UPDATE agent.leases SET expires_at = now(), owner = 'nobody', fence = nextval('agent.fences')")
        )


async def ended(agent: AgentUnderTest, user_id: UserId, run_id: str) -> pb.Run:
    return await eventually(lambda: agent.get_run(user_id, run_id), lambda run: run.HasField("ended_at"))
