"""One question to a provider, asked with given quirks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp
from langchain_core.messages import AIMessage, BaseMessage

from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.provider_errors import EMPTY_ANSWER, ProviderError
from mesh_agent.llm.quirks import Quirks
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import ToolSchema

MAX_REQUESTS: Final = 40
MAX_OUTPUT_TOKENS: Final = 64
# llama.cpp reports what its template does not take as 500.
_REFUSED: Final = (400, 413, 422, 500)


class DoctorError(Exception):
    """The questions cannot be asked or continued. The text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. A model that only reasons within the limit has accepted the request but says nothing."""

    is_accepted: bool
    message: AIMessage | None = None
    has_usage: bool = False
    is_cut: bool = False
    """Whether the answer ended at the limit of its length."""


class _Nobody:
    """Listens to no text."""

    def on_text(self, text: str, chunks: int = 1) -> None:
        pass

    def until_tick_s(self) -> float:
        return 0.0


@dataclass(slots=True)
class Examination:
    """`quirks` are those found so far."""

    model: Model
    session: aiohttp.ClientSession
    quirks: Quirks
    requests: int = field(default=0, init=False)

    async def ask(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[ToolSchema] = (),
        *,
        max_output_tokens: int = MAX_OUTPUT_TOKENS,
        **changes: Any,
    ) -> Reply:
        """The reply to a request with `changes` to the quirks. Raises DoctorError if there is none."""
        if self.requests == MAX_REQUESTS:
            raise DoctorError(f"gave up after {MAX_REQUESTS} requests")
        self.requests += 1
        model = replace(self.model, quirks=replace(self.quirks, **changes))
        provider = OpenAICompatible(model, self.session, is_adaptive=False)
        try:
            answer = await provider.ask(list(messages), _Nobody(), tools, max_output_tokens)
        except ProviderError as error:
            if error.reason == EMPTY_ANSWER:
                return Reply(is_accepted=True, is_cut=not error.is_retryable)
            if error.status in _REFUSED and error.reason in ("MODEL_REFUSED", "MODEL_UNAVAILABLE", "CONTEXT_TOO_LONG"):
                return Reply(is_accepted=False)
            status = f" (status {error.status})" if error.status else ""
            raise DoctorError(f"{error.reason}{status}") from error
        return Reply(
            is_accepted=True,
            message=answer.message,
            has_usage=answer.message.usage_metadata is not None,
            is_cut=answer.completion.finish_reason is Finish.LENGTH,
        )

    async def first_accepted(
        self, candidates: Sequence[dict[str, Any]], messages: Sequence[BaseMessage], tools: Sequence[ToolSchema] = ()
    ) -> dict[str, Any] | None:
        """The first changes with which the server takes the messages; they are kept."""
        for changes in candidates:
            if (await self.ask(messages, tools, **changes)).is_accepted:
                self.quirks = replace(self.quirks, **changes)
                return changes
        return None
