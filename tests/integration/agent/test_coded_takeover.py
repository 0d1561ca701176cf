"""Owners that are lost while they run a graph in code: it goes on where it was, and nothing happens twice."""

import asyncio

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from support.agent import some_user
from support.approval import asked, decision, resume, resume_request, stored
from support.coded_graphs import Opening
from support.lost_owners import ended, take_away
from support.tool_server import ToolServer


@pytest.mark.parametrize(
    ("effect", "calls", "said"), [("once", 1, "It is not known"), ("idempotent", 2, "It says marked.")]
)
async def test_graph_goes_on_after_its_owner_was_lost_in_a_call(
    opening: Opening, own_database: Database, tool: ToolServer, effect: str, calls: int, said: str
) -> None:
    tool.answers.clear()
    user_id = some_user()
    async with opening("report", effect=effect, AGENT_LEASE_TTL_S="2") as agent:
        async with agent.starting(user_id, "Report!") as started:
            await tool.called.wait()
            await take_away(own_database)
            tool.answers.set()
            run = await ended(agent, user_id, started.run_id)
        events = await agent.follow(user_id, started.run_id)

    assert (run.status, run.attempt) == (pb.RUN_STATUS_SUCCEEDED, 2)
    # The paragraph of the first attempt, and then the second one's.
    assert run.message.content.startswith("Report on about t0, about t1.\n\nIt says")
    assert said in run.message.content
    assert len(tool.calls) == calls
    assert len({call.key for call in tool.calls}) == 1
    assert [event.step_started.step for event in events if event.HasField("step_started")] == ["publish"]
    # Four answers of models, of both attempts; none is paid twice.
    assert run.usage.output_tokens == len(["t0", "t1"]) + 2 * len(["about", "t0"]) + _last_tokens(run)
    assert await stored(own_database, started.run_id) == 0


def _last_tokens(run: pb.Run) -> int:
    return len(run.message.content.partition("\n\n")[2].split())


async def test_owner_that_is_lost_after_a_resume_began_leaves_the_decision(
    opening: Opening, own_database: Database, tool: ToolServer
) -> None:
    tool.answers.clear()
    user_id = some_user()
    async with opening("report", effect="idempotent", approval="always", AGENT_LEASE_TTL_S="2") as agent:
        turn = await agent.run(user_id, "Report!")
        [question] = asked(turn)
        request = resume_request(turn.run_id, decision(question.call_id))
        async with asyncio.TaskGroup() as group:
            group.create_task(resume(agent, user_id, request))
            await tool.called.wait()
            await take_away(own_database)
            tool.answers.set()
        run = await ended(agent, user_id, request.run_id)

    assert (run.status, run.attempt) == (pb.RUN_STATUS_SUCCEEDED, 2)
    assert run.message.content == "It says marked."
    assert len(tool.calls) == 2
    assert len({call.key for call in tool.calls}) == 1
