"""Which models of a plan are available, their limits and their prices."""

from dataclasses import replace

import pytest
from fakes.agent.runs import a_model
from mesh_agent.domain.runs import Usage
from mesh_agent.llm.registry import ModelRegistry
from mesh_agent.plans.plan import PlannedModel
from mesh_common.errors import Unavailable

REGISTRY = ModelRegistry([a_model(name) for name in ("a", "b", "c")])


def _planned(name: str, context_tokens: int = 8_000, max_output_tokens: int = 1_000) -> PlannedModel:
    return PlannedModel(name, context_tokens, max_output_tokens)


def test_models_of_a_plan_come_in_its_order_without_those_that_are_not_here() -> None:
    models = REGISTRY.of_plan([_planned("c"), _planned("removed"), _planned("a")])

    assert [model.name for model in models] == ["c", "a"]


def test_plan_without_a_model_that_is_here_says_so() -> None:
    with pytest.raises(Unavailable) as refused:
        REGISTRY.of_plan([_planned("removed")])

    assert refused.value.reason == "MODELS_REMOVED"


def test_limits_are_the_plans_and_no_more_than_the_model_can_read() -> None:
    less, more = REGISTRY.of_plan([_planned("a", 2_000, 300), _planned("b", 16_000, 3_000)])

    assert (less.context_tokens, less.max_output_tokens) == (2_000, 300)
    assert (more.context_tokens, more.max_output_tokens) == (8_000, 3_000)


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
