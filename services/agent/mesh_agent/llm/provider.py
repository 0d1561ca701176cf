"""The port to model providers. Each wire implements it in a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from langchain_core.messages import AIMessage, BaseMessage

from mesh_agent.llm.completion import Completion, TextListener
from mesh_agent.plans.plan import NO_PARAMETERS, ModelParameters, ToolSchema


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """An answer as a message, and the completion that it was made of."""

    message: AIMessage
    completion: Completion


class ChatProvider(Protocol):
    """One model at one provider."""

    async def ask(
        self,
        messages: list[BaseMessage],
        listener: TextListener,
        tools: Sequence[ToolSchema] = (),
        max_output_tokens: int | None = None,
        parameters: ModelParameters = NO_PARAMETERS,
    ) -> ChatAnswer:
        """`max_output_tokens` in place of the model's own. Raises ProviderError; never sends the same request again."""
