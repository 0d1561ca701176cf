"""Tools with external effects: if the owner dies during a call, a `once` tool acts once or is reported as unknown."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from mesh.agent.v1 import agent_pb2
from mesh_agent.checkpoint import BufferedSaver
from mesh_agent.domain.attempts import Claim
from mesh_agent.lease import HeldLease
from mesh_agent.store.checkpoint_database import CheckpointDatabase
from mesh_common.database.postgres import Database
from mesh_common.ids import RunId, UserId
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import AgentUnderTest, Started, agent_settings, eventually, running_agent, some_user
from support.locks import waiting_for_locks
from support.mesh import TestMesh
from support.subjects import personal
from support.tool_server import ToolServer, running_tool_server

MARK = '[[sim:tool=mark {"token": "t-1"}]] [[sim:reply=It says {tool_result}.]]'


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


@asynccontextmanager
async def agent_with(own_mesh: TestMesh, model_url: str, tools: str, **overrides: str) -> AsyncIterator[AgentUnderTest]:
    settings = agent_settings(own_mesh, model_url, AGENT_HTTP_TOOLS=tools, **overrides)
    async with running_agent(own_mesh, settings) as agent:
        yield agent


def finished(events: Sequence[agent_pb2.RunEvent]) -> list[agent_pb2.ToolFinished]:
    return [event.tool_finished for event in events if event.HasField("tool_finished")]


async def taken_away(database: Database, user_id: UserId) -> None:
    """Takes the lease away, as from an owner that was paused for too long."""
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(text("UPDATE agent.leases SET expires_at = now(), owner = 'nobody'"))


async def run_whose_owner_is_lost_in_the_call(
    agent: AgentUnderTest, tool: ToolServer, database: Database, user_id: UserId
) -> list[agent_pb2.RunEvent]:
    """The events of the next attempt, which begins while the call of the previous one has no answer."""
    tool.answers.clear()
    async with agent.starting(user_id, MARK) as started:
        await started.until("tool_started")
        await tool.called.wait()
        await taken_away(database, user_id)
        await eventually(lambda: agent.get_run(user_id, started.run_id), lambda run: run.attempt == 2)
        tool.answers.set()
        await eventually(lambda: agent.get_run(user_id, started.run_id), lambda run: run.HasField("ended_at"))
        return await agent.follow(user_id, started.run_id)


async def test_tool_of_an_http_server_is_called_with_key_user_and_arguments(
    own_mesh: TestMesh, model_url: str, tool: ToolServer
) -> None:
    user_id = some_user()
    async with agent_with(own_mesh, model_url, tool.as_setting("once", api_key="tool-secret")) as agent:
        turn = await agent.run(user_id, MARK)

    [call] = tool.calls
    assert call.key == f"{turn.run_id}:1:0"
    assert call.headers["Mesh-On-Behalf-Of"] == str(user_id)
    assert call.headers["Authorization"] == "Bearer tool-secret"
    assert call.arguments == {"token": "t-1"}
    assert turn.text == "It says marked."
    assert not finished(turn.events)[0].is_unknown


async def test_once_call_that_was_begun_is_reported_unknown_and_not_repeated(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    async with agent_with(own_mesh, model_url, tool.as_setting("once"), AGENT_LEASE_TTL_S="2") as agent:
        events = await run_whose_owner_is_lost_in_the_call(agent, tool, own_database, user_id)

    [result] = finished(events)
    assert len(tool.calls) == 1
    assert result.is_unknown
    assert result.is_error
    assert events[-1].WhichOneof("event") == "run_finished"


@pytest.mark.parametrize("effect", ["idempotent", "none"])
async def test_other_calls_are_repeated_under_the_same_key(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, own_database: Database, effect: str
) -> None:
    user_id = some_user()
    async with agent_with(own_mesh, model_url, tool.as_setting(effect), AGENT_LEASE_TTL_S="2") as agent:
        events = await run_whose_owner_is_lost_in_the_call(agent, tool, own_database, user_id)

    assert [call.key for call in tool.calls] == [f"{events[0].run_id}:1:0"] * 2
    assert [(result.content, result.is_unknown) for result in finished(events)] == [("marked", False)]


async def test_once_calls_of_one_answer_and_of_later_rounds_all_act(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin
) -> None:
    """Each is a separate call, whatever ids the model gives them."""
    calls = [{"name": "mark", "arguments": {"token": token}} for token in ("a", "b")]
    await simulator.put_rules([{"action": {"tool_calls": calls, "in_rounds": True, "reply": "ok"}}])
    async with agent_with(own_mesh, model_url, tool.as_setting("once")) as agent:
        turn = await agent.run(some_user(), "Mark both.")

    assert sorted(call.arguments["token"] for call in tool.calls) == ["a", "b"]
    assert len({call.key for call in tool.calls}) == 2
    assert not any(result.is_unknown for result in finished(turn.events))


async def test_cancelled_run_reports_the_call_it_was_in(own_mesh: TestMesh, model_url: str, tool: ToolServer) -> None:
    user_id = some_user()
    tool.answers.clear()
    async with (
        agent_with(own_mesh, model_url, tool.as_setting("once")) as agent,
        agent.starting(user_id, MARK) as started,
    ):
        await started.until("tool_started")
        await tool.called.wait()
        run = await agent.cancel(user_id, started.run_id)
        rest = await started.rest()

    assert run.status == agent_pb2.RUN_STATUS_CANCELLED
    assert [event.WhichOneof("event") for event in rest] == ["tool_finished", "run_cancelled"]
    assert rest[0].tool_finished.is_unknown


async def test_records_of_once_calls_go_with_the_end_of_their_run(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    tool.answers.clear()
    async with (
        agent_with(own_mesh, model_url, tool.as_setting("once")) as agent,
        agent.starting(user_id, MARK) as started,
    ):
        await started.until("tool_started")
        while_called = await records(own_database)
        tool.answers.set()
        await started.until("run_finished")

    assert while_called == 1
    assert await records(own_database) == 0


async def records(database: Database) -> int:
    async with database.as_worker() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM agent.once_calls"))).scalar_one())


async def test_beginning_a_call_and_deleting_its_thread_wait_for_each_other(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, own_database: Database, own_checkpoints: CheckpointDatabase
) -> None:
    """Both lock the run before the lease. Otherwise they would deadlock."""
    user_id = some_user()
    tool.answers.clear()
    async with (
        agent_with(own_mesh, model_url, tool.as_setting("once")) as agent,
        agent.starting(user_id, MARK) as started,
    ):
        await started.until("tool_started")
        claim = await claim_of(own_database, started)
        async with (
            BufferedSaver(own_checkpoints).open(claim, HeldLease(math.inf, 60.0)) as checkpoints,
            asyncio.TaskGroup() as group,
            own_database.as_subject(personal(user_id)) as deleting,
        ):
            await deleting.execute(text("SELECT id FROM agent.runs FOR UPDATE"))
            beginning = group.create_task(checkpoints.begin_once("2:0"))
            await eventually(lambda: waiting_for_locks(own_database), bool)
            await deleting.execute(text("SELECT run_id FROM agent.leases FOR UPDATE"))
        await agent.cancel(user_id, started.run_id)

    assert beginning.result()


async def claim_of(database: Database, started: Started) -> Claim:
    async with database.as_worker() as connection:
        statement = text("SELECT thread_id, user_id, fence FROM agent.leases WHERE run_id = :run_id")
        row = (await connection.execute(statement, {"run_id": started.run_id})).one()
    return Claim(RunId(UUID(started.run_id)), row.thread_id, personal(row.user_id), 1, 1, row.fence, "", None, {})
