"""What model servers really send (tests/cases/provider-streams.jsonl), read by a whole tool loop."""

import base64
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from fakes.agent.chat_models import Heard
from fakes.agent.runs import a_claim, a_model
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from mesh_agent.domain.attempts import CutRound
from mesh_agent.domain.runs import Usage
from mesh_agent.domain.tools import Effect, ToolResult
from mesh_agent.graph.build import build_graph
from mesh_agent.graph.loop import AgentLoop, AttemptLoop
from mesh_agent.graph.rounds import CodedListener, LoopInput, RoundListener
from mesh_agent.llm.breaker import Breaker
from mesh_agent.llm.fallback import FallbackModel
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.plans.plan import Instructions, RunPlan
from mesh_agent.tools.calculate import calculate_tool
from mesh_agent.tools.call import ToolCall
from mesh_agent.tools.current_time import current_time_tool
from mesh_agent.tools.registry import MeshTool, ToolRegistry
from mesh_agent.tools.tool import of_function
from mesh_common.clock import SystemClock
from simulator.odd import OddFrame
from simulator.wire import ROLE_DELTA, TOOL_ROLE_DELTA, content_delta
from simulator.wire import Usage as SentUsage
from support.odd_provider import PLAIN, OddProvider, odd_provider

CASES = [json.loads(line) for line in Path("tests/cases/provider-streams.jsonl").read_text("utf-8").splitlines()]
BY_NAME = {case["name"]: case for case in CASES}


@dataclass
class Listening(Heard):
    """Records a run. `usage` is that of its last round."""

    results: list[ToolResult] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    forget_generation: int | None = None

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None:
        pass

    def end_round(self, usage: Usage) -> None:
        self.usage = usage

    def cut_round(self) -> CutRound:
        raise NotImplementedError

    def fail_round(self) -> None:
        raise NotImplementedError

    def aside(self) -> RoundListener:
        raise NotImplementedError

    def member(self, name: str) -> CodedListener:
        raise NotImplementedError

    def repeat_aside(self, text: str, model: str) -> None:
        raise NotImplementedError

    def tool_paused(self, call: ToolCall) -> None:
        raise NotImplementedError

    def say(self, text: str) -> None:
        raise NotImplementedError

    def step_started(self, step: str) -> None:
        raise NotImplementedError

    def step_finished(self, step: str) -> None:
        raise NotImplementedError

    def custom(self, name: str, data_json: str) -> None:
        raise NotImplementedError

    @property
    def answer(self) -> str:
        return "".join(self.texts)

    def tool_started(self, call: ToolCall) -> None:
        pass

    def tool_finished(self, _call: ToolCall, result: ToolResult) -> None:
        self.results.append(result)


class Unstored:
    """Checkpoints of a run that no other attempt continues."""

    def __init__(self) -> None:
        self.claim = a_claim("6 * 7?")

    async def begin_once(self, _call_key: str) -> bool:
        return True

    async def flush(self) -> None:
        pass


@dataclass
class Run:
    provider: OddProvider
    loop: AttemptLoop
    input: LoopInput
    listener: Listening = field(default_factory=Listening)
    booked: list[str] = field(default_factory=list)
    """The rooms that the tool `book_room` has booked."""

    async def finish(self) -> str:
        finish_reason = await self.loop.run(self.input, self.listener)
        assert isinstance(finish_reason, str)
        return finish_reason

    @property
    def text(self) -> str:
        return "".join(self.listener.texts)

    @property
    def results(self) -> list[tuple[str, str]]:
        return sorted((result.tool, result.content) for result in self.listener.results)


@asynccontextmanager
async def a_run(case: dict[str, Any]) -> AsyncIterator[Run]:
    booked: list[str] = []

    @tool
    async def book_room(room: str, at: str = "") -> str:
        """Books a room, with an effect that cannot be undone."""
        booked.append(room)
        return at

    timeout = aiohttp.ClientTimeout(total=None, sock_read=5.0)
    async with (
        odd_provider(case["pieces"], case["content_type"]) as provider,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        model = a_model(base_url=provider.url)
        tools = ToolRegistry(
            [
                MeshTool(calculate_tool(), Effect.NONE),
                MeshTool(current_time_tool(SystemClock()), Effect.NONE),
                MeshTool(of_function(book_room), Effect.ONCE),
            ]
        )
        fallback = FallbackModel({model.name: OpenAICompatible(model, session)}, Breaker(SystemClock()))
        checkpoints = cast("Any", Unstored())
        loop = AttemptLoop(
            AgentLoop(cast("Any", None), fallback, tools), build_graph(InMemorySaver()), checkpoints.claim, checkpoints
        )
        plan = RunPlan(Instructions("Be brief."), (model.planned(),), tools.planned)
        attempt = LoopInput("6 * 7?", plan, (model,), recall=_nothing, recent_messages=_nothing)
        yield Run(provider, loop, attempt, booked=booked)


async def _nothing() -> tuple[()]:
    return ()


def _named(*names: str) -> list[Any]:
    return [pytest.param(BY_NAME[name], id=name) for name in names]


def _cases(has: Callable[[dict[str, Any]], bool]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in CASES if has(case)]


@pytest.mark.parametrize("case", _cases(lambda case: "text" in case["expect"]))
async def test_answer_is_read(case: dict[str, Any]) -> None:
    async with a_run(case) as run:
        finish_reason = await run.finish()

    assert (run.text, finish_reason) == (case["expect"]["text"], "stop")
    assert len(run.provider.requests) == 1


@pytest.mark.parametrize("case", _cases(lambda case: "finish_reason" in case["expect"]))
async def test_answer_says_why_it_ended_early(case: dict[str, Any]) -> None:
    async with a_run(case) as run:
        finish_reason = await run.finish()

    assert finish_reason == case["expect"]["finish_reason"]


@pytest.mark.parametrize("case", _cases(lambda case: case["expect"].get("end") == "run_failed"))
async def test_answer_that_is_none_fails(case: dict[str, Any]) -> None:
    async with a_run(case) as run:
        with pytest.raises(ProviderError) as failed:
            await run.finish()

    assert failed.value.reason == case["expect"].get("reason", failed.value.reason)
    # A used-up quota, which an operator has to raise.
    is_retryable = case["name"] != "error_json_200"
    assert failed.value.is_retryable is is_retryable
    assert failed.value.has_spoken == bool(run.text)
    assert len(run.provider.requests) == (3 if is_retryable and not run.text else 1)


@pytest.mark.parametrize(
    "case",
    _named(
        "tool_good",
        "tool_name_repeated",
        "tool_no_id",
        "tool_args_object",
        "tool_finish_stop",
        "tool_reasoning_strict",
        "tool_signature_strict",
    ),
)
async def test_one_call_is_made(case: dict[str, Any]) -> None:
    async with a_run(case) as run:
        finish_reason = await run.finish()

    assert run.results == [("calculate", "42")]
    _ended_well(run, finish_reason)


@pytest.mark.parametrize("case", _named("tool_index0_all", "tool_index_absent", "tool_same_id"))
async def test_parallel_calls_are_told_apart(case: dict[str, Any]) -> None:
    async with a_run(case) as run:
        finish_reason = await run.finish()

    assert run.results == [("calculate", "2"), ("calculate", "42")]
    _ended_well(run, finish_reason)


async def test_call_without_arguments_is_made() -> None:
    async with a_run(BY_NAME["tool_args_empty"]) as run:
        finish_reason = await run.finish()

    [result] = run.listener.results
    assert (result.tool, result.arguments_json, result.is_error) == ("current_time", "{}", False)
    _ended_well(run, finish_reason)


@pytest.mark.parametrize("case", _named("tool_args_truncated", "tool_once_truncated", "tool_once_empty"))
async def test_call_that_is_cut_is_not_made(case: dict[str, Any]) -> None:
    async with a_run(case) as run:
        finish_reason = await run.finish()

    [result] = run.listener.results
    assert result.is_error
    assert "cut off" in result.content
    assert run.booked == []
    _ended_well(run, finish_reason)
    assert run.provider.requests[1]["messages"][-1]["content"] == result.content


def _ended_well(run: Run, finish_reason: str) -> None:
    assert run.provider.refusals == []
    assert (run.text, finish_reason) == (PLAIN, "stop")
    assert len(run.provider.requests) == 2


def test_every_case_has_a_test() -> None:
    noted = [case["name"] for case in CASES if case["expect"].get("end", "run_finished") == "run_finished"]
    tools = [name for name in noted if name.startswith("tool_")]

    assert len(CASES) == 40
    assert len(tools) == 14
    assert all({"text", "finish_reason"} & BY_NAME[name]["expect"].keys() for name in noted if name not in tools)


ODD_FORMS = 25
_TEXT_DELTAS = (ROLE_DELTA, *(content_delta(word) for word in ("Six ", "times ", "seven ", "is ", "42.")))


def _odd_case(form: int, deltas: Sequence[bytes], reason: str) -> dict[str, Any]:
    """An answer in one of the forms of the simulator's fault `odd`."""
    frame = OddFrame("chatcmpl-1", "m", random.Random(form))  # noqa: S311 - no secret
    whole = frame.deltas(deltas) + frame.finish(reason) + frame.usage(SentUsage(7, 5)) + frame.done
    pieces: list[dict[str, Any]] = [{"base64": base64.b64encode(whole).decode()}]
    return {"content_type": "text/event-stream", "pieces": [*pieces, {"end": "cut"}] if frame.is_cut else pieces}


async def test_text_is_whole_in_every_form() -> None:
    for form in range(ODD_FORMS):
        async with a_run(_odd_case(form, _TEXT_DELTAS, "stop")) as run:
            finish_reason = await run.finish()

        assert (run.text, finish_reason) == ("Six times seven is 42.", "stop"), form
        assert len(run.provider.requests) == 1, form
        assert run.listener.usage.output_tokens in {1, 5}, form


async def test_a_call_is_whole_in_every_form() -> None:
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "calculate", "arguments": ""}}
    parts = ('{"expression"', ': "6 * 7', '"}')
    deltas = [{"tool_calls": [head]}, *({"tool_calls": [{"index": 0, "function": {"arguments": p}}]} for p in parts)]
    encoded = [TOOL_ROLE_DELTA, *(json.dumps(delta).encode() for delta in deltas)]
    for form in range(ODD_FORMS):
        async with a_run(_odd_case(form, encoded, "tool_calls")) as run:
            await run.finish()

        assert run.results == [("calculate", "42")], form
        assert not run.provider.refusals, form
