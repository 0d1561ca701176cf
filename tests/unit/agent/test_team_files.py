"""Members of assistants in files: who may be one, and how their faults are named."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mesh_agent.assistants.files import read_folder
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.plans.plan import (
    Instructions,
    PlannedMember,
    PlannedModel,
    PlannedTeam,
    PlannedTool,
    RunPlan,
    TeamKind,
)
from mesh_agent.plans.resolve import narrowed
from mesh_agent.plans.stored import loaded, stored

SINGLE: dict[str, Any] = {}
NOT_B, NOT_C, NOT_D = (f"the assistant {name!r} cannot work" for name in "bcd")


def _team(*members: str, kind: str = "supervisor") -> dict[str, Any]:
    return {"kind": kind, "members": list(members)}


def _faults(folder: Path, specs: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The names of the valid assistants, and all faults."""
    for name, spec in specs.items():
        (folder / f"{name}.yaml").write_text(json.dumps(spec, indent=1))
    read = read_folder(folder, None)
    return sorted(read.assistants), sorted(map(str, read.faults))


@pytest.mark.parametrize(
    ("specs", "valid", "fault"),
    [
        ({"a": _team("b"), "b": SINGLE}, ["a", "b"], ""),
        ({"a": _team("default")}, ["a"], ""),
        ({"a": _team("b", kind="handoff"), "b": _team("c"), "c": SINGLE}, ["a", "b", "c"], ""),
        ({"a": _team("b")}, [], "a.yaml:4: members.0: there is no assistant 'b'"),
        ({"a": _team("a")}, [], "a.yaml:4: members.0: the team is circular: a → a"),
        ({"a": _team("b@12"), "b": SINGLE}, ["b"], "a.yaml:4: members.0: the assistant 'b' has no version 12"),
        (
            {"a": _team("b"), "b": _team("c", kind="handoff"), "c": SINGLE},
            ["b", "c"],
            "a.yaml:4: members.0: the assistant 'b' is of the kind handoff, which cannot be a member",
        ),
        (
            {"a": _team("b"), "b": {"kind": "graph", "graph": {"name": "g"}}},
            ["b"],
            "a.yaml:4: members.0: the assistant 'b' is of the kind graph, which cannot be a member",
        ),
        (
            {"a": _team("b"), "b": _team("c"), "c": _team("d"), "d": _team("e"), "e": SINGLE},
            ["b", "c", "d", "e"],
            f"a.yaml:4: members.0: {NOT_B}: {NOT_C}: {NOT_D}: teams may be nested 3 deep",
        ),
    ],
)
def test_members_are_checked(tmp_path: Path, specs: dict[str, dict[str, Any]], valid: list[str], fault: str) -> None:
    found, faults = _faults(tmp_path, specs)

    assert found == valid
    assert faults == ([fault] if fault else [])


def test_each_assistant_of_a_circle_is_named(tmp_path: Path) -> None:
    found, faults = _faults(tmp_path, {"a": _team("b"), "b": _team("a"), "c": _team("a")})

    assert found == []
    assert [fault.partition(":")[0] for fault in faults] == ["a.yaml", "b.yaml", "c.yaml"]


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "supervisor"},
        {"kind": "handoff", "members": []},
        {"kind": "single", "members": ["b"]},
        {"members": ["b"]},
        _team("b", "b"),
        _team("b", "b@1"),
        _team("B!"),
        _team(*(f"m{number}" for number in range(17))),
    ],
)
def test_members_that_do_not_fit_the_kind_are_refused(tmp_path: Path, spec: dict[str, Any]) -> None:
    found, faults = _faults(tmp_path, {"a": spec, "b": SINGLE})

    assert found == ["b"]
    assert len(faults) >= 1
    assert all(": members" in fault for fault in faults)


MODEL = PlannedModel("small", 8_000, 1_000)
GUARDED = PlannedTool("mark", {"type": "function"}, Effect.ONCE, approval=Approval.ALWAYS)
CLERK = RunPlan(Instructions("You are the clerk."), (MODEL,), (GUARDED,))
PLAN = RunPlan(
    Instructions("You lead."),
    (MODEL,),
    team=PlannedTeam(TeamKind.SUPERVISOR, (PlannedMember("clerk", "Marks.", CLERK, "id"),)),
)


def test_plan_of_a_team_is_stored_whole() -> None:
    assert loaded(stored(PLAN).data) == PLAN


def test_release_without_teams_finds_no_model_and_runs_nothing_else() -> None:
    content = json.loads(stored(PLAN).data)

    assert (content["plan"]["models"], content["plan"]["team"]) == ([], None)
    # Nor does it find a call that it would make without asking.
    assert content["team"]["members"][0]["plan"]["tools"] == []


def test_members_are_narrowed_to_what_their_user_may_use() -> None:
    without_tool = narrowed(PLAN, None, Entitlements(tools=()))
    other = PlannedMember("poet", "", RunPlan(Instructions(""), (PlannedModel("large", 8_000, 1_000),)))
    larger = PlannedTeam(TeamKind.SUPERVISOR, (*PLAN.team.members, other)) if PLAN.team else None
    with_small = narrowed(RunPlan(PLAN.instructions, (MODEL,), team=larger), None, Entitlements(models=("small",)))

    assert without_tool.team
    assert without_tool.team.members[0].plan.tools == ()
    assert with_small.team
    assert [member.name for member in with_small.team.members] == ["clerk"]
    assert narrowed(PLAN, None, Entitlements()) is PLAN
