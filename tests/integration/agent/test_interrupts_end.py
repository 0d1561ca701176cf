"""Interrupts that nobody decides: replaced by a new message, expired, or deleted with their thread."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.agent.neighbours import FakeReceivers
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.background.retention import Retention
from mesh_common.database.postgres import Database
from mesh_common.errors import Conflict
from mesh_common.ids import UserId
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import AgentUnderTest, Followed, some_user
from support.approval import MARK, asked, decision, guarding_agent, interrupts, resume, resume_request, stored
from support.mesh import TestMesh
from support.subjects import personal
from support.tool_server import ToolServer, running_tool_server

NOT_MADE = "The call of the tool mark was not approved and not made."
DAY_S = 86_400.0


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


@pytest.fixture
def receivers() -> FakeReceivers:
    return FakeReceivers(forget_generation=7)


@pytest.fixture
async def guarded(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, receivers: FakeReceivers
) -> AsyncIterator[AgentUnderTest]:
    fakes = {"memories": receivers, "judge": receivers}
    async with guarding_agent(
        own_mesh, model_url, tool, fakes=fakes, AGENT_REMEMBER_DELAY_S="0", AGENT_EVAL_SAMPLE_RATIO="1"
    ) as agent:
        yield agent


async def cannot_be_resumed(agent: AgentUnderTest, user_id: UserId, turn: Followed) -> pb.InterruptDecision:
    """The decision that was made instead."""
    [question] = asked(turn)
    with pytest.raises(Conflict):
        await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
    [kept] = (await agent.get_run(user_id, turn.run_id)).interrupts
    return kept.decision


async def test_new_message_rejects_what_waits_and_the_transcript_says_so(
    guarded: AgentUnderTest, tool: ToolServer, own_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    call = {"name": "mark", "arguments": {"token": "t-1"}}
    await simulator.put_rules([{"match": {"times": 1}, "action": {"tool_calls": [call]}}])
    turn = await guarded.run(user_id, "Mark it.")

    after = await guarded.run(user_id, "Never mind.", thread_id=turn.thread_id)

    said = await guarded.messages(user_id, turn.thread_id)
    decided = await cannot_be_resumed(guarded, user_id, turn)
    [*_, sent] = await simulator.requests()
    assert [(one.role, one.content) for one in said[:3]] == [
        (pb.MESSAGE_ROLE_USER, "Mark it."),
        (pb.MESSAGE_ROLE_NOTE, f"{NOT_MADE} A new message came first."),
        (pb.MESSAGE_ROLE_USER, "Never mind."),
    ]
    assert (decided.kind, decided.decided_by) == (pb.DECISION_KIND_REJECT, "")
    assert after.last.HasField("run_finished")
    assert NOT_MADE in str(sent["body"]["messages"])
    assert not (await interrupts(guarded, user_id)).interrupts
    assert tool.calls == []
    assert await stored(own_database, turn.run_id) == 0


async def test_new_message_and_resume_at_once_do_not_both_count(guarded: AgentUnderTest, tool: ToolServer) -> None:
    user_id = some_user()
    for _ in range(5):
        turn = await guarded.run(user_id, MARK)
        [question] = asked(turn)
        tool.calls.clear()

        resumed, after = await asyncio.gather(
            resume(guarded, user_id, resume_request(turn.run_id, decision(question.call_id))),
            guarded.run(user_id, "Never mind.", thread_id=turn.thread_id),
            return_exceptions=True,
        )

        notes = [one for one in await guarded.messages(user_id, turn.thread_id) if one.role == pb.MESSAGE_ROLE_NOTE]
        assert isinstance(after, Followed)
        assert (len(tool.calls), len(notes)) == ((1, 0) if isinstance(resumed, Followed) else (0, 1))


async def test_expired_interrupt_is_rejected(guarded: AgentUnderTest, own_database: Database) -> None:
    user_id = some_user()
    turn, young = await guarded.run(user_id, MARK), await guarded.run(user_id, MARK)
    async with own_database.as_worker() as connection:
        old = text("UPDATE agent.interrupts SET expires_at = now() WHERE run_id = :run_id")
        await connection.execute(old, {"run_id": turn.run_id})

    rows = await Retention(own_database, DAY_S, 60.0).sweep()

    decided = await cannot_be_resumed(guarded, user_id, turn)
    said = await guarded.messages(user_id, turn.thread_id)
    assert rows == 1
    assert (decided.kind, decided.message) == (pb.DECISION_KIND_REJECT, "Nobody decided in time.")
    assert said[-1].content == f"{NOT_MADE} Nobody decided in time."
    [question] = asked(young)
    resumed = await resume(guarded, user_id, resume_request(young.run_id, decision(question.call_id)))
    assert resumed.text == "It says marked."
    assert await stored(own_database, turn.run_id) == 0


async def test_plan_of_a_waiting_run_is_kept(guarded: AgentUnderTest, own_database: Database) -> None:
    user_id = some_user()
    turn = await guarded.run(user_id, MARK)
    async with own_database.as_worker() as connection:
        await connection.execute(text("UPDATE agent.plans SET used_at = now() - interval '6 days'"))

    await Retention(own_database, DAY_S, 60.0).sweep()

    async with own_database.as_worker() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM agent.plans"))).scalar_one() == 1
    assert turn.last.HasField("run_interrupted")


async def test_deleted_thread_takes_its_interrupts_with_it(guarded: AgentUnderTest, own_database: Database) -> None:
    user_id = some_user()
    turn = await guarded.run(user_id, MARK)

    await guarded.delete_thread(user_id, turn.thread_id)

    async with own_database.as_worker() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM agent.interrupts"))).scalar_one() == 0
    assert await stored(own_database, turn.run_id) == 0


async def test_cancelled_resume_that_never_began_leaves_nothing(
    guarded: AgentUnderTest, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    turn = await guarded.run(user_id, MARK)
    [question] = asked(turn)
    async with own_database.as_worker() as connection:
        # As if another replica owned the thread: the resume is pending.
        await connection.execute(
            text("""
                INSERT INTO agent.leases (thread_id, user_id, run_id, owner, owner_address, fence, expires_at)
                SELECT thread_id, user_id, id, 'other', '127.0.0.1:1', 0, now() + interval '1 hour' FROM agent.runs
            """)
        )
    request = resume_request(turn.run_id, decision(question.call_id), follower_id=None)

    async with guarded.calls.stream(guarded.stub.StartRun, request, timeout_s=20, subject=personal(user_id)) as stream:
        await stream.initial_metadata()
        run = await guarded.cancel(user_id, request.run_id)

    assert run.status == pb.RUN_STATUS_CANCELLED
    assert tool.calls == []
    assert await stored(own_database, turn.run_id) == 0


async def test_memory_and_judge_get_the_turn_as_a_whole(guarded: AgentUnderTest, receivers: FakeReceivers) -> None:
    user_id = some_user()
    turn = await guarded.run(user_id, MARK)
    [question] = asked(turn)

    resumed = await resume(guarded, user_id, resume_request(turn.run_id, decision(question.call_id)))

    remembered, submitted = await receivers.remembered.get(), await receivers.submitted.get()
    assert [one.content for one in remembered.messages] == [MARK, "It says marked."]
    # The run that resumes recalls nothing, and says no more than the first one may remember.
    assert list(remembered.generations) == [7, 7]
    assert str(submitted.run_id) == resumed.run_id
    assert (submitted.message, submitted.answer) == (MARK, "It says marked.")
    assert [result.content for result in submitted.tool_results] == ["marked"]
