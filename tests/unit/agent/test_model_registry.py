"""Which models may be asked, in which order, and what they cost."""

from dataclasses import replace

import pytest
from fakes.agent.runs import a_model
from mesh_agent.domain import Entitlements, Usage
from mesh_agent.llm.registry import ModelRegistry
from mesh_common.errors import InvalidInput, PermissionDenied

REGISTRY = ModelRegistry([a_model(name) for name in ("a", "b", "c")])


def _order(requested: str | None, *allowed: str) -> list[str]:
    return [model.name for model in REGISTRY.order_for(requested, Entitlements(models=allowed))]


def test_order_is_the_registrys_with_the_one_asked_for_first() -> None:
    assert _order(None) == ["a", "b", "c"]
    assert _order("b") == ["b", "a", "c"]
    assert _order("c", "c", "b") == ["c", "b"]


def test_unknown_model_and_one_not_allowed_are_told_apart() -> None:
    with pytest.raises(InvalidInput):
        _order("d")
    with pytest.raises(PermissionDenied):
        _order("a", "b")
    with pytest.raises(PermissionDenied):
        _order(None, "other")


def test_cost_is_in_micro_dollars() -> None:
    model = replace(a_model(), input_usd_per_mtok=0.15, output_usd_per_mtok=0.6)

    assert model.usage(1_000_000, 1_000_000) == Usage(1_000_000, 1_000_000, 750_000)


@pytest.mark.parametrize(
    ("context_tokens", "max_output_tokens", "left_tokens"), [(8_000, 1_000, 7_000), (1_000, 4_000, 500)]
)
def test_answer_gets_its_room_but_no_more_than_half(
    context_tokens: int, max_output_tokens: int, left_tokens: int
) -> None:
    model = a_model(context_tokens=context_tokens, max_output_tokens=max_output_tokens)

    assert model.input_budget_tokens == left_tokens


def test_key_is_not_in_the_repr() -> None:
    assert "secret" not in repr(replace(a_model(), api_key="secret"))
