"""Operations of an OpenAPI document, called by the agent as it runs."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from support.agent import AgentUnderTest, Followed, agent_settings, eventually, running_agent, some_user
from support.approval import EDIT, asked, decision, resume, resume_request
from support.mesh import TestMesh
from support.openapi_server import DOCUMENT, Api, running_api


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as running:
        yield running


def calling(tool: str, **arguments: object) -> str:
    return f"[[sim:tool=shop__{tool} {json.dumps(arguments)}]] [[sim:reply=It says {{tool_result}}.]]"


async def until_known(agent: AgentUnderTest, message: str) -> Followed:
    """The first turn in which the tool is known: documents are read in the background."""
    user_id = some_user()
    return await eventually(lambda: agent.run(user_id, message), lambda turn: "There is no tool" not in turn.text)


def _gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"mesh_agent_openapi_{name}", {"server": "shop"})


async def test_operation_without_an_effect_is_called_with_the_operators_headers(
    own_mesh: TestMesh, model_url: str, api: Api
) -> None:
    setting = api.as_setting("items/get", headers={"Authorization": "Bearer s3cret"})
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url, AGENT_OPENAPI=setting)) as agent:
        turn = await until_known(agent, calling("items_get", id="tea", fields=["price", "stock"]))

    [request] = api.requests
    assert turn.text == 'It says {"item": "tea"}.'
    assert (request.method, request.path) == ("GET", "/v1/items/tea?fields=price&fields=stock")
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert request.headers["Idempotency-Key"].startswith(f"{turn.run_id}:")
    assert request.body is None


async def test_operation_with_an_effect_waits_for_approval_and_is_made_as_edited(
    own_mesh: TestMesh, model_url: str, api: Api
) -> None:
    user_id = some_user()
    message = calling("order", id="tea", body={"quantity": 2})
    settings = agent_settings(own_mesh, model_url, AGENT_OPENAPI=api.as_setting("order"))
    async with running_agent(own_mesh, settings) as agent:
        turn = await eventually(lambda: agent.run(user_id, message), lambda one: one.last.HasField("run_interrupted"))
        [question] = asked(turn)
        edit = decision(question.call_id, EDIT, value={"id": "tea", "body": {"quantity": 1}})
        resumed = await resume(agent, user_id, resume_request(turn.run_id, edit))

    [request] = api.requests
    assert (question.tool, json.loads(question.arguments_json)) == (
        "shop__order",
        {"id": "tea", "body": {"quantity": 2}},
    )
    assert (request.method, request.path, request.body) == ("POST", "/v1/items/tea", {"quantity": 1})
    assert resumed.text.endswith('{"item": "tea"}.')


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"body": {"quantity": 1}}, "id: "),
        ({"id": "../admin", "body": {"quantity": 1}}, "id: "),
        ({"id": "tea", "body": {"quantity": 0}}, "body.quantity: "),
        ({"id": "tea", "body": {"quantity": 1}, "admin": True}, "'admin' was unexpected"),
    ],
)
async def test_arguments_that_do_not_fit_are_not_sent(
    own_mesh: TestMesh, model_url: str, api: Api, arguments: dict[str, Any], fault: str
) -> None:
    setting = api.as_setting("order", approval="never")
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url, AGENT_OPENAPI=setting)) as agent:
        turn = await until_known(agent, calling("order", **arguments))

    assert "The arguments are not valid: " in turn.text
    assert fault in turn.text
    assert api.requests == []


async def test_operations_that_cannot_be_tools_are_counted_and_the_others_are_there(
    own_mesh: TestMesh, model_url: str, api: Api
) -> None:
    setting = api.as_setting("items/get", "broken", "missing")
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url, AGENT_OPENAPI=setting)) as agent:
        turn = await until_known(agent, calling("items_get", id="tea"))
        refused = _gauge("refused_operations")

    assert turn.text.startswith("It says")
    assert (refused, _gauge("up")) == (2, 1)


async def test_document_that_cannot_be_fetched_is_tried_again(own_mesh: TestMesh, model_url: str, api: Api) -> None:
    described, api.document = api.document, ""
    settings = agent_settings(own_mesh, model_url, AGENT_OPENAPI=api.as_setting("items/get"))
    async with running_agent(own_mesh, settings) as agent:
        unknown = await agent.run(some_user(), calling("items_get", id="tea"))
        up = _gauge("up")
        api.document = described
        turn = await until_known(agent, calling("items_get", id="tea"))

    assert "There is no tool" in unknown.text
    assert up == 0
    assert turn.text == 'It says {"item": "tea"}.'


async def test_document_may_be_a_file_of_yaml(own_mesh: TestMesh, model_url: str, api: Api, tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    setting = api.as_setting("items/get", document=str(path), url=f"{api.url}/v1/")
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url, AGENT_OPENAPI=setting)) as agent:
        turn = await until_known(agent, calling("items_get", id="tea"))

    assert turn.text == 'It says {"item": "tea"}.'
