"""Which entitlements are cached, for how long, and what happens while auth is unavailable."""

from dataclasses import replace
from datetime import timedelta

import pytest
from fakes.agent.neighbours import AWAY, FakeEntitlements
from fakes.clock import FakeClock
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.entitlements import CachedEntitlements
from mesh_common.errors import DeadlineExceeded, MeshError, NotFound, PermissionDenied
from support.subjects import elsewhere, some_subject

DEFAULT = Entitlements(context_tokens=1)
ADA, BOB = some_subject(), some_subject()
ADAS, BOBS = Entitlements(models=("large",)), Entitlements(models=("small",))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source() -> FakeEntitlements:
    return FakeEntitlements({ADA.user_id: ADAS, BOB.user_id: BOBS})


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

    expected = await cached.of(ADA)

    assert expected == ADAS
    assert len(source.asked) == times_asked


async def test_what_changed_is_known_after_a_minute(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock
) -> None:
    await cached.of(ADA)
    source.by_user[ADA.user_id] = BOBS
    clock.advance(timedelta(seconds=60))

    assert await cached.of(ADA) == BOBS


@pytest.mark.parametrize("error", [AWAY, DeadlineExceeded("Slow.")])
@pytest.mark.parametrize(("age_s", "expected"), [(3_599, ADAS), (3_600, DEFAULT)])
async def test_what_was_known_serves_for_an_hour(
    cached: CachedEntitlements,
    source: FakeEntitlements,
    clock: FakeClock,
    error: MeshError,
    age_s: int,
    expected: Entitlements,
) -> None:
    await cached.of(ADA)
    source.error = error
    clock.advance(timedelta(seconds=age_s))

    assert await cached.of(ADA) == expected
    assert await cached.of(BOB) == DEFAULT


async def test_asking_in_vain_does_not_make_what_was_known_younger(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock
) -> None:
    await cached.of(ADA)
    source.error = AWAY

    clock.advance(timedelta(minutes=59))
    stale = await cached.of(ADA)
    clock.advance(timedelta(minutes=1))
    too_old = await cached.of(ADA)

    assert (stale, too_old) == (ADAS, DEFAULT)


@pytest.mark.parametrize("error", [AWAY, DeadlineExceeded("Slow.")])
async def test_auth_that_is_away_for_one_is_asked_for_nobody_for_a_while(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock, error: MeshError
) -> None:
    source.error = error
    told_away = [await cached.of(ADA)]
    source.error = None

    clock.advance(timedelta(seconds=4.9))
    told_away += [await cached.of(ADA), await cached.of(BOB)]
    asked_meanwhile = list(source.asked)
    clock.advance(timedelta(seconds=0.1))
    told_after = await cached.of(BOB)

    assert (told_away, asked_meanwhile) == ([DEFAULT] * 3, [ADA.user_id])
    assert (told_after, source.asked) == (BOBS, [ADA.user_id, BOB.user_id])


async def test_the_pause_does_not_keep_a_fresh_answer_from_serving(
    cached: CachedEntitlements, source: FakeEntitlements
) -> None:
    await cached.of(ADA)
    source.error = AWAY
    await cached.of(BOB)

    assert await cached.of(ADA) == ADAS


async def test_a_refusal_of_one_keeps_nobody_else_from_being_asked_for(
    cached: CachedEntitlements, source: FakeEntitlements
) -> None:
    source.error = PermissionDenied("Not this one.")
    refused = await cached.of(ADA)
    source.error = None

    assert (refused, await cached.of(BOB)) == (DEFAULT, BOBS)


async def test_user_whom_auth_does_not_know_is_refused_whatever_was_cached(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock
) -> None:
    await cached.of(ADA)
    clock.advance(timedelta(seconds=60))
    source.error = NotFound("No such user.")
    with pytest.raises(PermissionDenied) as refusal:
        await cached.of(ADA)
    source.error = None

    assert refusal.value.reason == "ACCOUNT_UNKNOWN"
    assert await cached.of(BOB) == BOBS


async def test_what_was_known_of_a_deleted_user_does_not_come_back(
    cached: CachedEntitlements, source: FakeEntitlements, clock: FakeClock
) -> None:
    await cached.of(ADA)
    clock.advance(timedelta(seconds=60))
    source.error = NotFound("No such user.")
    with pytest.raises(PermissionDenied):
        await cached.of(ADA)
    source.error = AWAY

    assert await cached.of(ADA) == DEFAULT


async def test_an_organisation_has_its_own_and_scopes_share_them(
    cached: CachedEntitlements, source: FakeEntitlements
) -> None:
    for subject in (ADA, replace(ADA, scopes=frozenset({"user"})), elsewhere(ADA)):
        await cached.of(subject)

    assert source.asked == [ADA.user_id] * 2


async def test_no_more_users_are_kept_than_fit(cached: CachedEntitlements, source: FakeEntitlements) -> None:
    await cached.of(ADA)
    for _ in range(10_000):
        await cached.of(some_subject())

    await cached.of(ADA)

    assert source.asked.count(ADA.user_id) == 2


def test_entitlements_without_lists_allow_everything() -> None:
    assert Entitlements().allows_model("any")
    assert Entitlements().allows_tool("any")


def test_entitlements_with_empty_lists_allow_nothing() -> None:
    nothing = Entitlements(models=(), tools=())

    assert not nothing.allows_model("any")
    assert not nothing.allows_tool("any")


def test_entitlements_with_lists_allow_what_is_on_them() -> None:
    listed = Entitlements(models=("a",), tools=("calculate",))

    assert (listed.allows_model("a"), listed.allows_model("b")) == (True, False)
    assert (listed.allows_tool("calculate"), listed.allows_tool("current_time")) == (True, False)


@pytest.mark.parametrize(
    ("monthly_tokens", "used_tokens", "is_used_up"), [(5, 4, False), (5, 5, True), (None, 10**9, False)]
)
def test_entitlements_are_used_up_at_the_months_tokens(
    monthly_tokens: int | None,
    used_tokens: int,
    is_used_up: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    assert Entitlements(monthly_tokens=monthly_tokens, used_tokens=used_tokens).is_used_up == is_used_up
