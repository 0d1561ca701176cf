"""One call to a provider over HTTP: the request, and how complete and broken responses are interpreted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fakes.agent.chat_models import Heard
from fakes.agent.runs import a_model
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.provider import ChatAnswer
from mesh_agent.llm.provider_errors import ProviderError
from mesh_common.clock import utc_now
from simulator.server import open_simulator
from simulator.settings import SimulatorSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUESTION: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("6 * 7?")]


def _line(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    chunk = {"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


@dataclass
class Provider:
    """A provider whose responses a test sets, and the chat model that calls it."""

    chat_model: OpenAICompatible
    listener: Heard = field(default_factory=Heard)

    async def ask(self, messages: list[BaseMessage] = QUESTION) -> AIMessage:
        return (await self.answer(messages)).message

    async def answer(self, messages: list[BaseMessage] = QUESTION) -> ChatAnswer:
        return await self.chat_model.ask(messages, self.listener)

    async def failure(self) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.ask()
        return caught.value


@asynccontextmanager
async def _provider(
    handler: Handler, *, read_timeout_s: float = 10.0, first_token_timeout_s: float | None = None
) -> AsyncIterator[Provider]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=read_timeout_s)
    async with TestServer(app) as server, aiohttp.ClientSession(timeout=timeout) as session:
        model = replace(a_model(base_url=str(server.make_url("/v1/"))), first_token_timeout_s=first_token_timeout_s)
        yield Provider(OpenAICompatible(model, session))


def _answering(body: bytes, status: int = 200, **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(body=body, status=status, headers=headers)

    return answer


async def test_a_question_is_sent_as_the_api_wants_it() -> None:
    sent: list[tuple[str | None, dict[str, Any]]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        sent.append((request.headers.get("Authorization"), orjson.loads(await request.read())))
        return web.Response(body=_line({"content": "42"}, "stop"))

    async with _provider(answer) as provider:
        await provider.ask()
        await provider.chat_model.ask(QUESTION, provider.listener, max_output_tokens=50)

    [(key, payload), (_, bounded)] = sent
    assert key == "Bearer key"
    assert payload["model"] == "provider-large"
    assert payload["stream"] is True
    assert payload["stream_options"] == {"include_usage": True}
    assert payload["max_completion_tokens"] == 1_000
    assert bounded == payload | {"max_completion_tokens": 50}
    assert [message["role"] for message in payload["messages"]] == ["system", "user"]


async def test_an_answer_tells_its_text_usage_and_why_it_ended() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
    body = _line({"content": "Forty"}) + _line({"content": "-two"}) + _line({}, "length")
    async with _provider(_answering(body + b"data:" + orjson.dumps(usage) + b"\n\ndata:[DONE]\n\n")) as provider:
        answer = await provider.answer()

    message = answer.message
    assert ("".join(provider.listener.texts), provider.listener.chunks) == ("Forty-two", 2)
    assert message.content == "Forty-two"
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (7, 2)
    assert (answer.completion.finish_reason, answer.completion.chunks) == ("length", 2)


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
    async with _provider(_answering(b'{"error": "of yours"}', status, **headers)) as provider:
        failure = await provider.failure()

    assert (failure.reason, failure.is_retryable, failure.retry_after_s) == (reason, is_retryable, retry_after_s)
    assert not failure.has_spoken


async def test_wait_until_a_date_is_counted_from_now() -> None:
    date = format_datetime(utc_now() + timedelta(seconds=60), usegmt=True)
    async with _provider(_answering(b"", 503, **{"Retry-After": date})) as provider:
        failure = await provider.failure()

    assert failure.retry_after_s == pytest.approx(60.0, abs=10.0)


async def test_context_that_is_too_long_is_reported_as_such() -> None:
    body = b'{"error": {"message": "Too many tokens.", "code": "context_length_exceeded"}}'
    async with _provider(_answering(body, 400)) as provider:
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

    async with _provider(answer) as provider:
        failure = await provider.failure()

    assert failure.reason == "MODEL_MISCONFIGURED"


async def test_a_provider_nobody_listens_for_is_unavailable(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        model = a_model(base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
        failure = await Provider(OpenAICompatible(model, session)).failure()

    assert (failure.reason, failure.is_retryable, failure.has_spoken) == ("MODEL_UNAVAILABLE", True, False)


@pytest.mark.parametrize(("spoken", "has_spoken"), [(b"", False), (_line({"content": "Well"}), True)])
@pytest.mark.parametrize(("breaks", "reason"), [("hangs", "MODEL_TIMEOUT"), ("cuts", "MODEL_CUT_OFF")])
async def test_a_stream_that_breaks_says_whether_it_spoke(
    spoken: bytes,
    has_spoken: bool,  # noqa: FBT001 - a parameter of pytest
    breaks: str,
    reason: str,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(spoken + b": still here\n\n")
        if breaks == "hangs":
            await asyncio.Event().wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    async with _provider(answer, read_timeout_s=0.3) as provider:
        failure = await provider.failure()

    if breaks == "cuts" and not has_spoken:
        reason = "MODEL_UNAVAILABLE"
    assert (failure.reason, failure.is_retryable, failure.has_spoken) == (reason, True, has_spoken)


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
    async with _provider(handler, first_token_timeout_s=0.1) as provider:
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
    handler = _beginning_late(_line(token), *[b": keep-alive\n\n"] * 15, _line({"content": "."}, "stop"), pause_s=0.02)
    async with _provider(handler, first_token_timeout_s=0.15) as provider:
        answer = await provider.answer()

    assert answer.completion.finish_reason == "stop"


async def test_model_that_may_begin_late_is_not_cut_by_the_timeout_for_silence() -> None:
    handler = _beginning_late(b"", _line({"content": "42"}, "stop") + b"data: [DONE]\n\n", pause_s=0.2)
    async with _provider(handler, read_timeout_s=0.1, first_token_timeout_s=10.0) as provider:
        assert (await provider.ask()).content == "42"


async def test_cancelling_closes_the_providers_connection() -> None:
    began, closed = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(_line({"content": "Well"}))
        began.set()
        try:
            while request.transport is not None:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.001)
        finally:
            closed.set()
        return response

    async with _provider(answer) as provider, asyncio.timeout(10):
        asking = asyncio.ensure_future(provider.ask())
        await began.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        await closed.wait()


class Pausing(Heard):
    """Signals when the model begins to collect text."""

    def __init__(self, window: float) -> None:
        super().__init__(window=window)
        self.is_gathering = asyncio.Event()

    def until_tick_s(self) -> float:
        self.is_gathering.set()
        return super().until_tick_s()


async def test_what_comes_while_text_gathers_is_heard_at_once_afterwards() -> None:
    listener = Pausing(0.2)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(_line({"content": "Well"}))
        await listener.is_gathering.wait()
        for text in (",", " hm", "."):
            await response.write(_line({"content": text}))
        await response.write(_line({}, "stop"))
        return response

    async with _provider(answer) as provider, asyncio.timeout(10):
        provider.listener = listener
        message = await provider.ask()

    assert message.content == "Well, hm."
    assert listener.windows <= 2


async def test_cancelling_while_text_gathers_closes_the_providers_connection() -> None:
    listener, closed = Pausing(60.0), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(_line({"content": "Well"}))
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()
        return response

    async with _provider(answer) as provider, asyncio.timeout(10):
        provider.listener = listener
        asking = asyncio.ensure_future(provider.ask())
        await listener.is_gathering.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        await closed.wait()


@pytest.mark.parametrize(
    ("fault", "reason", "has_spoken"),
    [
        ("429", "MODEL_RATE_LIMITED", False),
        ("500", "MODEL_UNAVAILABLE", False),
        ("cut@3", "MODEL_CUT_OFF", True),
        ("cut@0", "MODEL_UNAVAILABLE", False),
        ("end_early@3", "MODEL_CUT_OFF", True),
        ("garbage@3", "MODEL_INVALID_ANSWER", True),
        ("hang@3", "MODEL_TIMEOUT", True),
    ],
)
async def test_faults_of_the_simulator_are_known(fault: str, reason: str, has_spoken: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    timeout = aiohttp.ClientTimeout(total=None, sock_read=0.3)
    async with open_simulator(SimulatorSettings(port=0)) as url, aiohttp.ClientSession(timeout=timeout) as session:
        chat_model = OpenAICompatible(a_model(base_url=f"{url}/v1"), session)
        with pytest.raises(ProviderError) as caught:
            await chat_model.ask([HumanMessage(f"[[sim:fault={fault}]]")], Heard())

    assert (caught.value.reason, caught.value.has_spoken) == (reason, has_spoken)


async def test_usage_nobody_told_is_none() -> None:
    async with _provider(_answering(_line({"content": "42"}, "stop"))) as provider:
        message = await provider.ask()

    assert message.usage_metadata is None
