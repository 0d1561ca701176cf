"""Providers that speak OpenAI's chat completions.

LangChain's own streaming costs 13 ms per turn in per-token objects and callbacks (measured), so the reader of this
package passes text to a plain function.
"""

from collections.abc import Sequence
from typing import Any

import aiohttp
from langchain_core.messages import BaseMessage
from opentelemetry import propagate

from mesh_agent.llm.completion import TextListener
from mesh_agent.llm.openai_compatible.messages import message_of
from mesh_agent.llm.openai_compatible.request import RequestForm
from mesh_agent.llm.openai_compatible.stream import read_completion
from mesh_agent.llm.provider import ChatAnswer
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import ToolSchema


class OpenAICompatible:
    """A ChatProvider."""

    def __init__(self, model: Model, session: aiohttp.ClientSession) -> None:
        self._model = model
        self._session = session
        self._form = RequestForm.of(model)
        self._url = f"{model.base_url.rstrip('/')}/chat/completions"
        self._headers = {
            **model.quirks.extra_headers,
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
        }
        if model.api_key:
            self._headers["Authorization"] = f"Bearer {model.api_key}"

    async def ask(
        self,
        messages: list[BaseMessage],
        listener: TextListener,
        tools: Sequence[ToolSchema] = (),
        max_output_tokens: int | None = None,
    ) -> ChatAnswer:
        form = self._form
        return await self._ask(form, messages, listener, form.payload(messages, tools, max_output_tokens))

    async def _ask(
        self, form: RequestForm, messages: list[BaseMessage], listener: TextListener, payload: dict[str, Any]
    ) -> ChatAnswer:
        headers = dict(self._headers)
        propagate.inject(headers)
        completion = await read_completion(
            self._session,
            self._url,
            headers=headers,
            payload=payload,
            listener=listener,
            first_token_within_s=self._model.first_token_timeout_s,
        )
        return ChatAnswer(message_of(completion, messages, form.source, form.quirks.reasoning_fields), completion)
