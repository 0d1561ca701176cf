"""Operations of OpenAPI documents as tools: the schemas of their arguments, and the requests of their calls."""

from typing import Any

import pytest
from mesh_agent.sdk.tool import ToolError
from mesh_agent.tools.openapi.operations import OperationError, find_operation
from mesh_agent.tools.openapi.requests import Request, request_of
from mesh_agent.tools.schema import foreign_schema_fault

BASE = "https://shop.example/v1/"


def _document(operation: dict[str, Any], path: str = "/items", method: str = "get", **more: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": {path: {method: {"operationId": "op", **operation}}}, **more}


def _parameter(name: str, place: str, schema: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema or {"type": "string"}, **more}


def _requested(document: dict[str, Any], **arguments: Any) -> Request:
    return request_of(find_operation(document, "op"), BASE, arguments)


def test_arguments_are_the_parameters_and_the_body() -> None:
    document = _document(
        {
            "summary": "Orders.",
            "description": "Once.",
            "parameters": [
                _parameter("id", "path", description="Which"),
                _parameter("id", "query", {"type": "integer"}),
                _parameter("X-Trace", "header"),
                _parameter("Authorization", "header", required=True),
                _parameter("session", "cookie"),
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        },
        "/items/{id}",
        "post",
    )

    operation = find_operation(document, "op")

    assert (operation.method, operation.path, operation.description) == ("POST", "/items/{id}", "Orders.\nOnce.")
    assert operation.schema == {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "Which"},
            "id_in_query": {"type": "integer"},
            "X-Trace": {"type": "string"},
            "body": {"type": "object"},
        },
        "required": ["id", "body"],
        "additionalProperties": False,
    }
    assert foreign_schema_fault(operation.schema) == ""


def test_parameters_of_an_operation_replace_those_of_its_path() -> None:
    document = _document({"parameters": [_parameter("id", "path", {"type": "integer"})]}, "/items/{id}")
    document["paths"]["/items/{id}"]["parameters"] = [_parameter("id", "path"), _parameter("page", "query")]

    properties = find_operation(document, "op").schema["properties"]

    assert properties == {"id": {"type": "integer"}, "page": {"type": "string"}}


def test_references_become_definitions_even_of_schemas_that_contain_themselves() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/components/schemas/Tree"}}}
    document = _document(
        {"requestBody": {"$ref": "#/components/requestBodies/Plant"}},
        method="post",
        components={
            "schemas": {"Tree": tree},
            "requestBodies": {
                "Plant": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}}}
            },
        },
    )

    schema = find_operation(document, "op").schema

    assert schema["properties"]["body"] == {"$ref": "#/$defs/components.schemas.Tree"}
    assert schema["$defs"]["components.schemas.Tree"]["properties"]["left"] == schema["properties"]["body"]
    assert foreign_schema_fault(schema) == ""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": True, "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"maximum": 9, "exclusiveMaximum": False}, {"maximum": 9}),
        ({"exclusiveMinimum": 1}, {"exclusiveMinimum": 1}),
        ({"type": "string", "example": "x", "xml": {"name": "x"}}, {"type": "string"}),
    ],
)
def test_schemas_of_openapi_3_0_are_translated(written: dict[str, Any], read: dict[str, Any]) -> None:
    document = _document({"parameters": [_parameter("q", "query", written)]}, openapi="3.0.3")

    assert find_operation(document, "op").schema["properties"]["q"] == read


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"paths": {}}, "has no such operation"),
        ({"paths": {path: {"get": {"operationId": "op"}} for path in ("/a", "/b")}}, "several"),
        (_document({}, "/items/{id}"), "does not describe: id"),
        (_document({"parameters": [_parameter("s", "cookie", required=True)]}), "in the cookie"),
        (_document({"requestBody": {"required": True, "content": {"image/png": {}}}}), "image/png"),
        (_document({"parameters": [{"$ref": "other.yaml#/a"}]}), "another document"),
        (_document({"parameters": [{"$ref": "#/components/parameters/None"}]}), "does not have"),
        (_document({"parameters": [{"$ref": "#/a"}]}, a={"$ref": "#/b"}, b={"$ref": "#/a"}), "in a circle"),
    ],
)
def test_operation_that_cannot_be_a_tool_says_why(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(OperationError, match=fault):
        find_operation(document, "op")


@pytest.mark.parametrize("odd", [None, 5, [], "x", {"get": None}, {"get": [1]}, {"parameters": {}}])
def test_odd_parts_of_a_document_do_not_concern_other_operations(odd: Any) -> None:
    document = _document({"parameters": [None, 5, {"in": "nowhere"}], "requestBody": 5})
    document["paths"]["/odd"] = odd

    assert find_operation(document, "op").schema["properties"] == {}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a b", "/v1/items/a%20b"),
        ("a/b?c#d", "/v1/items/a%2Fb%3Fc%23d"),
        ("../../admin", "/v1/items/..%2F..%2Fadmin"),
        ("%2e%2e", "/v1/items/%252e%252e"),
        ("{id}", "/v1/items/%7Bid%7D"),
        ("서울", "/v1/items/%EC%84%9C%EC%9A%B8"),
        (5, "/v1/items/5"),
        ([1, 2], "/v1/items/1%2C2"),
    ],
)
def test_value_in_a_path_stays_in_its_segment(value: Any, path: str) -> None:
    document = _document({"parameters": [_parameter("id", "path", {})]}, "/items/{id}")

    assert _requested(document, id=value).url == f"https://shop.example{path}"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_value_that_would_change_the_path_is_refused(value: str) -> None:
    document = _document({"parameters": [_parameter("id", "path", {})]}, "/items/{id}")

    with pytest.raises(ToolError, match="id: must not be"):
        _requested(document, id=value)


@pytest.mark.parametrize("value", ["a\r\nHost: b", "a\nb", "한"])
def test_value_that_would_break_out_of_a_header_is_refused(value: str) -> None:
    document = _document({"parameters": [_parameter("X-Trace", "header")]})

    with pytest.raises(ToolError, match="printable ASCII"):
        _requested(document, **{"X-Trace": value})


@pytest.mark.parametrize(
    ("how", "value", "query"),
    [
        ({}, "a&b=c", "q=a%26b%3Dc"),
        ({}, ["a", "b"], "q=a&q=b"),
        ({"explode": False}, ["a", "b"], "q=a%2Cb"),
        ({"explode": False, "style": "pipeDelimited"}, ["a", "b"], "q=a%7Cb"),
        ({"style": "deepObject"}, {"x": 1, "y": True}, "q%5Bx%5D=1&q%5By%5D=true"),
        ({}, {"x": 1}, "x=1"),
        ({"explode": False}, {"x": 1}, "q=%7B%22x%22%3A1%7D"),
        ({}, False, "q=false"),
        ({}, None, ""),
    ],
)
def test_query_is_written_in_the_style_of_the_parameter(how: dict[str, Any], value: Any, query: str) -> None:
    document = _document({"parameters": [_parameter("q", "query", {}, **how)]})

    assert _requested(document, q=value).url == f"https://shop.example/v1/items{'?' if query else ''}{query}"


@pytest.mark.parametrize(
    ("media_type", "sent", "body"),
    [
        ("application/json", "application/json", '{"a":[1,2],"b":"x y"}'),
        (
            "application/vnd.shop+json; charset=utf-8",
            "application/vnd.shop+json; charset=utf-8",
            '{"a":[1,2],"b":"x y"}',
        ),
        ("*/*", "application/json", '{"a":[1,2],"b":"x y"}'),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded", "a=1&a=2&b=x+y"),
    ],
)
def test_body_is_written_in_its_media_type(media_type: str, sent: str, body: str) -> None:
    content = {"image/png": {}, media_type: {"schema": {"type": "object"}}}
    document = _document({"requestBody": {"content": content}}, method="post")

    request = _requested(document, body={"a": [1, 2], "b": "x y"})

    assert (request.headers["Content-Type"], request.body) == (sent, body.encode())


def test_absent_body_is_not_sent() -> None:
    document = _document({"requestBody": {"content": {"application/json": {}}}}, method="post")

    assert _requested(document).body is None
