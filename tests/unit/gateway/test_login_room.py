"""Logins are held back for a moment after auth refused one for want of room."""

from collections.abc import Awaitable
from datetime import timedelta

import pytest
from fakes.clock import FakeClock
from mesh_common.errors import MeshError, Unauthenticated, Unavailable
from mesh_gateway.identity.login_capacity import LoginRoom

FULL = Unavailable("Too many.", reason="LOGIN_CAPACITY", retry_after_s=2.5)


async def _raised(error: MeshError) -> str:
    raise error


async def _heard(room: LoginRoom, answer: Awaitable[str]) -> MeshError:
    with pytest.raises(MeshError) as raised:
        await room.heard(answer)
    return raised.value


async def test_a_refusal_is_passed_on_and_repeated_for_a_moment() -> None:
    clock = FakeClock()
    room = LoginRoom(clock)

    passed_on = await _heard(room, _raised(FULL))

    with pytest.raises(Unavailable) as repeated:
        room.require()
    assert passed_on is FULL
    assert (repeated.value.message, repeated.value.reason, repeated.value.retry_after_s) == (
        "Too many.",
        "LOGIN_CAPACITY",
        2.5,
    )
    clock.advance(timedelta(seconds=0.25))
    room.require()


@pytest.mark.parametrize("error", [Unauthenticated("Wrong."), Unavailable("The database is away.")])
async def test_any_other_error_holds_nobody_back(error: MeshError) -> None:
    room = LoginRoom(FakeClock())

    passed_on = await _heard(room, _raised(error))

    assert passed_on is error
    room.require()


async def test_an_answer_is_passed_on() -> None:
    async def answer() -> str:
        return "tokens"

    assert await LoginRoom(FakeClock()).heard(answer()) == "tokens"
