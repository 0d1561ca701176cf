"""Events <-> proto: out to followers, in from another replica that relays."""

from typing import Final, assert_never
from uuid import UUID

from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.ids import RunId

from mesh_agent.convert import error_pb, usage_pb
from mesh_agent.domain import RecalledMemory, RunError, ToolResult, Usage
from mesh_agent.events import model as events
from mesh_agent.events.model import EventBody, RunEvent

# A gRPC message takes 1 MiB. One event may be nearly as large (a long answer), and most have a hundred bytes.
_SHARED_BYTES: Final = 262_144


def event_pb(event: RunEvent) -> pb.RunEvent:
    message = pb.RunEvent(run_id=str(event.run_id), attempt=event.attempt, seq=event.seq)
    _fill(message, event.body)
    return message


class SharedEvents:
    """A message of FollowStartedRuns in the making (`shared_streams.SharedMessage`)."""

    def __init__(self) -> None:
        self.pb = pb.FollowStartedRunsResponse()
        self._bytes = 0

    def add(self, event: RunEvent) -> bool:
        message = event_pb(event)
        size = message.ByteSize()
        if size > _SHARED_BYTES:
            raise ValueError("larger than a shared message")
        if self._bytes + size > _SHARED_BYTES:
            return False
        self.pb.events.append(message)
        self._bytes += size
        return True

    def leave(self, run_id: RunId) -> None:
        self.pb.left_run_ids.append(str(run_id))

    @property
    def is_empty(self) -> bool:
        return not self.pb.events and not self.pb.left_run_ids


def _fill(message: pb.RunEvent, body: EventBody) -> None:  # noqa: C901 - one flat case an event
    match body:
        case events.MessageDelta(message_id, text):
            message.message_delta.message_id = message_id
            message.message_delta.text = text
        case events.RunStarted(thread_id):
            message.run_started.thread_id = thread_id
        case events.RunRestarted(thread_id, results):
            message.run_restarted.thread_id = thread_id
            message.run_restarted.reused_tool_results.extend(map(_finished_pb, results))
        case events.MemoryRecalled(memories, is_unavailable):
            message.memory_recalled.is_unavailable = is_unavailable
            message.memory_recalled.memories.extend(map(_memory_pb, memories))
        case events.MessageCompleted(message_id, content, model):
            completed = pb.MessageCompleted(message_id=message_id, content=content, model=model)
            message.message_completed.CopyFrom(completed)
        case events.ToolStarted(call_id, tool, arguments_json):
            started = pb.ToolStarted(call_id=call_id, tool=tool, arguments_json=arguments_json)
            message.tool_started.CopyFrom(started)
        case events.ToolFinished(result):
            message.tool_finished.CopyFrom(_finished_pb(result))
        case events.RunFinished(finish_reason, usage):
            message.run_finished.CopyFrom(pb.RunFinished(finish_reason=finish_reason, usage=usage_pb(usage)))
        case events.RunFailed(error, usage):
            message.run_failed.CopyFrom(pb.RunFailed(error=error_pb(error), usage=usage_pb(usage)))
        case events.RunCancelled(usage):
            message.run_cancelled.CopyFrom(pb.RunCancelled(usage=usage_pb(usage)))
        case _:
            assert_never(body)


def event_from_pb(message: pb.RunEvent) -> RunEvent:
    return RunEvent(RunId(UUID(message.run_id)), message.attempt, message.seq, _body(message))


def _body(message: pb.RunEvent) -> EventBody:  # noqa: C901, PLR0911 - one flat case an event
    match message.WhichOneof("event"):
        case "message_delta":
            return events.MessageDelta(message.message_delta.message_id, message.message_delta.text)
        case "run_started":
            return events.RunStarted(message.run_started.thread_id)
        case "run_restarted":
            restarted = message.run_restarted
            return events.RunRestarted(restarted.thread_id, tuple(map(_result, restarted.reused_tool_results)))
        case "memory_recalled":
            memories = tuple(
                RecalledMemory(item.id, item.text, item.similarity) for item in message.memory_recalled.memories
            )
            return events.MemoryRecalled(memories, message.memory_recalled.is_unavailable)
        case "message_completed":
            completed = message.message_completed
            return events.MessageCompleted(completed.message_id, completed.content, completed.model)
        case "tool_started":
            started = message.tool_started
            return events.ToolStarted(started.call_id, started.tool, started.arguments_json)
        case "tool_finished":
            return events.ToolFinished(_result(message.tool_finished))
        case "run_finished":
            return events.RunFinished(message.run_finished.finish_reason, _usage(message.run_finished.usage))
        case "run_failed":
            error = message.run_failed.error
            told = RunError(error.reason, error.detail, is_retryable=error.is_retryable)
            return events.RunFailed(told, _usage(message.run_failed.usage))
        case "run_cancelled":
            return events.RunCancelled(_usage(message.run_cancelled.usage))
        case None:
            raise ValueError("an event without a body")
        case unknown:
            assert_never(unknown)


def _finished_pb(result: ToolResult) -> pb.ToolFinished:
    return pb.ToolFinished(
        call_id=result.call_id,
        tool=result.tool,
        content=result.content,
        is_error=result.is_error,
        is_unknown=result.is_unknown,
    )


def _memory_pb(memory: RecalledMemory) -> pb.RecalledMemory:
    return pb.RecalledMemory(id=memory.id, text=memory.text, similarity=memory.similarity)


def _result(finished: pb.ToolFinished) -> ToolResult:
    return ToolResult(finished.call_id, finished.tool, "", finished.content, finished.is_error, finished.is_unknown)


def _usage(usage: pb.Usage) -> Usage:
    return Usage(usage.input_tokens, usage.output_tokens, usage.cost_micro_usd)
