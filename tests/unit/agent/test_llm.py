"""The model registry, its circuit breaker, and reading a provider's stream."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from fakes.auth.clock import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.domain import Entitlements, Usage
from mesh_agent.llm.breaker import Breaker
from mesh_agent.llm.registry import Model, ModelRegistry
from mesh_common.errors import InvalidInput, PermissionDenied


def model(name: str, *, context_tokens: int = 8_000, max_output_tokens: int = 1_000) -> Model:
    return Model(
        name, name, context_tokens, max_output_tokens, frozenset({"tools"}), 0.15, 0.6, "http://x/v1", "secret"
    )


REGISTRY = ModelRegistry([model("a"), model("b"), model("c")])


def names(requested: str | None, *allowed: str) -> list[str]:
    return [found.name for found in REGISTRY.order_for(requested, Entitlements(models=allowed))]


def test_order_is_the_registrys_with_the_one_asked_for_first() -> None:
    assert names(None) == ["a", "b", "c"]
    assert names("b") == ["b", "a", "c"]
    assert names("c", "c", "b") == ["c", "b"]


def test_unknown_model_and_one_not_allowed_are_told_apart() -> None:
    with pytest.raises(InvalidInput):
        names("d")
    with pytest.raises(PermissionDenied):
        names("a", "b")
    with pytest.raises(PermissionDenied):
        names(None, "other")


def test_cost_is_in_micro_dollars() -> None:
    assert model("a").usage(1_000_000, 1_000_000) == Usage(1_000_000, 1_000_000, 750_000)


def test_small_context_keeps_half_for_the_answer() -> None:
    assert model("a", context_tokens=1_000, max_output_tokens=4_000).input_budget_tokens == 500


def test_key_is_not_in_the_repr() -> None:
    assert "secret" not in repr(model("a"))


def failing(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed("a")


def test_breaker_opens_after_five_failures_in_a_row() -> None:
    breaker = Breaker(FakeClock())
    failing(breaker, 4)
    breaker.succeeded("a")
    failing(breaker, 4)
    assert not breaker.is_open("a")

    breaker.failed("a")

    assert breaker.is_open("a")
    assert not breaker.is_open("b")


def test_breaker_lets_one_try_after_its_pause() -> None:
    clock = FakeClock()
    breaker = Breaker(clock)
    failing(breaker, 5)
    clock.advance(timedelta(seconds=15))

    tries = [breaker.is_open("a") for _ in range(3)]

    assert tries == [False, True, True]


@pytest.mark.parametrize(("end", "is_open"), [("succeeded", False), ("failed", True)])
def test_try_after_the_pause_decides(end: str, is_open: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    clock = FakeClock()
    breaker = Breaker(clock)
    failing(breaker, 5)
    clock.advance(timedelta(seconds=15))
    breaker.is_open("a")

    tell: Callable[[str], None] = getattr(breaker, end)
    tell("a")

    assert breaker.is_open("a") == is_open


@given(st.lists(st.booleans(), max_size=40))
def test_breaker_is_open_only_after_five_failures_in_a_row(outcomes: list[bool]) -> None:
    breaker = Breaker(FakeClock())
    in_a_row = 0
    for is_success in outcomes:
        (breaker.succeeded if is_success else breaker.failed)("a")
        in_a_row = 0 if is_success else in_a_row + 1

    assert breaker.is_open("a") == (in_a_row >= 5)
