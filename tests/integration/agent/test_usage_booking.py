"""The calls to auth for runs that ended at the same time, over real gRPC and from the real outbox."""

import asyncio
from typing import Any

from fakes.agent.neighbours import FakeReceivers
from fakes.agent.usage_auth import BAD_MODEL, UsageAuth, serving
from mesh_agent.background.outbox import DeliverOutbox
from mesh_agent.clients.auth import AuthClient
from mesh_agent.domain.runs import Usage
from mesh_agent.execution.ending import RECORD_USAGE
from mesh_common.caller import Caller, acting
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import InvalidInput, NotFound
from mesh_common.ids import RunId, UserId, new_id
from mesh_common.jobs.queue import JobQueue, NewJob
from mesh_common.jobs.worker import JobWorker
from mesh_common.process.telemetry import restored_context, tracer
from opentelemetry.trace import get_current_span, use_span
from support.agent import eventually, some_user
from support.jobs import LIMITS, running_worker
from support.mesh import TestMesh
from support.spans import RecordedSpans, spans
from support.subjects import personal

__all__ = ["spans"]

# Not the name of a span that an agent of the same process may write meanwhile.
_BOOKING = "the booking under test"
# A turn whose trace is not sampled. Without a trace context the job would begin a trace.
_UNSAMPLED = get_current_span(restored_context({"traceparent": f"00-{1:032x}-{1:016x}-00"}))


async def book(client: AuthClient, user_id: UserId, *, model: str = "m") -> None:
    """As a job of the outbox does."""
    with acting(Caller("outbox", personal(user_id), None)):
        await client.record_usage(personal(user_id), RunId(new_id()), model, Usage(1, 2, 3), utc_now())


async def booked_at_once(client: AuthClient, *users: UserId) -> list[BaseException | None]:
    return await asyncio.gather(*(book(client, user_id) for user_id in users), return_exceptions=True)


async def add_job(database: Database, user_id: UserId) -> None:
    payload: dict[str, Any] = {
        "run_id": str(new_id()),
        "model": "m",
        "input_tokens": 1,
        "output_tokens": 2,
        "cost_micro_usd": 3,
        "ended_at": utc_now().isoformat(),
    }
    with use_span(_UNSAMPLED):
        async with database.as_subject(personal(user_id)) as connection:
            await JobQueue("agent.outbox").add(
                connection, NewJob(RECORD_USAGE, str(payload["run_id"]), personal(user_id), payload)
            )


async def test_runs_of_one_moment_are_one_call_that_acts_for_nobody(test_mesh: TestMesh) -> None:
    auth, users = UsageAuth(), [some_user() for _ in range(3)]

    async with serving(test_mesh, auth) as client:
        assert await booked_at_once(client, *users) == [None, None, None]

    (batch,) = auth.batches
    assert [user_id for user_id, _ in batch] == [str(user_id) for user_id in users]
    assert auth.singles == []


async def test_a_run_alone_is_booked_as_its_user(test_mesh: TestMesh) -> None:
    auth, user_id = UsageAuth(), some_user()

    async with serving(test_mesh, auth) as client:
        await book(client, user_id)

    assert [user for user, _ in auth.singles] == [str(user_id)]
    assert auth.batches == []


async def test_a_sampled_run_has_its_booking_in_its_own_trace(test_mesh: TestMesh, spans: RecordedSpans) -> None:
    auth, sampled = UsageAuth(), some_user()

    async def book_in_trace(client: AuthClient) -> None:
        with tracer.start_as_current_span(_BOOKING):
            await book(client, sampled)

    async with serving(test_mesh, auth) as client, asyncio.TaskGroup() as group:
        group.create_task(book_in_trace(client))
        others = group.create_task(booked_at_once(client, some_user(), some_user()))

    assert others.result() == [None, None]
    assert [user for user, _ in auth.singles] == [str(sampled)]
    assert [len(batch) for batch in auth.batches] == [2]
    trace_id = spans.named(_BOOKING).context.trace_id
    of_trace = sorted(span.name for span in spans.all() if span.context.trace_id == trace_id)
    # The agent's span and auth's.
    assert of_trace == [*["mesh.auth.v1.AuthService/RecordUsage"] * 2, _BOOKING]


async def test_a_user_who_is_gone_is_his_own_callers_error_alone(test_mesh: TestMesh) -> None:
    gone = some_user()
    auth = UsageAuth(gone={gone})

    async with serving(test_mesh, auth) as client:
        before, missing, after = await booked_at_once(client, some_user(), gone, some_user())

    assert (before, after) == (None, None)
    assert isinstance(missing, NotFound)
    assert auth.singles == []


async def test_one_bad_booking_does_not_cost_the_others_theirs(test_mesh: TestMesh) -> None:
    auth, good = UsageAuth(), [some_user(), some_user()]

    async with serving(test_mesh, auth) as client:
        bookings = (book(client, good[0]), book(client, some_user(), model=BAD_MODEL), book(client, good[1]))
        first, bad, last = await asyncio.gather(*bookings, return_exceptions=True)

    assert (first, last) == (None, None)
    assert isinstance(bad, InvalidInput)
    assert {user for user, _ in auth.singles} == {str(user_id) for user_id in good}


async def test_auth_of_the_release_before_is_told_of_each_run(test_mesh: TestMesh) -> None:
    auth, users = UsageAuth(), [some_user() for _ in range(3)]

    async with serving(test_mesh, auth, knows_batches=False) as client:
        assert await booked_at_once(client, *users) == [None, None, None]
        assert await booked_at_once(client, *users) == [None, None, None]

    assert sorted(user for user, _ in auth.singles) == sorted([str(user_id) for user_id in users] * 2)


async def test_jobs_that_the_outbox_claims_together_are_booked_together(
    own_mesh: TestMesh, own_database: Database
) -> None:
    auth, users = UsageAuth(), [some_user() for _ in range(5)]
    for user_id in users:
        await add_job(own_database, user_id)
    receivers = FakeReceivers()

    async with serving(own_mesh, auth) as client:
        delivery = DeliverOutbox(own_database, client, receivers, receivers)
        options: dict[str, Any] = {"concurrency": 32, "timeout_s": 15.0, "limits": LIMITS}
        queue = JobQueue("agent.outbox")
        async with running_worker(JobWorker(own_database, queue, delivery.handlers(), name="outbox", **options)):

            async def batches() -> list[list[tuple[str, str]]]:
                return auth.batches

            (batch,) = await eventually(batches, bool)

    assert {user for user, _ in batch} == {str(user_id) for user_id in users}
    assert auth.singles == []
