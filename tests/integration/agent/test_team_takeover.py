"""Owners that are lost while a member of a team works: it goes on where it was, and nothing happens twice."""

from functools import partial
from pathlib import Path

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from support.agent import some_user
from support.approval import stored
from support.lost_owners import ended, take_away
from support.mesh import TestMesh
from support.teams import HANDOFF, SUPERVISOR, TeamOpening, asks, marks, says, team_agent
from support.tool_server import ToolServer


@pytest.fixture
def opening(own_mesh: TestMesh, model_url: str, tmp_path: Path, tool: ToolServer) -> TeamOpening:
    return partial(team_agent, own_mesh, model_url, tmp_path, tool)


@pytest.mark.parametrize(
    ("effect", "calls", "said"), [("once", 1, "It is not known"), ("idempotent", 2, "It says marked.")]
)
async def test_member_goes_on_after_its_owner_was_lost_in_a_call(
    opening: TeamOpening, own_database: Database, tool: ToolServer, effect: str, calls: int, said: str
) -> None:
    tool.answers.clear()
    user_id = some_user()
    message = f"{asks('poet', says('Roses.'))} {asks('clerk', marks())} {says('Done: {tool_result}')}"
    async with opening(SUPERVISOR, effect=effect, AGENT_LEASE_TTL_S="2") as agent:
        async with agent.starting(user_id, message) as started:
            await tool.called.wait()
            await take_away(own_database)
            tool.answers.set()
            run = await ended(agent, user_id, started.run_id)
        events = await agent.follow(user_id, started.run_id)
    members = [event.member_completed for event in events if event.HasField("member_completed")]
    used = run.usage_by_agent

    assert (run.status, run.attempt) == (pb.RUN_STATUS_SUCCEEDED, 2)
    assert said in run.message.content
    assert len(tool.calls) == calls
    assert len({call.key for call in tool.calls}) == 1
    # The poet is not asked again, and paid once.
    assert [(one.tool, one.content) for one in events[0].run_restarted.reused_tool_results] == [("ask_poet", "Roses.")]
    assert [one.agent for one in members] == ["clerk"]
    assert used["poet"].output_tokens == len(["Roses."])
    assert sum(usage.output_tokens for usage in used.values()) == run.usage.output_tokens
    assert await stored(own_database, started.run_id) == 0


async def test_agent_that_took_the_conversation_keeps_it_after_its_owner_was_lost(
    opening: TeamOpening, own_database: Database, tool: ToolServer
) -> None:
    tool.answers.clear()
    user_id = some_user()
    message = f"[[sim:tool=transfer_to_clerk {{}}]] {marks()}"
    async with (
        opening(HANDOFF, effect="idempotent", AGENT_LEASE_TTL_S="2") as agent,
        agent.starting(user_id, message) as started,
    ):
        await tool.called.wait()
        await take_away(own_database)
        tool.answers.set()
        run = await ended(agent, user_id, started.run_id)

    assert (run.status, run.attempt) == (pb.RUN_STATUS_SUCCEEDED, 2)
    assert run.message.agent == "clerk"
    assert run.message.content.endswith("marked.")
    assert len({call.key for call in tool.calls}) == 1
