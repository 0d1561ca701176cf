"""The chat model: langchain-openai's request and answer, with our stream reader in between.

langchain-openai formats messages and tools for OpenAI-compatible servers and parses the answers. Its own streaming
costs 13 ms per turn in per-token objects and callbacks (measured), so text goes to a plain function. Its `ainvoke`
costs four times as much as building the request and parsing the answer, for unused callbacks and a separate task.
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
    """An answer as parsed by LangChain, and the completion from the stream."""

    message: AIMessage
    completion: Completion


class StreamingChatModel(ChatOpenAI):
    """Call it by `ask`, which streams. LangChain's own methods would bypass the listener and the session."""

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
            raise TypeError("an answer must be parsed as an AIMessage")
        return ChatAnswer(message, completion)
