"""Calls that need approval: the run ends interrupted, and another run executes what a person decided."""

from collections.abc import AsyncIterator

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from sqlalchemy import text
from support.agent import some_user
from support.approval import MARK, asked, decision, guarding_agent, resume, resume_request
from support.mesh import TestMesh
from support.tool_server import ToolServer, running_tool_server


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


async def test_approved_call_is_made_by_the_run_that_resumes(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(user_id, MARK)
        waiting = await agent.get_run(user_id, turn.run_id)
        calls_before = list(tool.calls)
        [question] = asked(turn)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        run = await agent.get_run(user_id, resumed.run_id)
        decided = (await agent.get_run(user_id, turn.run_id)).interrupts[0].decision
        said = await agent.messages(user_id, turn.thread_id)

    assert turn.kinds == ["run_started", "memory_recalled", "run_interrupted"]
    assert waiting.status == pb.RUN_STATUS_INTERRUPTED
    assert (question.tool, question.arguments_json) == ("mark", '{"token":"t-1"}')
    assert calls_before == []
    assert [call.key for call in tool.calls] == [f"{resumed.run_id}:1:0"]
    assert resumed.text == "It says marked."
    assert (run.status, run.resumes_run_id) == (pb.RUN_STATUS_SUCCEEDED, turn.run_id)
    assert decided.decided_by == str(user_id)
    assert [message.content for message in said] == [MARK, "It says marked."]
    assert await stored(own_database) == 0


async def stored(database: Database) -> int:
    """Rows of checkpoints and records of calls."""
    async with database.as_worker() as connection:
        return int((await connection.execute(_STORED)).scalar_one())


_STORED = text("""
    SELECT (SELECT count(*) FROM agent.checkpoints) + (SELECT count(*) FROM agent.checkpoint_writes)
         + (SELECT count(*) FROM agent.checkpoint_blobs) + (SELECT count(*) FROM agent.once_calls)
""")
