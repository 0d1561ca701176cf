"""One call to a provider over HTTP: the request, and how complete and broken responses are interpreted."""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from fakes.agent.chat_models import Heard
from fakes.agent.runs import a_model
from langchain_core.messages import HumanMessage
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.provider_errors import ProviderError
from simulator.server import open_simulator
from simulator.settings import SimulatorSettings
from support.model_provider import QUESTION, Provider, answering, line, open_provider


async def test_a_question_is_sent_as_the_api_wants_it() -> None:
    sent: list[tuple[str | None, dict[str, Any]]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        sent.append((request.headers.get("Authorization"), orjson.loads(await request.read())))
        return web.Response(body=line({"content": "42"}, "stop"))

    async with open_provider(answer) as provider:
        await provider.ask()
        await provider.chat_model.ask(QUESTION, provider.listener, max_output_tokens=50)

    [(key, payload), (_, bounded)] = sent
    assert key == "Bearer key"
    assert payload["model"] == "provider-large"
    assert payload["stream"] is True
    assert payload["stream_options"] == {"include_usage": True}
    assert payload["max_tokens"] == 1_000
    assert bounded == payload | {"max_tokens": 50}
    assert [message["role"] for message in payload["messages"]] == ["system", "user"]


async def test_an_answer_tells_its_text_usage_and_why_it_ended() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
    body = line({"content": "Forty"}) + line({"content": "-two"}) + line({}, "length")
    async with open_provider(answering(body + b"data:" + orjson.dumps(usage) + b"\n\ndata:[DONE]\n\n")) as provider:
        answer = await provider.answer()

    message = answer.message
    assert ("".join(provider.listener.texts), provider.listener.chunks) == ("Forty-two", 2)
    assert message.content == "Forty-two"
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (7, 2)
    assert (answer.completion.finish_reason, answer.completion.chunks) == ("length", 2)


async def test_a_provider_nobody_listens_for_is_unavailable(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        model = a_model(base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
        failure = await Provider(OpenAICompatible(model, session)).failure()

    assert (failure.reason, failure.is_retryable, failure.has_spoken) == ("MODEL_UNAVAILABLE", True, False)


@pytest.mark.parametrize(("spoken", "has_spoken"), [(b"", False), (line({"content": "Well"}), True)])
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

    async with open_provider(answer, read_timeout_s=0.3) as provider:
        failure = await provider.failure()

    if breaks == "cuts" and not has_spoken:
        reason = "MODEL_UNAVAILABLE"
    assert (failure.reason, failure.is_retryable, failure.has_spoken) == (reason, True, has_spoken)


async def test_cancelling_closes_the_providers_connection() -> None:
    began, closed = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line({"content": "Well"}))
        began.set()
        try:
            while request.transport is not None:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.001)
        finally:
            closed.set()
        return response

    async with open_provider(answer) as provider, asyncio.timeout(10):
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
        await response.write(line({"content": "Well"}))
        await listener.is_gathering.wait()
        for text in (",", " hm", "."):
            await response.write(line({"content": text}))
        await response.write(line({}, "stop"))
        return response

    async with open_provider(answer) as provider, asyncio.timeout(10):
        provider.listener = listener
        message = await provider.ask()

    assert message.content == "Well, hm."
    assert listener.windows <= 2


async def test_cancelling_while_text_gathers_closes_the_providers_connection() -> None:
    listener, closed = Pausing(60.0), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line({"content": "Well"}))
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()
        return response

    async with open_provider(answer) as provider, asyncio.timeout(10):
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
    async with open_provider(answering(line({"content": "42"}, "stop"))) as provider:
        message = await provider.ask()

    assert message.usage_metadata is None


async def test_a_redirect_is_not_followed_and_means_a_wrong_address() -> None:
    async def redirect(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": str(elsewhere.base_url) + "chat/completions"})

    async with (
        open_provider(answering(line({"content": "stolen"}, "stop"))) as elsewhere,
        open_provider(redirect) as provider,
    ):
        failure = await provider.failure()

    assert (failure.reason, failure.status) == ("MODEL_MISCONFIGURED", 307)
