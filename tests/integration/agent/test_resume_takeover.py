"""Owners that are lost while a run is interrupted or resumed: it asks once, and effects happen once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from mesh_common.ids import UserId
from sqlalchemy import text
from support.agent import AgentUnderTest, Followed, eventually, owner_connection, some_user
from support.approval import MARK, asked, decision, guarding_agent, interrupts, resume, resume_request, stored
from support.locks import runs_waiting_for, waiting_for_locks
from support.mesh import TestMesh
from support.tool_server import ToolServer, running_tool_server

SHORT_LEASE = {"AGENT_LEASE_TTL_S": "2"}


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


@pytest.fixture
async def guarded(own_mesh: TestMesh, model_url: str, tool: ToolServer) -> AsyncIterator[AgentUnderTest]:
    async with guarding_agent(own_mesh, model_url, tool, **SHORT_LEASE) as agent:
        yield agent


async def take_away(database: Database) -> None:
    """As when another replica has claimed the run and then died: the fencing number is a newer one."""
    async with database.as_worker() as connection:
        await connection.execute(
            text("UPDATE agent.leases SET expires_at = now(), owner = 'nobody', fence = nextval('agent.fences')")
        )


@asynccontextmanager
async def lost_at(mesh: TestMesh, database: Database, table: str, mode: str) -> AsyncIterator[None]:
    """Locks the table until the owner waits for it after the block, and has lost its run by then."""
    async with owner_connection(mesh) as connection:
        await connection.execute(text(f"LOCK TABLE agent.{table} IN {mode} MODE"))
        yield
        # A run first reads its checkpoints. What it asks is also waited for by retention.
        count = partial(runs_waiting_for, table=table) if table != "checkpoints" else waiting_for_locks
        await eventually(lambda: count(database), bool)
        await take_away(database)


async def ended(agent: AgentUnderTest, user_id: UserId, run_id: str) -> pb.Run:
    return await eventually(lambda: agent.get_run(user_id, run_id), lambda run: run.HasField("ended_at"))


async def interrupted(agent: AgentUnderTest, user_id: UserId) -> tuple[Followed, pb.StartRunRequest]:
    """An interrupted run, and the request that resumes it."""
    turn = await agent.run(user_id, MARK)
    [question] = asked(turn)
    return turn, resume_request(turn.run_id, decision(question.call_id))


async def test_owner_that_is_lost_before_the_end_is_stored_has_asked_nothing(
    guarded: AgentUnderTest, own_mesh: TestMesh, own_database: Database, tool: ToolServer
) -> None:
    """Its checkpoints are written, and the transaction that ends the run waits."""
    user_id = some_user()
    # Blocks the insertion of interrupts alone.
    async with asyncio.TaskGroup() as group, lost_at(own_mesh, own_database, "interrupts", "SHARE"):
        running = group.create_task(guarded.run(user_id, MARK))
    turn = running.result()
    run = await ended(guarded, user_id, turn.run_id)
    [question] = (await interrupts(guarded, user_id)).interrupts
    resumed = await resume(guarded, user_id, resume_request(turn.run_id, decision(question.call_id)))

    assert (run.status, run.attempt) == (pb.RUN_STATUS_INTERRUPTED, 2)
    assert [one.id for one in run.interrupts] == [question.id]
    assert resumed.text == "It says marked."
    assert len(tool.calls) == 1
    assert await stored(own_database, turn.run_id) == 0


async def test_owner_that_is_lost_before_the_approved_call_leaves_it_to_the_next(
    guarded: AgentUnderTest, own_mesh: TestMesh, own_database: Database, tool: ToolServer
) -> None:
    user_id = some_user()
    _, request = await interrupted(guarded, user_id)
    async with asyncio.TaskGroup() as group, lost_at(own_mesh, own_database, "checkpoints", "ACCESS EXCLUSIVE"):
        group.create_task(resume(guarded, user_id, request))
    run = await ended(guarded, user_id, request.run_id)

    assert (run.status, run.attempt) == (pb.RUN_STATUS_SUCCEEDED, 2)
    assert run.message.content == "It says marked."
    assert [call.key for call in tool.calls] == [f"{request.run_id}:1:0"]


async def test_owner_that_is_lost_after_the_approved_call_leaves_its_result(
    guarded: AgentUnderTest, own_mesh: TestMesh, own_database: Database, tool: ToolServer
) -> None:
    user_id = some_user()
    turn, request = await interrupted(guarded, user_id)
    tool.answers.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(resume(guarded, user_id, request))
        await tool.called.wait()
        # The end of the run inserts its message.
        async with lost_at(own_mesh, own_database, "messages", "SHARE"):
            tool.answers.set()
    run = await ended(guarded, user_id, request.run_id)

    assert (run.status, run.attempt) == (pb.RUN_STATUS_SUCCEEDED, 2)
    assert run.message.content == "It says marked."
    assert len(tool.calls) == 1
    assert await stored(own_database, turn.run_id) == 0


@pytest.mark.parametrize("effect", ["once", "idempotent"])
async def test_owner_that_is_lost_in_the_approved_call(
    own_mesh: TestMesh, model_url: str, own_database: Database, tool: ToolServer, effect: str
) -> None:
    """A `once` call is reported as unknown, another one repeated under the same key."""
    user_id = some_user()
    async with guarding_agent(own_mesh, model_url, tool, effect=effect, **SHORT_LEASE) as agent:
        _, request = await interrupted(agent, user_id)
        tool.answers.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(resume(agent, user_id, request))
            await tool.called.wait()
            await take_away(own_database)
            await eventually(lambda: agent.get_run(user_id, request.run_id), lambda run: run.attempt == 2)
            tool.answers.set()
        await ended(agent, user_id, request.run_id)
        events = await agent.follow(user_id, request.run_id)

    [result] = [event.tool_finished for event in events if event.HasField("tool_finished")]
    keys = [call.key for call in tool.calls]
    assert keys == [f"{request.run_id}:1:0"] * (1 if effect == "once" else 2)
    assert result.is_unknown == (effect == "once")
    assert events[-1].HasField("run_finished")


async def test_run_whose_checkpoints_are_lost_fails_and_calls_nothing(
    guarded: AgentUnderTest, own_database: Database, tool: ToolServer
) -> None:
    """From its start the model might make another call, and the approval is about this one."""
    user_id = some_user()
    turn, request = await interrupted(guarded, user_id)
    async with own_database.as_worker() as connection:
        await connection.execute(text("DELETE FROM agent.checkpoints WHERE thread_id = :id"), {"id": turn.run_id})

    resumed = await resume(guarded, user_id, request)

    assert resumed.last.run_failed.error.reason == "STATE_LOST"
    assert tool.calls == []


async def test_approval_is_valid_for_the_call_that_was_shown_alone(
    guarded: AgentUnderTest, own_database: Database, tool: ToolServer
) -> None:
    user_id = some_user()
    _, request = await interrupted(guarded, user_id)
    async with own_database.as_worker() as connection:
        await connection.execute(text('UPDATE agent.interrupts SET arguments_json = \'{"token":"other"}\''))

    resumed = await resume(guarded, user_id, request)

    assert resumed.last.HasField("run_interrupted")
    assert tool.calls == []
