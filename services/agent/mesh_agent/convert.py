"""Converts between proto and domain, and validates requests. Errors name the invalid field."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.errors import InvalidInput
from mesh_common.events.interrupt_wire import decision_kind, interrupt_pb
from mesh_common.ids import RunId, ThreadId, parse_id
from mesh_common.response_format import ResponseFormat
from pydantic import ValidationError

from mesh_agent.domain.interrupts import Decision, DecisionKind, ResumeInput
from mesh_agent.domain.runs import MAX_MESSAGE_CHARS, Multitask, OnDisconnect, Run, RunError, RunInput, RunStatus, Usage
from mesh_agent.domain.threads import (
    MAX_METADATA_KEY_CHARS,
    MAX_METADATA_PAIRS,
    MAX_METADATA_VALUE_CHARS,
    Message,
    Metadata,
    Role,
    Thread,
)
from mesh_agent.known_assistants import split
from mesh_agent.llm.registry import Model
from mesh_agent.tools.schema import answer_schema_fault

_DEFAULT_LIMIT: Final = 20
_MAX_LIMIT: Final = 100
_MAX_KEY_CHARS: Final = 255
# More calls than an answer of a model may have.
_MAX_DECISIONS: Final = 100

_MULTITASK: Final[dict[int, Multitask]] = {
    pb.MULTITASK_UNSPECIFIED: Multitask.ENQUEUE,
    pb.MULTITASK_ENQUEUE: Multitask.ENQUEUE,
    pb.MULTITASK_REJECT: Multitask.REJECT,
    pb.MULTITASK_INTERRUPT: Multitask.INTERRUPT,
    pb.MULTITASK_ROLLBACK: Multitask.ROLLBACK,
}
_ON_DISCONNECT: Final[dict[int, OnDisconnect]] = {
    pb.ON_DISCONNECT_UNSPECIFIED: OnDisconnect.CONTINUE,
    pb.ON_DISCONNECT_CONTINUE: OnDisconnect.CONTINUE,
    pb.ON_DISCONNECT_CANCEL: OnDisconnect.CANCEL,
}
_STATUS: Final = {
    RunStatus.PENDING: pb.RUN_STATUS_PENDING,
    RunStatus.RUNNING: pb.RUN_STATUS_RUNNING,
    RunStatus.SUCCEEDED: pb.RUN_STATUS_SUCCEEDED,
    RunStatus.FAILED: pb.RUN_STATUS_FAILED,
    RunStatus.CANCELLED: pb.RUN_STATUS_CANCELLED,
    RunStatus.INTERRUPTED: pb.RUN_STATUS_INTERRUPTED,
    RunStatus.UNKNOWN: pb.RUN_STATUS_UNSPECIFIED,
}
_STATUS_BY_PB: Final[dict[int, RunStatus]] = {number: status for status, number in _STATUS.items() if number}
_ROLE: Final = {
    Role.USER: pb.MESSAGE_ROLE_USER,
    Role.INTERIM: pb.MESSAGE_ROLE_INTERIM,
    Role.ASSISTANT: pb.MESSAGE_ROLE_ASSISTANT,
    Role.NOTE: pb.MESSAGE_ROLE_NOTE,
    Role.UNKNOWN: pb.MESSAGE_ROLE_UNSPECIFIED,
}


def run_input(request: pb.StartRunRequest) -> RunInput:
    if request.multitask not in _MULTITASK:
        raise InvalidInput.of_field("multitask", "is not a strategy of this service")
    if request.on_disconnect not in _ON_DISCONNECT:
        raise InvalidInput.of_field("on_disconnect", "is not a choice of this service")
    return RunInput(
        run_id=run_id(request.run_id),
        thread_id=thread_id(request.thread_id) if request.HasField("thread_id") else None,
        message=text(request.message, "message", max_chars=MAX_MESSAGE_CHARS, min_chars=1),
        model=request.model if request.HasField("model") else None,
        metadata=metadata(request.metadata),
        multitask=_MULTITASK[request.multitask],
        on_disconnect=_ON_DISCONNECT[request.on_disconnect],
        idempotency_key=idempotency_key(request.idempotency_key) if request.HasField("idempotency_key") else None,
        assistant=assistant_reference(request.assistant) if request.HasField("assistant") else None,
        response_format_json=(
            response_format(request.response_format_json) if request.HasField("response_format_json") else None
        ),
    )


def response_format(given_json: str) -> str:
    try:
        given = ResponseFormat.model_validate_json(given_json)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInput.of_field(".".join(map(str, ("response_format", *fault["loc"]))), fault["msg"]) from error
    if fault_text := answer_schema_fault(given.schema_of_answer):
        raise InvalidInput.of_field("response_format.json_schema.schema", fault_text)
    return given.as_json()


def resume_input(request: pb.StartRunRequest) -> ResumeInput:
    for field in ("thread_id", "model", "assistant", "response_format_json"):
        if request.HasField(field):
            raise InvalidInput.of_field(field, "must be absent in a resume")
    if request.message:
        raise InvalidInput.of_field("message", "must be empty in a resume")
    decisions = request.resume.decisions
    if not 1 <= len(decisions) <= _MAX_DECISIONS:
        raise InvalidInput.of_field("decisions", f"must be 1 to {_MAX_DECISIONS}")
    return ResumeInput(
        run_id=run_id(request.run_id),
        resumes_run_id=RunId(parse_id(request.resume.run_id, "resume.run_id")),
        decisions=tuple(_decision(one, index) for index, one in enumerate(decisions)),
        idempotency_key=idempotency_key(request.idempotency_key) if request.HasField("idempotency_key") else None,
    )


def _decision(one: pb.Decision, index: int) -> Decision:
    kind = decision_kind(one.kind)
    if kind is DecisionKind.UNKNOWN:
        raise InvalidInput.of_field(f"decisions.{index}.decision", "is not a decision of this service")
    return Decision(one.call_id, kind, one.value_json, one.message)


def follower_id(request: pb.StartRunRequest) -> UUID | None:
    return parse_id(request.follower_id, "follower_id") if request.HasField("follower_id") else None


def follower(request: pb.FollowStartedRunsRequest) -> tuple[UUID, UUID]:
    """The follower's id and the stream's."""
    return parse_id(request.follower_id, "follower_id"), parse_id(request.stream_id, "stream_id")


def run_id(value: str) -> RunId:
    return RunId(parse_id(value, "run_id"))


def thread_id(value: str) -> ThreadId:
    return ThreadId(parse_id(value, "thread_id"))


def text(value: str, field: str, *, max_chars: int, min_chars: int = 0) -> str:
    if len(value) > max_chars:
        raise InvalidInput.of_field(field, f"is longer than {max_chars} characters")
    if len(value.strip()) < min_chars:
        raise InvalidInput.of_field(field, "is empty")
    if "\x00" in value:
        raise InvalidInput.of_field(field, "contains the character NUL")
    return value


def assistant_reference(value: str) -> str:
    split(value)
    return value


def metadata(pairs: Mapping[str, str]) -> Metadata:
    if len(pairs) > MAX_METADATA_PAIRS:
        raise InvalidInput.of_field("metadata", f"has more than {MAX_METADATA_PAIRS} entries")
    return {
        text(key, "metadata", max_chars=MAX_METADATA_KEY_CHARS, min_chars=1): text(
            value, f"metadata.{key[:64]}", max_chars=MAX_METADATA_VALUE_CHARS
        )
        for key, value in pairs.items()
    }


def idempotency_key(value: str) -> str:
    if not 1 <= len(value) <= _MAX_KEY_CHARS or not all("!" <= character <= "~" for character in value):
        raise InvalidInput.of_field("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    return value


def limit(value: int) -> int:
    if value > _MAX_LIMIT:
        raise InvalidInput.of_field("limit", f"must be 1 to {_MAX_LIMIT}")
    return value or _DEFAULT_LIMIT


def status(value: int) -> RunStatus:
    if value not in _STATUS_BY_PB:
        raise InvalidInput.of_field("status", "is not a status of runs")
    return _STATUS_BY_PB[value]


def timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def thread_pb(thread: Thread) -> pb.Thread:
    return pb.Thread(
        id=str(thread.id),
        title=thread.title,
        metadata=thread.metadata,
        created_at=timestamp(thread.created_at),
        updated_at=timestamp(thread.updated_at),
        assistant=thread.assistant,
    )


def message_pb(message: Message) -> pb.Message:
    return pb.Message(
        id=str(message.id),
        role=_ROLE[message.role],
        content=message.content,
        created_at=timestamp(message.created_at),
        run_id=str(message.run_id),
        is_partial=message.is_partial,
        agent=message.agent,
    )


def usage_pb(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost_micro_usd=usage.cost_micro_usd
    )


def error_pb(error: RunError) -> pb.RunError:
    return pb.RunError(reason=error.reason, detail=error.detail, is_retryable=error.is_retryable)


def run_pb(run: Run) -> pb.Run:
    return pb.Run(
        id=str(run.id),
        thread_id=str(run.thread_id),
        status=_STATUS[run.status],
        attempt=run.attempt,
        model=run.model,
        created_at=timestamp(run.created_at),
        started_at=timestamp(run.started_at) if run.started_at else None,
        ended_at=timestamp(run.ended_at) if run.ended_at else None,
        usage=usage_pb(run.usage) if run.usage else None,
        error=error_pb(run.error) if run.error else None,
        message=message_pb(run.message) if run.message else None,
        metadata=run.metadata,
        finish_reason=run.finish_reason,
        resumes_run_id=str(run.resumes_run_id) if run.resumes_run_id else None,
        interrupts=map(interrupt_pb, run.interrupts),
        assistant=run.assistant,
        assistant_version=run.assistant_version,
        usage_by_agent={name: usage_pb(usage) for name, usage in run.usage_by_agent.items()},
    )


def model_pb(model: Model) -> pb.Model:
    return pb.Model(
        name=model.name,
        context_tokens=model.context_tokens,
        capabilities=sorted(model.capabilities),
        input_micro_usd_per_mtok=round(model.input_usd_per_mtok * 1_000_000),
        output_micro_usd_per_mtok=round(model.output_usd_per_mtok * 1_000_000),
    )
