"""Converts events to and from protobuf. No other module knows their form on the wire or in the agent's database.

Additions of a newer release do not break an older one: an event without a known body becomes an `UnknownEvent`, and
unknown fields are ignored.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, assert_never
from uuid import UUID

from mesh.agent.v1 import agent_pb2 as pb

from mesh_common.events import model as events
from mesh_common.events.interrupt_wire import interrupt, interrupt_pb
from mesh_common.events.model import EventBody, RecalledMemory, RunError, RunEvent, ToolResult, Usage
from mesh_common.ids import RunId

# A name becomes a line of a Server-Sent Event. A name that could break out of that line is rejected.
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_NAMELESS: Final = "unknown"


def event_pb(event: RunEvent) -> pb.RunEvent:
    message = pb.RunEvent()
    fill_event(message, event)
    return message


def fill_event(message: pb.RunEvent, event: RunEvent) -> None:
    """Writes the event into an empty message, which may be part of another message, without a copy."""
    _fill_body(message, event.body)
    message.run_id = str(event.run_id)
    message.attempt = event.attempt
    message.seq = event.seq


def event_from_pb(message: pb.RunEvent) -> RunEvent:
    """Raises ValueError for a run id that is not a UUID."""
    return RunEvent(_run_id(message.run_id), message.attempt, message.seq, _body(message))


def dump_events(run_events: Iterable[RunEvent]) -> bytes:
    """Serializes the events of one run as StoredEvents, without the run's id."""
    stored = pb.StoredEvents()
    for event in run_events:
        message = stored.events.add()
        fill_event(message, event)
        message.ClearField("run_id")
    return stored.SerializeToString()


def load_events(run_id: RunId, data: bytes) -> list[RunEvent]:
    """Parses the output of `dump_events` of this or a newer release. Raises ValueError for anything else."""
    stored = pb.StoredEvents.FromString(data)
    return [RunEvent(run_id, message.attempt, message.seq, _body(message)) for message in stored.events]


@lru_cache(maxsize=1_024)
def _run_id(text: str) -> RunId:
    """Cached, because a run's events come one by one."""
    return RunId(UUID(text))


def _fill_body(message: pb.RunEvent, body: EventBody) -> None:  # noqa: C901, PLR0912 - one flat case an event
    match body:
        case events.MessageDelta(message_id, text):
            # Most events are of this type and every release knows it, so it carries no name.
            delta = message.message_delta
            delta.message_id = message_id
            delta.text = text
            return
        case events.RunStarted(thread_id):
            message.run_started.thread_id = thread_id
        case events.RunRestarted(thread_id, results):
            message.run_restarted.thread_id = thread_id
            message.run_restarted.reused_tool_results.extend(map(_result_pb, results))
        case events.MemoryRecalled(memories, is_unavailable):
            message.memory_recalled.is_unavailable = is_unavailable
            message.memory_recalled.memories.extend(map(_memory_pb, memories))
        case events.MessageCompleted(message_id, content, model, agent, is_json):
            completed = pb.MessageCompleted(
                message_id=message_id, content=content, model=model, agent=agent, is_json=is_json
            )
            message.message_completed.CopyFrom(completed)
        case events.MemberDelta(message_id, agent, text):
            message.member_delta.CopyFrom(pb.MemberDelta(message_id=message_id, agent=agent, text=text))
        case events.MemberCompleted(message_id, agent, content, model):
            said = pb.MemberCompleted(message_id=message_id, agent=agent, content=content, model=model)
            message.member_completed.CopyFrom(said)
        case events.ToolStarted(call_id, tool, arguments_json, agent):
            started = pb.ToolStarted(call_id=call_id, tool=tool, arguments_json=arguments_json, agent=agent)
            message.tool_started.CopyFrom(started)
        case events.ToolFinished(result, agent):
            message.tool_finished.CopyFrom(_result_pb(result))
            message.tool_finished.agent = agent
        case events.StepStarted(step):
            message.step_started.CopyFrom(pb.StepStarted(step=step))
        case events.StepFinished(step):
            message.step_finished.CopyFrom(pb.StepFinished(step=step))
        case events.Custom(name, data_json):
            message.custom.CopyFrom(pb.Custom(name=name, data_json=data_json))
        case events.RunFinished(finish_reason, usage):
            message.run_finished.CopyFrom(pb.RunFinished(finish_reason=finish_reason, usage=_usage_pb(usage)))
        case events.RunFailed(error, usage):
            message.run_failed.CopyFrom(pb.RunFailed(error=_error_pb(error), usage=_usage_pb(usage)))
        case events.RunCancelled(usage):
            message.run_cancelled.CopyFrom(pb.RunCancelled(usage=_usage_pb(usage)))
        case events.RunInterrupted(interrupts, usage):
            asked = [interrupt_pb(one) for one in interrupts]
            message.run_interrupted.CopyFrom(pb.RunInterrupted(interrupts=asked, usage=_usage_pb(usage)))
        case events.UnknownEvent(_, _, wire):
            message.MergeFromString(wire)
        case _:
            assert_never(body)
    message.type = body.type
    message.is_terminal = body.is_terminal


def _body(message: pb.RunEvent) -> EventBody:  # noqa: C901, PLR0911, PLR0912 - one flat case an event
    match message.WhichOneof("event"):
        case "message_delta":
            delta = message.message_delta
            return events.MessageDelta(delta.message_id, delta.text)
        case "run_started":
            return events.RunStarted(message.run_started.thread_id)
        case "run_restarted":
            restarted = message.run_restarted
            return events.RunRestarted(restarted.thread_id, tuple(map(_result, restarted.reused_tool_results)))
        case "memory_recalled":
            recalled = message.memory_recalled
            memories = tuple(RecalledMemory(item.id, item.text, item.similarity) for item in recalled.memories)
            return events.MemoryRecalled(memories, recalled.is_unavailable)
        case "message_completed":
            completed = message.message_completed
            return events.MessageCompleted(
                completed.message_id, completed.content, completed.model, completed.agent, completed.is_json
            )
        case "member_delta":
            piece = message.member_delta
            return events.MemberDelta(piece.message_id, piece.agent, piece.text)
        case "member_completed":
            said = message.member_completed
            return events.MemberCompleted(said.message_id, said.agent, said.content, said.model)
        case "tool_started":
            started = message.tool_started
            return events.ToolStarted(started.call_id, started.tool, started.arguments_json, started.agent)
        case "tool_finished":
            return events.ToolFinished(_result(message.tool_finished), message.tool_finished.agent)
        case "step_started":
            return events.StepStarted(message.step_started.step)
        case "step_finished":
            return events.StepFinished(message.step_finished.step)
        case "custom":
            return events.Custom(message.custom.name, message.custom.data_json)
        case "run_finished":
            return events.RunFinished(message.run_finished.finish_reason, _usage(message.run_finished.usage))
        case "run_failed":
            failed = message.run_failed
            error = RunError(failed.error.reason, failed.error.detail, is_retryable=failed.error.is_retryable)
            return events.RunFailed(error, _usage(failed.usage))
        case "run_cancelled":
            return events.RunCancelled(_usage(message.run_cancelled.usage))
        case "run_interrupted":
            interrupted = message.run_interrupted
            return events.RunInterrupted(tuple(map(interrupt, interrupted.interrupts)), _usage(interrupted.usage))
        case None:
            return _unknown(message)
        case forgotten:
            assert_never(forgotten)


def _unknown(message: pb.RunEvent) -> events.UnknownEvent:
    name = message.type if _NAME.fullmatch(message.type) else _NAMELESS
    return events.UnknownEvent(name, message.is_terminal, message.SerializeToString())


def _result_pb(result: ToolResult) -> pb.ToolFinished:
    return pb.ToolFinished(
        call_id=result.call_id,
        tool=result.tool,
        content=result.content,
        is_error=result.is_error,
        is_unknown=result.is_unknown,
        arguments_json=result.arguments_json,
    )


def _memory_pb(memory: RecalledMemory) -> pb.RecalledMemory:
    return pb.RecalledMemory(id=memory.id, text=memory.text, similarity=memory.similarity)


def _usage_pb(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost_micro_usd=usage.cost_micro_usd
    )


def _error_pb(error: RunError) -> pb.RunError:
    return pb.RunError(reason=error.reason, detail=error.detail, is_retryable=error.is_retryable)


def _result(finished: pb.ToolFinished) -> ToolResult:
    return ToolResult(
        finished.call_id,
        finished.tool,
        finished.arguments_json,
        finished.content,
        finished.is_error,
        finished.is_unknown,
    )


def _usage(usage: pb.Usage) -> Usage:
    return Usage(usage.input_tokens, usage.output_tokens, usage.cost_micro_usd)
