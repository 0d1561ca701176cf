"""Which model is called, and how often, when servers answer with statuses, ask for waits or stay silent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
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
from fakes.clock import FakeClock
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from mesh_agent.graph.window import RunWindow
from mesh_agent.llm.breaker import Breaker
from mesh_agent.llm.fallback import FallbackModel, ModelAnswer, Round
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.provider import ChatProvider
from mesh_agent.llm.provider_errors import ProviderError, run_error_of
from mesh_agent.llm.quirks import Quirks
from mesh_common.clock import utc_now

TALK: list[BaseMessage] = [
    SystemMessage("Be brief."),
    *(HumanMessage(f"{number} " + "word " * 100) for number in range(10)),
    HumanMessage("Now"),
]
TOO_LONG = {"error": {"message": "Too many tokens.", "code": "context_length_exceeded"}}


@dataclass(frozen=True)
class Refuse:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


class Hang:
    """Accepts the request and sends nothing."""


@dataclass
class Providers:
    """The models `large` and `small`, each on its own server. `script` is what `large` does first; then it answers."""

    script: list[Refuse | Hang]
    fallback: FallbackModel
    models: Sequence[Any]
    listener: Heard = field(default_factory=Heard)
    requests: list[tuple[str, int]] = field(default_factory=list)
    """The model, and the number of messages it received."""

    async def ask(self, *models: str) -> ModelAnswer:
        asked = [model for model in self.models if model.name in (models or ("large", "small"))]
        return await self.fallback.answer(asked, Round(RunWindow(TALK, "".join), (), self.listener))

    @property
    def called(self) -> list[str]:
        return [model for model, _ in self.requests]


@asynccontextmanager
async def _providers(*script: Refuse | Hang, first_token_timeout_s: float = 20.0) -> AsyncIterator[Providers]:
    is_over = asyncio.Event()

    async def respond(request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        model = body["model"].removeprefix("provider-")
        providers.requests.append((model, len(body["messages"])))
        step = providers.script.pop(0) if model == "large" and providers.script else None
        if isinstance(step, Hang):
            await is_over.wait()
        if isinstance(step, Refuse):
            return web.Response(status=step.status, headers=step.headers, body=orjson.dumps(step.body))
        chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Fine."}, "finish_reason": "stop"}]}
        return web.Response(body=b"data: " + orjson.dumps(chunk) + b"\n\ndata: [DONE]\n\n")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", respond)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url("/v1"))
        models = [
            replace(a_model(name, base_url=url), first_token_timeout_s=first_token_timeout_s, quirks=Quirks())
            for name in ("large", "small")
        ]
        chat_models: dict[str, ChatProvider] = {model.name: OpenAICompatible(model, session) for model in models}
        providers = Providers(list(script), FallbackModel(chat_models, Breaker(FakeClock())), models)
        yield providers
        is_over.set()


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503, 529])
async def test_temporary_status_is_retried(status: int) -> None:
    async with _providers(Refuse(status, {"Retry-After": "0"})) as providers:
        answer = await providers.ask()

    assert (answer.model.name, providers.called) == ("large", ["large", "large"])


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_misconfigured_model_is_passed_over_now_and_by_the_next_run(status: int) -> None:
    async with _providers(Refuse(status)) as providers:
        answers = [await providers.ask() for _ in range(2)]

    assert [answer.model.name for answer in answers] == ["small", "small"]
    assert providers.called == ["large", "small", "small"]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_run_is_told_that_its_only_model_is_misconfigured(status: int) -> None:
    async with _providers(Refuse(status)) as providers:
        with pytest.raises(ProviderError) as caught:
            await providers.ask("large")

    error = run_error_of(caught.value)
    assert (error.reason, error.is_retryable) == ("MODEL_MISCONFIGURED", False)


@pytest.mark.parametrize("status", [429, 503])
async def test_date_some_seconds_ahead_passes_on_to_the_next_model(status: int) -> None:
    date = format_datetime(utc_now() + timedelta(seconds=30), usegmt=True)
    async with _providers(Refuse(status, {"Retry-After": date})) as providers:
        answer = await providers.ask()

    assert (answer.model.name, providers.called) == ("small", ["large", "small"])


@pytest.mark.parametrize("headers", [{"Retry-After": "0.5"}, {"retry-after-ms": "500"}])
async def test_fraction_of_a_second_is_waited_for(headers: dict[str, str]) -> None:
    async with _providers(Refuse(429, headers)) as providers:
        began_s = asyncio.get_running_loop().time()
        answer = await providers.ask()
        took_s = asyncio.get_running_loop().time() - began_s

    assert (answer.model.name, providers.called) == ("large", ["large", "large"])
    assert took_s >= 0.5


@pytest.mark.parametrize("text", ["\u00b2", "-5", "nan", "soon"])
async def test_wait_that_cannot_be_read_is_ignored(text: str) -> None:
    async with _providers(Refuse(503, {"Retry-After": text})) as providers:
        answer = await providers.ask()

    assert (answer.model.name, providers.called) == ("large", ["large", "large"])


async def test_silent_model_is_passed_over_after_its_timeout() -> None:
    async with _providers(Hang(), first_token_timeout_s=0.2) as providers:
        answer = await providers.ask()

    assert (answer.model.name, providers.called) == ("small", ["large", "small"])


async def test_silent_model_is_called_again_if_there_is_no_other() -> None:
    async with _providers(Hang(), first_token_timeout_s=0.2) as providers:
        answer = await providers.ask("large")

    assert (answer.model.name, providers.called) == ("large", ["large", "large"])


async def test_context_that_is_too_long_is_sent_once_more_and_shorter() -> None:
    async with _providers(Refuse(400, body=TOO_LONG)) as providers:
        answer = await providers.ask("large")

    [(_, whole), (_, smaller)] = providers.requests
    assert answer.model.name == "large"
    assert whole == len(TALK)
    assert 2 < smaller < whole


async def test_context_that_stays_too_long_is_reported_as_such() -> None:
    async with _providers(Refuse(400, body=TOO_LONG), Refuse(413, body=TOO_LONG)) as providers:
        with pytest.raises(ProviderError) as caught:
            await providers.ask("large")

    error = run_error_of(caught.value)
    assert (error.reason, error.is_retryable, len(providers.requests)) == ("CONTEXT_TOO_LONG", False, 2)
