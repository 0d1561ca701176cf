"""Concurrent bookings: which are sent together, and what each caller gets."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from fakes.clock import FakeClock
from mesh.auth.v1 import auth_pb2 as pb
from mesh_agent.clients.usage_batches import MAX_ENTRIES, UsageBatches
from mesh_common.errors import Internal, InvalidInput, MeshError, NotFound, Unavailable
from mesh_common.grpc.error_wire import UNIMPLEMENTED
from mesh_common.ids import new_id

AWAY = Unavailable("Away.")
UNKNOWN_CALL = Internal("Something went wrong on our side.", reason=UNIMPLEMENTED)
REFUSAL = InvalidInput.of_field("entries[1].usage.model", "must not be empty")


@dataclass
class Auth:
    """Accepts batches and records the run ids of each."""

    error: MeshError | None = None
    unknown: Collection[str] = ()
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    batches: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def __call__(self, entries: Sequence[pb.UsageEntry]) -> Collection[str]:
        self.batches.append([entry.usage.run_id for entry in entries])
        self.was_asked.set()
        await self.may_answer.wait()
        if self.error:
            raise self.error
        return self.unknown


@pytest.fixture
def auth() -> Auth:
    return Auth()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def batches(auth: Auth, clock: FakeClock) -> UsageBatches:
    return UsageBatches(auth, clock)


def some_entry() -> pb.UsageEntry:
    return pb.UsageEntry(user_id=str(new_id()), usage=pb.RecordUsageRequest(run_id=str(new_id())))


async def booked_at_once(batches: UsageBatches, *entries: pb.UsageEntry) -> list[bool | BaseException]:
    return await asyncio.gather(*(batches.book(entry) for entry in entries), return_exceptions=True)


async def test_those_of_one_moment_go_as_one_batch(batches: UsageBatches, auth: Auth) -> None:
    entries = [some_entry() for _ in range(3)]

    outcomes = await booked_at_once(batches, *entries)

    assert outcomes == [True, True, True]
    assert auth.batches == [[entry.usage.run_id for entry in entries]]


async def test_one_alone_goes_by_itself(batches: UsageBatches, auth: Auth) -> None:
    assert await batches.book(some_entry()) is False
    assert await batches.book(some_entry()) is False
    assert auth.batches == []


async def test_a_batch_takes_as_many_as_auth_does(batches: UsageBatches, auth: Auth) -> None:
    outcomes = await booked_at_once(batches, *(some_entry() for _ in range(2 * MAX_ENTRIES + 3)))

    assert all(outcomes)
    assert [len(batch) for batch in auth.batches] == [MAX_ENTRIES, MAX_ENTRIES, 3]


async def test_those_that_come_while_one_is_under_way_are_the_next(batches: UsageBatches, auth: Auth) -> None:
    auth.may_answer.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(booked_at_once(batches, some_entry(), some_entry()))
        await auth.was_asked.wait()
        later = group.create_task(booked_at_once(batches, some_entry(), some_entry(), some_entry()))
        await asyncio.sleep(0)
        auth.may_answer.set()

    assert later.result() == [True, True, True]
    assert [len(batch) for batch in auth.batches] == [2, 3]


async def test_the_error_of_auth_is_told_to_all(batches: UsageBatches, auth: Auth) -> None:
    auth.error = AWAY

    outcomes = await booked_at_once(batches, some_entry(), some_entry())

    assert outcomes == [AWAY, AWAY]


async def test_a_user_who_does_not_exist_ends_his_own_booking_alone(batches: UsageBatches, auth: Auth) -> None:
    known, deleted = some_entry(), some_entry()
    auth.unknown = [deleted.user_id]

    before, missing, after = await booked_at_once(batches, known, deleted, some_entry())

    assert (before, after) == (True, True)
    assert isinstance(missing, NotFound)


async def test_a_batch_that_is_refused_is_asked_for_one_by_one(batches: UsageBatches, auth: Auth) -> None:
    auth.error = REFUSAL

    assert await booked_at_once(batches, some_entry(), some_entry()) == [False, False]
    assert await booked_at_once(batches, some_entry(), some_entry()) == [False, False]
    assert len(auth.batches) == 2


async def test_auth_that_knows_no_batches_is_asked_again_after_a_minute(
    batches: UsageBatches, auth: Auth, clock: FakeClock
) -> None:
    auth.error = UNKNOWN_CALL
    assert await booked_at_once(batches, some_entry(), some_entry()) == [False, False]
    auth.error = None

    clock.advance(timedelta(seconds=59))
    too_early = await booked_at_once(batches, some_entry(), some_entry())
    clock.advance(timedelta(seconds=1))
    again = await booked_at_once(batches, some_entry(), some_entry())

    assert (too_early, again) == ([False, False], [True, True])
    assert len(auth.batches) == 2


async def test_when_the_sender_is_cancelled_the_others_go_alone(batches: UsageBatches, auth: Auth) -> None:
    auth.may_answer.clear()

    async with asyncio.TaskGroup() as group:
        sender, *others = [group.create_task(batches.book(some_entry())) for _ in range(3)]
        await auth.was_asked.wait()
        sender.cancel()

    assert sender.cancelled()
    assert [other.result() for other in others] == [False, False]


async def test_a_sender_cancelled_before_it_sent_leaves_nobody_waiting(batches: UsageBatches, auth: Auth) -> None:
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(batches.book(some_entry()))
        other = group.create_task(batches.book(some_entry()))
        await asyncio.sleep(0)
        sender.cancel()

    assert other.result() is False
    assert auth.batches == []
    assert await booked_at_once(batches, some_entry(), some_entry()) == [True, True]


async def test_one_who_waits_and_is_cancelled_leaves_the_batch_as_it_is(batches: UsageBatches, auth: Auth) -> None:
    auth.may_answer.clear()
    entries = [some_entry() for _ in range(3)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(batches.book(entry)) for entry in entries]
        await auth.was_asked.wait()
        tasks[1].cancel()
        auth.may_answer.set()

    assert tasks[1].cancelled()
    assert (tasks[0].result(), tasks[2].result()) == (True, True)
    assert auth.batches == [[entry.usage.run_id for entry in entries]]
