"""`multitask: rollback`: a new run cancels the thread's unended runs and removes their messages."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from fakes.agent.neighbours import FakeReceivers
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.domain.attempts import Outcome
from mesh_agent.domain.runs import RunStatus, Usage
from mesh_agent.events.storage import encode_frames
from mesh_agent.execution.ending import EndRun
from mesh_agent.store import claims, rollbacks
from mesh_common.database.postgres import Database
from mesh_common.errors import Conflict, IdempotencyKeyReused, NotFound
from mesh_common.ids import RunId, UserId, new_id
from mesh_common.jobs.queue import JobQueue
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import AgentUnderTest, Followed, agent_settings, running_agent, some_user
from support.approval import MARK, asked, decision, guarding_agent, interrupts, resume, resume_request, stored
from support.mesh import TestMesh
from support.replicas import claimed_by_a_dead_owner, insert_pending
from support.subjects import personal
from support.tool_server import ToolServer, running_tool_server

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"
NOTE = "A message was rolled back after tools were called: mark. What they did was not undone."


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


async def rolled_back(agent: AgentUnderTest, user_id: UserId, thread_id: str, word: str = "new") -> Followed:
    return await agent.run(user_id, f"[[sim:reply={word}]]", thread_id=thread_id, multitask=pb.MULTITASK_ROLLBACK)


async def contents(agent: AgentUnderTest, user_id: UserId, thread_id: str) -> list[str]:
    return [message.content for message in await agent.messages(user_id, thread_id)]


async def test_running_and_pending_turns_leave_the_thread_and_earlier_ones_stay(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    before = await agent.run(user_id, "[[sim:reply=kept]]")
    async with agent.starting(user_id, STUCK, thread_id=before.thread_id) as running:
        await running.until("message_delta")
        async with agent.starting(user_id, "waits", thread_id=before.thread_id) as pending:
            turn = await rolled_back(agent, user_id, before.thread_id)
            ends = [(await one.rest())[-1].WhichOneof("event") for one in (running, pending)]

    runs = [await agent.get_run(user_id, one.run_id) for one in (running, pending)]
    [*_, sent] = await simulator.requests()
    assert ends == ["run_cancelled", "run_cancelled"]
    assert turn.text == "new"
    assert await contents(agent, user_id, before.thread_id) == [
        "[[sim:reply=kept]]",
        "kept",
        "[[sim:reply=new]]",
        "new",
    ]
    assert [(run.status, run.HasField("message")) for run in runs] == [(pb.RUN_STATUS_CANCELLED, False)] * 2
    assert "one" not in [message["content"] for message in sent["body"]["messages"]]
    assert STUCK not in str(sent["body"]["messages"])


async def test_run_of_another_replica_is_rolled_back(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    one, other = agent_settings(own_mesh, model_url), agent_settings(own_mesh, model_url)
    async with running_agent(own_mesh, one) as owner, running_agent(own_mesh, other) as second:
        async with owner.starting(user_id, STUCK) as first:
            await first.until("message_delta")
            async with asyncio.timeout(5):
                turn = await rolled_back(second, user_id, first.thread_id)
        said = await contents(second, user_id, first.thread_id)

    assert turn.text == "new"
    assert said == ["[[sim:reply=new]]", "new"]


async def test_what_was_rolled_back_is_never_remembered(own_mesh: TestMesh, model_url: str) -> None:
    user_id, receivers = some_user(), FakeReceivers()
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="0")
    async with running_agent(own_mesh, settings, memories=receivers, judge=receivers) as agent:
        async with agent.starting(user_id, STUCK) as first:
            await first.until("message_delta")
            await rolled_back(agent, user_id, first.thread_id)
        async with asyncio.timeout(10):
            remembered = await receivers.remembered.get()

    assert [message.content for message in remembered.messages] == ["[[sim:reply=new]]", "new"]
    assert receivers.remembered.empty()


async def test_waiting_approval_is_rejected_and_its_turn_removed(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(user_id, MARK)
        [question] = asked(turn)

        after = await rolled_back(agent, user_id, turn.thread_id)

        with pytest.raises(Conflict):
            await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        [kept] = (await agent.get_run(user_id, turn.run_id)).interrupts
        said = await contents(agent, user_id, turn.thread_id)
        waiting = (await interrupts(agent, user_id)).interrupts
    assert after.text == "new"
    assert said == ["[[sim:reply=new]]", "new"]
    assert (kept.decision.kind, kept.decision.message) == (pb.DECISION_KIND_REJECT, "The message was rolled back.")
    assert not waiting
    assert tool.calls == []
    assert await stored(own_database, turn.run_id) == 0


async def test_resumed_turn_is_removed_as_a_whole_and_its_effects_are_noted(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    tool.answers.clear()
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(user_id, MARK)
        [question] = asked(turn)
        resuming = asyncio.ensure_future(
            resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        )
        await tool.called.wait()

        after = await rolled_back(agent, user_id, turn.thread_id)

        tool.answers.set()
        resumed = await resuming
        messages = await agent.messages(user_id, turn.thread_id)
        [*_, sent] = await simulator.requests()
    assert resumed.last.HasField("run_cancelled")
    assert after.text == "new"
    assert [(one.role, one.content) for one in messages] == [
        (pb.MESSAGE_ROLE_NOTE, NOTE),
        (pb.MESSAGE_ROLE_USER, "[[sim:reply=new]]"),
        (pb.MESSAGE_ROLE_ASSISTANT, "new"),
    ]
    assert NOTE in str(sent["body"]["messages"])


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED])
async def test_turn_that_ends_at_the_same_moment_is_removed_as_well(own_database: Database, status: RunStatus) -> None:
    """The owner may have made its end before it learns of the rollback."""
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    end_run = EndRun(own_database, JobQueue("agent.outbox"), 0.0, 0.0)
    async with own_database.as_worker() as connection:
        [claim] = await claims.claim_runs(connection, claims.Owner("one", "here"), limit=1, ttl_s=60)
    async with own_database.as_subject(personal(user_id)) as connection:
        await rollbacks.mark(connection, user_id, [RunId(UUID(run_id))])

    await end_run(
        claim, Outcome(status, "Hi", new_id(), "sim", {"sim": Usage()}), encode_frames([]), has_checkpoints=False
    )

    async with own_database.as_worker() as connection:
        left = await connection.execute(text("SELECT count(*) FROM agent.messages WHERE run_id = :id"), {"id": run_id})
        assert left.scalar_one() == 0


async def test_repeated_rollback_is_the_same_run_and_removes_nothing_more(agent: AgentUnderTest) -> None:
    user_id, run_id = some_user(), str(new_id())
    first = await agent.run(user_id, "Hello")
    order = {"thread_id": first.thread_id, "run_id": run_id, "idempotency_key": "k"}
    await agent.run(user_id, "Now", multitask=pb.MULTITASK_ROLLBACK, **order)
    async with agent.starting(user_id, STUCK, thread_id=first.thread_id) as later:
        await later.until("message_delta")

        again = await agent.run(user_id, "Now", multitask=pb.MULTITASK_ROLLBACK, **order)
        with pytest.raises(IdempotencyKeyReused):
            await agent.run(user_id, "Now", multitask=pb.MULTITASK_INTERRUPT, **order)

        run = await agent.get_run(user_id, later.run_id)
        await agent.cancel(user_id, later.run_id)
    assert again.run_id == run_id
    assert run.status == pb.RUN_STATUS_RUNNING
    assert (await contents(agent, user_id, first.thread_id))[4] == STUCK


async def test_strangers_thread_is_not_found_and_keeps_its_turn(agent: AgentUnderTest) -> None:
    owner = some_user()
    async with agent.starting(owner, STUCK) as first:
        await first.until("message_delta")

        with pytest.raises(NotFound):
            await rolled_back(agent, some_user(), first.thread_id)

        run = await agent.get_run(owner, first.run_id)
        said = await contents(agent, owner, first.thread_id)
        await agent.cancel(owner, first.run_id)
    assert run.status == pb.RUN_STATUS_RUNNING
    assert said == [STUCK]


async def test_release_before_ends_a_rolled_back_run_and_leaves_no_messages(own_database: Database) -> None:
    """It does not know of rollbacks, and stores the partial answer."""
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    async with own_database.as_worker() as connection:
        await claims.claim_runs(connection, claims.Owner("one", "here"), limit=1, ttl_s=60)
    async with own_database.as_subject(personal(user_id)) as connection:
        await rollbacks.mark(connection, user_id, [RunId(UUID(run_id))])

        await connection.execute(_END_OF_RELEASE_BEFORE, {"run_id": run_id, "message_id": new_id()})

        left = await connection.execute(text("SELECT count(*) FROM agent.messages WHERE run_id = :id"), {"id": run_id})
    assert left.scalar_one() == 0


_END_OF_RELEASE_BEFORE = text("""
    WITH ended AS (
        UPDATE agent.runs SET status = 'cancelled', ended_at = clock_timestamp()
        WHERE id = :run_id AND status = 'running' RETURNING id, user_id, thread_id, position
    )
    INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content, is_partial)
    SELECT :message_id, user_id, thread_id, id, position, 1, 'assistant', 'Hel', true FROM ended
""")


async def test_call_that_a_lost_owner_had_begun_is_noted(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    """Its result is unknown, and no event of the last attempt shows it."""
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    await claimed_by_a_dead_owner(own_database, run_id, ttl_s=3)
    async with own_database.as_subject(personal(user_id)) as connection:
        await connection.execute(_BEGIN_CALL, {"run_id": run_id, "user_id": user_id})

    async with running_agent(own_mesh, agent_settings(own_mesh, model_url)) as agent:
        run = await agent.get_run(user_id, run_id)
        await rolled_back(agent, user_id, run.thread_id)
        said = await contents(agent, user_id, run.thread_id)

    assert said == [
        "A message was rolled back while a tool may have been called; it may have taken effect.",
        "[[sim:reply=new]]",
        "new",
    ]


_BEGIN_CALL = text(
    "INSERT INTO agent.once_calls (run_id, call_key, user_id, fence) VALUES (:run_id, '0:0', :user_id, 1)"
)
