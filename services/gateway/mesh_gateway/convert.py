"""Converts between protobuf and the gateway's domain. Pure functions."""

from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.agent.v1 import agent_pb2
from mesh.auth.v1 import auth_pb2
from mesh.eval.v1 import eval_pb2
from mesh.jobs.v1 import jobs_pb2
from mesh.memory.v1 import memory_pb2
from mesh_common.events.interrupt_wire import decision_kind_pb, interrupt
from mesh_common.events.model import RunError, Usage
from mesh_common.ids import RunId

from mesh_gateway import domain
from mesh_gateway.runs.order import Multitask, ResumeOrder, RunOrder
from mesh_gateway.runs.position import EventPosition

_STATUS_NUMBER: Final[dict[domain.KnownRunStatus, agent_pb2.RunStatus.ValueType]] = {
    "pending": agent_pb2.RUN_STATUS_PENDING,
    "running": agent_pb2.RUN_STATUS_RUNNING,
    "succeeded": agent_pb2.RUN_STATUS_SUCCEEDED,
    "failed": agent_pb2.RUN_STATUS_FAILED,
    "cancelled": agent_pb2.RUN_STATUS_CANCELLED,
    "interrupted": agent_pb2.RUN_STATUS_INTERRUPTED,
}
# A value from a newer release is not a key of these maps and becomes `unknown`.
_RUN_STATUS: Final[dict[int, domain.KnownRunStatus]] = {number: status for status, number in _STATUS_NUMBER.items()}
_MULTITASK: Final[dict[Multitask, agent_pb2.Multitask.ValueType]] = {
    "enqueue": agent_pb2.MULTITASK_ENQUEUE,
    "reject": agent_pb2.MULTITASK_REJECT,
    "interrupt": agent_pb2.MULTITASK_INTERRUPT,
    "rollback": agent_pb2.MULTITASK_ROLLBACK,
}
_ROLE: Final[dict[int, Literal["user", "interim", "assistant", "note"]]] = {
    agent_pb2.MESSAGE_ROLE_USER: "user",
    agent_pb2.MESSAGE_ROLE_INTERIM: "interim",
    agent_pb2.MESSAGE_ROLE_ASSISTANT: "assistant",
    agent_pb2.MESSAGE_ROLE_NOTE: "note",
}
_SCORE_STATUS: Final[dict[int, Literal["succeeded", "failed"]]] = {
    eval_pb2.SCORE_STATUS_SUCCEEDED: "succeeded",
    eval_pb2.SCORE_STATUS_FAILED: "failed",
}
_ORIGIN: Final[dict[int, Literal["extracted", "verbatim", "written"]]] = {
    memory_pb2.MEMORY_ORIGIN_EXTRACTED: "extracted",
    memory_pb2.MEMORY_ORIGIN_VERBATIM: "verbatim",
    memory_pb2.MEMORY_ORIGIN_WRITTEN: "written",
}


def start_request(order: RunOrder, follower_id: str) -> agent_pb2.StartRunRequest:
    return agent_pb2.StartRunRequest(
        run_id=str(order.run_id),
        thread_id=order.thread_id,
        message=order.message,
        model=order.model,
        metadata=order.metadata,
        multitask=_MULTITASK[order.multitask],
        on_disconnect=(
            agent_pb2.ON_DISCONNECT_CANCEL if order.cancels_on_disconnect else agent_pb2.ON_DISCONNECT_CONTINUE
        ),
        idempotency_key=order.idempotency_key,
        assistant=order.assistant,
        response_format_json=order.response_format_json,
        follower_id=follower_id if order.is_followed else None,
        resume=_resume(order.resume) if order.resume else None,
        is_acknowledged_by_message=True,
    )


def _resume(order: ResumeOrder) -> agent_pb2.Resume:
    decisions = [
        agent_pb2.Decision(
            call_id=one.call_id,
            kind=decision_kind_pb(one.kind),
            value_json=one.value_json,
            message=one.message,
        )
        for one in order.decisions
    ]
    return agent_pb2.Resume(run_id=str(order.run_id), decisions=decisions)


def follow_request(run_id: RunId, after: EventPosition | None) -> agent_pb2.FollowRunRequest:
    request = agent_pb2.FollowRunRequest(run_id=str(run_id), is_acknowledged_by_message=True)
    if after:
        request.after_attempt, request.after_seq = after.attempt, after.seq
    return request


def list_runs_request(
    thread_id: UUID, status: domain.KnownRunStatus | None, limit: int, cursor: str | None
) -> agent_pb2.ListRunsRequest:
    return agent_pb2.ListRunsRequest(
        thread_id=str(thread_id), limit=limit, cursor=cursor, status=_STATUS_NUMBER[status] if status else None
    )


def thread(message: agent_pb2.Thread) -> domain.Thread:
    return domain.Thread(
        id=message.id,
        title=message.title,
        metadata=dict(message.metadata),
        created_at=_time(message.created_at),
        updated_at=_time(message.updated_at),
        assistant=message.assistant,
    )


def thread_message(message: agent_pb2.Message) -> domain.Message:
    return domain.Message(
        id=message.id,
        role=_ROLE.get(message.role, "unknown"),
        content=message.content,
        created_at=_time(message.created_at),
        run_id=message.run_id,
        is_partial=message.is_partial,
        agent=message.agent,
    )


def run(message: agent_pb2.Run) -> domain.Run:
    fault = message.error
    return domain.Run(
        id=message.id,
        thread_id=message.thread_id,
        status=_RUN_STATUS.get(message.status, "unknown"),
        attempt=message.attempt,
        model=message.model,
        created_at=_time(message.created_at),
        started_at=_time(message.started_at) if message.HasField("started_at") else None,
        ended_at=_time(message.ended_at) if message.HasField("ended_at") else None,
        finish_reason=message.finish_reason if message.HasField("finish_reason") else None,
        usage=_usage(message.usage) if message.HasField("usage") else None,
        error=(
            RunError(reason=fault.reason, detail=fault.detail, is_retryable=fault.is_retryable)
            if message.HasField("error")
            else None
        ),
        message=thread_message(message.message) if message.HasField("message") else None,
        metadata=dict(message.metadata),
        resumes_run_id=message.resumes_run_id if message.HasField("resumes_run_id") else None,
        interrupts=tuple(map(interrupt, message.interrupts)),
        assistant=message.assistant,
        assistant_version=message.assistant_version,
        usage_by_agent={name: _usage(usage) for name, usage in message.usage_by_agent.items()},
    )


def model(message: agent_pb2.Model) -> domain.Model:
    return domain.Model(
        name=message.name,
        context_tokens=message.context_tokens,
        capabilities=list(message.capabilities),
        input_micro_usd_per_mtok=message.input_micro_usd_per_mtok,
        output_micro_usd_per_mtok=message.output_micro_usd_per_mtok,
    )


def memory(message: memory_pb2.Memory) -> domain.Memory:
    return domain.Memory(
        id=message.id,
        text=message.text,
        origin=_ORIGIN.get(message.origin, "unknown"),
        created_at=_time(message.created_at),
        updated_at=_time(message.updated_at),
        run_id=message.run_id if message.HasField("run_id") else None,
        similarity=message.similarity if message.HasField("similarity") else None,
    )


def tokens(message: auth_pb2.TokenPair) -> domain.Tokens:
    return domain.Tokens(
        access_token=message.access_token,
        expires_in_s=message.expires_in.ToSeconds(),
        refresh_token=message.refresh_token,
    )


def user(message: auth_pb2.User) -> domain.User:
    return domain.User(
        id=message.id,
        email=message.email,
        created_at=_time(message.created_at),
        is_admin=message.is_admin,
        disabled_at=_time(message.disabled_at) if message.HasField("disabled_at") else None,
    )


def month_usage(message: auth_pb2.GetUsageResponse) -> domain.MonthUsage:
    models = [
        domain.ModelUsage(one.model, one.runs, Usage(one.input_tokens, one.output_tokens, one.cost_micro_usd))
        for one in message.models
    ]
    return domain.MonthUsage(message.month, models)


def scores(message: eval_pb2.ListScoresResponse) -> domain.Scores:
    return domain.Scores([_score(one) for one in message.scores], message.is_pending)


def dead_letter(message: jobs_pb2.DeadLetter) -> domain.DeadLetter:
    return domain.DeadLetter(
        id=message.id,
        kind=message.kind,
        user_id=message.user_id,
        reason=message.reason,
        queued_at=_time(message.queued_at),
        failed_at=_time(message.failed_at),
    )


def _score(message: eval_pb2.Score) -> domain.Score:
    return domain.Score(
        name=message.name,
        status=_SCORE_STATUS.get(message.status, "unknown"),
        value=message.value if message.HasField("value") else None,
        reasoning=message.reasoning,
        judge_model=message.judge_model,
        prompt_hash=message.prompt_hash,
        created_at=_time(message.created_at),
    )


def _usage(message: agent_pb2.Usage) -> Usage:
    return Usage(message.input_tokens, message.output_tokens, message.cost_micro_usd)


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
