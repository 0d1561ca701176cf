"""Limits on failed logins, by account and address and by account alone. The guard allows three and seven."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fakes.auth.hasher import CountingHasher, GatedHasher
from fakes.auth.store import InMemoryAuthDatabase, InMemoryAuthStore
from fakes.clock import FakeClock
from mesh_auth.domain import EmailAddress, LoginName, User
from mesh_auth.logins.email import login_name
from mesh_auth.logins.queue import LoginQueue, TooManyPending
from mesh_auth.usecases import Login, Register
from mesh_common.errors import DeadlineExceeded, Internal, MeshError, RateLimited, Unauthenticated, Unavailable

EMAIL = "ada@example.com"
WRONG = "wrong"
PASSWORD = "seven green kettles whistle"
ADA = login_name(EMAIL)
HERE = "198.51.100.1/32"


def elsewhere(number: int) -> str:
    return f"203.0.113.{number}/32"


class NotingDatabase:
    """Notes which methods of the store are called."""

    def __init__(self, database: InMemoryAuthDatabase) -> None:
        self._database = database
        self.calls: list[str] = []

    @asynccontextmanager
    async def as_worker(self) -> AsyncIterator[Any]:
        async with self._database.as_worker() as store:
            yield _NotedStore(store, self.calls)


class _NotedStore:
    def __init__(self, store: InMemoryAuthStore, calls: list[str]) -> None:
        self._store = store
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        self._calls.append(name)
        return getattr(self._store, name)


@pytest.fixture(autouse=True)
async def ada(register: Register) -> User:
    return await register(EmailAddress(EMAIL, EMAIL), PASSWORD)


async def outcome(
    login: Login, address: str | None = HERE, password: str = WRONG, name: LoginName = ADA
) -> type[MeshError] | None:
    try:
        await login(name, password, address)
    except MeshError as error:
        return type(error)
    return None


async def fail_from(
    login: Login, addresses: Iterable[str | None], name: LoginName = ADA
) -> list[type[MeshError] | None]:
    return [await outcome(login, address, name=name) for address in addresses]


async def wait_of(login: Login, address: str | None = HERE, name: LoginName = ADA) -> float:
    with pytest.raises(RateLimited) as caught:
        await login(name, "wrong", address)
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


@pytest.mark.parametrize("name", [ADA, login_name("nobody@example.com"), login_name("no address")])
async def test_failures_beyond_the_free_ones_are_refused_unhashed(
    login: Login, hasher: CountingHasher, name: LoginName
) -> None:
    """The same for an account, for an address without one, and for what is no address."""
    outcomes = await fail_from(login, [HERE] * 5, name)

    assert outcomes == [Unauthenticated] * 3 + [RateLimited] * 2
    assert len(hasher.verified_against) == 3
    assert await wait_of(login, name=name) == 15


async def test_names_with_and_without_an_account_cost_the_same_statements(
    login: Login, database: InMemoryAuthDatabase
) -> None:
    noted = NotingDatabase(database)
    parameter: Any = noted
    login = replace(login, database=parameter)
    calls = []
    for name in (ADA, login_name("nobody@example.com")):
        noted.calls.clear()
        await fail_from(login, [HERE, HERE, HERE, HERE, elsewhere(1), None], name)
        calls.append(list(noted.calls))

    assert calls[0] == calls[1]
    assert calls[0].count("put_login_failures") == 2 * 5


async def test_the_right_password_is_refused_too_while_the_wait_lasts(login: Login, clock: FakeClock) -> None:
    await fail_from(login, [HERE] * 3)

    assert await outcome(login, password=PASSWORD) is RateLimited
    clock.advance(timedelta(seconds=15))
    assert await outcome(login, password=PASSWORD) is None


async def test_wait_doubles_up_to_a_quarter_of_an_hour(login: Login, clock: FakeClock) -> None:
    await fail_from(login, [HERE] * 3)
    waits = []

    for _ in range(8):
        waits.append(await wait_of(login))
        clock.advance(timedelta(seconds=waits[-1]))
        assert await outcome(login) is Unauthenticated

    assert waits == [15, 30, 60, 120, 240, 480, 900, 900]


async def test_refused_logins_do_not_lengthen_the_wait(login: Login) -> None:
    await fail_from(login, [HERE] * 20)

    assert await wait_of(login) == 15


async def test_parallel_tries_do_not_pass_the_limit_together(login: Login, hasher: CountingHasher) -> None:
    outcomes = await asyncio.gather(*(outcome(login) for _ in range(30)))

    assert outcomes.count(Unauthenticated) == len(hasher.verified_against) == 3


async def test_right_passwords_at_once_are_not_limited(login: Login, database: InMemoryAuthDatabase) -> None:
    outcomes = await asyncio.gather(*(outcome(login, password=PASSWORD) for _ in range(30)))

    assert outcomes == [None] * 30
    assert database.tables.login_failures == {}


async def test_few_mistakes_in_a_crowd_of_right_passwords_keep_nobody_out(login: Login) -> None:
    passwords = [PASSWORD] * 4 + [WRONG] + [PASSWORD] * 20 + [WRONG] + [PASSWORD] * 4

    outcomes = await asyncio.gather(*(outcome(login, password=one) for one in passwords))

    assert outcomes == [None if one == PASSWORD else Unauthenticated for one in passwords]


async def test_pending_logins_leave_room_for_the_free_failures_alone(login: Login, clock: FakeClock) -> None:
    """Two of three are left after one failure, and one at a time after all of them."""
    hasher = GatedHasher()
    login = replace(login, hasher=hasher, queue=LoginQueue(wait_s=0.0))
    hasher.let_through(1)
    assert await outcome(login) is Unauthenticated
    await hasher.holds(1)
    for is_allowed in (2, 1, 1):
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(outcome(login)) for _ in range(is_allowed)]
            await hasher.holds(is_allowed)
            assert await outcome(login) is TooManyPending
            hasher.let_through(is_allowed)
        assert [one.result() for one in tries] == [Unauthenticated] * is_allowed
        clock.advance(timedelta(minutes=15))


async def test_login_that_never_ends_is_pending_for_a_minute(login: Login, clock: FakeClock) -> None:
    hasher = GatedHasher()
    hasher.verify_error = Internal("the process dies")
    login = replace(login, hasher=hasher, queue=LoginQueue(wait_s=0.0))
    hasher.let_through(3)
    assert await fail_from(login, [HERE] * 3) == [Internal] * 3
    hasher.verify_error = None

    assert await outcome(login, password=PASSWORD) is TooManyPending
    clock.advance(timedelta(minutes=1))
    hasher.let_through(4)
    assert await fail_from(login, [HERE] * 4) == [Unauthenticated] * 3 + [RateLimited]


async def test_failure_after_it_was_given_up_still_counts(login: Login, clock: FakeClock) -> None:
    hasher = GatedHasher()
    login = replace(login, hasher=hasher)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(outcome(login))
        await hasher.holds(3)
        clock.advance(timedelta(hours=1))
        hasher.let_through(3)

    assert await outcome(login, password=PASSWORD) is RateLimited


async def test_success_forgets_the_failures_from_its_address(login: Login) -> None:
    await fail_from(login, [HERE] * 2)
    assert await outcome(login, password=PASSWORD) is None

    assert await fail_from(login, [HERE] * 4) == [Unauthenticated] * 3 + [RateLimited]


async def test_success_counts_for_nothing(login: Login, database: InMemoryAuthDatabase) -> None:
    for number in range(10):
        assert await outcome(login, elsewhere(number), PASSWORD) is None

    assert database.tables.login_failures == {}


async def test_stranger_at_one_address_locks_nobody_out(login: Login, clock: FakeClock) -> None:
    """Neither the owner who never logged in before, nor over a day."""
    for _ in range(200):
        await outcome(login, elsewhere(1))
        clock.advance(timedelta(minutes=8))

    assert await outcome(login, HERE, PASSWORD) is None


async def test_strangers_at_many_addresses_share_the_limit_of_the_account(login: Login) -> None:
    outcomes = await fail_from(login, [elsewhere(number) for number in range(20)])

    assert outcomes == [Unauthenticated] * 7 + [RateLimited] * 13


async def test_owner_gets_in_from_a_known_address_whatever_strangers_do(login: Login, clock: FakeClock) -> None:
    assert await outcome(login, HERE, PASSWORD) is None
    clock.advance(timedelta(days=29))
    await fail_from(login, [elsewhere(number) for number in range(20)])

    assert await outcome(login, HERE) is Unauthenticated
    assert await outcome(login, HERE, PASSWORD) is None
    assert await outcome(login, elsewhere(99), PASSWORD) is RateLimited


async def test_known_address_is_limited_by_its_own_failures(login: Login) -> None:
    assert await outcome(login, HERE, PASSWORD) is None

    assert await fail_from(login, [HERE] * 4) == [Unauthenticated] * 3 + [RateLimited]


async def test_address_is_known_for_a_month(login: Login, clock: FakeClock) -> None:
    assert await outcome(login, HERE, PASSWORD) is None
    clock.advance(timedelta(days=31))
    await fail_from(login, [elsewhere(number) for number in range(7)])

    assert await outcome(login, HERE, PASSWORD) is RateLimited


async def test_known_addresses_are_bounded_and_not_in_plain_text(
    login: Login, database: InMemoryAuthDatabase, ada: User, clock: FakeClock
) -> None:
    for number in range(30):
        await outcome(login, elsewhere(number), PASSWORD)
        clock.advance(timedelta(seconds=1))

    known = database.tables.login_addresses[ada.id]
    assert len(known) == 20
    assert min(known.values()) == max(known.values()) - timedelta(seconds=19)
    assert all(len(one) == 32 for one in known)


async def test_without_an_address_the_account_alone_counts(login: Login) -> None:
    assert await fail_from(login, [None] * 8) == [Unauthenticated] * 7 + [RateLimited]


async def test_other_accounts_are_not_limited(login: Login) -> None:
    await fail_from(login, [HERE] * 5)

    assert await outcome(login, name=login_name("grace@example.com")) is Unauthenticated


async def test_failures_are_forgotten_after_a_day(login: Login, clock: FakeClock) -> None:
    await fail_from(login, [HERE] * 3)
    clock.advance(timedelta(days=1))

    assert await fail_from(login, [HERE] * 4) == [Unauthenticated] * 3 + [RateLimited]


@pytest.mark.parametrize("error", [Unavailable("full"), DeadlineExceeded("late")])
async def test_password_that_was_never_checked_is_no_failure(
    login: Login, hasher: CountingHasher, database: InMemoryAuthDatabase, error: MeshError
) -> None:
    hasher.verify_error = error

    assert await fail_from(login, [HERE] * 9) == [type(error)] * 9
    assert database.tables.login_failures == {}
