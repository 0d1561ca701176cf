"""Whose answer is kept, for how long, and what auth's absence costs."""

from datetime import timedelta

import pytest
from fakes.agent.neighbours import FakeEntitlements
from fakes.auth.clock import FakeClock
from mesh_agent.domain import Entitlements
from mesh_agent.entitlements import CachedEntitlements
from mesh_common.errors import DeadlineExceeded, MeshError, Unavailable
from mesh_common.ids import UserId, new_id

DEFAULT = Entitlements(context_tokens=1)
ADA, BOB = UserId(new_id()), UserId(new_id())
ADAS, BOBS = Entitlements(models=("large",)), Entitlements(models=("small",))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source() -> FakeEntitlements:
    return FakeEntitlements({ADA: ADAS, BOB: BOBS})


@pytest.fixture
def cached(source: FakeEntitlements, clock: FakeClock) -> CachedEntitlements:
    return CachedEntitlements(source, DEFAULT, clock)


async def test_each_user_gets_their_own(cached: CachedEntitlements) -> None:
    assert [await cached.of(user) for user in (ADA, BOB, ADA)] == [ADAS, BOBS, ADAS]


@pytest.mark.parametrize(("age_s", "times_asked"), [(59.9, 1), (60.0, 2)])
async def test_an_answer_is_fresh_for_a_minute(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock, age_s: float, times_asked: int
) -> None:
    await cached.of(ADA)
    clock.advance(timedelta(seconds=age_s))

    await cached.of(ADA)

    assert len(source.asked) == times_asked


async def test_what_changed_is_known_after_a_minute(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock
) -> None:
    await cached.of(ADA)
    source.by_user[ADA] = BOBS
    clock.advance(timedelta(seconds=60))

    assert await cached.of(ADA) == BOBS


@pytest.mark.parametrize("error", [Unavailable("Away."), DeadlineExceeded("Slow.")])
@pytest.mark.parametrize(("age_s", "told"), [(3_599, ADAS), (3_600, DEFAULT)])
async def test_what_was_known_serves_for_an_hour(
    cached: CachedEntitlements,
    source: FakeEntitlements,
    clock: FakeClock,
    error: MeshError,
    age_s: int,
    told: Entitlements,
) -> None:
    await cached.of(ADA)
    source.error = error
    clock.advance(timedelta(seconds=age_s))

    assert await cached.of(ADA) == told
    assert await cached.of(BOB) == DEFAULT


async def test_auth_that_is_away_for_one_is_not_asked_for_another(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock
) -> None:
    source.error = Unavailable("Away.")
    await cached.of(ADA)

    clock.advance(timedelta(seconds=4.9))
    await cached.of(BOB)
    asked_meanwhile = list(source.asked)
    clock.advance(timedelta(seconds=0.1))
    await cached.of(BOB)

    assert asked_meanwhile == [ADA]
    assert source.asked == [ADA, BOB]


async def test_the_pause_does_not_keep_a_fresh_answer_from_serving(
    cached: CachedEntitlements, source: FakeEntitlements
) -> None:
    await cached.of(ADA)
    source.error = Unavailable("Away.")
    await cached.of(BOB)

    assert await cached.of(ADA) == ADAS


async def test_no_more_users_are_kept_than_fit(cached: CachedEntitlements, source: FakeEntitlements) -> None:
    await cached.of(ADA)
    for _ in range(10_000):
        await cached.of(UserId(new_id()))

    await cached.of(ADA)

    assert source.asked.count(ADA) == 2
