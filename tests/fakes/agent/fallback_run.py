"""Two models with scripted answers behind the fallback, and the errors that they give."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from fakes.agent.chat_models import Heard, ScriptedChatModel, by_name
from fakes.agent.runs import a_model
from fakes.clock import FakeClock
from langchain_core.messages import BaseMessage, HumanMessage
from mesh_agent.graph.window import RunWindow
from mesh_agent.llm.breaker import Breaker
from mesh_agent.llm.fallback import FallbackModel, ModelAnswer, Round
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import ToolSchema

LARGE, SMALL = a_model("large"), a_model("small", capabilities=())
QUESTION: list[BaseMessage] = [HumanMessage("How are you?")]


def away(retry_after_s: float | None = None) -> ProviderError:
    return ProviderError("MODEL_UNAVAILABLE", is_retryable=True, retry_after_s=retry_after_s)


def refused() -> ProviderError:
    return ProviderError("MODEL_REFUSED", is_retryable=False)


def silent() -> ProviderError:
    return ProviderError("MODEL_TIMEOUT", is_retryable=True)


def misconfigured() -> ProviderError:
    return ProviderError("MODEL_MISCONFIGURED", is_retryable=False, status=401)


def too_long() -> ProviderError:
    return ProviderError("CONTEXT_TOO_LONG", is_retryable=False)


def cut_off() -> ProviderError:
    return ProviderError("MODEL_CUT_OFF", is_retryable=True, has_spoken=True)


@dataclass
class Run:
    """Two models and the events of a run on them."""

    large: ScriptedChatModel = field(default_factory=ScriptedChatModel)
    small: ScriptedChatModel = field(default_factory=ScriptedChatModel)
    clock: FakeClock = field(default_factory=FakeClock)
    listener: Heard = field(default_factory=Heard)

    def __post_init__(self) -> None:
        for model in (self.large, self.small):
            model.now = lambda: asyncio.get_running_loop().time()
        self.fallback = FallbackModel(by_name(large=self.large, small=self.small), Breaker(self.clock))

    async def answer(
        self,
        *,
        models: Sequence[Model] = (LARGE, SMALL),
        tools: Sequence[ToolSchema] = (),
        messages: list[BaseMessage] = QUESTION,
        deadline_s: float = math.inf,
    ) -> ModelAnswer:
        window = RunWindow(messages, "".join)
        return await self.fallback.answer(models, Round(window, tools, self.listener, deadline_s))

    @property
    def asked(self) -> list[str]:
        return self.listener.models

    @property
    def heard(self) -> list[str]:
        return self.listener.texts

    async def failure(
        self,
        *,
        models: Sequence[Model] = (LARGE, SMALL),
        messages: list[BaseMessage] = QUESTION,
        deadline_s: float = math.inf,
    ) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.answer(models=models, messages=messages, deadline_s=deadline_s)
        return caught.value

    async def break_large(self) -> None:
        """Lets five runs on this model alone fail."""
        for _ in range(5):
            self.large.script.append(away(retry_after_s=60.0))
            await self.failure(models=(LARGE,))
        self.asked.clear()


def a_schema(name: str, description: str = "") -> ToolSchema:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {}}}
