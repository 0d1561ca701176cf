"""Assistants at the gateway: what the agent gets, what clients see, and an agent that has none yet."""

from http import HTTPStatus
from typing import Any

import pytest
from fakes.gateway.assistant_servicer import an_assistant
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.errors import Conflict, NotFound
from support.gateway import Client

URL = "/api/v1/assistants"
SPEC = {"instructions": "Answer as a pirate.", "tools": ["calculate"]}
SPEC_JSON = '{"instructions":"Answer as a pirate.","tools":[{"name":"calculate"}],"name":"pirate"}'
CALLS: list[tuple[str, str, Any, Any]] = [
    (
        "POST",
        URL,
        {"name": "pirate", "spec": SPEC},
        pb.CreateAssistantRequest(spec_json=SPEC_JSON, visibility=pb.ASSISTANT_VISIBILITY_PRIVATE),
    ),
    (
        "POST",
        URL,
        {"name": "pirate", "spec": SPEC, "visibility": "organisation"},
        pb.CreateAssistantRequest(spec_json=SPEC_JSON, visibility=pb.ASSISTANT_VISIBILITY_ORGANISATION),
    ),
    ("GET", f"{URL}/pirate", None, pb.GetAssistantRequest(name="pirate")),
    ("GET", f"{URL}/pirate?version=2", None, pb.GetAssistantRequest(name="pirate", version="2")),
    ("GET", f"{URL}?limit=5&cursor=WyJhIl0", None, pb.ListAssistantsRequest(limit=5, cursor="WyJhIl0")),
    ("PUT", f"{URL}/pirate", {"spec": SPEC}, pb.UpdateAssistantRequest(spec_json=SPEC_JSON)),
    ("DELETE", f"{URL}/pirate", None, pb.DeleteAssistantRequest(name="pirate")),
    ("GET", f"{URL}/pirate/versions", None, pb.ListAssistantVersionsRequest(name="pirate", limit=20)),
    (
        "PUT",
        f"{URL}/pirate/current",
        {"version": "1"},
        pb.SetCurrentAssistantVersionRequest(name="pirate", version="1"),
    ),
    ("POST", f"{URL}/pirate/disable", None, pb.SetAssistantDisabledRequest(name="pirate", is_disabled=True)),
    ("POST", f"{URL}/pirate/enable", None, pb.SetAssistantDisabledRequest(name="pirate", is_disabled=False)),
]
NAMES = [f"{method} {url.removeprefix(URL)} {number}" for number, (method, url, _, _) in enumerate(CALLS)]


@pytest.mark.parametrize(("method", "url", "body", "request_"), CALLS, ids=NAMES)
async def test_request_reaches_the_agent_as_it_was_meant(
    gateway: Client, method: str, url: str, body: Any, request_: Any
) -> None:
    response = await gateway.http.request(method, url, json=body, headers=gateway.as_user())

    assert response.is_success, response.text
    assert gateway.mesh.agent.asked == [request_]


@pytest.mark.parametrize(("method", "url", "body", "request_"), CALLS, ids=NAMES)
async def test_request_without_a_token_and_at_an_agent_that_has_no_assistants(
    gateway: Client, method: str, url: str, body: Any, request_: Any
) -> None:
    del request_
    nobody = await gateway.http.request(method, url, json=body)
    gateway.mesh.agent.knows_assistants = False
    older = await gateway.http.request(method, url, json=body, headers=gateway.as_user())

    assert nobody.status_code == HTTPStatus.UNAUTHORIZED
    assert older.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert older.headers["retry-after"] == "5"
    assert gateway.mesh.agent.asked == []


@pytest.mark.parametrize(("method", "url", "body", "request_"), CALLS, ids=NAMES)
async def test_assistant_of_somebody_else_is_not_found(
    gateway: Client, method: str, url: str, body: Any, request_: Any
) -> None:
    del request_
    gateway.mesh.agent.refusal = NotFound("There is no such assistant.")

    response = await gateway.http.request(method, url, json=body, headers=gateway.as_user())

    assert response.status_code == HTTPStatus.NOT_FOUND


async def test_assistant_is_shown_with_its_version_as_its_tag(gateway: Client) -> None:
    response = await gateway.http.get(f"{URL}/pirate", headers=gateway.as_user())

    shown = response.json()
    assert response.headers["etag"] == '"3"'
    assert (shown["name"], shown["version"], shown["source"], shown["visibility"]) == ("pirate", "3", "api", "private")
    # Also what only a newer release knows.
    assert shown["spec"] == {"of_a_newer_release": 1}


async def test_assistant_of_the_settings_has_no_tag(gateway: Client) -> None:
    gateway.mesh.agent.shown = an_assistant(
        name="default", version="", source=pb.ASSISTANT_SOURCE_FILE, spec_json="{}", created_by=""
    )

    response = await gateway.http.get(f"{URL}/default", headers=gateway.as_user())

    assert "etag" not in response.headers
    assert response.json()["source"] == "file"
    assert response.json()["created_by"] is None


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("PUT", f"{URL}/pirate", {"spec": SPEC}),
        ("PUT", f"{URL}/pirate/current", {"version": "1"}),
        ("DELETE", f"{URL}/pirate", None),
    ],
)
@pytest.mark.parametrize(("tag", "expected"), [('"3"', "3"), ("*", None), (None, None)])
async def test_change_names_the_version_that_it_is_based_on(
    gateway: Client, method: str, url: str, body: Any, tag: str | None, expected: str | None
) -> None:
    headers = gateway.as_user() | ({"If-Match": tag} if tag else {})

    await gateway.http.request(method, url, json=body, headers=headers)

    [asked] = gateway.mesh.agent.asked
    fields = {field.name: value for field, value in asked.ListFields()}
    assert fields.get("expected_version") == expected


async def test_change_of_another_version_is_a_conflict(gateway: Client) -> None:
    gateway.mesh.agent.refusal = Conflict("The assistant has been changed.", reason="ASSISTANT_CHANGED")

    response = await gateway.http.put(
        f"{URL}/pirate", json={"spec": SPEC}, headers=gateway.as_user() | {"If-Match": '"1"'}
    )

    assert response.status_code == HTTPStatus.CONFLICT
    assert response.json()["reason"] == "ASSISTANT_CHANGED"


@pytest.mark.parametrize(
    ("method", "url", "body", "headers", "field"),
    [
        ("POST", URL, {"name": "a"}, {}, "spec"),
        ("POST", URL, {"spec": {}}, {}, "name"),
        ("POST", URL, {"name": "No Slug", "spec": {}}, {}, "name"),
        ("POST", URL, {"name": "a", "spec": {"surprise": 1}}, {}, "spec.surprise"),
        ("POST", URL, {"name": "a", "spec": {"name": "b"}}, {}, "spec.name"),
        ("POST", URL, {"name": "a", "spec": {"parameters": {"temperature": 3}}}, {}, "spec.parameters.temperature"),
        ("POST", URL, {"name": "a", "spec": {"parameters": {"seed": "1"}}}, {}, "spec.parameters.seed"),
        ("POST", URL, {"name": "a", "spec": {"parameters": {"seed": 1.5}}}, {}, "spec.parameters.seed"),
        ("POST", URL, {"name": "a", "spec": {"instructions": "\u0000"}}, {}, "spec.instructions"),
        ("POST", URL, {"name": "a", "spec": {"kind": "graph"}}, {}, "spec.graph"),
        ("POST", URL, {"name": "a", "spec": SPEC, "visibility": "public"}, {}, "visibility"),
        ("PUT", f"{URL}/pirate", {"spec": SPEC}, {"If-Match": "3"}, "if-match"),
        ("PUT", f"{URL}/pirate/current", {"version": "latest"}, {}, "version"),
        ("GET", f"{URL}/No%20Slug", None, {}, "name"),
        ("GET", f"{URL}/pirate?version=x", None, {}, "version"),
        ("GET", f"{URL}?limit=101", None, {}, "limit"),
        ("POST", "/api/v1/chatbot/chat", {"message": "Hi", "assistant": "No Slug"}, {}, "assistant"),
    ],
)
async def test_bad_input_is_refused_with_its_path(
    gateway: Client, method: str, url: str, body: Any, headers: dict[str, str], field: str
) -> None:
    response = await gateway.http.request(method, url, json=body, headers=gateway.as_user() | headers)

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert [fault["field"].lower() for fault in response.json()["errors"]] == [field]
    assert gateway.mesh.agent.asked == []
    assert gateway.mesh.agent.started == []


@pytest.mark.parametrize("route", ["/chatbot/chat", "/chatbot/chat/stream"])
async def test_chat_names_its_assistant(gateway: Client, route: str) -> None:
    body = {"message": "Hi", "assistant": "pirate@3"}

    await gateway.http.post(f"/api/v1{route}", json=body, headers=gateway.as_user())

    (order,) = gateway.mesh.agent.started
    assert order.assistant == "pirate@3"


@pytest.mark.parametrize("route", ["", "/stream", "/wait"])
async def test_run_on_a_thread_names_its_assistant(gateway: Client, route: str) -> None:
    thread = (await gateway.http.post("/api/v1/threads", json={}, headers=gateway.as_user())).json()
    url = f"/api/v1/threads/{thread['id']}/runs{route}"

    await gateway.http.post(url, json={"message": "Hi", "assistant": "pirate"}, headers=gateway.as_user())
    await gateway.http.post(url, json={"message": "Hi"}, headers=gateway.as_user())

    named, unnamed = gateway.mesh.agent.started
    assert named.assistant == "pirate"
    assert not unnamed.HasField("assistant")
