"""What the statuses of a model server mean, and how long it is waited for."""

import asyncio
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from mesh_common.clock import utc_now
from support.model_provider import Handler, answering, line, open_provider


@pytest.mark.parametrize(
    ("status", "headers", "reason", "is_retryable", "retry_after_s"),
    [
        (429, {}, "MODEL_RATE_LIMITED", True, None),
        (429, {"Retry-After": "7"}, "MODEL_RATE_LIMITED", True, 7.0),
        (429, {"Retry-After": "999999"}, "MODEL_RATE_LIMITED", True, 3_600.0),
        (503, {"Retry-After": "0"}, "MODEL_UNAVAILABLE", True, 0.0),
        (503, {"Retry-After": "0.5"}, "MODEL_UNAVAILABLE", True, 0.5),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "MODEL_UNAVAILABLE", True, 0.0),
        (503, {"Retry-After": "\u00b2"}, "MODEL_UNAVAILABLE", True, None),
        (429, {"retry-after-ms": "250"}, "MODEL_RATE_LIMITED", True, 0.25),
        (503, {"Retry-After": "-5"}, "MODEL_UNAVAILABLE", True, None),
        (500, {}, "MODEL_UNAVAILABLE", True, None),
        (400, {}, "MODEL_REFUSED", False, None),
        *((status, {}, "MODEL_UNAVAILABLE", True, None) for status in (408, 409, 425, 529)),
        *((status, {}, "MODEL_MISCONFIGURED", False, None) for status in (401, 403)),
        (404, {"Retry-After": "7"}, "MODEL_MISCONFIGURED", False, None),
    ],
)
async def test_a_status_is_taken_for_what_it_means(
    status: int,
    headers: dict[str, str],
    reason: str,
    is_retryable: bool,  # noqa: FBT001 - a parameter of pytest
    retry_after_s: float | None,
) -> None:
    async with open_provider(answering(b'{"error": "of yours"}', status, **headers)) as provider:
        failure = await provider.failure()

    assert (failure.reason, failure.is_retryable, failure.retry_after_s) == (reason, is_retryable, retry_after_s)
    assert not failure.has_spoken


async def test_wait_until_a_date_is_counted_from_now() -> None:
    date = format_datetime(utc_now() + timedelta(seconds=60), usegmt=True)
    async with open_provider(answering(b"", 503, **{"Retry-After": date})) as provider:
        failure = await provider.failure()

    assert failure.retry_after_s == pytest.approx(60.0, abs=10.0)


async def test_context_that_is_too_long_is_reported_as_such() -> None:
    body = b'{"error": {"message": "Too many tokens.", "code": "context_length_exceeded"}}'
    async with open_provider(answering(body, 400)) as provider:
        failure = await provider.failure()

    assert (failure.reason, failure.is_retryable) == ("CONTEXT_TOO_LONG", False)


@pytest.mark.parametrize("body", [b"x" * 1_000_000, b'{"error": {"code": "context_length_exceeded"'])
async def test_status_counts_even_if_its_body_is_endless_or_breaks_off(body: bytes) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(status=401)
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with open_provider(answer) as provider:
        failure = await provider.failure()

    assert failure.reason == "MODEL_MISCONFIGURED"


def _beginning_late(*pieces: bytes, pause_s: float) -> Handler:
    """Sends the pieces with pauses between them, then ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(pause_s)
        return response

    return answer


async def test_comments_are_no_first_token() -> None:
    handler = _beginning_late(*[b": keep-alive\n\n"] * 50, pause_s=0.02)
    async with open_provider(handler, first_token_timeout_s=0.1) as provider:
        failure = await provider.failure()

    assert (failure.reason, failure.has_spoken) == ("MODEL_TIMEOUT", False)


@pytest.mark.parametrize(
    "token",
    [
        {"content": "Well"},
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm"},
        {"tool_calls": [{"index": 0, "function": {"name": "look_up"}}]},
    ],
)
async def test_after_the_first_token_only_silence_counts(token: dict[str, Any]) -> None:
    handler = _beginning_late(line(token), *[b": keep-alive\n\n"] * 15, line({"content": "."}, "stop"), pause_s=0.02)
    async with open_provider(handler, first_token_timeout_s=0.15) as provider:
        answer = await provider.answer()

    assert answer.completion.finish_reason == "stop"


async def test_model_that_may_begin_late_is_not_cut_by_the_timeout_for_silence() -> None:
    handler = _beginning_late(b"", line({"content": "42"}, "stop") + b"data: [DONE]\n\n", pause_s=0.2)
    async with open_provider(handler, read_timeout_s=0.1, first_token_timeout_s=10.0) as provider:
        assert (await provider.ask()).content == "42"


@pytest.mark.parametrize("status", [302, 308])
async def test_redirect_that_is_not_followed_comes_from_a_wrong_address(status: int) -> None:
    async with open_provider(answering(b"<html>", status)) as provider:
        failure = await provider.failure()

    assert failure.reason == "MODEL_MISCONFIGURED"
