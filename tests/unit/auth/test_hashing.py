"""The hashing pool: its bound, its deadline, the algorithms. Counted, never timed."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import argon2
import bcrypt
import pytest
from fakes.auth.gated_argon2 import GatedArgon2
from mesh_auth.hashing import Argon2Hasher, open_hasher
from mesh_common.caller import Caller, acting
from mesh_common.errors import DeadlineExceeded, Unavailable

PASSWORD = "seven green kettles whistle"


@pytest.fixture
def argon2id() -> GatedArgon2:
    return GatedArgon2()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def hasher(pool: ThreadPoolExecutor, argon2id: GatedArgon2) -> Argon2Hasher:
    """One thread, and room for one that waits."""
    hasher = Argon2Hasher(pool, max_jobs=2, argon2id=argon2id)
    argon2id.hashed = 0  # the dummy's hash is not what tests count
    return hasher


def of_caller_who_leaves_in_100_ms() -> AbstractContextManager[None]:
    return acting(Caller("gateway", None, time.monotonic() + 0.1))


async def test_new_hashes_are_argon2id_with_the_parameters_of_owasp() -> None:
    async with open_hasher(workers=1, queue=0) as hasher:
        password_hash = await hasher.hash(PASSWORD)

    parameters = argon2.extract_parameters(password_hash)
    assert parameters.type is argon2.Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)


async def test_password_matches_its_own_hash_alone(hasher: Argon2Hasher) -> None:
    password_hash = await hasher.hash(PASSWORD)

    right = await hasher.verify(PASSWORD, password_hash)
    wrong = await hasher.verify(f"{PASSWORD}!", password_hash)

    assert (right.is_match, right.needs_rehash) == (True, False)
    assert not wrong.is_match


async def test_unknown_account_costs_one_verification_too(hasher: Argon2Hasher, argon2id: GatedArgon2) -> None:
    password_hash = await hasher.hash(PASSWORD)
    await hasher.verify(PASSWORD, password_hash)
    of_known = argon2id.verified

    check = await hasher.verify(PASSWORD, None)

    assert not check.is_match
    assert (of_known, argon2id.verified) == (1, 2)


async def test_nobody_gets_in_with_the_password_of_the_dummy(hasher: Argon2Hasher) -> None:
    assert not (await hasher.verify("no account has this password", None)).is_match


async def test_hash_of_weaker_parameters_is_to_be_replaced(hasher: Argon2Hasher) -> None:
    weaker = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)

    check = await hasher.verify(PASSWORD, weaker)

    assert (check.is_match, check.needs_rehash) == (True, True)


@pytest.mark.parametrize("password", [PASSWORD, "\u00e9" * 100])
async def test_bcrypt_hash_is_verified_and_to_be_replaced(hasher: Argon2Hasher, password: str) -> None:
    """Old libraries cut passwords at 72 bytes; bcrypt 5 raises there."""
    old = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()

    right = await hasher.verify(password, old)
    wrong = await hasher.verify(f"x{password}", old)

    assert (right.is_match, right.needs_rehash) == (True, True)
    assert not wrong.is_match


@pytest.mark.parametrize("password_hash", ["!", "", "$argon2id$broken", "$1$md5$crypt", "$2b$broken"])
async def test_hash_of_unknown_form_never_matches(hasher: Argon2Hasher, password_hash: str) -> None:
    assert not (await hasher.verify(PASSWORD, password_hash)).is_match


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
    hasher: Argon2Hasher, argon2id: GatedArgon2, pool: ThreadPoolExecutor
) -> None:
    argon2id.hold()
    with of_caller_who_leaves_in_100_ms(), pytest.raises(DeadlineExceeded):
        await hasher.hash(PASSWORD)

    counted = hasher._jobs
    argon2id.release()
    await asyncio.to_thread(pool.shutdown)

    assert counted == 1
    assert hasher._jobs == 0


async def test_event_loop_goes_on_while_a_password_is_hashed(hasher: Argon2Hasher, argon2id: GatedArgon2) -> None:
    argon2id.hold()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hasher.hash(PASSWORD))
        await argon2id.is_reached()
        is_done_while_held = task.done()
        argon2id.release()

    assert not is_done_while_held
    assert task.result()
