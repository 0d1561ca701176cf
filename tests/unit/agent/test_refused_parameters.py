"""Parameters that a server refuses by name are left out, once per model."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fakes.agent.chat_models import Heard
from fakes.agent.runs import a_model
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from mesh_agent.llm.openai_compatible.parameters import refused_parameter
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.llm.quirks import Quirks
from structlog.testing import capture_logs
from support.model_provider import line, open_provider
from support.strict_servers import StrictServer, mistral_like, openai_like, opened

SENT = ("max_tokens", "stream_options", "temperature", "user", "reasoning_content", "parallel_tool_calls", "role")
QUESTION: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("6 * 7?")]


@asynccontextmanager
async def model_at(server: StrictServer, **quirks: Any) -> AsyncIterator[OpenAICompatible]:
    async with opened(server), aiohttp.ClientSession() as session:
        yield OpenAICompatible(replace(a_model(base_url=server.url), quirks=Quirks(**quirks)), session)


def openai(parameter: str | None, code: str | None, message: str = "no") -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": parameter, "code": code}}


def mistral(*path: Any, kind: str = "extra_forbidden", message: str = "Extra inputs are not permitted") -> Any:
    return {"object": "error", "message": {"detail": [{"type": kind, "loc": ["body", *path], "msg": message}]}}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (openai("max_tokens", "unsupported_parameter"), "max_tokens"),
        (openai("temperature", "unsupported_value"), "temperature"),
        (openai("stream_options.include_usage", "unknown_parameter"), "stream_options"),
        (openai("messages[0].role", "unsupported_value"), "role"),
        (openai("messages[2].reasoning_content", "unknown_parameter"), "reasoning_content"),
        (openai(None, None, "Unrecognized request argument supplied: user"), "user"),
        (openai(None, None, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."), "max_tokens"),
        (openai(None, None, "This model does not support parallel_tool_calls."), "parallel_tool_calls"),
        (mistral("stream_options"), "stream_options"),
        (mistral("messages", 2, "assistant", "reasoning_content"), "reasoning_content"),
        (
            mistral("messages", 0, kind="union_tag_invalid", message="'developer' found using 'role' does not match"),
            "role",
        ),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra"}]}, "user"),
        ({"detail": "Unknown field 'temperature'"}, "temperature"),
        (
            [{"error": {"code": 400, "message": 'Unknown name "stream_options": Cannot find field.', "status": "X"}}],
            "stream_options",
        ),
        (
            openai(None, None, "'messages.2' : for 'role:assistant' (property 'reasoning_content' is unsupported)"),
            "reasoning_content",
        ),
        ({"error": "unexpected keyword argument 'temperature'"}, "temperature"),
        ("'user' is not allowed", "user"),
        # Something else is wrong.
        (openai("max_tokens", "invalid_value", "max_tokens is too large: 9. This model supports at most 4."), None),
        (openai("messages", "unsupported_value"), None),
        (openai("model", "unsupported_parameter"), None),
        (openai("tools[0].function.strict", "unsupported_parameter"), None),
        (openai("seed", "unsupported_parameter", "'seed' is not supported"), None),
        (openai(None, None, "The reasoning_content in the thinking mode must be passed back."), None),
        (openai(None, None, "The `reasoning_content` is missing: not allowed."), None),
        (openai(None, None, "This user is not allowed to use this model."), None),
        (openai(None, None, "temperature must be between 0 and 1"), None),
        ({"error": {"message": "no", "input": {"text": "'user' is not supported"}}}, None),
        (mistral("messages", 0, "user", "content", message="Extra inputs are not permitted"), None),
        ("", None),
        ([], None),
        (5, None),
    ],
)
def test_parameter_is_recognised_in_each_providers_words(body: Any, name: str | None) -> None:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    assert refused_parameter(data, SENT) == name


@pytest.mark.parametrize("body", [b"\xff", b"[" * 50_000, b'{"detail":' * 5_000])
def test_any_body_is_taken(body: bytes) -> None:
    assert refused_parameter(body, SENT) is None


def _refusals(logs: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Only these: other code logs in the same process."""
    return [line for line in logs if line["event"] == "model.parameter_refused"]


async def test_refused_parameters_are_left_out_one_after_the_other_and_remembered() -> None:
    """As a reasoning model of OpenAI does it: max_tokens, then temperature, then reasoning_effort."""
    server = openai_like()
    extra = {"temperature": 0.5, "reasoning_effort": "low", "seed": 7}
    async with model_at(server, extra_body=extra) as model:
        with capture_logs() as logs:
            answers = [await model.ask(QUESTION, Heard()) for _ in range(2)]

    assert [answer.message.content for answer in answers] == ["Yes.", "Yes."]
    assert len(server.requests) == 5
    last = server.requests[-1]
    assert last.keys() == {"model", "messages", "stream", "stream_options", "max_completion_tokens", "seed"}
    assert _refusals(logs) == [
        {"event": "model.parameter_refused", "log_level": "warning", "model": "large", "parameter": name}
        for name in ("max_tokens", "temperature", "reasoning_effort")
    ]
    assert model.quirks == Quirks(output_limit="max_completion_tokens", extra_body={"seed": 7})


async def test_role_of_the_instructions_and_the_limit_are_renamed() -> None:
    server = mistral_like()
    async with model_at(server, output_limit="max_completion_tokens", instructions_role="developer") as model:
        answer = await model.ask(QUESTION, Heard())

    assert answer.message.content == "Yes."
    assert model.quirks == Quirks(stream_options=False)
    assert [message["role"] for message in server.requests[-1]["messages"]] == ["system", "user"]


def refusing(*errors: Any, then: Any = None) -> StrictServer:
    pending = list(errors)
    server = mistral_like()
    server.refuses = lambda _body: (400, pending.pop(0)) if pending else then
    return server


async def test_limit_without_a_name_is_left_out() -> None:
    names = ("max_tokens", "max_completion_tokens")
    server = refusing(*(openai(name, "unsupported_parameter") for name in names))
    async with model_at(server) as model:
        await model.ask(QUESTION, Heard())

    assert [[name for name in names if name in body] for body in server.requests] == [[names[0]], [names[1]], []]


async def test_server_that_refuses_without_end_is_asked_six_times() -> None:
    extra = {f"extra_{number}": 1 for number in range(9)}
    server = refusing(*(openai(name, "unknown_parameter") for name in extra))
    async with model_at(server, extra_body=extra) as model:
        with pytest.raises(ProviderError) as failed:
            await model.ask(QUESTION, Heard())

    assert (failed.value.reason, failed.value.status, len(server.requests)) == ("MODEL_REFUSED", 400, 6)


@pytest.mark.parametrize("error", [openai("model", "unsupported_value"), openai("seed", "unknown_parameter"), "no"])
async def test_error_that_names_nothing_that_was_sent_is_a_refusal(error: Any) -> None:
    server = refusing(error)
    async with model_at(server) as model:
        with pytest.raises(ProviderError) as failed:
            await model.ask(QUESTION, Heard())

    assert (failed.value.reason, len(server.requests)) == ("MODEL_REFUSED", 1)


async def test_parameter_refused_in_a_stream_is_left_out_too() -> None:
    error = json.dumps(openai("stream_options", "unknown_parameter")).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        is_refused = "stream_options" in json.loads(await request.read())
        return web.Response(
            body=b"event: error\ndata: " + error + b"\n\n" if is_refused else line({"content": "Yes."}, "stop")
        )

    async with open_provider(answer) as provider:
        assert (await provider.ask()).content == "Yes."
        assert provider.chat_model.quirks.stream_options is False


async def test_form_that_the_server_never_took_is_forgotten() -> None:
    """An error that repeats a user's text may name every parameter."""
    echo = openai(None, "bad", "unsupported: 'max_tokens', 'temperature' and 'stream_options'")
    server = refusing(then=(400, echo))
    async with model_at(server, extra_body={"temperature": 0.5}) as model:
        before = model.quirks
        with capture_logs() as logs, pytest.raises(ProviderError):
            await model.ask(QUESTION, Heard())

    assert model.quirks == before
    assert not _refusals(logs)


async def test_concurrent_requests_learn_the_same() -> None:
    server = openai_like()
    async with model_at(server, extra_body={"temperature": 0.5}) as model:
        with capture_logs() as logs:
            await asyncio.gather(*(model.ask(QUESTION, Heard()) for _ in range(8)))

    assert [entry["parameter"] for entry in _refusals(logs)] == ["max_tokens", "temperature"]
    assert model.quirks == Quirks(output_limit="max_completion_tokens")


async def test_prompt_is_not_logged() -> None:
    server = refusing(openai("max_tokens", "unsupported_parameter", "6 * 7? is not supported"))
    async with model_at(server) as model:
        with capture_logs() as logs:
            await model.ask(QUESTION, Heard())

    assert _refusals(logs)
    assert "6 * 7" not in str(logs)
