"""Jobs of ended runs for auth, memory and eval: delivered at least once, late if necessary."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest
from fakes.agent.neighbours import AWAY, FakeReceivers
from mesh_agent.domain.threads import RecalledMemory, ToRemember
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import (
    Conflict,
    Internal,
    InvalidInput,
    MeshError,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
)
from mesh_common.ids import RunId, ThreadId
from mesh_common.subject import Subject
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support import dead_letters
from support.agent import agent_settings, running_agent, some_user
from support.grown_threads import grow
from support.mesh import TestMesh
from support.replicas import replica
from support.tool_server import running_tool_server

_WITHIN_S = 10


async def received[T](queue: asyncio.Queue[T]) -> T:
    return await asyncio.wait_for(queue.get(), _WITHIN_S)


async def test_turn_is_told_to_all_receivers(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id, recalled=[RecalledMemory("1", "Likes tea", 0.9)])
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="0")
    fakes = dict.fromkeys(("usage", "memories", "judge"), receivers)

    async with running_agent(own_mesh, settings, **fakes) as agent:
        turn = await agent.run(user_id, '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply=It is 42.]]')
        used = await received(receivers.usage)
        remembered = await received(receivers.remembered)
        submitted = await received(receivers.submitted)
        run = await agent.get_run(user_id, turn.run_id)

    usage = turn.last.run_finished.usage
    assert (used.subject.user_id, used.run_id, used.model) == (user_id, UUID(turn.run_id), "sim-large")
    assert used.usage.output_tokens == usage.output_tokens > 0
    assert used.usage.cost_micro_usd == usage.cost_micro_usd
    assert abs((used.ended_at - run.ended_at.ToDatetime(used.ended_at.tzinfo)).total_seconds()) < 5
    assert [message.content for message in remembered.messages][1] == "It is 42."
    assert str(remembered.thread_id) == turn.thread_id
    assert submitted.answer == "It is 42."
    assert submitted.memories == ["Likes tea"]
    assert [(result.tool, result.content) for result in submitted.tool_results] == [("calculate", "42")]
    assert submitted.model == "sim-large"


@pytest.mark.parametrize(
    "errors",
    [
        [AWAY, AWAY, AWAY],
        [PermissionDenied("No edge."), Unauthenticated("A wrong key."), PreconditionFailed("Not now.")],
        [Internal("A bug."), Internal("An older release.", reason="UNIMPLEMENTED"), Conflict("Too early.")],
    ],
)
async def test_receiver_that_refused_or_was_away_is_told_later(
    own_mesh: TestMesh, model_url: str, errors: list[MeshError]
) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id, errors=[*errors])
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="0")
    fakes = dict.fromkeys(("usage", "memories", "judge"), receivers)

    async with running_agent(own_mesh, settings, **fakes) as agent:
        await agent.run(user_id, "Hello")
        await received(receivers.usage)
        await received(receivers.remembered)
        await received(receivers.submitted)

    assert receivers.refused == 3


@dataclass
class Picky(FakeReceivers):
    """A memory that refuses every call with a message that contains "unspeakable"."""

    async def remember(
        self, subject: Subject, run_id: RunId, thread_id: ThreadId, messages: Sequence[ToRemember]
    ) -> None:
        if any("unspeakable" in one.message.content for one in messages):
            self.refused += 1
            raise InvalidInput("messages: no")
        await super().remember(subject, run_id, thread_id, messages)


async def test_turn_that_memory_refuses_does_not_hold_back_the_others(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    receivers = Picky(only=user_id)
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="1")

    async with running_agent(own_mesh, settings, memories=receivers) as agent:
        thread_id = (await agent.run(user_id, "One [[sim:reply=1]]")).thread_id
        for said in ("Two unspeakable [[sim:reply=2]]", "Three [[sim:reply=3]]", "Four [[sim:reply=4]]"):
            await agent.run(user_id, said, thread_id=thread_id)
        answers: list[str] = []
        while len(answers) < 3:
            answers += [message.content for message in (await received(receivers.remembered)).messages][1::2]

    assert answers == ["1", "3", "4"]
    assert receivers.refused >= 1


async def test_quick_turns_are_remembered_in_one_call(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id)
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="1")

    async with running_agent(own_mesh, settings, memories=receivers) as agent:
        first = await agent.run(user_id, "One [[sim:reply=1]]")
        second = await agent.run(user_id, "Two [[sim:reply=2]]", thread_id=first.thread_id)
        remembered = await received(receivers.remembered)
        third = await agent.run(user_id, "Three [[sim:reply=3]]", thread_id=first.thread_id)
        later = await received(receivers.remembered)

    assert [message.content for message in remembered.messages][1::2] == ["1", "2"]
    assert str(remembered.run_id) == second.run_id
    assert [message.content for message in later.messages][1::2] == ["3"]
    assert str(later.run_id) == third.run_id


@pytest.mark.parametrize(("turns_before", "calls"), [(24, [50]), (60, [50, 50, 22])])
async def test_more_turns_than_a_call_takes_are_remembered_in_several(
    own_mesh: TestMesh, model_url: str, turns_before: int, calls: list[int]
) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id)
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="0")

    async with running_agent(own_mesh, settings, memories=receivers) as agent:
        thread_id = (await agent.create_thread(user_id)).id
        await grow(own_mesh, thread_id, user_id, turns_before)
        await agent.run(user_id, "The last [[sim:reply=yes]]", thread_id=thread_id)
        remembered = [await received(receivers.remembered) for _ in calls]
        await agent.run(user_id, "One more [[sim:reply=no]]", thread_id=thread_id)
        later = await received(receivers.remembered)

    assert [len(call.messages) for call in remembered] == calls
    assert len({message.id for call in remembered for message in call.messages}) == sum(calls)
    assert remembered[-1].messages[-1].content == "yes"
    assert [message.content for message in later.messages][1:] == ["no"]


async def test_cancelled_run_is_billed_but_neither_remembered_nor_judged(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id)
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="0")
    fakes = dict.fromkeys(("usage", "memories", "judge"), receivers)

    async with running_agent(own_mesh, settings, **fakes) as agent:
        async with agent.starting(user_id, "[[sim:reply=a b]] [[sim:itl=20000]]") as started:
            await started.until("message_delta")
            await agent.cancel(user_id, started.run_id)
        used = await received(receivers.usage)

    assert used.usage.output_tokens == 1
    assert used.model == "sim-large"
    assert receivers.remembered.empty()
    assert receivers.submitted.empty()


async def test_each_model_that_answered_is_booked_for_what_it_read_and_wrote(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id)
    async with running_tool_server() as tool:
        tool.answers.clear()
        settings = agent_settings(own_mesh, model_url, AGENT_HTTP_TOOLS=tool.as_setting("none"))
        async with running_agent(own_mesh, settings, usage=receivers) as agent:
            message = '[[sim:tool=mark {"token": "t-1"}]] [[sim:reply=It says {tool_result}.]]'
            async with agent.starting(user_id, message) as started:
                await started.until("tool_started")
                await simulator.put_rules(
                    [{"match": {"model": "sim-large"}, "action": {"fault": "503", "retry_after_s": 60}}]
                )
                tool.answers.set()
                rest = await started.rest()
            booked = {used.model: used for used in [await received(receivers.usage) for _ in range(2)]}
            run = await agent.get_run(user_id, started.run_id)

    assert rest[-1].WhichOneof("event") == "run_finished"
    assert set(booked) == {"sim-large", "sim-small"}
    assert str(booked["sim-large"].run_id) == started.run_id != str(booked["sim-small"].run_id)
    usages = [used.usage for used in booked.values()]
    assert all(usage.input_tokens and usage.output_tokens for usage in usages)
    assert sum(usage.output_tokens for usage in usages) == run.usage.output_tokens
    assert sum(usage.cost_micro_usd for usage in usages) == run.usage.cost_micro_usd


async def test_usage_of_a_deleted_thread_is_recorded_all_the_same(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id)

    async with running_agent(own_mesh, agent_settings(own_mesh, model_url), usage=receivers) as agent:
        async with agent.starting(user_id, "[[sim:reply=a b]] [[sim:itl=20000]]") as started:
            await started.until("message_delta")
            await agent.delete_thread(user_id, started.thread_id)
        used = await received(receivers.usage)

    assert str(used.run_id) == started.run_id
    assert used.usage.output_tokens == 1


async def test_dead_letters_are_shown_to_administrators_only(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    user_id = some_user()
    async with replica(own_mesh, model_url) as agent:
        await agent.run(user_id, "Hello")
        async with own_database.as_worker() as connection:
            dead = (await connection.execute(_BURY)).scalars().all()
        found = await dead_letters.listed(own_mesh, "agent", agent.settings.grpc_port)
        with pytest.raises(PermissionDenied, match="administrators"):
            await dead_letters.listed(own_mesh, "agent", agent.settings.grpc_port, scope="user")

    assert set(map(str, dead)) == set(found) != set()


_BURY = text("""
    UPDATE agent.outbox SET due_at = 'infinity', first_due_at = 'infinity', attempt = 0, leased_until = NULL,
                            failed_at = now(), reason = 'UNAVAILABLE'
    RETURNING id
""")


async def test_runs_that_are_not_sampled_are_not_judged(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id)
    settings = agent_settings(own_mesh, model_url, AGENT_EVAL_SAMPLE_RATIO="0", AGENT_REMEMBER_DELAY_S="0")
    fakes = dict.fromkeys(("usage", "memories", "judge"), receivers)

    async with running_agent(own_mesh, settings, **fakes) as agent:
        await agent.run(user_id, "Hello")
        await received(receivers.usage)
        await received(receivers.remembered)

    assert receivers.submitted.empty()


async def test_turn_carries_where_when_and_under_which_generation_it_was_said(
    own_mesh: TestMesh, model_url: str
) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id, forget_generation=7)
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="1")

    async with running_agent(own_mesh, settings, memories=receivers) as agent:
        first = await agent.run(user_id, "One [[sim:reply=1]]")
        receivers.forget_generation = None
        second = await agent.run(user_id, "Two [[sim:reply=2]]", thread_id=first.thread_id)
        remembered = await received(receivers.remembered)

    assert [str(message.run_id) for message in remembered.messages] == [first.run_id] * 2 + [second.run_id] * 2
    assert remembered.generations == [7, 7, None, None]


async def test_memory_is_told_of_a_deleted_thread_even_if_late(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    receivers = FakeReceivers(only=user_id, errors=[AWAY, AWAY])
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="60")

    async with running_agent(own_mesh, settings, memories=receivers) as agent:
        turn = await agent.run(user_id, "Hello")
        before = utc_now()
        await agent.delete_thread(user_id, turn.thread_id)
        thread_id, deleted_at = await received(receivers.forgotten)

    assert str(thread_id) == turn.thread_id
    assert abs((deleted_at - before).total_seconds()) < 5
    assert receivers.remembered.empty()
