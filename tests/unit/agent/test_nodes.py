"""The graph's nodes and its routing, tested separately."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.agent.runs import a_model
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import Send
from mesh_agent.domain.interrupts import DecidedCall
from mesh_agent.domain.threads import RecalledMemory, Role, Said
from mesh_agent.domain.tools import Effect, ToolResult
from mesh_agent.graph import nodes
from mesh_agent.graph.approval import Reviewed
from mesh_agent.graph.nodes import LAST_ROUND, tool_calls
from mesh_agent.graph.routing import after_model
from mesh_agent.graph.state import RunContext
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import Instructions, Limits, PlannedTool, RunPlan
from mesh_agent.tools.calculate import calculate_tool
from mesh_agent.tools.call import ToolCall
from mesh_agent.tools.registry import MeshTool

CALCULATE = MeshTool(calculate_tool(), Effect.NONE).planned()
ROUNDS = 3


@dataclass
class Surroundings:
    """What a run provides to the graph. `happened` records the order of calls."""

    answer: AIMessage = field(default_factory=lambda: _said_by_model("Fine."))
    models: tuple[Model, ...] = (a_model(),)
    history: Sequence[Said] = ()
    memories: Sequence[RecalledMemory] = ()
    tool_fails: bool = False
    happened: list[str] = field(default_factory=list)
    asked: list[list[BaseMessage]] = field(default_factory=list)
    offered: list[Sequence[PlannedTool]] = field(default_factory=list)

    @property
    def runtime(self) -> Runtime[RunContext]:
        return Runtime(
            context=RunContext(
                message="Now",
                plan=RunPlan(
                    Instructions("Be brief.$memories", "$facts"),
                    models=tuple(model.planned() for model in self.models),
                    tools=(CALCULATE,),
                    history_tokens=100,
                    limits=Limits(rounds=ROUNDS),
                ),
                models=self.models,
                recall=self._recall,
                recent_messages=self._recent_messages,
                ask=self._ask,
                review=lambda call, _: Reviewed(call),
                call_tool=self._call_tool,
            )
        )

    async def _recall(self) -> Sequence[RecalledMemory]:
        return self.memories

    async def _recent_messages(self) -> Sequence[Said]:
        return self.history

    async def _ask(self, messages: list[BaseMessage], tools: Sequence[PlannedTool]) -> AIMessage:
        self.asked.append(messages)
        self.offered.append(tools)
        return self.answer

    async def _call_tool(self, call: ToolCall, call_key: str, decided: DecidedCall | None) -> ToolResult:
        assert decided is None
        self.happened.append(f"call {call.id} as {call_key}")
        return ToolResult(call.id, call.name, call.arguments_json, "42", self.tool_fails)


def _said_by_model(text: str, finish_reason: str | None = "stop", **fields: Any) -> AIMessage:
    return AIMessage(text, response_metadata={"finish_reason": finish_reason}, **fields)


def _call(call_id: str | None, name: str = "calculate", **arguments: object) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "args": arguments}


def _broken(call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"type": "invalid_tool_call", "id": call_id, "name": name, "args": arguments, "error": "Not JSON."}


async def test_first_round_asks_with_memories_best_first_history_and_message() -> None:
    memories = [RecalledMemory("1", "likes tea", 0.9), RecalledMemory("2", "lives in Rome", 0.5)]
    history = [Said(Role.ASSISTANT, "Hello!"), Said(Role.USER, "Hi")]
    around = Surroundings(memories=memories, history=history)

    state = await nodes.model({"messages": [], "rounds": 0}, runtime=around.runtime)

    window = [
        SystemMessage("Be brief.- likes tea\n- lives in Rome"),
        HumanMessage("Hi"),
        ChatMessage(content="Hello!", role="assistant"),
        HumanMessage("Now"),
    ]
    assert around.asked == [window]
    assert state["messages"] == [*window, around.answer]


async def test_first_round_fits_the_largest_model_that_may_be_asked() -> None:
    history = [Said(Role.USER, "x" * 200)]
    models = (a_model(), a_model("tiny", context_tokens=60, max_output_tokens=30))
    around = Surroundings(history=history, models=models)

    await nodes.model({"messages": [], "rounds": 0}, runtime=around.runtime)

    assert around.asked == [[SystemMessage("Be brief."), HumanMessage("x" * 200), HumanMessage("Now")]]


async def test_later_round_asks_with_what_the_rounds_before_left() -> None:
    around = Surroundings(memories=[RecalledMemory("1", "likes tea", 0.9)], history=[Said(Role.USER, "Hi")])
    before: list[BaseMessage] = [HumanMessage("Now"), _said_by_model("", tool_calls=[_call("a")])]

    state = await nodes.model({"messages": before, "rounds": 1}, runtime=around.runtime)

    assert around.asked == [before]
    assert state["messages"] == [around.answer]


@pytest.mark.parametrize(
    ("reported", "finish_reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
        ("eos", "stop"),
        (None, "stop"),
    ],
)
async def test_a_model_may_end_for_the_reasons_of_the_contract_only(reported: str | None, finish_reason: str) -> None:
    around = Surroundings(answer=_said_by_model("Fine.", reported))

    state = await nodes.model({"messages": [], "rounds": 0}, runtime=around.runtime)

    assert (state["rounds"], state["finish_reason"]) == (1, finish_reason)
    assert around.offered == [(CALCULATE,)]


async def test_the_last_round_is_asked_for_without_tools() -> None:
    around = Surroundings()

    state = await nodes.model({"messages": [], "rounds": ROUNDS - 1}, runtime=around.runtime)

    assert around.offered == [()]
    assert (state["rounds"], state["finish_reason"]) == (ROUNDS, "tool_rounds")


@pytest.mark.parametrize(("fails", "status"), [(False, "success"), (True, "error")])
async def test_a_call_is_known_by_its_round_and_place(fails: bool, status: str) -> None:  # noqa: FBT001 - a parameter of pytest
    around = Surroundings(tool_fails=fails)
    answer = _said_by_model("", tool_calls=[_call("a"), _call("b", expression="6 * 7")])

    state = await nodes.tools({"call_index": 1, "round": 3, "messages": [answer]}, runtime=around.runtime)

    assert around.happened == ["call b as 3:1"]
    reported = {"is_unknown": False, "mesh_run": ""}
    message = ToolMessage("42", tool_call_id="b", name="calculate", status=status, response_metadata=reported)
    assert state == {"messages": [message]}


def test_calls_are_told_with_their_arguments() -> None:
    message = AIMessage("", tool_calls=[_call("a", expression="1"), _call("b", "current_time")])

    assert tool_calls(message) == [ToolCall("a", "calculate", {"expression": "1"}), ToolCall("b", "current_time", {})]


@pytest.mark.parametrize("message", [AIMessage("Fine."), HumanMessage("call calculate"), SystemMessage("x"), "text"])
def test_what_asks_for_nothing_has_no_calls(message: object) -> None:
    assert tool_calls(message) == []


def test_calls_that_cannot_be_read_come_last_with_what_was_written() -> None:
    message = AIMessage(
        "",
        tool_calls=[_call("a")],
        invalid_tool_calls=[_broken("b", "calculate", '{"expression": "1'), _broken(None, None, None)],
    )

    assert tool_calls(message) == [
        ToolCall("a", "calculate", {}),
        ToolCall("b", "calculate", {"unreadable": '{"expression": "1'}, fault="Not JSON."),
        ToolCall("invalid_1", "", {"unreadable": None}, fault="Not JSON."),
    ]


@given(st.integers(0, 8), st.integers(0, 8))
def test_calls_without_an_id_get_one_each(valid: int, broken: int) -> None:
    """A result without a call id could not be matched to its call."""
    message = AIMessage(
        "",
        tool_calls=[_call(None) for _ in range(valid)],
        invalid_tool_calls=[_broken(None, "x", "") for _ in range(broken)],
    )

    ids = [call.id for call in tool_calls(message)]

    assert len(set(ids)) == valid + broken
    assert all(ids)


async def test_an_answer_without_calls_ends_the_run() -> None:
    assert (
        await after_model({"messages": [HumanMessage("Hi"), AIMessage("Fine.")], "rounds": 1, "finish_reason": "stop"})
        == "__end__"
    )


async def test_each_call_becomes_a_task_with_the_answer_it_stands_in() -> None:
    answer = AIMessage("", tool_calls=[_call("a"), _call("b")], invalid_tool_calls=[_broken("c", "x", "{")])

    tasks = await after_model({"messages": [HumanMessage("Hi"), answer], "rounds": 1, "finish_reason": "stop"})

    assert tasks == [Send("tools", {"call_index": index, "round": 1, "messages": [answer]}) for index in range(3)]


async def test_an_answer_whose_only_call_cannot_be_read_goes_to_the_tools() -> None:
    answer = AIMessage("", invalid_tool_calls=[_broken("c", "x", "{")])

    assert await after_model({"messages": [answer], "rounds": 1, "finish_reason": "stop"}) != "__end__"


@pytest.mark.parametrize(("rounds", "ends"), [(ROUNDS - 1, False), (ROUNDS, True), (ROUNDS + 1, True)])
async def test_after_the_last_round_calls_are_not_followed(rounds: int, ends: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    around = Surroundings(answer=_said_by_model("", "tool_calls", tool_calls=[_call("a")]))

    state = await nodes.model({"messages": [], "rounds": rounds - 1}, runtime=around.runtime)

    assert (await after_model(state) == "__end__") == ends
    assert (state["finish_reason"] == LAST_ROUND) == ends
