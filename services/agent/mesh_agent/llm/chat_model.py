"""The chat model of the graph: langchain-openai's request and answer, our stream reader in between.

langchain-openai knows how messages and tools are put for OpenAI-compatible servers and how answers are read; its own
streaming costs 13 ms a turn in per-token objects and callbacks (measured). So text goes to a plain function.
"""

from typing import Any

import aiohttp
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from opentelemetry import propagate
from pydantic import PrivateAttr, SecretStr

from mesh_agent.llm.completion_stream import TextListener, read_completion
from mesh_agent.llm.registry import Model

_LISTENER = "listener"
"""Name of the invocation argument that hears the text: `model.ainvoke(messages, listener=…)`, a TextListener."""


class StreamingChatModel(ChatOpenAI):
    """`ainvoke(messages, listener=…)` streams. Raises ProviderError; never retries by itself."""

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

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - no per-token callbacks
        **kwargs: Any,
    ) -> ChatResult:
        listener: TextListener = kwargs.pop(_LISTENER)
        payload = self._get_request_payload(messages, stop=stop, **kwargs)
        payload |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = dict(self._headers)
        propagate.inject(headers)
        completion = await read_completion(
            self._session, self._url, headers=headers, payload=payload, listener=listener
        )
        result = self._create_chat_result(completion.as_response())
        result.generations[0].message.response_metadata["chunks"] = completion.chunks
        return result
