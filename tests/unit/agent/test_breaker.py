"""When a model is skipped, and when it is tried again."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from fakes.clock import FakeClock
from hypothesis import example, given
from hypothesis import strategies as st
from mesh_agent.llm.breaker import Breaker


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def broken(clock: FakeClock) -> Breaker:
    """A breaker that is open for model "a"."""
    breaker = Breaker(clock)
    for _ in range(5):
        breaker.failed("a")
    return breaker


@given(st.lists(st.booleans(), max_size=40))
@example([False] * 4)
@example([False] * 5)
@example([False] * 4 + [True] + [False] * 4)
def test_breaker_is_open_only_after_five_failures_in_a_row(outcomes: list[bool]) -> None:
    breaker = Breaker(FakeClock())
    in_a_row = 0
    for is_success in outcomes:
        (breaker.succeeded if is_success else breaker.failed)("a")
        in_a_row = 0 if is_success else in_a_row + 1

    assert breaker.is_open("a") == (in_a_row >= 5)
    assert not breaker.is_open("b")


def test_breaker_lets_one_try_after_its_pause(broken: Breaker, clock: FakeClock) -> None:
    clock.advance(timedelta(seconds=14.9))
    is_open_before = broken.is_open("a")
    clock.advance(timedelta(seconds=0.1))

    tries = [broken.is_open("a") for _ in range(3)]

    assert is_open_before
    assert tries == [False, True, True]


@pytest.mark.parametrize(("end", "is_open"), [("succeeded", False), ("failed", True)])
def test_try_after_the_pause_decides(
    broken: Breaker,
    clock: FakeClock,
    end: str,
    is_open: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    clock.advance(timedelta(seconds=15))
    broken.is_open("a")

    tell: Callable[[str], None] = getattr(broken, end)
    tell("a")

    assert broken.is_open("a") == is_open


def test_misconfigured_model_is_skipped_at_once_and_tried_after_a_minute(clock: FakeClock) -> None:
    breaker = Breaker(clock)
    breaker.misconfigured("a")
    is_open_at_once = breaker.is_open("a")
    clock.advance(timedelta(seconds=60))

    assert is_open_at_once
    assert [breaker.is_open("a") for _ in range(2)] == [False, True]


def test_asking_whether_a_model_is_skipped_does_not_use_up_its_try(broken: Breaker, clock: FakeClock) -> None:
    is_skipped_before = broken.skips("a")
    clock.advance(timedelta(seconds=15))

    assert is_skipped_before
    assert [broken.skips("a"), broken.skips("b"), broken.is_open("a")] == [False, False, False]
