"""Runs stopped by their user, and runs whose caller disconnects."""

import asyncio

from mesh.agent.v1 import agent_pb2
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, eventually, some_user

# The first token is sent at once, the next much later.
STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"


async def provider_outcome(simulator: SimulatorAdmin) -> str:
    def is_closed(requests: list[dict[str, str]]) -> bool:
        return requests[-1]["outcome"] != "open"

    return str((await eventually(simulator.requests, is_closed))[-1]["outcome"])


async def test_cancelled_run_keeps_what_it_said_and_closes_the_provider(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as started:
        await started.until("message_delta")

        run = await agent.cancel(user_id, started.run_id)

        rest = await started.rest()
    [_, answer] = await agent.messages(user_id, started.thread_id)
    assert run.status == agent_pb2.RUN_STATUS_CANCELLED
    assert run.usage.output_tokens == 1
    assert run.usage.input_tokens > len(STUCK) / 4
    assert run.usage.cost_micro_usd == run.usage.input_tokens + 2
    assert run.model == "sim-large"
    assert [event.WhichOneof("event") for event in rest] == ["run_cancelled"]
    assert answer.content.strip() == "one"
    assert answer.is_partial
    assert await provider_outcome(simulator) == "client_left"


async def test_text_that_waited_for_its_window_is_sent_before_the_end(agent: AgentUnderTest) -> None:
    user_id = some_user()
    reply = " ".join(["word"] * 200)
    async with agent.starting(user_id, f"[[sim:reply={reply}]] [[sim:itl=3]]") as started:
        first = await started.until("message_delta")

        run = await agent.cancel(user_id, started.run_id)

        rest = await started.rest()
    deltas = [event.message_delta.text for event in (first, *rest) if event.HasField("message_delta")]
    assert "".join(deltas) == run.message.content
    assert [event.seq for event in (first, *rest)] == list(range(first.seq, first.seq + len(rest) + 1))


async def test_cancelled_run_can_be_replayed(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as started:
        await started.until("message_delta")
        await agent.cancel(user_id, started.run_id)

    events = await agent.follow(user_id, started.run_id)

    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert events[-1].WhichOneof("event") == "run_cancelled"


async def test_pending_run_is_cancelled_before_it_starts(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as running:
        await running.until("message_delta")
        async with agent.starting(user_id, "waits", thread_id=running.thread_id) as waiting:
            run = await agent.cancel(user_id, waiting.run_id)
            events = await waiting.rest()
        await agent.cancel(user_id, running.run_id)

    assert run.status == agent_pb2.RUN_STATUS_CANCELLED
    assert [(event.attempt, event.seq, event.WhichOneof("event")) for event in events] == [(1, 1, "run_cancelled")]
    assert len(await simulator.requests()) == 1


async def test_cancelling_an_ended_run_changes_nothing(agent: AgentUnderTest) -> None:
    user_id = some_user()
    turn = await agent.run(user_id, "Hello")

    run = await agent.cancel(user_id, turn.run_id)

    assert run.status == agent_pb2.RUN_STATUS_SUCCEEDED


async def test_cancelling_twice_is_the_same(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as started:
        await started.until("message_delta")

        both = await asyncio.gather(*(agent.cancel(user_id, started.run_id) for _ in range(2)))

    assert {run.status for run in both} == {agent_pb2.RUN_STATUS_CANCELLED}


async def test_next_run_starts_after_a_cancelled_one(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, STUCK) as running:
        await running.until("message_delta")
        async with agent.starting(user_id, "next", thread_id=running.thread_id) as waiting:
            await agent.cancel(user_id, running.run_id)

            events = await waiting.rest()

    assert events[-1].WhichOneof("event") == "run_finished"


async def test_starter_that_goes_away_cancels_nothing_whatever_it_wanted(agent: AgentUnderTest) -> None:
    """A broken connection of the gateway does not mean that the client left. For a client that left, the gateway calls
    CancelRun."""
    user_id = some_user()
    message = "[[sim:reply=a b c d]] [[sim:itl=100]]"
    async with agent.starting(user_id, message, on_disconnect=agent_pb2.ON_DISCONNECT_CANCEL) as started:
        await started.until("message_delta")

    events = await agent.follow(user_id, started.run_id)

    assert events[-1].WhichOneof("event") == "run_finished"
