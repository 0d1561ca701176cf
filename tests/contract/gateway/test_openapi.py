"""The OpenAPI document describes the whole API of the gateway and stays stable from release to release."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from mesh_gateway.app import build_app
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.settings import GatewaySettings

ROUTES = {
    "create_assistant": ("post", "/api/v1/assistants"),
    "delete_assistant": ("delete", "/api/v1/assistants/{name}"),
    "disable_assistant": ("post", "/api/v1/assistants/{name}/disable"),
    "enable_assistant": ("post", "/api/v1/assistants/{name}/enable"),
    "get_assistant": ("get", "/api/v1/assistants/{name}"),
    "list_assistant_versions": ("get", "/api/v1/assistants/{name}/versions"),
    "list_assistants": ("get", "/api/v1/assistants"),
    "set_current_version": ("put", "/api/v1/assistants/{name}/current"),
    "update_assistant": ("put", "/api/v1/assistants/{name}"),
    "create_memory": ("post", "/api/v1/memories"),
    "create_ticket": ("post", "/api/v1/runs/{run_id}/ticket"),
    "create_thread": ("post", "/api/v1/threads"),
    "create_user": ("post", "/api/v1/admin/users"),
    "cancel_run": ("post", "/api/v1/runs/{run_id}/cancel"),
    "chat": ("post", "/api/v1/chatbot/chat"),
    "delete_all_memories": ("delete", "/api/v1/memories"),
    "delete_memory": ("delete", "/api/v1/memories/{memory_id}"),
    "delete_thread": ("delete", "/api/v1/threads/{thread_id}"),
    "disable_user": ("post", "/api/v1/admin/users/{user_id}/disable"),
    "enable_user": ("post", "/api/v1/admin/users/{user_id}/enable"),
    "follow_run": ("get", "/api/v1/runs/{run_id}/events"),
    "fork_thread": ("post", "/api/v1/threads/{thread_id}/fork"),
    "get_health": ("get", "/healthz"),
    "get_jwks": ("get", "/.well-known/jwks.json"),
    "get_me": ("get", "/api/v1/auth/me"),
    "get_memory": ("get", "/api/v1/memories/{memory_id}"),
    "get_openid_configuration": ("get", "/.well-known/openid-configuration"),
    "get_readiness": ("get", "/readyz"),
    "get_run": ("get", "/api/v1/runs/{run_id}"),
    "get_thread": ("get", "/api/v1/threads/{thread_id}"),
    "get_usage": ("get", "/api/v1/usage"),
    "list_dead_letters": ("get", "/api/v1/admin/dead-letters"),
    "list_interrupts": ("get", "/api/v1/interrupts"),
    "list_memories": ("get", "/api/v1/memories"),
    "list_messages": ("get", "/api/v1/threads/{thread_id}/messages"),
    "list_models": ("get", "/api/v1/models"),
    "list_runs": ("get", "/api/v1/threads/{thread_id}/runs"),
    "list_scores": ("get", "/api/v1/runs/{run_id}/scores"),
    "list_threads": ("get", "/api/v1/threads"),
    "list_users": ("get", "/api/v1/admin/users"),
    "login": ("post", "/api/v1/auth/login"),
    "logout": ("post", "/api/v1/auth/logout"),
    "read_user": ("get", "/api/v1/admin/users/{user_id}"),
    "refresh": ("post", "/api/v1/auth/refresh"),
    "register": ("post", "/api/v1/auth/register"),
    "resume_run": ("post", "/api/v1/runs/{run_id}/resume"),
    "search_memories": ("post", "/api/v1/memories/search"),
    "send_dead_letter_again": ("post", "/api/v1/admin/dead-letters/{service}/{letter_id}/send-again"),
    "set_password": ("post", "/api/v1/admin/users/{user_id}/password"),
    "start_run": ("post", "/api/v1/threads/{thread_id}/runs"),
    "stream_chat": ("post", "/api/v1/chatbot/chat/stream"),
    "stream_resumed_run": ("post", "/api/v1/runs/{run_id}/resume/stream"),
    "stream_run": ("post", "/api/v1/threads/{thread_id}/runs/stream"),
    "update_memory": ("patch", "/api/v1/memories/{memory_id}"),
    "update_thread": ("patch", "/api/v1/threads/{thread_id}"),
    "wait_resumed_run": ("post", "/api/v1/runs/{run_id}/resume/wait"),
    "wait_run": ("post", "/api/v1/threads/{thread_id}/runs/wait"),
}
FOR_ADMINISTRATORS = {
    "create_user",
    "disable_user",
    "enable_user",
    "list_dead_letters",
    "list_users",
    "read_user",
    "send_dead_letter_again",
    "set_password",
}
OPEN_TO_ALL = {"register", "login", "refresh", "get_health", "get_readiness", "get_jwks", "get_openid_configuration"}
# Operations that call no other service and have no rate limit.
MACHINES = {"get_health", "get_readiness"}
# A browser's EventSource can send no access token.
TAKES_TICKETS = {"follow_run"}
STREAMS = {"stream_chat", "stream_run", "stream_resumed_run", "follow_run"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(Gateway.__dataclass_fields__)
    fields["settings"] = GatewaySettings.model_construct()
    app: FastAPI = build_app(Gateway(**fields))
    return app.openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {operation["operationId"]: operation for _, _, operation in _operations(document)}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_operation_ids_and_paths_are_these(document: dict[str, Any]) -> None:
    found = {operation["operationId"]: (method, path) for method, path, operation in _operations(document)}

    assert found == ROUTES
    assert len(list(_operations(document))) == len(ROUTES)


@pytest.mark.parametrize("name", ROUTES)
def test_operation_has_summary_and_tag(operations: dict[str, dict[str, Any]], name: str) -> None:
    assert operations[name]["summary"]
    assert len(operations[name]["tags"]) == 1


@pytest.mark.parametrize("name", ROUTES)
def test_operation_documents_its_errors(operations: dict[str, dict[str, Any]], name: str) -> None:
    operation = operations[name]
    expected = set() if name in MACHINES else {"431", "500", "503", "504"}
    expected |= set() if name in OPEN_TO_ALL else {"401"}
    expected |= {"403"} if name in FOR_ADMINISTRATORS else set()
    expected |= set() if name in MACHINES else {"429"}
    expected |= {"408", "413", "415"} if "requestBody" in operation else set()
    expected |= {"422"} if "requestBody" in operation or "parameters" in operation else set()

    documented = set(operation["responses"])

    assert expected <= documented
    assert ("429" in documented) == (name not in MACHINES)
    assert "401" not in documented or name not in OPEN_TO_ALL - {"login", "refresh"}


@pytest.mark.parametrize("name", sorted(set(ROUTES) - MACHINES))
def test_errors_are_problems_with_an_example(operations: dict[str, dict[str, Any]], name: str) -> None:
    for status, response in operations[name]["responses"].items():
        if status >= "400":
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content["example"]["status"] == int(status)


@pytest.mark.parametrize("name", ROUTES)
def test_operation_says_whether_it_needs_a_token(operations: dict[str, dict[str, Any]], name: str) -> None:
    keys: list[dict[str, list[str]]] = [{"AccessToken": []}] if name not in OPEN_TO_ALL else []
    keys += [{"StreamTicket": []}] if name in TAKES_TICKETS else []

    assert operations[name].get("security", []) == keys


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_stream_is_documented_as_events(operations: dict[str, dict[str, Any]], name: str) -> None:
    ok = operations[name]["responses"]["200"]

    assert list(ok["content"]) == ["text/event-stream"]
    assert {"Location", "Content-Location", "X-Trace-Id", "RateLimit"} <= set(ok["headers"])
    assert ok["content"]["text/event-stream"]["x-data-schema"] == {"$ref": "#/components/schemas/RunEvent"}
    assert "Last-Event-ID".lower() in {one["name"].lower() for one in operations[name]["parameters"]}


def test_what_becomes_of_a_busy_thread_is_a_closed_set(document: dict[str, Any]) -> None:
    for name in ("BackgroundRunBody", "RunBody"):
        multitask = document["components"]["schemas"][name]["properties"]["multitask"]
        assert multitask["enum"] == ["enqueue", "reject", "interrupt", "rollback"]
        assert "interrupt" in multitask["description"]


def test_started_run_is_accepted_and_named(operations: dict[str, dict[str, Any]]) -> None:
    responses = operations["start_run"]["responses"]

    assert "Location" in responses["202"]["headers"]
    assert "200" not in responses


def test_formats_of_parameters_are_patterns(operations: dict[str, dict[str, Any]]) -> None:
    for operation in operations.values():
        patterns = {one["name"].lower(): _patterns(one["schema"]) for one in operation.get("parameters", ())}
        for name in {"cursor", "month", "last-event-id", "last_event_id", "idempotency-key"} & set(patterns):
            assert patterns[name], (operation["operationId"], name)


def test_every_event_has_a_schema(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    mapping = schemas["RunEvent"]["discriminator"]["mapping"]

    for event, reference in mapping.items():
        assert schemas[reference.rpartition("/")[2]]["properties"]["type"]["const"] == event
    assert len(mapping) == len(schemas["RunEvent"]["oneOf"]) == 16


def test_every_response_names_the_trace(operations: dict[str, dict[str, Any]]) -> None:
    for operation in operations.values():
        assert all("X-Trace-Id" in response["headers"] for response in operation["responses"].values())


def _patterns(schema: dict[str, Any]) -> list[str]:
    return [one["pattern"] for one in (schema, *schema.get("anyOf", ())) if "pattern" in one]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = set(_references(document))

    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)


def test_bodies_have_examples(document: dict[str, Any]) -> None:
    for _, _, operation in _operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            name = content["schema"]["$ref"].rpartition("/")[2]
            fields = document["components"]["schemas"][name]["properties"]
            assert any("examples" in field for field in fields.values()), name


def _references(node: object) -> Iterator[str]:
    match node:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for child in node.values():
                yield from _references(child)
        case list():
            for child in node:
                yield from _references(child)
