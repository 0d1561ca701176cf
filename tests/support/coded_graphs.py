"""Graphs in code for tests, installed as a package would install them, and agents that run one of them."""

import json
import operator
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Self, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, Send, interrupt
from mesh_agent.sdk import Rejection, Run, graph
from prometheus_client import REGISTRY
from pydantic import BaseModel, Field, model_validator

from support.agent import AgentUnderTest, agent_settings, running_agent
from support.mesh import TestMesh

type Opening = Callable[..., AbstractAsyncContextManager[AgentUnderTest]]
"""Opens an agent with the graph of this name. `effect` and `approval` are those of its tool `mark`."""

GRAPHS = ("report", "asking", "flaky", "nested", "silent", "crashing", "endless", "untidy", "blocking")


@asynccontextmanager
async def graph_agent(
    mesh: TestMesh,
    model_url: str,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    name: str,
    *,
    config: Mapping[str, Any] | None = None,
    rounds: int = 20,
    **overrides: Any,
) -> AsyncIterator[AgentUnderTest]:
    """An agent whose default assistant is this graph."""
    install(folder)
    monkeypatch.syspath_prepend(folder)
    assistants = folder / "assistants"
    assistants.mkdir(exist_ok=True)
    # YAML contains JSON.
    content = {"kind": "graph", "graph": {"name": name, "config": config or {}}, "limits": {"rounds": rounds}}
    (assistants / "default.yaml").write_text(json.dumps(content))
    fakes = overrides.pop("fakes", {})
    settings = agent_settings(mesh, model_url, AGENT_ASSISTANTS_DIR=str(assistants), **overrides)
    async with running_agent(mesh, settings, **fakes) as agent:
        yield agent


def install(folder: Path) -> None:
    """As an installed distribution tells its entry points."""
    information = folder / "test_graphs-1.0.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: test-graphs\nVersion: 1.0\n")
    points = "".join(f"{name} = support.coded_graphs:{name}\n" for name in (*GRAPHS, "no_graph"))
    (information / "entry_points.txt").write_text(f"[mesh.graphs]\n{points}broken = no_such_module:graph\n")


no_graph = "not a definition"


class Topics(BaseModel):
    topics: int = Field(2, ge=1, le=5)


class Untidy(BaseModel):
    """A configuration whose check raises what pydantic does not expect."""

    fails: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fails:
            raise LookupError("in the check")
        return self


@graph(config=Untidy)
def untidy() -> StateGraph[Any, Any, Any, Any]:
    return _of_one_node("crash", crash, AskingState)


class ReportState(TypedDict, total=False):
    message: str
    topics: list[str]
    found: Annotated[list[str], operator.add]


class Topic(TypedDict):
    topic: str


type Lent = Runtime[Run[Topics]]


def says(text: str) -> list[Any]:
    """What makes the simulator answer with this text."""
    return [HumanMessage(f"[[sim:reply={text}]]")]


async def plan(state: ReportState, runtime: Lent) -> ReportState:  # noqa: ARG001 - LangGraph passes it
    run = runtime.context
    answer = await run.ask(says(" ".join(f"t{number}" for number in range(run.config.topics))))
    return {"topics": answer.text.split()}


async def search(state: Topic, runtime: Lent) -> ReportState:
    answer = await runtime.context.ask(says(f"about {state['topic']}"))
    runtime.context.emit("found", {"topic": state["topic"]})
    return {"found": [answer.text]}


async def publish(state: ReportState, runtime: Lent) -> ReportState:
    run = runtime.context
    await run.say(f"Report on {', '.join(sorted(state['found']))}.")
    result = await run.call("mark", {"token": HumanMessage("t-1").text})
    await run.ask(says(f"It says {result.text}."), to_user=True)
    return {}


def spread(state: ReportState) -> list[Send]:
    return [Send("search", {"topic": topic}) for topic in state["topics"]]


@graph(config=Topics)
def report() -> StateGraph[Any, Any, Any, Any]:
    """Plans, searches in parallel, and calls a tool before it answers."""
    builder: StateGraph[ReportState, Run[Topics], ReportState, ReportState]
    builder = StateGraph(ReportState, context_schema=Run)
    builder.add_node("plan", plan)
    builder.add_node("search", search, input_schema=Topic)
    builder.add_node("publish", publish)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", spread, ["search"])
    builder.add_edge("search", "publish")
    builder.add_edge("publish", END)
    return builder


class AskingState(TypedDict, total=False):
    answer: str


async def ask_twice(_: AskingState, runtime: Runtime[Run[None]]) -> AskingState:
    """Both ways to ask, in one node, which runs three times."""
    run = runtime.context
    asked = await run.ask(says("one"))
    city = await run.ask_person("Which city?", {"type": "string", "minLength": 2})
    if isinstance(city, Rejection):
        return {"answer": f"No city: {city.message}"}
    days = interrupt("How many days?", response_schema={"type": "integer"})
    return {"answer": f"{asked.text}: {days} days in {city}"}


@graph()
def asking() -> StateGraph[Any, Any, Any, Any]:
    return _of_one_node("ask_twice", ask_twice, AskingState)


FAILURES: list[str] = []


async def fail_twice(_: AskingState, runtime: Runtime[Run[None]]) -> AskingState:
    run = runtime.context
    first = await run.ask(says("one"))
    result = await run.call("mark", {"token": "t-1"})
    if len(FAILURES) < 2:
        FAILURES.append("failed")
        raise ConnectionError("not yet")
    return {"answer": f"{first.text} {result.text}"}


@graph()
def flaky() -> StateGraph[Any, Any, Any, Any]:
    policy = RetryPolicy(initial_interval=0.01, max_attempts=3, retry_on=ConnectionError)
    return _of_one_node("fail_twice", fail_twice, AskingState, retry_policy=policy)


async def inner(_: AskingState, runtime: Runtime[Run[None]]) -> AskingState:
    result = await runtime.context.call("mark", {"token": "t-1"})
    return {"answer": f"inner {result.text}"}


@graph()
def nested() -> StateGraph[Any, Any, Any, Any]:
    return _of_one_node("sub", _of_one_node("inner", inner, AskingState).compile(), AskingState)


class MessagesState(TypedDict):
    messages: Annotated[list[Any], operator.add]


async def answer_silently(state: MessagesState, runtime: Runtime[Run[None]]) -> MessagesState:
    said = state["messages"][-1].text
    history = " and ".join(message.text for message in await runtime.context.history())
    memories = " and ".join(await runtime.context.recall())
    return {"messages": [await runtime.context.ask(says(f"heard {said} after ({history}) knowing ({memories})"))]}


@graph()
def silent() -> StateGraph[Any, Any, Any, Any]:
    """Tells the user nothing: its last message is the answer."""
    return _of_one_node("answer", answer_silently, MessagesState)


async def crash(_: AskingState, runtime: Runtime[Run[None]]) -> AskingState:
    await runtime.context.ask(says("one"))
    raise ValueError(runtime.context.message)


@graph()
def crashing() -> StateGraph[Any, Any, Any, Any]:
    return _of_one_node("crash", crash, AskingState)


async def ask_for_ever(_: AskingState, runtime: Runtime[Run[None]]) -> AskingState:
    while True:
        await runtime.context.ask(says("more"))


@graph()
def endless() -> StateGraph[Any, Any, Any, Any]:
    return _of_one_node("ask_for_ever", ask_for_ever, AskingState)


def times_blocked() -> float:
    return REGISTRY.get_sample_value("mesh_agent_event_loop_blocked_total", {"by": "support"}) or 0.0


async def block(_: AskingState, runtime: Runtime[Run[None]]) -> AskingState:
    """Keeps the event loop waiting until the watchdog has counted it."""
    before, deadline_s = times_blocked(), time.monotonic() + 20
    while times_blocked() == before and time.monotonic() < deadline_s:
        threading.Event().wait(0.05)
    return {"answer": runtime.context.message}


@graph()
def blocking() -> StateGraph[Any, Any, Any, Any]:
    return _of_one_node("block", block, AskingState)


def _of_one_node(name: str, node: Any, state: Any, **options: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state, context_schema=Run)
    builder.add_node(name, node, **options)
    builder.add_edge(START, name)
    builder.add_edge(name, END)
    return builder
