"""`multitask: interrupt`: a new run cancels the thread's unended runs and replaces them."""

import asyncio

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.errors import Conflict, NotFound, Unavailable
from mesh_common.ids import UserId, new_id
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"


async def test_new_input_cancels_the_running_one_whose_partial_answer_stays(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as first:
        await first.until("message_delta")

        second = await agent.run(
            user_id, "[[sim:reply=fresh]]", thread_id=first.thread_id, multitask=pb.MULTITASK_INTERRUPT
        )
        rest = await first.rest()

    messages = await agent.messages(user_id, first.thread_id)
    assert [event.WhichOneof("event") for event in rest] == ["run_cancelled"]
    assert second.last.WhichOneof("event") == "run_finished"
    assert [(message.content.strip(), message.is_partial) for message in messages[1::2]] == [
        ("one", True),
        ("fresh", False),
    ]


async def test_runs_that_wait_are_cancelled_as_well(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as first:
        await first.until("message_delta")
        async with agent.starting(user_id, "waits", thread_id=first.thread_id) as waiting:
            last = await agent.run(
                user_id, "[[sim:reply=last]]", thread_id=first.thread_id, multitask=pb.MULTITASK_INTERRUPT
            )
            received = await waiting.rest()

    asked = [str(request["body"]) for request in await simulator.requests()]
    assert [event.WhichOneof("event") for event in received] == ["run_cancelled"]
    assert last.text == "last"
    assert len(asked) == 2


async def test_run_of_another_replica_is_interrupted(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    one, other = agent_settings(own_mesh, model_url), agent_settings(own_mesh, model_url)
    async with running_agent(own_mesh, one) as owner, running_agent(own_mesh, other) as second:
        async with owner.starting(user_id, STUCK) as first:
            await first.until("message_delta")
            async with asyncio.timeout(5):
                turn = await second.run(
                    user_id, "[[sim:reply=new]]", thread_id=first.thread_id, multitask=pb.MULTITASK_INTERRUPT
                )
        run = await second.get_run(user_id, first.run_id)

    assert run.status == pb.RUN_STATUS_CANCELLED
    assert turn.text == "new"


async def test_interrupting_an_idle_thread_just_runs(agent: AgentUnderTest) -> None:
    user_id = some_user()
    before = await agent.run(user_id, "Hello")

    turn = await agent.run(user_id, "Again", thread_id=before.thread_id, multitask=pb.MULTITASK_INTERRUPT)

    first = await agent.get_run(user_id, before.run_id)
    assert turn.last.WhichOneof("event") == "run_finished"
    assert first.status == pb.RUN_STATUS_SUCCEEDED


async def test_repeated_interrupt_does_not_cancel_what_came_after_it(agent: AgentUnderTest) -> None:
    """When a request whose response was lost is repeated, it must not cancel a later run."""
    user_id, run_id = some_user(), str(new_id())
    first = await agent.run(user_id, "Hello")
    await agent.run(user_id, "Now", thread_id=first.thread_id, run_id=run_id, multitask=pb.MULTITASK_INTERRUPT)
    async with agent.starting(user_id, STUCK, thread_id=first.thread_id) as later:
        await later.until("message_delta")

        again = await agent.run(
            user_id, "Now", thread_id=first.thread_id, run_id=run_id, multitask=pb.MULTITASK_INTERRUPT
        )

        run = await agent.get_run(user_id, later.run_id)
        await agent.cancel(user_id, later.run_id)
    assert again.run_id == run_id
    assert run.status == pb.RUN_STATUS_RUNNING


async def test_interrupting_a_strangers_thread_is_refused_and_cancels_nothing(agent: AgentUnderTest) -> None:
    owner = some_user()
    async with agent.starting(owner, STUCK) as first:
        await first.until("message_delta")

        with pytest.raises(NotFound):
            await agent.run(some_user(), "Mine now", thread_id=first.thread_id, multitask=pb.MULTITASK_INTERRUPT)

        run = await agent.get_run(owner, first.run_id)
        await agent.cancel(owner, first.run_id)
    assert run.status == pb.RUN_STATUS_RUNNING


@pytest.mark.parametrize("multitask", [pb.MULTITASK_ENQUEUE, pb.MULTITASK_INTERRUPT])
async def test_new_input_while_a_run_ends_is_answered_after_it(agent: AgentUnderTest, multitask: pb.Multitask) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as first:
        await first.until("message_delta")

        ended, turn, again = await asyncio.gather(
            agent.cancel(user_id, first.run_id),
            agent.run(user_id, "[[sim:reply=next]]", thread_id=first.thread_id, multitask=multitask),
            agent.cancel(user_id, first.run_id),
        )

    messages = await agent.messages(user_id, first.thread_id)
    assert ended.status == again.status == pb.RUN_STATUS_CANCELLED
    assert turn.text == "next"
    assert [message.content.strip() for message in messages[1::2]] == ["one", "next"]


async def test_rejecting_input_while_a_run_ends_is_answered_after_it_or_leaves_nothing(agent: AgentUnderTest) -> None:
    user_id, words = some_user(), ("next", "second", "third")
    async with agent.starting(user_id, STUCK) as first:
        await first.until("message_delta")

        inputs = asyncio.gather(*(_answer_or_refusal(agent, user_id, first.thread_id, word) for word in words))
        ended, outcomes = await asyncio.gather(agent.cancel(user_id, first.run_id), inputs)
        last = await _answer_or_refusal(agent, user_id, first.thread_id, "last")

    messages = await agent.messages(user_id, first.thread_id)
    answered = [outcome for outcome in outcomes if outcome != "THREAD_BUSY"]
    assert ended.status == pb.RUN_STATUS_CANCELLED
    assert set(answered) <= set(words)
    assert last == "last"
    assert sorted(message.content.strip() for message in messages[1::2]) == sorted(["one", *answered, "last"])


async def _answer_or_refusal(agent: AgentUnderTest, user_id: UserId, thread_id: str, word: str) -> str:
    try:
        turn = await agent.run(user_id, f"[[sim:reply={word}]]", thread_id=thread_id, multitask=pb.MULTITASK_REJECT)
    except Conflict as refusal:
        return refusal.reason
    return turn.text


async def test_full_queue_of_the_thread_is_no_obstacle(own_mesh: TestMesh, model_url: str) -> None:
    """The user interrupts exactly to get rid of that queue."""
    user_id = some_user()
    settings = agent_settings(own_mesh, model_url, AGENT_MAX_PENDING_RUNS_PER_USER="2")
    async with running_agent(own_mesh, settings) as agent, agent.starting(user_id, STUCK) as first:
        await first.until("message_delta")
        async with (
            agent.starting(user_id, "waits", thread_id=first.thread_id),
            agent.starting(user_id, "waits", thread_id=first.thread_id),
        ):
            with pytest.raises(Unavailable):
                await agent.run(user_id, "one more", thread_id=first.thread_id)

            turn = await agent.run(
                user_id, "[[sim:reply=out]]", thread_id=first.thread_id, multitask=pb.MULTITASK_INTERRUPT
            )

    assert turn.text == "out"
