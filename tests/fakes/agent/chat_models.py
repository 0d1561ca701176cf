"""Chat models with scripted answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage, BaseMessage
from mesh_agent.llm.completion import Completion, TextListener
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.provider import ChatAnswer, ChatProvider
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import NO_PARAMETERS, ModelParameters, ToolSchema


@dataclass
class Heard:
    """Records what models report. `windows` counts how often a window to collect text was opened (see `window`)."""

    texts: list[str] = field(default_factory=list)
    chunks: int = 0
    models: list[str] = field(default_factory=list)
    window: float = 0.0
    windows: int = 0

    def on_model(self, model: Model) -> None:
        self.models.append(model.name)

    def on_text(self, text: str, chunks: int = 1) -> None:
        self.texts.append(text)
        self.chunks += chunks

    def until_tick_s(self) -> float:
        self.windows += 1
        return self.window


@dataclass
class ScriptedChatModel:
    """Each call takes one entry of `script`: a text or an error. An error with `has_spoken` comes after one word.

    `usage` is the tokens that the provider reports; None if it reports none.
    """

    script: list[str | ProviderError] = field(default_factory=list)
    usage: tuple[int, int] | None = (10, 20)
    asked_at: list[float] = field(default_factory=list)
    received: list[list[BaseMessage]] = field(default_factory=list)
    asked_with: Sequence[ToolSchema] = ()
    """The tools of the last call."""
    max_output_tokens: int | None = None
    """The limit of the last call."""
    parameters: ModelParameters = NO_PARAMETERS
    """Those of the last call."""
    now: Callable[[], float] = lambda: 0.0

    async def ask(
        self,
        messages: list[BaseMessage],
        listener: TextListener,
        tools: Sequence[ToolSchema] = (),
        max_output_tokens: int | None = None,
        parameters: ModelParameters = NO_PARAMETERS,
    ) -> ChatAnswer:
        self.asked_at.append(self.now())
        self.received.append(messages)
        self.asked_with, self.max_output_tokens, self.parameters = tools, max_output_tokens, parameters
        step = self.script.pop(0)
        if isinstance(step, ProviderError):
            if step.has_spoken:
                listener.on_text("Well")
            raise step
        listener.on_text(step)
        message = AIMessage(step)
        if self.usage is not None:
            read, written = self.usage
            message.usage_metadata = {
                "input_tokens": read,
                "output_tokens": written,
                "total_tokens": read + written,
            }
        return ChatAnswer(message, Completion(parts=[step], finish_reason=Finish.END, chunks=1))


def by_name(**models: ScriptedChatModel) -> dict[str, ChatProvider]:
    return {**models}
