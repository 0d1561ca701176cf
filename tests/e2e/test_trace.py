"""One trace shows a whole turn: all five services under one root, each span below the span that caused it."""

import asyncio
import sys

import pytest
from mesh_common.grpc.edges import SERVICES
from mesh_dev.stack import Stack
from mesh_dev.trace_source import find_trace, is_whole
from mesh_dev.trace_tree import Span
from support.api import eventually, new_user

AGENT, AUTH, MEMORY, EVAL = (
    f"mesh.{name}.v1.{name.capitalize()}Service" for name in ("agent", "auth", "memory", "eval")
)
# (service and name of a span, service and name of its parent): the edges of a first turn.
EDGES = {
    (("gateway", f"{AGENT}/StartRun"), ("gateway", "POST /api/v1/chatbot/chat/stream")),
    (("agent", f"{AGENT}/StartRun"), ("gateway", f"{AGENT}/StartRun")),
    (("agent", f"{AUTH}/GetEntitlements"), ("agent", f"{AGENT}/StartRun")),
    (("auth", f"{AUTH}/GetEntitlements"), ("agent", f"{AUTH}/GetEntitlements")),
    (("agent", "invoke_agent"), ("agent", f"{AGENT}/StartRun")),
    # Memory is called while the run is being stored.
    (("agent", "search_memory"), ("agent", f"{AGENT}/StartRun")),
    (("agent", f"{MEMORY}/Recall"), ("agent", "search_memory")),
    (("memory", f"{MEMORY}/Recall"), ("agent", f"{MEMORY}/Recall")),
    (("agent", "chat sim-large"), ("agent", "invoke_agent")),
    (("agent", "outbox.record_usage"), ("agent", "invoke_agent")),
    (("auth", f"{AUTH}/RecordUsage"), ("agent", f"{AUTH}/RecordUsage")),
    (("agent", "outbox.remember"), ("agent", "invoke_agent")),
    (("agent", f"{MEMORY}/Remember"), ("agent", "outbox.remember")),
    (("memory", f"{MEMORY}/Remember"), ("agent", f"{MEMORY}/Remember")),
    (("memory", "memory.keep_turn"), ("memory", f"{MEMORY}/Remember")),
    (("agent", "outbox.submit_run"), ("agent", "invoke_agent")),
    (("agent", f"{EVAL}/SubmitRun"), ("agent", "outbox.submit_run")),
    (("eval", f"{EVAL}/SubmitRun"), ("agent", f"{EVAL}/SubmitRun")),
    (("eval", "eval.judge"), ("eval", f"{EVAL}/SubmitRun")),
    (("eval", "evaluate relevancy"), ("eval", "eval.judge")),
    (("eval", "chat sim-small"), ("eval", "evaluate relevancy")),
}


@pytest.fixture(scope="module")
async def spans(stack: Stack) -> list[Span]:
    """The complete trace of a user's first turn."""
    async with new_user(stack.url) as user:
        turn = await user.chat("I live in Turin. What do you know of it?")

    async def trace() -> list[Span]:
        return await find_trace(stack.traces_url, turn.run_id)

    def is_told_to_the_end(found: list[Span]) -> bool:
        return is_whole(found) and {"eval.judge", "memory.keep_turn"} <= {span.name for span in found}

    return await eventually("the whole trace", trace, is_told_to_the_end)


async def test_spans_of_all_five_services_hang_on_their_causes(spans: list[Span]) -> None:
    by_id = {span.span_id: span for span in spans}
    edges = {
        ((span.service, span.name), (by_id[span.parent_id].service, by_id[span.parent_id].name))
        for span in spans
        if span.parent_id
    }

    assert edges >= EDGES
    assert {span.service for span in spans} == set(SERVICES)
    assert [span.service for span in spans if span.parent_id is None] == ["gateway"]


async def test_spans_bear_the_conventions_names_and_no_users_text(spans: list[Span]) -> None:
    by_name = {(span.service, span.name): span.attributes for span in spans}
    chat = by_name["agent", "chat sim-large"]

    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.request.model"] == "sim-large"
    assert int(chat["gen_ai.usage.input_tokens"]) > 0
    assert int(chat["gen_ai.usage.output_tokens"]) > 0
    assert by_name["agent", "invoke_agent"]["gen_ai.operation.name"] == "invoke_agent"
    assert not [span for span in spans if "Turin" in str(span)]


async def test_trace_command_prints_the_tree_of_a_run(stack: Stack, spans: list[Span]) -> None:
    run_id = next(str(span.attributes["mesh.run_id"]) for span in spans if span.name == "invoke_agent")

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_dev",
        "trace",
        run_id,
        env={"MESH_PORT_BASE": str(stack.ports.base)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0
    lines = output.decode().splitlines()
    assert "gateway, agent, auth, memory, eval" in lines[0]
    assert lines[1].startswith("gateway: POST /api/v1/chatbot/chat/stream")
    assert any("└─ agent: mesh.agent.v1.AgentService/StartRun" in line for line in lines)
