"""A user's entitlements limit their runs."""

from typing import Any

import pytest
from fakes.agent.neighbours import AWAY, FakeEntitlements
from mesh.agent.v1 import agent_pb2
from mesh_agent.domain.entitlements import Entitlements
from mesh_common.errors import MeshError, NotFound, PermissionDenied, QuotaExceeded, Unavailable
from mesh_common.ids import UserId
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh
from support.subjects import personal


async def tried(agent: AgentUnderTest, user_id: UserId, **fields: Any) -> MeshError | str:
    try:
        turn = await agent.run(user_id, "Hello", **fields)
    except MeshError as error:
        return error
    return str(turn.last.WhichOneof("event"))


async def test_used_up_budget_is_refused_with_the_time_to_wait(migrated_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    auth = FakeEntitlements({user_id: Entitlements(monthly_tokens=100, used_tokens=100)})

    async with running_agent(migrated_mesh, agent_settings(migrated_mesh, model_url), entitlements=auth) as strict:
        refused = await tried(strict, user_id)

    assert isinstance(refused, QuotaExceeded)
    assert refused.retry_after_s


@pytest.mark.parametrize(("model", "reason"), [("sim-large", "MODEL_NOT_ALLOWED"), (None, "NO_MODEL_ALLOWED")])
async def test_model_that_is_not_allowed_is_refused(
    migrated_mesh: TestMesh, model_url: str, model: str | None, reason: str
) -> None:
    user_id = some_user()
    auth = FakeEntitlements({user_id: Entitlements(models=("sim-small",) if model else ("other",))})

    async with running_agent(migrated_mesh, agent_settings(migrated_mesh, model_url), entitlements=auth) as strict:
        refused = await tried(strict, user_id, model=model)

    assert isinstance(refused, PermissionDenied)
    assert refused.reason == reason


async def test_models_and_tools_that_are_not_allowed_are_not_used(
    migrated_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    auth = FakeEntitlements({user_id: Entitlements(models=("sim-small",), tools=("current_time",))})

    async with running_agent(migrated_mesh, agent_settings(migrated_mesh, model_url), entitlements=auth) as strict:
        turn = await strict.run(user_id, '[[sim:tool=calculate {"expression": "1+1"}]]')
        listed = await strict.calls.unary(
            strict.stub.ListModels, agent_pb2.ListModelsRequest(), timeout_s=5, subject=personal(user_id)
        )

    first, _ = await simulator.requests()
    [result] = [event.tool_finished for event in turn.events if event.HasField("tool_finished")]
    assert first["model"] == "sim-small"
    assert [tool["function"]["name"] for tool in first["body"]["tools"]] == ["current_time"]
    assert result.is_error
    assert [model.name for model in listed.models] == ["sim-small"]


async def test_history_budget_is_the_users(migrated_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin) -> None:
    user_id = some_user()
    auth = FakeEntitlements({user_id: Entitlements(context_tokens=0)})

    async with running_agent(migrated_mesh, agent_settings(migrated_mesh, model_url), entitlements=auth) as strict:
        thread_id = (await strict.run(user_id, "Hello")).thread_id
        await strict.run(user_id, "Again", thread_id=thread_id)

    last = (await simulator.requests())[-1]
    assert [message["role"] for message in last["body"]["messages"]] == ["system", "user"]


async def test_runs_go_on_with_the_first_model_and_no_tool_while_auth_is_away(
    migrated_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin
) -> None:
    auth = FakeEntitlements(error=AWAY)
    settings = agent_settings(migrated_mesh, model_url)

    async with running_agent(migrated_mesh, settings, entitlements=auth) as alone:
        outcome = await tried(alone, some_user())
        refused = await tried(alone, some_user(), model=settings.models[1].name)

    [request] = await simulator.requests()
    assert outcome == "run_finished"
    assert request["model"] == settings.models[0].name
    assert "tools" not in request["body"]
    # In a moment auth may say that this user may use it.
    assert isinstance(refused, Unavailable)
    assert (refused.reason, refused.retry_after_s) == ("ENTITLEMENTS_UNKNOWN", 5.0)


async def test_default_while_auth_is_away_is_the_operators(
    migrated_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin
) -> None:
    settings = agent_settings(
        migrated_mesh, model_url, AGENT_DEFAULT_MODELS='["sim-small"]', AGENT_DEFAULT_TOOLS='["calculate"]'
    )

    async with running_agent(migrated_mesh, settings, entitlements=FakeEntitlements(error=AWAY)) as alone:
        outcome = await tried(alone, some_user())

    [request] = await simulator.requests()
    assert (outcome, request["model"]) == ("run_finished", "sim-small")
    assert [tool["function"]["name"] for tool in request["body"]["tools"]] == ["calculate"]


async def test_user_without_tools_gets_none(migrated_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin) -> None:
    user_id = some_user()
    auth = FakeEntitlements({user_id: Entitlements(tools=())})

    async with running_agent(migrated_mesh, agent_settings(migrated_mesh, model_url), entitlements=auth) as strict:
        outcome = await tried(strict, user_id)

    [request] = await simulator.requests()
    assert outcome == "run_finished"
    assert "tools" not in request["body"]


async def test_run_of_a_user_whom_auth_does_not_know_is_refused(migrated_mesh: TestMesh, model_url: str) -> None:
    auth = FakeEntitlements(error=NotFound("There is no such user."))

    async with running_agent(migrated_mesh, agent_settings(migrated_mesh, model_url), entitlements=auth) as strict:
        refused = await tried(strict, some_user())

    assert isinstance(refused, PermissionDenied)
    assert refused.reason == "ACCOUNT_UNKNOWN"
