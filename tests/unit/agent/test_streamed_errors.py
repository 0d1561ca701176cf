"""Errors that a server reports inside an answer of status 200."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from mesh_agent.llm.provider_errors import ProviderError
from support.model_provider import Handler, answering, line, open_provider

DONE = b"data: [DONE]\n\n"


def in_turn(bodies: Sequence[bytes]) -> Handler:
    pending = list(bodies)

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(body=pending.pop(0))

    return answer


async def failures(bodies: Sequence[bytes]) -> list[ProviderError]:
    async with open_provider(in_turn(bodies)) as provider:
        return [await provider.failure() for _ in bodies]


async def failure(body: bytes) -> ProviderError:
    [failed] = await failures([body])
    return failed


def event(value: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def forms(error: Any) -> list[bytes]:
    """The same error as different servers send it."""
    flat = {"object": "error", **error} if isinstance(error, dict) else error
    return [
        event({"error": error}),
        event({"error": error}) + DONE,
        event([{"error": error}]),
        event({"error": error}, "error"),
        event(error, "error"),
        event({"x_groq": {"id": "q", "error": error}}),
        event({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": error}]}),
        event({"error": error, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
        json.dumps({"error": error}).encode(),
        json.dumps([{"error": error}]).encode(),
        *([event(flat), json.dumps(flat).encode()] if isinstance(flat, dict) else []),
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 429, "message": "slow down"}, "MODEL_RATE_LIMITED"),
        ({"code": "429", "message": "slow down"}, "MODEL_RATE_LIMITED"),
        ({"type": "rate_limit_error", "message": "no"}, "MODEL_RATE_LIMITED"),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, "MODEL_RATE_LIMITED"),
        ({"status": "RESOURCE_EXHAUSTED", "message": "no"}, "MODEL_RATE_LIMITED"),
        ("Rate limit reached, try again later", "MODEL_RATE_LIMITED"),
        ({"code": 401, "message": "no"}, "MODEL_MISCONFIGURED"),
        ({"type": "authentication_error", "message": "no"}, "MODEL_MISCONFIGURED"),
        ({"type": "invalid_request_error", "code": "invalid_api_key"}, "MODEL_MISCONFIGURED"),
        ({"type": "permission_error"}, "MODEL_MISCONFIGURED"),
        ({"type": "not_found_error"}, "MODEL_MISCONFIGURED"),
        ({"code": 429, "type": "insufficient_quota"}, "MODEL_MISCONFIGURED"),
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, "CONTEXT_TOO_LONG"),
        ({"message": "The prompt is too long: 9 tokens > 8 maximum"}, "CONTEXT_TOO_LONG"),
        ("Context size has been exceeded.", "CONTEXT_TOO_LONG"),
        ({"type": "overloaded_error", "message": "Overloaded"}, "MODEL_UNAVAILABLE"),
        ({"code": "Service unavailable"}, "MODEL_UNAVAILABLE"),
        ({"code": 502, "metadata": {"error_type": "x"}}, "MODEL_UNAVAILABLE"),
        ({"type": "server_error", "code": None}, "MODEL_UNAVAILABLE"),
        ({"type": "invalid_request_error", "code": "tool_use_failed"}, "MODEL_UNAVAILABLE"),
        ({"type": "invalid_request_error", "message": "no"}, "MODEL_REFUSED"),
        ({"code": 400, "message": "no"}, "MODEL_REFUSED"),
        ({"code": "who_knows", "message": "it broke"}, "MODEL_CUT_OFF"),
        ({"code": 7}, "MODEL_CUT_OFF"),
        ("it broke", "MODEL_CUT_OFF"),
    ],
)
async def test_error_before_the_first_token_is_taken_like_a_status(error: Any, reason: str) -> None:
    found = {(found.reason, found.has_spoken) for found in await failures(forms(error))}

    assert found == {(reason, False)}


async def test_temporary_errors_are_retried_and_others_are_not() -> None:
    errors = [{"code": code} for code in (429, 503, 401, 400, 7)]

    found = await failures([event({"error": error}) for error in errors])

    assert [failed.is_retryable for failed in found] == [True, True, False, False, True]


@pytest.mark.parametrize(
    "error",
    [
        {"code": 429, "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]},
        {"code": 429, "availability": {"code": "no_capacity", "retryable": True, "retry_after": 17}},
    ],
)
async def test_wait_is_the_one_that_the_error_requests(error: Any) -> None:
    assert (await failure(event([{"error": error}]))).retry_after_s == 17.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 503}, "MODEL_CUT_OFF"),
        ({"code": 429}, "MODEL_RATE_LIMITED"),
        ({"code": "context_length_exceeded"}, "CONTEXT_TOO_LONG"),
        ("it broke", "MODEL_CUT_OFF"),
    ],
)
async def test_error_after_output_is_never_silent(error: Any, reason: str) -> None:
    failed = await failure(line({"content": "Well"}) + event({"error": error}))

    assert (failed.reason, failed.has_spoken) == (reason, True)


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
async def test_error_after_the_finish_reason_voids_nothing(finish_reason: str) -> None:
    answer = line({"content": "Hello."}, finish_reason)
    bodies = [answer + body for body in forms({"code": 500, "message": "too late"})[:8]]
    async with open_provider(in_turn(bodies)) as provider:
        replies = [await provider.answer() for _ in bodies]

    assert {(reply.message.content, reply.completion.finish_reason) for reply in replies} == {("Hello.", finish_reason)}


async def test_error_after_a_finish_reason_without_an_answer_is_one() -> None:
    failed = await failure(line({"content": ""}, "stop") + event({"error": {"code": 429}}))

    assert failed.reason == "MODEL_RATE_LIMITED"


async def test_white_space_is_not_an_answer_that_another_model_may_not_replace() -> None:
    body = line({"content": "\n"}) + line({"content": " \n"}) + event({"error": {"code": 503}})
    async with open_provider(answering(body)) as provider:
        failed = await provider.failure()

    assert (failed.reason, failed.has_spoken) == ("MODEL_UNAVAILABLE", False)
    assert provider.listener.texts == []


async def test_white_space_before_the_first_word_is_kept() -> None:
    body = (
        line({"content": "\n"}) + line({"content": " "}) + line({"content": "Well"}) + line({"content": "\n"}, "stop")
    )
    async with open_provider(answering(body)) as provider:
        reply = await provider.answer()

    assert reply.message.content == "".join(provider.listener.texts) == "\n Well\n"
    assert reply.completion.chunks == provider.listener.chunks == 4


@pytest.mark.parametrize("index", [1, "1", 7])
async def test_answers_besides_the_first_are_ignored(index: object) -> None:
    def choice(text: str, number: object) -> dict[str, Any]:
        return {"index": number, "delta": {"content": text}, "finish_reason": None}

    chunks = [
        {"choices": [choice("Hel", 0)]},
        {"choices": [choice("No", index)]},
        {"choices": [choice("No", index), choice("lo", 0)]},
        {"choices": [{"index": index, "delta": {}, "finish_reason": "length"}]},
        {"choices": [choice(".", None)]},
    ]
    async with open_provider(answering(b"".join(map(event, chunks)) + DONE)) as provider:
        reply = await provider.answer()

    assert (reply.message.content, reply.completion.finish_reason) == ("Hello.", "stop")
