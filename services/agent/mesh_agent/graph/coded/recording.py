"""What a graph in code has got from outside, recorded before the graph sees it.

LangGraph runs a node again from its start: after an interrupt, after an error that its retry policy covers, and after
the loss of a replica. LangGraph's own tasks are not found again in a retry, and their ids differ after one, so results
are recorded under keys of ours: the task of the node, which has the same id each time, and the number of the call in
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langgraph.runtime import get_runtime

from mesh_agent.checkpoint import RunCheckpoints

# In a message's `response_metadata`: its place in the order of what the execution has recorded.
_NUMBER: Final = "mesh_number"


AGENT: Final = "mesh_agent"
"""In a message's `response_metadata`: the agent of a team that wrote it; empty for the run's own assistant."""


@dataclass(frozen=True, slots=True)
class Place:
    """A call in a node. `checkpoint_id` is that of the step that the node belongs to, `scope` its place in the node."""

    key: str
    checkpoint_id: str
    scope: str = ""


class Places:
    """Numbers the calls of each node, anew for each time that it runs. `scope` tells apart who works in one node."""

    def __init__(self, scope: str = "") -> None:
        self.scope = scope
        self._counts: dict[tuple[str, int], int] = {}

    def next(self) -> Place:
        """Raises RuntimeError outside a node."""
        info = get_runtime().execution_info
        if info is None:
            raise RuntimeError("not inside a node of a graph")
        node = info.task_id, info.node_attempt
        number = self._counts[node] = self._counts.get(node, -1) + 1
        scope = f"{self.scope}{number}"
        return Place(f"{info.task_id}:{scope}", info.checkpoint_id, scope)


class Recording:
    def __init__(self, checkpoints: RunCheckpoints, earlier: Sequence[Any]) -> None:
        """`earlier`: what earlier attempts have recorded."""
        self._checkpoints = checkpoints
        self._by_key: dict[str, BaseMessage] = {one["key"]: one["message"] for one in earlier}
        self._count = len(self._by_key)

    def get(self, place: Place) -> BaseMessage | None:
        known = self._by_key.get(place.key)
        # A node may change what it gets.
        return known.model_copy(deep=True) if known else None

    async def add(self, place: Place, message: BaseMessage) -> None:
        """Returns when the message is durable. Raises LeaseLostError."""
        message.response_metadata[_NUMBER] = self._count
        self._count += 1
        await self._checkpoints.record(place.checkpoint_id, place.key, {"message": message})
        self._by_key[place.key] = message.model_copy(deep=True)


def in_order(earlier: Sequence[Any]) -> list[BaseMessage]:
    """The messages that earlier attempts have recorded, in the order in which they came."""
    messages: list[BaseMessage] = [one["message"] for one in earlier]
    return sorted(messages, key=lambda message: int(message.response_metadata[_NUMBER]))
