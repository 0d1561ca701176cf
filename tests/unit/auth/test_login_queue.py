"""Logins that wait for others of the same account: in order, for a bounded time, and not too many."""

import asyncio
from collections import Counter
from functools import partial

import pytest
from mesh_auth.logins.queue import LoginQueue, TooManyPending


class Door:
    """Admits while it is open; notes who was admitted."""

    def __init__(self) -> None:
        self.is_open = False
        self.refused = asyncio.Event()
        self.refusals_of: Counter[int] = Counter()
        self._refusals = asyncio.Semaphore(0)
        self.admitted: list[int] = []

    async def admit(self, number: int, key: bytes = b"crowd") -> int:
        if not self.is_open:
            self.refusals_of[number] += 1
            self._refusals.release()
            self.refused.set()
            raise TooManyPending(key)
        self.admitted.append(number)
        return number

    async def refused_often(self, count: int) -> None:
        async with asyncio.timeout(10):
            for _ in range(count):
                await self._refusals.acquire()


async def test_waiting_logins_are_admitted_in_their_order_and_only_the_first_asks() -> None:
    door, queue = Door(), LoginQueue(wait_s=10.0)
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(queue.admitted(partial(door.admit, number)))
        await door.refused_often(20 + 5)
        door.is_open = True

    # Each of them asked once before it began to wait, and the first one alone since then.
    assert door.refusals_of == {0: 1 + 5} | dict.fromkeys(range(1, 20), 1)
    assert door.admitted == list(range(20))
    assert queue.waiting == 0


async def test_wait_is_bounded() -> None:
    door, queue = Door(), LoginQueue(wait_s=0.1)

    outcomes = await asyncio.gather(*(queue.admitted(lambda: door.admit(1)) for _ in range(3)), return_exceptions=True)

    assert [type(one) for one in outcomes] == [TooManyPending] * 3
    assert queue.waiting == 0


async def test_queue_is_bounded() -> None:
    door, queue = Door(), LoginQueue(wait_s=10.0, max_waiting=1)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(queue.admitted(lambda: door.admit(1)))
        await door.refused.wait()
        with pytest.raises(TooManyPending):
            await queue.admitted(lambda: door.admit(2))
        door.is_open = True

    assert first.result() == 1


async def test_crowds_do_not_wait_for_each_other() -> None:
    door, other, queue = Door(), Door(), LoginQueue(wait_s=10.0)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(queue.admitted(lambda: door.admit(1, b"one")))
        await door.refused.wait()
        second = group.create_task(queue.admitted(lambda: other.admit(2, b"other")))
        await other.refused.wait()
        other.is_open = True
        assert await second == 2
        assert not waiting.done()
        door.is_open = True


async def test_client_that_leaves_frees_its_turn() -> None:
    door, queue = Door(), LoginQueue(wait_s=10.0)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(queue.admitted(lambda: door.admit(1)))
        await door.refused.wait()
        second = group.create_task(queue.admitted(lambda: door.admit(2)))
        first.cancel()
        door.is_open = True

    assert second.result() == 2
    assert queue.waiting == 0
