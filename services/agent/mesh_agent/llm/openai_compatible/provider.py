"""Providers that speak OpenAI's chat completions.

LangChain's own streaming costs 13 ms per turn in per-token objects and callbacks (measured), so the reader of this
package passes text to a plain function.
"""

from collections.abc import Sequence
from typing import Any

import aiohttp
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableBinding
from langchain_openai import ChatOpenAI
from opentelemetry import propagate
from pydantic import SecretStr

from mesh_agent.llm.completion import TextListener
from mesh_agent.llm.openai_compatible.messages import message_of, request_messages
from mesh_agent.llm.openai_compatible.stream import read_completion
from mesh_agent.llm.provider import ChatAnswer
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import ToolSchema


class OpenAICompatible:
    """A ChatProvider."""

    def __init__(self, model: Model, session: aiohttp.ClientSession) -> None:
        self._model = model
        self._session = session
        # Only describes the tools of requests. It never connects.
        self._chat = ChatOpenAI(
            model=model.provider_model, base_url=model.base_url, api_key=SecretStr("none"), max_retries=0
        )
        base_url = model.base_url.rstrip("/")
        self._url = f"{base_url}/chat/completions"
        self._source = f"{base_url} {model.provider_model}"
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if model.api_key:
            self._headers["Authorization"] = f"Bearer {model.api_key}"

    async def ask(
        self,
        messages: list[BaseMessage],
        listener: TextListener,
        tools: Sequence[ToolSchema] = (),
        max_output_tokens: int | None = None,
    ) -> ChatAnswer:
        headers = dict(self._headers)
        propagate.inject(headers)
        payload = self.payload(messages, tools, max_output_tokens)
        completion = await read_completion(
            self._session,
            self._url,
            headers=headers,
            payload=payload,
            listener=listener,
            first_token_within_s=self._model.first_token_timeout_s,
        )
        return ChatAnswer(message_of(completion, messages, self._source), completion)

    def payload(
        self, messages: list[BaseMessage], tools: Sequence[ToolSchema], max_output_tokens: int | None
    ) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "model": self._model.provider_model,
            "messages": request_messages(messages, self._source),
            "max_completion_tokens": max_output_tokens or self._model.max_output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return payload | (self._offer(tools) if tools else {})

    def _offer(self, tools: Sequence[ToolSchema]) -> dict[str, Any]:
        bound = self._chat.bind_tools([dict(tool) for tool in tools])
        if not isinstance(bound, RunnableBinding):
            raise TypeError("langchain-openai binds tools by a RunnableBinding")
        return dict(bound.kwargs)
