"""The hashing pool: its limits, its deadline, its threads. The tests count hashes and never measure time."""

import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from fakes.auth.gated_argon2 import GatedArgon2
from fakes.clock import FakeClock
from mesh_auth.passwords.hash_pool import Bounds, HashPool, open_hash_pool
from mesh_auth.passwords.hashing import Argon2Hasher
from mesh_common.caller import Caller, acting
from mesh_common.errors import DeadlineExceeded, Unavailable

PASSWORD = "seven green kettles whistle"


@pytest.fixture
def hasher(pool: HashPool, argon2id: GatedArgon2) -> Argon2Hasher:
    hasher = Argon2Hasher(pool, argon2id)
    argon2id.hashed = 0  # tests do not count the hash of the dummy
    return hasher


def of_caller_who_leaves_in_100_ms() -> AbstractContextManager[None]:
    return acting(Caller("gateway", None, time.monotonic() + 0.1))


async def test_full_pool_refuses_and_says_when_to_come_back(hasher: Argon2Hasher, argon2id: GatedArgon2) -> None:
    argon2id.hold()
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(hasher.hash(PASSWORD)) for _ in range(2)]
        await argon2id.is_reached()

        with pytest.raises(Unavailable) as caught:
            await hasher.verify(PASSWORD, None)
        argon2id.release()

    assert caught.value.retry_after_s
    assert all(task.result() for task in running)
    assert argon2id.verified == 0


async def test_who_would_wait_too_long_is_refused_however_short_the_queue(
    threads: ThreadPoolExecutor, clock: FakeClock, argon2id: GatedArgon2
) -> None:
    """Until hashes have been timed, one is assumed to take 20 ms, so two may wait for 50 ms."""
    hasher = Argon2Hasher(HashPool(threads, Bounds(workers=1, queue=100, wait_s=0.05), clock), argon2id)
    argon2id.hold()
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(hasher.hash(PASSWORD)) for _ in range(3)]
        await argon2id.is_reached()

        with pytest.raises(Unavailable) as caught:
            hasher.require_room()
        argon2id.release()

    assert caught.value.retry_after_s
    assert all(task.result() for task in running)
    hasher.require_room()


async def test_slow_hashes_leave_less_room(threads: ThreadPoolExecutor, clock: FakeClock) -> None:
    pool = HashPool(threads, Bounds(workers=1, queue=100, wait_s=0.05), clock)
    held = threading.Event()

    await pool.run(lambda: clock.advance(timedelta(seconds=1)))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(pool.run(held.wait))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            pool.require_room()
        held.set()

    assert running.result()


async def test_pool_that_was_full_takes_passwords_again(hasher: Argon2Hasher, argon2id: GatedArgon2) -> None:
    argon2id.hold()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(hasher.hash(PASSWORD))
        await argon2id.is_reached()
        argon2id.release()

    assert await hasher.hash(PASSWORD)


async def test_password_whose_caller_left_while_it_waited_is_never_hashed(
    hasher: Argon2Hasher, argon2id: GatedArgon2
) -> None:
    argon2id.hold()
    async with asyncio.TaskGroup() as group:
        group.create_task(hasher.hash(PASSWORD))
        await argon2id.is_reached()

        with of_caller_who_leaves_in_100_ms(), pytest.raises(DeadlineExceeded):
            await hasher.hash("another long passphrase")
        argon2id.release()
    await hasher.hash("a third long passphrase")

    assert argon2id.hashed == 2


async def test_thread_that_still_hashes_is_counted_after_its_caller_left(
    hasher: Argon2Hasher, argon2id: GatedArgon2, pool: HashPool, threads: ThreadPoolExecutor
) -> None:
    argon2id.hold()
    with of_caller_who_leaves_in_100_ms(), pytest.raises(DeadlineExceeded):
        await hasher.hash(PASSWORD)

    counted = pool.jobs
    argon2id.release()
    await asyncio.to_thread(threads.shutdown)

    assert counted == 1
    assert pool.jobs == 0


async def test_event_loop_goes_on_while_a_password_is_hashed(hasher: Argon2Hasher, argon2id: GatedArgon2) -> None:
    argon2id.hold()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hasher.hash(PASSWORD))
        await argon2id.is_reached()
        is_done_while_held = task.done()
        argon2id.release()

    assert not is_done_while_held
    assert task.result()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")
async def test_threads_that_hash_give_way_to_the_others_of_the_process(clock: FakeClock) -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async with open_hash_pool(Bounds(workers=1, queue=0, wait_s=0.0), clock) as pool:
        of_hashing = await pool.run(priority)

    assert of_hashing > priority()
