"""Requests of one user for embeddings: two at a time, some that wait, and no more."""

import asyncio

import pytest
from fakes.memory.models import FakeEmbedder
from mesh_common.errors import RateLimited, Unavailable
from mesh_common.subject import Subject
from mesh_memory.domain import Vector
from mesh_memory.usecases import FairEmbedder
from support.subjects import some_subject

_PENDING = 34


class Held(FakeEmbedder):
    """Waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()
        self.running = 0

    async def query(self, text: str, *, timeout_s: float) -> Vector:
        self.running += 1
        await self.let_go.wait()
        self.running -= 1
        return await super().query(text, timeout_s=timeout_s)


async def _settled() -> None:
    """All tasks have run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_user_has_two_calls_at_a_time_and_another_user_as_well() -> None:
    held, ada, eve = Held(), some_subject(), some_subject()
    fair = FairEmbedder(held)

    async with asyncio.TaskGroup() as group:
        for user in (ada, eve):
            for _ in range(10):
                group.create_task(fair.query(user, "tea", timeout_s=30.0))
        await _settled()
        running = held.running
        held.let_go.set()

    assert running == 4
    assert len(held.asked) == 20


async def test_user_with_too_many_pending_requests_is_refused_until_they_are_done() -> None:
    held, ada = Held(), some_subject()
    fair = FairEmbedder(held)

    async with asyncio.TaskGroup() as group:
        for _ in range(_PENDING):
            group.create_task(fair.query(ada, "tea", timeout_s=30.0))
        await _settled()
        with pytest.raises(RateLimited) as raised:
            await fair.passage(ada, "tea", timeout_s=30.0)
        held.let_go.set()

    assert raised.value.retry_after_s
    assert await fair.passage(ada, "tea", timeout_s=30.0)


async def test_request_that_waits_too_long_is_unavailable_and_leaves_its_place() -> None:
    held, ada = Held(), some_subject()
    fair = FairEmbedder(held)

    async def wait_briefly(user: Subject) -> None:
        with pytest.raises(Unavailable):
            await fair.query(user, "tea", timeout_s=0.01)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(fair.query(ada, "tea", timeout_s=30.0))
        await _settled()
        for _ in range(_PENDING):
            # More than may wait at once.
            await wait_briefly(ada)
        held.let_go.set()


async def test_call_that_was_cancelled_leaves_its_place() -> None:
    held, ada = Held(), some_subject()
    fair = FairEmbedder(held)

    for _ in range(_PENDING):
        task = asyncio.ensure_future(fair.query(ada, "tea", timeout_s=30.0))
        await _settled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    held.let_go.set()
    assert await fair.query(ada, "tea", timeout_s=30.0)
