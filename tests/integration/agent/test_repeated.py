"""A repeated request, during the first or long after it, has one result, whatever changed in between."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from fakes.agent.neighbours import FakeEntitlements
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.store import threads
from mesh_common.database.postgres import Database
from mesh_common.errors import Conflict, IdempotencyKeyReused, MeshError
from mesh_common.ids import ThreadId, UserId, new_id
from sqlalchemy import text
from support.agent import AgentUnderTest, Followed, agent_settings, eventually, running_agent, some_user
from support.mesh import TestMesh
from support.subjects import personal

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"
# The replicas, of two, that get the request.
ROUTES = pytest.mark.parametrize("route", [(0, 0), (0, 1)], ids=["one-replica", "two-replicas"])


@pytest.fixture
async def replicas(own_mesh: TestMesh, model_url: str) -> AsyncIterator[tuple[AgentUnderTest, AgentUnderTest]]:
    one, other = (agent_settings(own_mesh, model_url) for _ in range(2))
    async with running_agent(own_mesh, one) as first, running_agent(own_mesh, other) as second:
        yield first, second


@asynccontextmanager
async def all_waiting_for(database: Database, user_id: UserId, thread_id: str, count: int) -> AsyncIterator[None]:
    """Holds the thread's lock until this many requests of the block wait for it: all have checked for repeats, none has
    stored a run."""
    async with database.as_subject(personal(user_id)) as connection:
        assert await threads.lock_thread(connection, user_id, ThreadId(UUID(thread_id)))
        yield
        await eventually(lambda: _waiting(database), lambda waiting: waiting == count)


async def _waiting(database: Database) -> int:
    async with database.as_worker() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one())


async def runs_of(database: Database, user_id: UserId) -> int:
    async with database.as_subject(personal(user_id)) as connection:
        return int((await connection.execute(text("SELECT count(*) FROM agent.runs"))).scalar_one())


async def started_together(
    replicas: Sequence[AgentUnderTest],
    database: Database,
    user_id: UserId,
    thread_id: str,
    *requests: Mapping[str, str],
) -> list[Followed | BaseException]:
    """The replies of the replicas. No request saw another's run when it first checked."""
    async with all_waiting_for(database, user_id, thread_id, len(requests)):
        starts = [
            asyncio.ensure_future(replica.run(user_id, thread_id=thread_id, multitask=pb.MULTITASK_REJECT, **request))
            for replica, request in zip(replicas, requests, strict=True)
        ]
    return await asyncio.gather(*starts, return_exceptions=True)


@ROUTES
async def test_rejecting_request_repeated_at_the_same_time_is_one_run(
    replicas: tuple[AgentUnderTest, AgentUnderTest], own_database: Database, route: Sequence[int]
) -> None:
    user_id = some_user()
    thread = await replicas[0].create_thread(user_id)
    request = {"message": "[[sim:reply=a b]] [[sim:ttft=200]]", "idempotency_key": "key"}

    turns = await started_together(
        [replicas[index] for index in route], own_database, user_id, thread.id, request, request
    )

    assert [getattr(turn, "text", turn) for turn in turns] == ["a b", "a b"]
    assert await runs_of(own_database, user_id) == 1


@ROUTES
async def test_rejecting_start_repeated_with_its_run_id_at_the_same_time_is_one_run(
    replicas: tuple[AgentUnderTest, AgentUnderTest], own_database: Database, route: Sequence[int]
) -> None:
    user_id, run_id = some_user(), str(new_id())
    thread = await replicas[0].create_thread(user_id)
    request = {"message": "[[sim:reply=a b]] [[sim:ttft=200]]", "run_id": run_id}

    turns = await started_together(
        [replicas[index] for index in route], own_database, user_id, thread.id, request, request
    )

    assert [getattr(turn, "run_id", turn) for turn in turns] == [run_id, run_id]
    assert await runs_of(own_database, user_id) == 1


async def test_key_reused_by_a_rejecting_request_at_the_same_time_is_told_as_that(
    replicas: tuple[AgentUnderTest, AgentUnderTest], own_database: Database
) -> None:
    user_id = some_user()
    thread = await replicas[0].create_thread(user_id)
    requests = [{"message": f"[[sim:reply={word}]] [[sim:ttft=200]]", "idempotency_key": "key"} for word in "ab"]

    turns = await started_together(replicas, own_database, user_id, thread.id, *requests)

    assert {type(turn) for turn in turns} == {Followed, IdempotencyKeyReused}
    assert await runs_of(own_database, user_id) == 1


async def test_start_repeated_while_a_later_run_is_busy_is_the_same_run(agent: AgentUnderTest) -> None:
    user_id, run_id = some_user(), str(new_id())
    thread = await agent.create_thread(user_id)
    options: dict[str, Any] = {"thread_id": thread.id, "multitask": pb.MULTITASK_REJECT}
    first = await agent.run(user_id, "Hello", run_id=run_id, **options)
    async with agent.starting(user_id, STUCK, thread_id=thread.id) as later:
        await later.until("message_delta")

        again = await agent.run(user_id, "Hello", run_id=run_id, **options)
        with pytest.raises(Conflict) as refused:
            await agent.run(user_id, "Hello", **options)

        await agent.cancel(user_id, later.run_id)
    assert list(again.events) == list(first.events)
    assert refused.value.reason == "THREAD_BUSY"


@pytest.mark.parametrize(
    "now",
    [Entitlements(monthly_tokens=100, used_tokens=100), Entitlements(models=("other",))],
    ids=["budget-used-up", "model-taken-away"],
)
async def test_start_repeated_when_a_new_one_would_be_refused_is_the_same_run(
    migrated_mesh: TestMesh, model_url: str, agent: AgentUnderTest, now: Entitlements
) -> None:
    """The other replica has called auth since then; this one has not."""
    user_id, run_id = some_user(), str(new_id())
    auth = FakeEntitlements({user_id: now})
    first = await agent.run(user_id, "Hello", run_id=run_id)

    async with running_agent(migrated_mesh, agent_settings(migrated_mesh, model_url), entitlements=auth) as strict:
        again = await strict.run(user_id, "Hello", run_id=run_id)
        with pytest.raises(MeshError):
            await strict.run(user_id, "Hello")

    assert (again.run_id, again.thread_id) == (first.run_id, first.thread_id)
    assert list(again.events) == list(first.events)


async def test_thread_made_on_two_replicas_at_the_same_time_with_one_key_is_one(
    replicas: tuple[AgentUnderTest, AgentUnderTest],
) -> None:
    user_id = some_user()

    made = await asyncio.gather(
        *(replica.create_thread(user_id, "Title", key="key") for _ in range(5) for replica in replicas)
    )

    for replica in replicas:
        with pytest.raises(IdempotencyKeyReused):
            await replica.create_thread(user_id, "Other title", key="key")
    assert len({thread.id for thread in made}) == 1
