"""Entitlements: cached, stale, default."""

from datetime import timedelta

from fakes.agent.neighbours import AWAY, FakeEntitlements
from fakes.auth.clock import FakeClock
from mesh_agent.domain import Entitlements
from mesh_agent.entitlements import CachedEntitlements
from mesh_common.ids import UserId, new_id

USER = UserId(new_id())
KNOWN = Entitlements(models=("a",))
DEFAULT = Entitlements(models=("default",))


def cached(source: FakeEntitlements, clock: FakeClock) -> CachedEntitlements:
    return CachedEntitlements(source, DEFAULT, clock)


async def test_auth_is_asked_once_a_minute() -> None:
    clock, source = FakeClock(), FakeEntitlements({USER: KNOWN})
    entitlements = cached(source, clock)

    told = [await entitlements.of(USER), await entitlements.of(USER)]
    clock.advance(timedelta(seconds=60))
    told.append(await entitlements.of(USER))

    assert told == [KNOWN] * 3
    assert len(source.asked) == 2


async def test_what_was_known_is_used_for_an_hour_while_auth_is_away() -> None:
    clock, source = FakeClock(), FakeEntitlements({USER: KNOWN})
    entitlements = cached(source, clock)
    await entitlements.of(USER)
    source.error = AWAY

    clock.advance(timedelta(minutes=59))
    stale = await entitlements.of(USER)
    clock.advance(timedelta(minutes=2))
    too_old = await entitlements.of(USER)

    assert (stale, too_old) == (KNOWN, DEFAULT)


async def test_default_is_used_for_a_user_nobody_told_of() -> None:
    source = FakeEntitlements(error=AWAY)

    assert await cached(source, FakeClock()).of(USER) == DEFAULT


async def test_auth_that_is_away_is_left_alone_for_a_while() -> None:
    clock, source = FakeClock(), FakeEntitlements(error=AWAY)
    entitlements = cached(source, clock)

    for _ in range(3):
        await entitlements.of(USER)
    asked_while_away = len(source.asked)
    source.error = None
    source.by_user[USER] = KNOWN
    clock.advance(timedelta(seconds=5))

    assert await entitlements.of(USER) == KNOWN
    assert asked_while_away == 1


def test_entitlements_without_lists_allow_everything() -> None:
    assert Entitlements().allows_model("any")
    assert Entitlements().allows_tool("any")
    assert not KNOWN.allows_model("b")
    assert Entitlements(monthly_tokens=5, used_tokens=5).is_used_up
    assert not Entitlements(used_tokens=10**9).is_used_up
