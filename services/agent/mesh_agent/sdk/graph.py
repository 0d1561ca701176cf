"""Graphs in code: how a package defines one, and what the mesh lends its nodes (docs/graphs.md)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.graph import StateGraph
from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class GraphDefinition:
    """A graph as an entry point of the group `mesh.graphs` names it. `build` returns a graph that is not compiled."""

    build: Callable[[], StateGraph[Any, Any, Any, Any]]
    config: type[BaseModel] | None = None


def graph(
    *, config: type[BaseModel] | None = None
) -> Callable[[Callable[[], StateGraph[Any, Any, Any, Any]]], GraphDefinition]:
    """Makes a function that builds a `StateGraph` a definition. `config` validates what an assistant configures."""

    def define(build: Callable[[], StateGraph[Any, Any, Any, Any]]) -> GraphDefinition:
        return GraphDefinition(build, config)

    return define


@dataclass(frozen=True, slots=True)
class Rejection:
    """A person refused to answer. `message` may be empty."""

    message: str = ""


@dataclass(eq=False, init=False, repr=False)
class Run[ConfigT](ABC):
    """The run that a node belongs to: `runtime.context` of a node whose graph has `context_schema=Run`.

    Nodes run again from their start after an interrupt and after the loss of a replica. What a method of this class
    has returned by then is recorded under the node and the number of the call in it, and is returned again: no model
    is asked twice, and no tool is called twice. So a node makes the same calls in the same order each time.
    """

    message: str
    """What the user said."""
    config: ConfigT
    """What the assistant configures, as the definition's model."""
    run_id: UUID
    thread_id: UUID
    organisation_id: UUID
    user_id: UUID
    tools: tuple[str, ...]
    """Names of the tools that the run has."""

    @abstractmethod
    async def history(self) -> list[BaseMessage]:
        """The newest messages of the thread before this run, oldest first, within the plan's budget."""

    @abstractmethod
    async def recall(self) -> list[str]:
        """What memory knows about the user for this message, best first. Empty if memory is unavailable or off."""

    @abstractmethod
    async def ask(
        self, messages: Sequence[BaseMessage], *, tools: Sequence[str] = (), to_user: bool = False
    ) -> AIMessage:
        """A model's complete answer, with the plan's fallbacks and budgets.

        `tools`: those that the model may call; pass the answer to `call_tools`. `to_user`: the text is streamed to the
        user and is part of the run's answer.

        Raises ProviderError if no model answers, ValueError for a tool that the run does not have.
        """

    @abstractmethod
    async def say(self, text: str) -> None:
        """Streams a text to the user, as a paragraph of the run's answer."""

    @abstractmethod
    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolMessage:
        """The result of one call, by the tool's policy: a call that needs approval ends the run until a person has
        decided, and a `once` call is never repeated. `status` is `error` if it failed or was rejected."""

    @abstractmethod
    async def call_tools(self, answer: AIMessage) -> list[ToolMessage]:
        """The results of all calls of an answer, in their order. What needs approval is asked for together."""

    @abstractmethod
    async def ask_person(self, question: str, schema: Mapping[str, Any] | None = None) -> Any:
        """Ends the run until a person answers; then the answer, which fits the JSON Schema, or a `Rejection`.

        Without a schema the answer is a text.
        """

    @abstractmethod
    def emit(self, name: str, data: Mapping[str, Any]) -> None:
        """Sends the client an event `custom`. `name`: 1 to 64 lower-case letters, digits, `_`, `-` and `.`; `data` is
        JSON of 65,536 bytes at most. Raises ValueError for anything else."""
