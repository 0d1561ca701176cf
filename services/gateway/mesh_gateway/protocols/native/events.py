"""The events of a run as JSON: their names, their fields, and the schemas that describe both.

The names are those of `mesh_common.events`. The type checker checks `event_data` against the classes here, and
the OpenAPI document is generated from the same classes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypedDict, assert_never

import orjson
from mesh_common.events import model as events
from mesh_common.events.interrupts import Interrupt
from mesh_common.events.model import KnownEvent, RunEvent, ToolResult, Usage
from pydantic import Field, TypeAdapter

SCHEMA: Final = "RunEvent"
_REFERENCE: Final = "#/components/schemas/{model}"
_MICRO: Final = 1_000_000
_AGENT: Final = Field(description="The agent of a team; empty for the run's own assistant.")


class UsageData(TypedDict):
    input_tokens: int
    output_tokens: int
    cost_usd: float


class MemoryData(TypedDict):
    id: str
    text: str
    similarity: Annotated[float, Field(description="Cosine similarity to the message, -1..1.")]


class ToolResultData(TypedDict):
    call_id: str
    tool: str
    content: str
    is_error: bool
    is_unknown: Annotated[bool, Field(description="True if it is not known whether the call took effect.")]


class EventData(TypedDict):
    """The fields of every event. An event of a newer release has no others here."""

    type: str
    seq: Annotated[int, Field(description="1, 2, 3 … within the attempt.")]


class RunStartedData(EventData):
    """The first event of a run."""

    run_id: str
    thread_id: str
    attempt: int


class RunRestartedData(RunStartedData):
    """A later attempt of the run began: discard the text so far."""

    reused_tool_results: Annotated[list[ToolResultData], Field(description="Results of calls that are not repeated.")]


class MemoryRecalledData(EventData):
    """The memories that the agent recalled."""

    memories: Annotated[list[MemoryData], Field(description="Best first.")]
    is_unavailable: Annotated[bool, Field(description="True if memory was unavailable.")]


class MessageDeltaData(EventData):
    """A piece of the answer."""

    message_id: str
    text: Annotated[str, Field(description="Append it to the text so far.")]


class MessageCompletedData(EventData):
    """The whole answer; it equals the deltas joined."""

    message_id: str
    content: str
    model: str
    agent: Annotated[str, _AGENT]
    parsed: Annotated[object, Field(description="The content as JSON, if the run has a `response_format`, else null.")]


class MemberDeltaData(EventData):
    """A piece of what a member of a team says to another agent, not to the user."""

    message_id: str
    agent: Annotated[str, Field(description="The member's name.")]
    text: Annotated[str, Field(description="Append it to the text so far.")]


class MemberCompletedData(EventData):
    """The whole of what a member of a team says to another agent."""

    message_id: str
    agent: Annotated[str, Field(description="The member's name.")]
    content: Annotated[str, Field(description="Equal to the joined deltas, if there are any.")]
    model: str


class ToolStartedData(EventData):
    """A tool call begins."""

    call_id: str
    tool: str
    arguments: Annotated[object, Field(description="An object, or the model's text if it is not JSON.")]
    agent: Annotated[str, _AGENT]


class ToolFinishedData(EventData, ToolResultData):
    """A tool call has a result."""

    agent: Annotated[str, _AGENT]


class StepStartedData(EventData):
    """A step of a graph in code begins. Parallel steps may have the same name."""

    step: str


class StepFinishedData(EventData):
    """A step of a graph in code has ended."""

    step: str


class CustomData(EventData):
    """What a graph in code tells the client; its documentation says what."""

    name: str
    data: Annotated[object, Field(description="An object.")]


class RunFinishedData(EventData):
    """The end: the run succeeded."""

    finish_reason: str
    usage: UsageData


class RunFailedData(EventData):
    """The end: the run failed."""

    reason: Annotated[str, Field(description="Stable, UPPER_SNAKE.")]
    detail: str
    retryable: bool
    usage: UsageData


class RunCancelledData(EventData):
    """The end: the run was cancelled."""

    usage: UsageData


class InterruptData(TypedDict):
    """One question of an interrupted run to a person."""

    id: str
    kind: Annotated[str, Field(description="`approval` of a tool call, or `question` of the model.")]
    call_id: str
    tool: str
    arguments: Annotated[object, Field(description="Of the call: an object.")]
    question: Annotated[str | None, Field(description="Only for a question.")]
    answer_schema: Annotated[object, Field(description="JSON Schema of the answer; null for an approval.")]
    allowed: Annotated[list[str], Field(description="What may be decided: `approve`, `edit`, `reject` or `answer`.")]
    created_at: str
    expires_at: Annotated[str, Field(description="When it is rejected unless decided before.")]


class RunInterruptedData(EventData):
    """The end: the run waits for decisions of a person. POST them to /api/v1/runs/{run_id}/resume."""

    interrupts: Annotated[list[InterruptData], Field(description="In the order of the calls.")]
    usage: UsageData


# In the order in which they come.
_DATA: Final[Mapping[type[KnownEvent], type[EventData]]] = {
    events.RunStarted: RunStartedData,
    events.RunRestarted: RunRestartedData,
    events.MemoryRecalled: MemoryRecalledData,
    events.MessageDelta: MessageDeltaData,
    events.MessageCompleted: MessageCompletedData,
    events.MemberDelta: MemberDeltaData,
    events.MemberCompleted: MemberCompletedData,
    events.ToolStarted: ToolStartedData,
    events.ToolFinished: ToolFinishedData,
    events.StepStarted: StepStartedData,
    events.StepFinished: StepFinishedData,
    events.Custom: CustomData,
    events.RunFinished: RunFinishedData,
    events.RunFailed: RunFailedData,
    events.RunCancelled: RunCancelledData,
    events.RunInterrupted: RunInterruptedData,
}
NAMES: Final = tuple(body.type for body in _DATA if not body.is_terminal)
ENDS: Final = tuple(body.type for body in _DATA if body.is_terminal)


def event_data(event: RunEvent) -> EventData:  # noqa: C901, PLR0911, PLR0912 - one flat case an event
    body, seq = event.body, event.seq
    match body:
        case events.MessageDelta(message_id, text):
            return MessageDeltaData(type=body.type, seq=seq, message_id=message_id, text=text)
        case events.MessageCompleted(message_id, content, model, agent, is_json):
            parsed = json_or_text(content) if is_json else None
            return MessageCompletedData(
                type=body.type,
                seq=seq,
                message_id=message_id,
                content=content,
                model=model,
                agent=agent,
                parsed=parsed,
            )
        case events.MemberDelta(message_id, agent, text):
            return MemberDeltaData(type=body.type, seq=seq, message_id=message_id, agent=agent, text=text)
        case events.MemberCompleted(message_id, agent, content, model):
            return MemberCompletedData(
                type=body.type, seq=seq, message_id=message_id, agent=agent, content=content, model=model
            )
        case events.RunStarted(thread_id):
            return RunStartedData(
                type=body.type, seq=seq, run_id=str(event.run_id), thread_id=thread_id, attempt=event.attempt
            )
        case events.RunRestarted(thread_id, results):
            return RunRestartedData(
                type=body.type,
                seq=seq,
                run_id=str(event.run_id),
                thread_id=thread_id,
                attempt=event.attempt,
                reused_tool_results=[_tool_result(one) for one in results],
            )
        case events.MemoryRecalled(memories, is_unavailable):
            found = [MemoryData(id=one.id, text=one.text, similarity=one.similarity) for one in memories]
            return MemoryRecalledData(type=body.type, seq=seq, memories=found, is_unavailable=is_unavailable)
        case events.ToolStarted(call_id, tool, arguments_json, agent):
            return ToolStartedData(
                type=body.type, seq=seq, call_id=call_id, tool=tool, arguments=json_or_text(arguments_json), agent=agent
            )
        case events.ToolFinished(result, agent):
            return ToolFinishedData(type=body.type, seq=seq, **_tool_result(result), agent=agent)
        case events.StepStarted(step):
            return StepStartedData(type=body.type, seq=seq, step=step)
        case events.StepFinished(step):
            return StepFinishedData(type=body.type, seq=seq, step=step)
        case events.Custom(name, data_json):
            return CustomData(type=body.type, seq=seq, name=name, data=json_or_text(data_json))
        case events.RunFinished(finish_reason, usage):
            return RunFinishedData(type=body.type, seq=seq, finish_reason=finish_reason, usage=_usage(usage))
        case events.RunFailed(error, usage):
            return RunFailedData(
                type=body.type,
                seq=seq,
                reason=error.reason,
                detail=error.detail,
                retryable=error.is_retryable,
                usage=_usage(usage),
            )
        case events.RunCancelled(usage):
            return RunCancelledData(type=body.type, seq=seq, usage=_usage(usage))
        case events.RunInterrupted(interrupts, usage):
            asked = [_interrupt(one) for one in interrupts]
            return RunInterruptedData(type=body.type, seq=seq, interrupts=asked, usage=_usage(usage))
        case events.UnknownEvent():
            return EventData(type=body.type, seq=seq)
        case _:
            assert_never(body)


def event_schemas() -> dict[str, Any]:
    """Schemas for the OpenAPI document; `RunEvent` is the union of the others."""
    schemas: dict[str, Any] = {}
    references: dict[str, str] = {}
    for body, data in _DATA.items():
        schema = TypeAdapter(data).json_schema(ref_template=_REFERENCE)
        schemas |= schema.pop("$defs", {})
        schema["properties"]["type"] = {"type": "string", "const": body.type}
        schemas[data.__name__] = schema
        references[body.type] = _REFERENCE.format(model=data.__name__)
    schemas[SCHEMA] = {
        "description": "The `data:` of one event. Ignore events whose `type` is not listed here.",
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }
    return schemas


def _tool_result(result: ToolResult) -> ToolResultData:
    return ToolResultData(
        call_id=result.call_id,
        tool=result.tool,
        content=result.content,
        is_error=result.is_error,
        is_unknown=result.is_unknown,
    )


def _interrupt(one: Interrupt) -> InterruptData:
    return InterruptData(
        id=one.id,
        kind=one.kind.value,
        call_id=one.call_id,
        tool=one.tool,
        arguments=json_or_text(one.arguments_json),
        question=one.question or None,
        answer_schema=json_or_text(one.answer_schema_json) if one.answer_schema_json else None,
        allowed=[kind.value for kind in one.allowed],
        created_at=one.created_at.isoformat(),
        expires_at=one.expires_at.isoformat(),
    )


def _usage(usage: Usage) -> UsageData:
    return UsageData(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_micro_usd / _MICRO,
    )


def json_or_text(text: str) -> object:
    """What a model wrote, parsed; the text itself if it is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
