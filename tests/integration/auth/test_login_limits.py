"""Limits on failed logins, on the real PostgreSQL: attacks, and what they cost the owner."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta

import pytest
from fakes.auth.hasher import CountingHasher, GatedHasher
from mesh_auth.domain import LoginFailures
from mesh_auth.settings import AuthSettings
from mesh_auth.store.accounts import PostgresAuthStore
from mesh_auth.tables import login_addresses, login_failures, users
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import MeshError, RateLimited, Unauthenticated
from mesh_common.ids import new_id
from prometheus_client import REGISTRY
from sqlalchemy import Table, func, select, update
from support.agent import eventually
from support.auth import PASSWORD, AuthUnderTest, opened, some_email
from support.mesh import TestMesh

WRONG = "wrong horse battery staple"
HERE = "198.51.100.1"
STRANGER = "203.0.113.66"


async def outcome(login: Awaitable[object]) -> type[MeshError] | None:
    try:
        await login
    except MeshError as error:
        return type(error)
    return None


def spellings(email: str) -> list[str]:
    """Sixty ways to write one address."""
    local, _, domain = email.partition("@")
    wide = "".join(chr(ord(char) + 0xFEE0) if char.isalnum() else char for char in domain)
    invisible = ["\u034f", "\ufe0f", "\u200b", "\u2060", "\u00ad", "\u115f"]
    made = [f"{local}@{domain[:n]}{mark}{domain[n:]}" for mark in invisible for n in range(1, 9)]
    made += [f"{local}@{wide}", f"{local}@{domain.replace('.', '\u3002')}", f"{local}@{domain.replace('.', '\uff61')}"]
    made += [f"{local[:4]}\u034f{local[4:]}@{domain}", f"{local.upper()}@{domain}", f"{email} ", f" {email}"]
    made += [f"{local}@{domain[:n].upper()}{domain[n:]}" for n in range(1, 6)]
    return made


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
async def guarded(
    test_mesh: TestMesh, auth_settings: AuthSettings, hasher: CountingHasher
) -> AsyncIterator[AuthUnderTest]:
    """A second replica, whose hasher counts for one test alone."""
    async with opened(test_mesh, auth_settings, hasher=hasher) as service:
        yield service


async def test_sixty_spellings_share_one_limit(guarded: AuthUnderTest, hasher: CountingHasher) -> None:
    email = (await guarded.register()).email
    typed = spellings(email)

    outcomes = [await outcome(guarded.login(one, WRONG, client_address=STRANGER)) for one in typed]
    right = [await outcome(guarded.login(one, client_address=STRANGER)) for one in typed]

    assert len(set(typed)) == 60
    assert outcomes == [Unauthenticated] * 10 + [RateLimited] * 50
    assert right == [RateLimited] * 60
    assert len(hasher.verified_against) == 10


@pytest.mark.parametrize("is_account", [True, False], ids=["account", "stranger's name"])
async def test_parallel_tries_at_two_replicas_do_not_pass_the_limit(
    auth: AuthUnderTest, guarded: AuthUnderTest, *, is_account: bool
) -> None:
    email = (await auth.register()).email if is_account else some_email()

    outcomes = await asyncio.gather(
        *(outcome(one.login(email, WRONG, client_address=STRANGER)) for one in (auth, guarded) * 30)
    )

    assert outcomes.count(Unauthenticated) == 10
    assert outcomes.count(RateLimited) == 50


@pytest.fixture
def patient(auth_settings: AuthSettings) -> AuthSettings:
    """Waits are bounded, and no test may depend on how fast this machine is."""
    return auth_settings.model_copy(update={"login_wait_s": 60.0})


@pytest.fixture
def gated() -> GatedHasher:
    return GatedHasher()


@pytest.fixture
async def replicas(
    test_mesh: TestMesh, patient: AuthSettings, gated: GatedHasher
) -> AsyncIterator[tuple[AuthUnderTest, AuthUnderTest]]:
    """Two replicas on one database, with one hasher that holds every check."""
    async with opened(test_mesh, patient, hasher=gated) as one, opened(test_mesh, patient, hasher=gated) as other:
        yield one, other


async def crowd(
    replicas: tuple[AuthUnderTest, AuthUnderTest], gated: GatedHasher, email: str, passwords: list[str]
) -> list[type[MeshError] | None]:
    """What logins from one address get at two replicas if they all arrive before the first one ends."""
    async with asyncio.TaskGroup() as group:
        tries = [
            group.create_task(outcome(replicas[number % 2].login(email, password, client_address=HERE, timeout_s=60)))
            for number, password in enumerate(passwords)
        ]
        await gated.holds(10)
        await eventually(waiting_logins, lambda waiting: waiting == len(passwords) - 10)
        gated.let_through(len(passwords))
    return [one.result() for one in tries]


async def waiting_logins() -> float | None:
    """Of both replicas, which have one registry of metrics here."""
    return REGISTRY.get_sample_value("mesh_auth_logins_waiting")


async def test_right_passwords_at_once_all_succeed(
    replicas: tuple[AuthUnderTest, AuthUnderTest], gated: GatedHasher
) -> None:
    email = (await replicas[0].register()).email

    assert await crowd(replicas, gated, email, [PASSWORD] * 40) == [None] * 40


@pytest.mark.parametrize("is_account", [True, False], ids=["account", "stranger's name"])
async def test_of_wrong_passwords_at_once_ten_are_checked(
    replicas: tuple[AuthUnderTest, AuthUnderTest], gated: GatedHasher, *, is_account: bool
) -> None:
    email = (await replicas[0].register()).email if is_account else some_email()

    outcomes = await crowd(replicas, gated, email, [WRONG] * 40)

    assert outcomes.count(Unauthenticated) == 10
    assert outcomes.count(RateLimited) == 30
    assert len(gated.verified_against) == 10


async def test_few_wrong_passwords_in_a_crowd_keep_no_right_one_out(
    replicas: tuple[AuthUnderTest, AuthUnderTest], gated: GatedHasher
) -> None:
    email = (await replicas[0].register()).email
    passwords = ([WRONG] + [PASSWORD] * 4) * 8

    outcomes = await crowd(replicas, gated, email, passwords)

    assert outcomes == [None if one == PASSWORD else Unauthenticated for one in passwords]


async def test_crowd_of_a_stranger_does_not_hold_up_the_owner(
    replicas: tuple[AuthUnderTest, AuthUnderTest], gated: GatedHasher
) -> None:
    """The stranger's logins are in progress all the while."""
    email = (await replicas[0].register()).email
    async with asyncio.TaskGroup() as group:
        tries = [
            group.create_task(outcome(replicas[number % 2].login(email, WRONG, client_address=STRANGER, timeout_s=60)))
            for number in range(40)
        ]
        await gated.holds(10)
        await eventually(waiting_logins, lambda waiting: waiting == 30)
        owner = group.create_task(outcome(replicas[0].login(email, client_address=HERE, timeout_s=60)))
        await gated.holds(1)
        gated.let_through(40)

    assert owner.result() is None
    assert [one.result() for one in tries].count(Unauthenticated) == 10


@pytest.mark.parametrize(("change", "count"), [(1, 3), (-3, 0)])
async def test_replica_that_counts_pending_logins_as_failures_is_understood(
    auth_database: Database, change: int, count: int
) -> None:
    """It leaves the newer column alone, and reads and writes both kinds in one number."""
    key, now = new_id().bytes * 2, utc_now()
    async with auth_database.as_worker() as connection:
        store = PostgresAuthStore(connection)
        await store.put_login_failures({key: LoginFailures(2, now, (now, now))})
        row = login_failures.c.key == key
        read = (await connection.execute(select(login_failures.c.failures).where(row))).scalar_one()
        await connection.execute(update(login_failures).where(row).values(failures=read + change))

        assert read == 4
        assert await store.find_login_failures([key]) == {key: LoginFailures(count, now, (now, now))}


async def test_pending_login_of_a_dead_process_is_given_up(auth: AuthUnderTest, auth_database: Database) -> None:
    """After a minute. The login waits for the rest of it."""
    email = (await auth.register()).email
    for _ in range(10):
        await outcome(auth.login(email, WRONG, client_address=HERE))
    assert await outcome(auth.login(email, client_address=HERE)) is RateLimited
    async with auth_database.as_worker() as connection:
        begun_at = utc_now() - timedelta(seconds=59)
        died = update(login_failures).where(login_failures.c.failures == 10).values(pending=[begun_at] * 10)
        await connection.execute(died)

    assert await outcome(auth.login(email, client_address=HERE)) is None


async def test_refusal_says_when_to_come_back_and_is_the_same_without_an_account(auth: AuthUnderTest) -> None:
    refusals = []
    for email in ((await auth.register()).email, some_email()):
        for _ in range(10):
            assert await outcome(auth.login(email, WRONG, client_address=STRANGER)) is Unauthenticated
        with pytest.raises(RateLimited) as caught:
            await auth.login(email, WRONG, client_address=STRANGER)
        refusals.append((caught.value.message, caught.value.reason))
        assert 1 < (caught.value.retry_after_s or 0) <= 15

    assert refusals[0] == refusals[1]


async def test_stranger_locks_out_nobody_but_himself(auth: AuthUnderTest) -> None:
    email = (await auth.register()).email
    for _ in range(20):
        await outcome(auth.login(email, WRONG, client_address=STRANGER))

    assert await outcome(auth.login(email, client_address=STRANGER)) is RateLimited
    assert await outcome(auth.login(email, client_address=HERE)) is None


async def test_strangers_at_many_addresses_are_limited_together_and_the_owner_is_not(auth: AuthUnderTest) -> None:
    email = (await auth.register()).email
    await auth.login(email, client_address=HERE)

    outcomes = [
        await outcome(auth.login(email, WRONG, client_address=f"203.0.113.{number % 100}")) for number in range(120)
    ]

    assert outcomes == [Unauthenticated] * 50 + [RateLimited] * 70
    assert await outcome(auth.login(email, client_address=HERE)) is None
    assert await outcome(auth.login(email, client_address="192.0.2.1")) is RateLimited


async def test_gateway_of_an_older_release_is_limited_by_account(auth: AuthUnderTest) -> None:
    email = (await auth.register()).email

    outcomes = [await outcome(auth.login(email, WRONG)) for _ in range(55)]

    assert outcomes == [Unauthenticated] * 50 + [RateLimited] * 5


async def test_successful_logins_leave_no_failure_and_one_address(auth: AuthUnderTest, auth_database: Database) -> None:
    before = await _count(auth_database, login_failures)
    user = await auth.register()

    await asyncio.gather(*(auth.login(user.email, client_address=HERE) for _ in range(8)))

    async with auth_database.as_worker() as connection:
        known = (
            await connection.execute(select(login_addresses.c.address_hash).where(login_addresses.c.user_id == user.id))
        ).scalars()
        stored = list(known)
    assert await _count(auth_database, login_failures) == before
    assert len(stored) == 1
    assert HERE.encode() not in stored[0]


async def test_account_stored_under_its_old_key_is_reached_and_counted_as_itself(
    auth: AuthUnderTest, auth_database: Database
) -> None:
    """Release 0.1.0 kept full-width letters before the @."""
    local = new_id().hex
    user = await auth.register(f"{local}@example.com")
    old_spelling = f"\uff41{local}@example.com"
    async with auth_database.as_worker() as connection:
        await connection.execute(
            update(users).where(users.c.user_id == user.id).values(email_key=old_spelling, email=old_spelling)
        )

    assert await outcome(auth.login(old_spelling, client_address=HERE)) is None
    for _ in range(10):
        await outcome(auth.login(old_spelling, WRONG, client_address=STRANGER))
    assert await outcome(auth.login(old_spelling.upper(), client_address=STRANGER)) is RateLimited


async def test_registration_knows_an_address_in_every_spelling(auth: AuthUnderTest) -> None:
    email = (await auth.register()).email
    taken = [outcome(auth.register(one)) for one in spellings(email) if one == one.strip()]

    outcomes = {error.__name__ if error else None for error in await asyncio.gather(*taken)}

    assert outcomes == {"AlreadyExists"}


async def test_what_cannot_count_any_more_is_deleted(guarded: AuthUnderTest, auth_database: Database) -> None:
    user = await guarded.register()
    await guarded.login(user.email, client_address=HERE)
    await outcome(guarded.login(user.email, WRONG, client_address=STRANGER))
    async with auth_database.as_worker() as connection:
        old = utc_now() - timedelta(days=31)
        await connection.execute(update(login_failures).values(last_failed_at=old))
        await connection.execute(update(login_addresses).values(last_login_at=old))
    async with auth_database.as_worker() as connection:
        store = PostgresAuthStore(connection)
        kept = await store.prune_logins(
            failed_before=old - timedelta(days=1), seen_before=old - timedelta(days=1), limit=1_000
        )
        deleted = await store.prune_logins(
            failed_before=utc_now() - timedelta(days=1), seen_before=utc_now() - timedelta(days=30), limit=1_000
        )

    assert kept == 0
    assert deleted >= 3
    assert await _count(auth_database, login_failures) == await _count(auth_database, login_addresses) == 0


async def _count(database: Database, table: Table) -> int:
    async with database.as_worker() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())
