"""Executes one tool call of a run: stores the run's state before the call begins, and never repeats a `once` call.

There are three kinds of calls, by the tool's effect (docs/adr/0011). If the result of a `none` or `idempotent`
call was not stored, the attempt that takes over repeats the call, an `idempotent` one with the same key. A `once` call
is recorded in the transaction of the safe point before it; an attempt that finds another's record reports an unknown
outcome.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from langchain_core.messages import ToolMessage

from mesh_agent.checkpoint import RunCheckpoints
from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import DecidedCall
from mesh_agent.domain.tools import Effect, ToolResult
from mesh_agent.graph.approval import as_model_reads, edited, is_permitted, result_without_call
from mesh_agent.plans.plan import PlannedTool
from mesh_agent.tools.call import CallIdentity, ToolCall, calling
from mesh_agent.tools.registry import ToolRegistry, tool_of_plan

_UNKNOWN: Final = (
    "It is not known whether this call took effect: the process that made it ended before there was a result. "
    "It was not repeated."
)


RUN: Final = "mesh_run"
"""In a message's `response_metadata`: the run that it was made in. A run bills and shows only its own."""


class ToolListener(Protocol):
    @property
    def forget_generation(self) -> int | None: ...
    def tool_started(self, call: ToolCall) -> None: ...
    def tool_finished(self, call: ToolCall, result: ToolResult) -> None: ...


async def call_at_safe_point(
    registry: ToolRegistry,
    planned: Sequence[PlannedTool],
    checkpoints: RunCheckpoints,
    listener: ToolListener,
    call: ToolCall,
    call_key: str,
    decided: DecidedCall | None = None,
) -> ToolResult:
    """The result, or that it is unknown. Raises LeaseLostError before anything has happened outside."""
    if result := result_without_call(call, decided):
        listener.tool_started(call)
        listener.tool_finished(call, result)
        return result
    call = edited(call, decided)
    if _may_act_once(tool_of_plan(call, planned), checkpoints.claim):
        may_begin = await checkpoints.begin_once(call_key)
    else:
        await checkpoints.flush()
        may_begin = True
    listener.tool_started(call)
    if may_begin:
        claim = checkpoints.claim
        key, generation = f"{claim.run_id}:{call_key}", listener.forget_generation
        with calling(CallIdentity(key, claim.subject, claim.run_id, claim.thread_id, generation)):
            result = await registry.call(call, planned, is_approved=is_permitted(decided))
    else:
        result = ToolResult(call.id, call.name, call.arguments_json, _UNKNOWN, is_error=True, is_unknown=True)
    listener.tool_finished(call, result)
    return result


def result_message(result: ToolResult, run_id: str, decided: DecidedCall | None = None) -> ToolMessage:
    """The result as a model reads it, and as checkpoints keep it."""
    return ToolMessage(
        as_model_reads(result.content, decided),
        tool_call_id=result.call_id,
        name=result.tool,
        status="error" if result.is_error else "success",
        response_metadata={"is_unknown": result.is_unknown, RUN: run_id},
    )


def _may_act_once(policy: PlannedTool | None, claim: Claim) -> bool:
    """Whether to consult the record of `once` calls. A tool that was revoked since an earlier attempt is not in the
    narrowed plan, but that attempt may have called it."""
    if policy is None:
        return not claim.opens_execution
    return policy.effect is Effect.ONCE
