"""Run plans: how they are resolved, how entitlements narrow them, and that they are read as they were stored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fakes.agent.runs import a_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.plans.plan import (
    Instructions,
    Limits,
    MemoryPolicy,
    ModelParameters,
    Origin,
    PlannedGraph,
    PlannedModel,
    PlannedTool,
    RunPlan,
)
from mesh_agent.plans.resolve import narrowed, resolved
from mesh_agent.plans.stored import loaded, stored
from mesh_common.errors import InvalidInput, PermissionDenied

ALL = Entitlements()
NAMES = ("a", "b", "c")
ASSISTANT = a_plan(*NAMES, tools=(PlannedTool("calculate", {}), PlannedTool("look_up", {})), history_tokens=500)


def _names(parts: Sequence[PlannedModel] | Sequence[PlannedTool]) -> list[str]:
    return [part.name for part in parts]


def _order(requested: str | None, *allowed: str) -> list[str]:
    return _names(resolved(ASSISTANT, requested, Entitlements(models=allowed or None)).models)


def test_order_is_the_assistants_with_the_one_asked_for_first() -> None:
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


@pytest.mark.parametrize(("own", "history_tokens"), [(None, 500), (0, 0), (9_000, 9_000)])
def test_history_budget_of_the_user_replaces_the_assistants(own: int | None, history_tokens: int) -> None:
    assert resolved(ASSISTANT, None, Entitlements(context_tokens=own)).history_tokens == history_tokens


def test_plan_has_the_tools_the_user_may_use() -> None:
    assert _names(resolved(ASSISTANT, None, ALL).tools) == ["calculate", "look_up"]
    assert _names(resolved(ASSISTANT, None, Entitlements(tools=("look_up", "other"))).tools) == ["look_up"]


def test_model_that_was_asked_for_and_is_not_allowed_any_more_is_not_replaced() -> None:
    plan = resolved(ASSISTANT, "b", ALL)

    with pytest.raises(PermissionDenied) as refused:
        narrowed(plan, "b", Entitlements(models=("a", "c")))

    assert refused.value.reason == "MODEL_NOT_ALLOWED"


_SUBSETS = st.lists(st.sampled_from(["a", "b", "c", "calculate", "look_up"]), unique=True).map(tuple)
_ENTITLEMENTS = st.builds(
    Entitlements, models=_SUBSETS, tools=_SUBSETS, context_tokens=st.none() | st.integers(0, 5_000)
)


@given(_ENTITLEMENTS, _ENTITLEMENTS)
def test_entitlements_of_later_attempts_only_take_away(before: Entitlements, after: Entitlements) -> None:
    try:
        plan = resolved(ASSISTANT, None, before)
        now = narrowed(plan, None, after)
    except PermissionDenied:
        return

    assert now.models == tuple(model for model in plan.models if after.allows_model(model.name))
    assert now.tools == tuple(tool for tool in plan.tools if after.allows_tool(tool.name))
    assert now.history_tokens <= plan.history_tokens
    assert after.context_tokens is None or now.history_tokens <= after.context_tokens
    assert (now.instructions, now.limits, now.memory) == (plan.instructions, plan.limits, plan.memory)


_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_COUNT = st.integers(0, 2**40)
_SECONDS = st.floats(0.001, 10_000.0)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_PLANS = st.builds(
    RunPlan,
    instructions=st.builds(Instructions, _TEXT, _TEXT, st.lists(st.tuples(_TEXT, _TEXT), max_size=3).map(tuple)),
    models=st.lists(st.builds(PlannedModel, _TEXT, _COUNT, _COUNT), max_size=3).map(tuple),
    tools=st.lists(
        st.builds(
            PlannedTool, _TEXT, st.dictionaries(_TEXT, _JSON, max_size=3), st.sampled_from(Effect), _SECONDS, _COUNT
        ),
        max_size=3,
    ).map(tuple),
    history_tokens=_COUNT,
    memory=st.builds(MemoryPolicy, st.booleans(), st.booleans()),
    limits=st.builds(Limits, _COUNT, _SECONDS, st.none() | _COUNT),
    origin=st.builds(Origin, _TEXT, _TEXT),
    graph=st.none() | st.builds(PlannedGraph, _TEXT, _TEXT),
    parameters=st.builds(ModelParameters, st.none() | _SECONDS, st.none(), st.lists(_TEXT, max_size=2).map(tuple)),
)


@settings(max_examples=200, deadline=None)
@given(_PLANS)
def test_what_is_stored_is_what_is_read(plan: RunPlan) -> None:
    assert loaded(stored(plan).data) == plan
    assert stored(loaded(stored(plan).data)).hash == stored(plan).hash


@given(_ENTITLEMENTS, st.sampled_from([None, *NAMES]))
def test_resolved_plan_survives_being_stored(entitlements: Entitlements, requested: str | None) -> None:
    try:
        plan = resolved(ASSISTANT, requested, entitlements)
    except PermissionDenied:
        return

    assert loaded(stored(plan).data) == plan


def test_plans_of_different_content_have_different_hashes() -> None:
    plans = [ASSISTANT, resolved(ASSISTANT, "b", ALL), resolved(ASSISTANT, None, Entitlements(context_tokens=1))]

    assert len({stored(plan).hash for plan in plans}) == 3
    assert stored(resolved(ASSISTANT, None, ALL)).hash == stored(ASSISTANT).hash


def _as_written(plan: RunPlan) -> dict[str, Any]:
    written: dict[str, Any] = orjson.loads(stored(plan).data)
    return written


def test_fields_that_a_newer_release_added_are_ignored() -> None:
    written = _as_written(ASSISTANT)
    plan = written["plan"]
    written |= {"signature": "x"}
    plan |= {"kind": "single", "metadata": {"team": "x"}}
    plan["models"][0] |= {"temperature": 0.2, "stop": ["END"]}
    plan["tools"][0] |= {"audience": {"ask": True}}
    for part in ("instructions", "limits", "memory", "origin"):
        plan[part] |= {"added": 1}

    assert loaded(orjson.dumps(written)) == ASSISTANT


def test_fields_that_an_older_release_did_not_have_take_their_defaults() -> None:
    written = _as_written(ASSISTANT)
    plan = written["plan"]
    written["plan"] = {
        "instructions": {"system": plan["instructions"]["system"]},
        "models": plan["models"],
        "tools": [{"name": "pay", "schema": {}}],
    }

    read = loaded(orjson.dumps(written))

    assert read == RunPlan(
        Instructions("Be brief.$memories"), ASSISTANT.models, tools=(PlannedTool("pay", {}, Effect.ONCE),)
    )


def test_effect_that_is_not_known_is_taken_for_the_strictest() -> None:
    written = _as_written(ASSISTANT)
    written["plan"]["tools"][0]["effect"] = "reversible"

    assert loaded(orjson.dumps(written)).tools[0].effect is Effect.ONCE


def test_input_budget_is_that_of_the_largest_model() -> None:
    models = (PlannedModel("large", 8_000, 1_000), PlannedModel("tiny", 1_000, 4_000))

    assert RunPlan(Instructions(""), models).input_budget_tokens == 7_000


def test_tools_that_need_approval_survive_storage() -> None:
    guarded = replace(ASSISTANT.tools[0], name="pay", approval=Approval.ON_EFFECT, effect=Effect.ONCE)
    plan = replace(ASSISTANT, tools=(*ASSISTANT.tools, guarded))

    assert loaded(stored(plan).data) == plan


def test_release_without_approvals_does_not_see_tools_that_need_one() -> None:
    """Such a release would call them without asking. It reads `plan` alone."""
    guarded = replace(ASSISTANT.tools[0], name="pay", approval=Approval.ALWAYS)
    content = orjson.loads(stored(replace(ASSISTANT, tools=(guarded,))).data)

    assert content["plan"]["tools"] == []


def test_approval_rule_of_a_newer_release_is_the_strictest() -> None:
    content = orjson.loads(stored(ASSISTANT).data)
    content["guarded_tools"] = [{**content["plan"]["tools"][0], "approval": "by_two"}]

    assert loaded(orjson.dumps(content)).tools[-1].approval is Approval.ALWAYS
