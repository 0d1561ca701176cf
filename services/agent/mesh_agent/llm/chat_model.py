"""The chat model: langchain-openai's request and answer, our stream reader in between.

langchain-openai knows how messages and tools are put for OpenAI-compatible servers and how answers are read. Its own
streaming costs 13 ms a turn in per-token objects and callbacks (measured), so text goes to a plain function; and
`ainvoke`, with callbacks that nobody hears and a task of its own, four times what the request and the answer cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from langchain_core.messages import AIMessage, BaseMessage
from langchain_openai import ChatOpenAI
from opentelemetry import propagate
from pydantic import PrivateAttr, SecretStr

from mesh_agent.llm.completion_stream import Completion, TextListener, read_completion
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import ToolSchema


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """An answer as LangChain reads it, and what came of the stream."""

    message: AIMessage
    completion: Completion


class StreamingChatModel(ChatOpenAI):
    """Asked by `ask`, which streams. LangChain's own ways to ask would go round the listener and the session."""

    _session: aiohttp.ClientSession = PrivateAttr()
    _url: str = PrivateAttr()
    _headers: dict[str, str] = PrivateAttr()

    @classmethod
    def of(cls, model: Model, session: aiohttp.ClientSession) -> "StreamingChatModel":
        chat_model = cls(
            model=model.provider_model,
            base_url=model.base_url,
            api_key=SecretStr(model.api_key or "none"),
            max_completion_tokens=model.max_output_tokens,
            max_retries=0,
        )
        chat_model._session = session
        chat_model._url = f"{model.base_url.rstrip('/')}/chat/completions"
        chat_model._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if model.api_key:
            chat_model._headers["Authorization"] = f"Bearer {model.api_key}"
        return chat_model

    async def ask(
        self,
        messages: list[BaseMessage],
        listener: TextListener,
        tools: Sequence[ToolSchema] = (),
        max_output_tokens: int | None = None,
    ) -> ChatAnswer:
        """`max_output_tokens` in place of the model's own. Raises ProviderError; never retries by itself."""
        offered: dict[str, Any] = {"tools": list(tools)} if tools else {}
        payload = self._get_request_payload(messages, **offered)
        payload |= {"stream": True, "stream_options": {"include_usage": True}}
        if max_output_tokens is not None:
            payload["max_completion_tokens"] = max_output_tokens
        headers = dict(self._headers)
        propagate.inject(headers)
        completion = await read_completion(
            self._session, self._url, headers=headers, payload=payload, listener=listener
        )
        message = self._create_chat_result(completion.as_response()).generations[0].message
        if not isinstance(message, AIMessage):
            raise TypeError("an answer is read as an AIMessage")
        return ChatAnswer(message, completion)
