"""What the statuses, headers and error bodies of model servers mean."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mesh_common.model_server import MAX_REFUSAL_BYTES, Refusal, refusal_of
from mesh_common.model_server_waits import MAX_WAIT_S, requested_wait_s

NOW = datetime(2026, 12, 1, 9, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        *((status, Refusal.UNAVAILABLE) for status in (408, 409, 424, 425, 498, 500, 502, 503, 504, 520, 529, 599)),
        (429, Refusal.RATE_LIMITED),
        *((status, Refusal.MISCONFIGURED) for status in (307, 401, 402, 403, 404, 405, 410)),
        *((status, Refusal.REFUSED) for status in (400, 413, 415, 422, 451)),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"\xff\xfe", b'{"error": "of yours"}', b'{"error": nul'])
def test_status_alone_decides_when_the_body_says_nothing(status: int, refusal: Refusal, body: bytes) -> None:
    assert refusal_of(status, body) is refusal


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "context_length_exceeded", "message": "Too many tokens."}),
        (400, {"message": "This model's maximum context length is 8192 tokens. However, you requested 9000."}),
        (400, {"message": "Your input exceeds the context window of this model."}),
        (400, {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}),
        (413, {"type": "request_too_large", "message": "Request exceeds the maximum size."}),
        (400, {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}),
        (500, {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}),
        (400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}),
        (400, {"message": "This model's maximum prompt length is 131072 but the request contains 140000 tokens."}),
        (413, {"message": "Please reduce the length of the messages or completion."}),
        (403, {"message": "Input exceeds: maximum context length is 4096"}),
        (400, {"type": "exceed_context_size_error", "message": "too big", "n_ctx": 4096}),
        (500, {"message": "the request exceeds the available context size, try increasing it"}),
        (400, {"message": "The number of tokens is greater than the context length."}),
        (400, {"message": "Context size has been exceeded."}),
        (400, {"message": "invalid params, context window exceeds limit"}),
        (400, {"message": "Invalid request: Your request exceeded model token limit: 262144"}),
        (400, {"type": "ContextWindowExceededError", "message": "litellm.BadRequestError"}),
        (400, {"message": "Input is too long for requested model."}),
        (400, {"code": 400, "message": "no", "metadata": {"error_type": "context_length_exceeded"}}),
    ],
)
def test_input_that_is_too_long_is_recognized_in_each_providers_words(status: int, error: dict[str, object]) -> None:
    forms = ({"error": error}, [{"error": error}], {"type": "error", "error": error}, {"object": "error", **error})

    assert {refusal_of(status, json.dumps(form).encode()) for form in forms} == {Refusal.CONTEXT_TOO_LONG}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}),
        (400, {"error": {"code": "invalid_api_key", "message": "Incorrect API key provided."}}),
        (429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota."}}),
        (429, {"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}}),
    ],
)
def test_wrong_key_and_used_up_account_are_an_operators_matter(status: int, body: object) -> None:
    assert refusal_of(status, json.dumps(body).encode()) is Refusal.MISCONFIGURED


def test_text_of_a_user_in_an_error_does_not_accuse_the_operator() -> None:
    """Otherwise one user could switch a model off for everybody, by servers that repeat the request in an error."""
    repeated = {"error": {"message": "invalid: insufficient_quota invalid_api_key", "input": ["model_not_found"]}}
    flagged = {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}}

    assert refusal_of(400, json.dumps(repeated).encode()) is Refusal.REFUSED
    assert refusal_of(403, json.dumps(flagged).encode()) is Refusal.REFUSED


@given(st.integers(400, 599), st.binary(max_size=300))
@example(400, b"[" * MAX_REFUSAL_BYTES)
@example(400, b'{"error": ' * 5_000)
def test_any_body_is_taken(status: int, body: bytes) -> None:
    assert refusal_of(status, body) in Refusal


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "2."}, 2.0),
        ({"retry-after": "999999"}, MAX_WAIT_S),
        ({"retry-after": "Tue, 01 Dec 2026 09:00:04 GMT"}, 4.0),
        ({"retry-after": "Tue, 01 Dec 2026 10:00:04 +0100"}, 4.0),
        ({"retry-after": "Tue, 01 Dec 2026 08:59:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, MAX_WAIT_S),
        ({"retry-after": "Tuesday, 01-Dec-26 09:00:04 GMT"}, 4.0),
        ({"retry-after": "Tue Dec  1 09:00:04 2026"}, 4.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "9" * 15}, MAX_WAIT_S),
        *(
            ({"retry-after": text}, None)
            for text in ("", "²", "٣", "-5", "+5", "nan", "inf", "1e3", "0x5", "1_0", "7s", "soon", ".5", "9" * 400)
        ),
        *(
            ({"retry-after": text}, None)
            for text in ("Tue, 99 Dec 2026 09:00:04 GMT", "Tue, 01 Dec 99999 09:00:04 GMT")
        ),
    ],
)
def test_wait_is_read_in_every_form_that_servers_send(headers: dict[str, str], wait_s: float | None) -> None:
    assert requested_wait_s(headers, NOW) == wait_s


@given(st.one_of(st.text(), st.integers().map(str), st.floats().map(str), st.text("0123456789.²-+eE ", max_size=12)))
def test_wait_is_none_or_within_bounds(text: str) -> None:
    wait_s = requested_wait_s({"retry-after": text}, NOW)

    assert wait_s is None or 0.0 <= wait_s <= MAX_WAIT_S


@given(st.integers(0, 3_600))
def test_number_and_date_say_the_same(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert (
        requested_wait_s({"retry-after": date}, NOW) == requested_wait_s({"retry-after": str(seconds)}, NOW) == seconds
    )


@pytest.mark.parametrize("message", ["It violates our usage policies.", "Azure's content management policy"])
def test_refusal_of_a_users_content_says_nothing_about_the_model(message: str) -> None:
    assert refusal_of(403, json.dumps({"error": {"message": message}}).encode()) is Refusal.REFUSED


RESETS = {"x-ratelimit-reset-requests": "1h2m3s", "x-ratelimit-reset-tokens": "1m2.5s"}
RETRY_INFO = b'[{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]}}]'


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({**RESETS, "x-ratelimit-remaining-tokens": "0"}, b"", 62.5),
        ({**RESETS, "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "0"}, b"", MAX_WAIT_S),
        ({**RESETS, "x-ratelimit-remaining-requests": "7", "x-ratelimit-remaining-tokens": "9"}, b"", None),
        (RESETS, b"", None),
        ({"x-ratelimit-reset-tokens": "100ms", "x-ratelimit-remaining-tokens": "0"}, b"", 0.1),
        (
            {
                "anthropic-ratelimit-tokens-reset": "2026-12-01T09:00:30Z",
                "anthropic-ratelimit-tokens-remaining": "0",
            },
            b"",
            30.0,
        ),
        ({"x-ratelimit-reset": str(1_000 * round(NOW.timestamp()) + 45_000), "x-ratelimit-remaining": "0"}, b"", 45.0),
        ({"x-ratelimit-reset-tokens": "soon", "x-ratelimit-remaining-tokens": "0"}, RETRY_INFO, 17.0),
        ({**RESETS, "x-ratelimit-remaining-tokens": "0", "retry-after": "4"}, RETRY_INFO, 4.0),
        ({**RESETS, "x-ratelimit-remaining-tokens": "0"}, RETRY_INFO, 62.5),
        ({}, RETRY_INFO, 17.0),
        ({}, b'{"error": {"availability": {"retryable": true, "retry_after": 2.5}}}', 2.5),
        ({}, b'{"error": {"retry_after": "1.5s"}}', 1.5),
        ({}, b'{"error": {"retry_after": [], "retryDelay": "-3s"}}', None),
        ({}, b'{"error": {"retry_after": true}}', None),
        ({}, b"[" * 10_000, None),
        ({}, b"try again in 17s", 17.0),
        ({}, b'{"detail": "Try again in 3s."}', 3.0),
        ({}, b'{"error": "Try again in 4s."}', 4.0),
        ({}, b'[{"error": {"message": "Slow down.", "detail": "Retry after 5 seconds."}}]', 5.0),
        ({}, b'{"error": {"message": "Slow down."}, "request": {"message": "Try again in 9s"}}', None),
        ({}, b'{"error": {"message": "Slow down.", "input": "message: try again in 9s"}}', None),
        ({}, b'{"error": {"message": "Slow down.", "input": "try again in 9s', None),
    ],
)
def test_wait_is_also_read_from_used_up_limits_and_from_the_body(
    headers: dict[str, str], body: bytes, wait_s: float | None
) -> None:
    """In this order, after `Retry-After`. Limits that are not used up say nothing about the wait."""
    assert requested_wait_s(headers, NOW, body) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("Rate limit reached for gpt-4o in organization org-1 on tokens per min. Please try again in 6.5s.", 6.5),
        ("Rate limit reached. Please try again in 1m30.5s. Need more tokens?", 90.5),
        ("Rate limit reached. Please try again in 500ms. Visit https://x", 0.5),
        ("Requests have exceeded the call rate limit. Please retry after 20 seconds.", 20.0),
        ("Please retry after 1 second. Please go here: https://x", 1.0),
        ("Please Try Again In 2 Minutes", 120.0),
        ("Please try again in 9999h", MAX_WAIT_S),
        ("Please try again later.", None),
        ("Please try again in a moment.", None),
        ("Please try again in 5 apples", None),
        ("Please try again in 20small steps", None),
        ("You may retry after 2030-01-01", None),
    ],
)
def test_wait_is_read_from_the_sentence_of_an_error(text: str, wait_s: float | None) -> None:
    body = json.dumps({"error": {"message": text, "code": "rate_limit_exceeded"}}).encode()

    assert requested_wait_s({}, NOW, body) == wait_s
