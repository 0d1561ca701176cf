"""Runs whose events arrive on one shared stream of their follower, over gRPC and on the real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from mesh.agent.v1 import agent_pb2
from mesh_common.errors import InvalidInput, PermissionDenied
from mesh_common.grpc.client import ServerStream
from mesh_common.grpc.edges import ServiceName
from mesh_common.ids import UserId, new_id
from support.agent import AgentUnderTest, some_user
from support.mesh import TestMesh
from support.replicas import replica
from support.subjects import personal

SLOW = "[[sim:reply=one two three four]] [[sim:itl=150]]"
_EVENTS_ON = "mesh-events-on"
_FOLLOW_AT = "mesh-follow-at"


@dataclass
class Shared:
    """A follower's open stream, and what it received."""

    follower_id: str
    stream_id: str
    messages: AsyncIterator[agent_pb2.FollowStartedRunsResponse]
    events: list[agent_pb2.RunEvent] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    async def until_over(self, *run_ids: str) -> None:
        """Reads until each of these runs has ended or left."""
        while not set(run_ids) <= self._over():
            message = await anext(self.messages)
            self.events += message.events
            self.left += message.left_run_ids

    def of(self, run_id: str) -> list[agent_pb2.RunEvent]:
        return [event for event in self.events if event.run_id == run_id]

    def _over(self) -> set[str]:
        ends = {"run_finished", "run_failed", "run_cancelled"}
        return {*self.left, *(event.run_id for event in self.events if event.WhichOneof("event") in ends)}


@asynccontextmanager
async def _sharing(agent: AgentUnderTest, follower_id: str | None = None) -> AsyncIterator[Shared]:
    ids = follower_id or str(new_id()), str(new_id())
    request = agent_pb2.FollowStartedRunsRequest(follower_id=ids[0], stream_id=ids[1])
    async with agent.calls.stream(agent.stub.FollowStartedRuns, request, timeout_s=20) as stream:
        await stream.initial_metadata()
        yield Shared(*ids, aiter(stream))


@asynccontextmanager
async def _starting(
    agent: AgentUnderTest, user_id: UserId, message: str, follower_id: str, *, run_id: str | None = None
) -> AsyncIterator[tuple[str, dict[str, str], ServerStream[agent_pb2.StartRunResponse]]]:
    run_id = run_id or str(new_id())
    request = agent_pb2.StartRunRequest(run_id=run_id, message=message, follower_id=follower_id)
    async with agent.calls.stream(agent.stub.StartRun, request, timeout_s=20, subject=personal(user_id)) as stream:
        yield run_id, await stream.initial_metadata(), stream


async def test_events_of_many_users_come_on_the_followers_stream_and_not_on_the_calls(agent: AgentUnderTest) -> None:
    async with (
        _sharing(agent) as shared,
        _starting(agent, some_user(), SLOW, shared.follower_id) as (first, first_said, first_call),
        _starting(agent, some_user(), SLOW, shared.follower_id) as (second, second_said, _),
    ):
        await shared.until_over(first, second)
        on_the_call = [response async for response in first_call]

    assert first_said[_EVENTS_ON] == second_said[_EVENTS_ON] == shared.stream_id
    assert on_the_call == []
    for run_id in (first, second):
        events = shared.of(run_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert "".join(event.message_delta.text for event in events) == "one two three four"
    assert shared.left == []


async def test_events_are_those_that_any_other_follower_gets(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with _sharing(agent) as shared, _starting(agent, user_id, "Hello", shared.follower_id) as (run_id, _, _):
        await shared.until_over(run_id)

    assert await agent.follow(user_id, run_id) == shared.of(run_id)


async def test_follower_without_a_stream_is_invited_and_served_on_its_call(agent: AgentUnderTest) -> None:
    async with _starting(agent, some_user(), "Hello", str(new_id())) as (_, said, call):
        events = [response.event async for response in call]

    assert said[_FOLLOW_AT] == f"127.0.0.1:{agent.settings.grpc_port}"
    assert _EVENTS_ON not in said
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_who_names_no_follower_is_served_on_its_call_and_invited_to_nothing(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with _sharing(agent):
        turn = await agent.run(user_id, "Hello")

    assert turn.last.WhichOneof("event") == "run_finished"


async def test_another_followers_stream_gets_nothing_of_it(agent: AgentUnderTest) -> None:
    async with (
        _sharing(agent) as others,
        _sharing(agent) as own,
        _starting(agent, some_user(), "Hello", own.follower_id) as (run_id, _, _),
        _starting(agent, some_user(), "Hello", others.follower_id) as (other_run_id, _, _),
    ):
        await own.until_over(run_id)
        await others.until_over(other_run_id)

    assert {event.run_id for event in own.events} == {run_id}
    assert {event.run_id for event in others.events} == {other_run_id}


async def test_second_request_for_a_run_is_served_on_its_own_call(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with (
        _sharing(agent) as shared,
        _starting(agent, user_id, SLOW, shared.follower_id) as (run_id, _, _),
        _starting(agent, user_id, SLOW, shared.follower_id, run_id=run_id) as (_, said, call),
    ):
        repeated = [response.event async for response in call]
        await shared.until_over(run_id)

    assert _EVENTS_ON not in said
    assert repeated == shared.of(run_id)


async def test_follower_that_leaves_a_run_hears_no_more_of_it_and_the_run_goes_on(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with _sharing(agent) as shared:
        async with _starting(agent, user_id, SLOW, shared.follower_id) as (run_id, _, _):
            await anext(shared.messages)
        await shared.until_over(run_id)

    assert shared.left == [run_id]
    assert (await agent.follow(user_id, run_id))[-1].WhichOneof("event") == "run_finished"


async def test_run_that_must_wait_is_followed_on_its_call(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, SLOW) as running, _sharing(agent) as shared:
        request = agent_pb2.StartRunRequest(
            run_id=str(new_id()), thread_id=running.thread_id, message="Hello", follower_id=shared.follower_id
        )
        async with agent.calls.stream(agent.stub.StartRun, request, timeout_s=20, subject=personal(user_id)) as call:
            said = await call.initial_metadata()
            events = [response.event async for response in call]

    assert _EVENTS_ON not in said
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_stream_that_is_cut_ends_the_calls_of_its_runs_and_no_run(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with AsyncExitStack() as stack:
        async with _sharing(agent) as shared:
            run_id, _, call = await stack.enter_async_context(_starting(agent, user_id, SLOW, shared.follower_id))
        async with asyncio.timeout(10):
            on_the_call = [response async for response in call]

    assert on_the_call == []
    assert (await agent.follow(user_id, run_id))[-1].WhichOneof("event") == "run_finished"


async def test_agent_that_stops_ends_its_streams_after_their_last_run(migrated_mesh: TestMesh, model_url: str) -> None:
    async with (
        replica(migrated_mesh, model_url) as stopping,
        _sharing(stopping) as shared,
        _starting(stopping, some_user(), SLOW, shared.follower_id) as (run_id, _, _),
        asyncio.TaskGroup() as group,
    ):
        await anext(shared.messages)
        group.create_task(_drain(stopping))
        rest = [event async for message in shared.messages for event in message.events]

    assert {event.run_id for event in rest} == {run_id}
    assert rest[-1].WhichOneof("event") == "run_finished"


@pytest.mark.parametrize("field_name", ["follower_id", "stream_id"])
async def test_ids_that_are_none_are_refused_by_name(agent: AgentUnderTest, field_name: str) -> None:
    ids = {"follower_id": str(new_id()), "stream_id": str(new_id()), field_name: "x" * 100}

    request = agent_pb2.FollowStartedRunsRequest(**ids)

    with pytest.raises(InvalidInput) as refused:
        async with agent.calls.stream(agent.stub.FollowStartedRuns, request, timeout_s=5) as stream:
            await anext(aiter(stream))

    assert [fault.field for fault in refused.value.fields] == [field_name]


async def test_start_with_a_follower_that_is_none_is_refused_and_stores_nothing(agent: AgentUnderTest) -> None:
    user_id = some_user()

    with pytest.raises(InvalidInput):
        async with _starting(agent, user_id, "Hello", "nobody") as (_, _, call):
            await anext(aiter(call))

    assert not await _runs_of(agent, user_id)


@pytest.mark.parametrize("stranger", ["auth", "agent", "memory", "eval"])
async def test_only_the_gateway_may_follow_started_runs(
    agent: AgentUnderTest, migrated_mesh: TestMesh, stranger: ServiceName
) -> None:
    foreign = replace(agent, calls=migrated_mesh.calls_as(stranger, "agent"))

    with pytest.raises(PermissionDenied):
        async with _sharing(foreign) as shared:
            await anext(shared.messages)


async def _drain(agent: AgentUnderTest) -> None:
    await agent.drain()


async def _runs_of(agent: AgentUnderTest, user_id: UserId) -> list[agent_pb2.Thread]:
    request = agent_pb2.ListThreadsRequest()
    response = await agent.calls.unary(agent.stub.ListThreads, request, timeout_s=5, subject=personal(user_id))
    return list(response.threads)
