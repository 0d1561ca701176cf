"""Following a run from any position, while it runs and afterwards."""

import pytest
from mesh.agent.v1 import agent_pb2
from mesh_common.database.postgres import Database
from mesh_common.errors import NotFound, PreconditionFailed
from mesh_common.ids import new_id
from sqlalchemy import text
from support.agent import AgentUnderTest, some_user
from support.subjects import personal

SLOW = "[[sim:reply=one two three four]] [[sim:itl=150]]"


async def test_second_follower_sees_the_same_events(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, SLOW) as started:
        first = await started.until("message_delta")

        events = await agent.follow(user_id, started.run_id)

        rest = await started.rest()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[first.seq - 1 :] == [first, *rest]


async def test_follower_goes_on_after_the_event_it_saw_last(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, SLOW) as started:
        last = await started.until("message_delta")

    events = await agent.follow(user_id, started.run_id, attempt=last.attempt, seq=last.seq)

    assert events[0].seq == last.seq + 1
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_events_come_from_the_database_after_the_end(agent: AgentUnderTest) -> None:
    user_id = some_user()
    turn = await agent.run(user_id, "Hello")

    whole = await agent.follow(user_id, turn.run_id)
    rest = await agent.follow(user_id, turn.run_id, attempt=1, seq=2)

    assert whole == list(turn.events)
    assert rest == whole[2:]


async def test_position_of_another_attempt_gives_the_current_one_whole(agent: AgentUnderTest) -> None:
    user_id = some_user()
    turn = await agent.run(user_id, "Hello")

    events = await agent.follow(user_id, turn.run_id, attempt=7, seq=3)

    assert events == list(turn.events)


async def test_pending_run_is_followed_until_it_ends(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with (
        agent.starting(user_id, SLOW) as running,
        agent.starting(user_id, "Hello", thread_id=running.thread_id) as waiting,
    ):
        assert (await agent.get_run(user_id, waiting.run_id)).status == agent_pb2.RUN_STATUS_PENDING

        events = await agent.follow(user_id, waiting.run_id)

    assert events[0].WhichOneof("event") == "run_started"
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_events_that_are_no_longer_kept_are_a_failed_precondition(
    agent: AgentUnderTest, agent_database: Database
) -> None:
    user_id = some_user()
    turn = await agent.run(user_id, "Hello")
    async with agent_database.as_subject(personal(user_id)) as connection:
        await connection.execute(text("UPDATE agent.runs SET frames = NULL"))

    with pytest.raises(PreconditionFailed) as refused:
        await agent.follow(user_id, turn.run_id)

    assert refused.value.reason == "EVENTS_EXPIRED"
    assert (await agent.get_run(user_id, turn.run_id)).message.content == turn.text


async def test_run_of_nobody_is_not_found(agent: AgentUnderTest) -> None:
    with pytest.raises(NotFound):
        await agent.follow(some_user(), str(new_id()))
