"""Work continues while a lease holds and stops when it does not."""

import asyncio
from collections.abc import Callable

import pytest
from fakes.agent.loop_time import in_jumping_time, loop_time_ms
from mesh_agent.domain.attempts import LeaseLostError
from mesh_agent.lease import while_lease_holds
from mesh_common.errors import Conflict, Unavailable


class Flaky:
    """Fails with Unavailable a number of times, then returns its result."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise Unavailable("The database is away.")
        return "stored"


def _until_ms(end_ms: int) -> Callable[[], bool]:
    return lambda: loop_time_ms() < end_ms


@in_jumping_time
async def test_a_database_that_comes_back_in_time_is_waited_for() -> None:
    action = Flaky(failures=4)

    assert await while_lease_holds(_until_ms(6_000), action) == "stored"
    assert action.calls == 5
    assert loop_time_ms() < 6_000


@in_jumping_time
async def test_trying_ends_with_the_lease() -> None:
    action = Flaky(failures=1_000)

    with pytest.raises(LeaseLostError) as caught:
        await while_lease_holds(_until_ms(6_000), action)

    assert isinstance(caught.value.__cause__, Unavailable)
    assert 6_000 <= loop_time_ms() <= 7_000
    assert action.calls < 20


@in_jumping_time
async def test_a_lease_that_is_over_is_not_tried_twice_for() -> None:
    action = Flaky(failures=1)

    with pytest.raises(LeaseLostError):
        await while_lease_holds(lambda: False, action)

    assert action.calls == 1


@pytest.mark.parametrize("error", [Conflict("Changed."), LeaseLostError(), ZeroDivisionError()])
async def test_what_waiting_does_not_mend_is_raised_at_once(error: Exception) -> None:
    calls = 0

    async def fail() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)):
        await while_lease_holds(lambda: True, fail)

    assert calls == 1


@in_jumping_time
async def test_cancelling_ends_the_waiting() -> None:
    waiting = asyncio.ensure_future(while_lease_holds(lambda: True, Flaky(failures=1_000_000)))
    await asyncio.sleep(3.0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_a_function_gives_back_unawaited_is_awaited() -> None:
    action = Flaky(failures=0)

    assert await while_lease_holds(lambda: True, lambda: action()) == "stored"  # noqa: PLW0108 - the point
