"""Answers that are JSON of a schema, over the HTTP API."""

import json
from typing import Any

import pytest
from support.api import User

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["city", "tags"],
}
FORM = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}


async def test_answer_is_parsed_in_one_call_and_in_the_stream(user: User) -> None:
    body = {"message": "Where?", "response_format": FORM}

    answer = (await user.post("/chatbot/chat", body)).json()
    turn = await user.stream("/chatbot/chat/stream", body)
    plain = (await user.post("/chatbot/chat", {"message": "Where?"})).json()

    parsed = answer["message"]["parsed"]
    assert set(parsed) == {"city", "tags"}
    assert json.loads(answer["message"]["content"]) == parsed
    assert turn.first("message_completed")["parsed"] == json.loads(turn.text)
    assert plain["message"]["parsed"] is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"type": "json_object", "json_schema": {"schema": SCHEMA}}, "response_format.type"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"schema": 5}}, "response_format.json_schema.schema"),
        ({**FORM, "more": 1}, "response_format.more"),
    ],
)
async def test_form_that_is_none_is_refused_with_its_path(user: User, given: object, field: str) -> None:
    response = await user.post("/chatbot/chat", {"message": "Where?", "response_format": given})

    assert response.status_code == 422
    assert [fault["field"] for fault in response.json()["errors"]] == [field]


async def test_same_key_with_another_form_is_another_request(user: User) -> None:
    body = {"message": "Where?", "response_format": FORM}

    first = await user.post("/chatbot/chat", body, **{"Idempotency-Key": "form-1"})
    again = await user.post("/chatbot/chat", body, **{"Idempotency-Key": "form-1"})
    other = await user.post("/chatbot/chat", {"message": "Where?"}, **{"Idempotency-Key": "form-1"})

    assert again.json() == first.json()
    assert other.status_code == 422
