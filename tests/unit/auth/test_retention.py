"""Which rows are deleted, which are kept, and what retention does while the database is unavailable."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from fakes.auth.store import InMemoryAuthDatabase, InMemoryAuthStore
from fakes.clock import FakeClock
from mesh_auth.domain import EmailAddress, Lifetimes, LoginName, User
from mesh_auth.retention import Retention
from mesh_auth.usecases import Login, Logout, Refresh, Register
from mesh_common.errors import Unauthenticated, Unavailable

ADA = EmailAddress("Ada@example.com", "ada@example.com")
ADA_NAME = LoginName((ADA.key,), ADA.key)
PASSWORD = "seven green kettles whistle"


class DatabaseAway(InMemoryAuthDatabase):
    def as_worker(self) -> AbstractAsyncContextManager[InMemoryAuthStore]:
        raise Unavailable("away")


class Readiness:
    """Returns `reason` and counts its calls."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        return self.reason


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
def retention(
    database: InMemoryAuthDatabase, clock: FakeClock, lifetimes: Lifetimes, readiness: Readiness
) -> Retention:
    return Retention(database, clock, lifetimes=lifetimes, period_s=1, not_ready_reason=readiness)


@pytest.fixture
async def ada(register: Register) -> User:
    return await register(ADA, PASSWORD)


@pytest.mark.usefixtures("ada")
async def test_retention_keeps_used_tokens_so_that_late_reuse_is_noticed(
    login: Login,
    refresh: Refresh,
    clock: FakeClock,
    lifetimes: Lifetimes,
    database: InMemoryAuthDatabase,
    retention: Retention,
) -> None:
    tokens = await login(ADA_NAME, PASSWORD)
    await refresh(tokens.refresh_token)
    clock.advance(lifetimes.refresh_token - timedelta(seconds=1))
    await retention.prune()

    with pytest.raises(Unauthenticated):
        await refresh(tokens.refresh_token)

    assert len(database.tables.revocations) == 1


async def test_retention_forgets_what_has_ended_and_expired(
    login: Login,
    logout: Logout,
    ada: User,
    clock: FakeClock,
    lifetimes: Lifetimes,
    database: InMemoryAuthDatabase,
    retention: Retention,
) -> None:
    await login(ADA_NAME, PASSWORD)
    session = database.tables.sessions.copy().popitem()[0]
    await logout(ada.subject, session)

    at_once = await retention.prune()
    clock.advance(lifetimes.access_token + timedelta(minutes=2))
    later = await retention.prune()

    assert (at_once, later) == (0, 3)
    assert database.tables.sessions == {}
    assert database.tables.revocations == []


@pytest.mark.usefixtures("ada")
async def test_nothing_is_pruned_before_the_schema_is_there(
    login: Login,
    clock: FakeClock,
    lifetimes: Lifetimes,
    database: InMemoryAuthDatabase,
    retention: Retention,
    readiness: Readiness,
) -> None:
    await login(ADA_NAME, PASSWORD)
    clock.advance(2 * lifetimes.refresh_token)
    readiness.reason = "the schema is not migrated"

    await retention.prune_if_ready()
    kept = len(database.tables.sessions)
    readiness.reason = None
    await retention.prune_if_ready()

    assert (kept, len(database.tables.sessions)) == (1, 0)


async def test_database_that_goes_away_does_not_end_retention(
    clock: FakeClock, lifetimes: Lifetimes, readiness: Readiness
) -> None:
    retention = Retention(DatabaseAway(), clock, lifetimes=lifetimes, period_s=1, not_ready_reason=readiness)

    await retention.prune_if_ready()

    assert readiness.asked == 1
