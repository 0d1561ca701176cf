"""A model server of the test's own, and the agent's client of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
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

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUESTION: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("6 * 7?")]


def line(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    chunk = {"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


@dataclass
class Provider:
    """A provider whose responses a test sets, and the chat model that calls it."""

    chat_model: OpenAICompatible
    base_url: str = ""
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
async def open_provider(
    handler: Handler, *, read_timeout_s: float = 10.0, first_token_timeout_s: float | None = None
) -> AsyncIterator[Provider]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=read_timeout_s)
    async with TestServer(app) as server, aiohttp.ClientSession(timeout=timeout) as session:
        model = replace(a_model(base_url=str(server.make_url("/v1/"))), first_token_timeout_s=first_token_timeout_s)
        yield Provider(OpenAICompatible(model, session), model.base_url)


def answering(body: bytes, status: int = 200, **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(body=body, status=status, headers=headers)

    return answer
