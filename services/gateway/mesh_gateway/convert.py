"""Protobuf <-> what the API speaks. Pure functions."""

from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.agent.v1 import agent_pb2
from mesh.auth.v1 import auth_pb2
from mesh.eval.v1 import eval_pb2
from mesh.memory.v1 import memory_pb2
from mesh_common.ids import RunId

from mesh_gateway.protocols.native.schemas import auth, catalogue, memories, runs, threads
from mesh_gateway.runs.events import EventPosition, Multitask, RunOrder

_MICRO: Final = 1_000_000
_STATUS_NUMBER: Final[dict[runs.KnownRunStatus, agent_pb2.RunStatus.ValueType]] = {
    "pending": agent_pb2.RUN_STATUS_PENDING,
    "running": agent_pb2.RUN_STATUS_RUNNING,
    "succeeded": agent_pb2.RUN_STATUS_SUCCEEDED,
    "failed": agent_pb2.RUN_STATUS_FAILED,
    "cancelled": agent_pb2.RUN_STATUS_CANCELLED,
}
# A value that a newer release sends is no key of these: it reads as unknown.
_RUN_STATUS: Final[dict[int, runs.KnownRunStatus]] = {number: status for status, number in _STATUS_NUMBER.items()}
_MULTITASK: Final[dict[Multitask, agent_pb2.Multitask.ValueType]] = {
    "enqueue": agent_pb2.MULTITASK_ENQUEUE,
    "reject": agent_pb2.MULTITASK_REJECT,
    "interrupt": agent_pb2.MULTITASK_INTERRUPT,
}
_ROLE: Final[dict[int, Literal["user", "assistant"]]] = {
    agent_pb2.MESSAGE_ROLE_USER: "user",
    agent_pb2.MESSAGE_ROLE_ASSISTANT: "assistant",
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
        follower_id=follower_id if order.is_followed else None,
        is_acknowledged_by_message=True,
    )


def follow_request(run_id: RunId, after: EventPosition | None) -> agent_pb2.FollowRunRequest:
    request = agent_pb2.FollowRunRequest(run_id=str(run_id), is_acknowledged_by_message=True)
    if after:
        request.after_attempt, request.after_seq = after.attempt, after.seq
    return request


def list_runs_request(
    thread_id: UUID, status: runs.KnownRunStatus | None, limit: int, cursor: str | None
) -> agent_pb2.ListRunsRequest:
    return agent_pb2.ListRunsRequest(
        thread_id=str(thread_id), limit=limit, cursor=cursor, status=_STATUS_NUMBER[status] if status else None
    )


def thread(message: agent_pb2.Thread) -> threads.Thread:
    return threads.Thread(
        id=message.id,
        title=message.title,
        metadata=dict(message.metadata),
        created_at=_time(message.created_at),
        updated_at=_time(message.updated_at),
    )


def thread_message(message: agent_pb2.Message) -> threads.Message:
    return threads.Message(
        id=message.id,
        role=_ROLE.get(message.role, "unknown"),
        content=message.content,
        created_at=_time(message.created_at),
        run_id=message.run_id,
        is_partial=message.is_partial,
    )


def run(message: agent_pb2.Run) -> runs.Run:
    fault = message.error
    return runs.Run(
        id=message.id,
        thread_id=message.thread_id,
        status=_RUN_STATUS.get(message.status, "unknown"),
        attempt=message.attempt,
        model=message.model,
        created_at=_time(message.created_at),
        started_at=_time(message.started_at) if message.HasField("started_at") else None,
        ended_at=_time(message.ended_at) if message.HasField("ended_at") else None,
        finish_reason=message.finish_reason if message.HasField("finish_reason") else None,
        usage=runs.Usage(**_usage_fields(message.usage)) if message.HasField("usage") else None,
        error=(
            runs.RunFault(reason=fault.reason, detail=fault.detail, retryable=fault.is_retryable)
            if message.HasField("error")
            else None
        ),
        message=thread_message(message.message) if message.HasField("message") else None,
        metadata=dict(message.metadata),
    )


def model(message: agent_pb2.Model) -> catalogue.Model:
    return catalogue.Model(
        name=message.name,
        context_tokens=message.context_tokens,
        capabilities=list(message.capabilities),
        input_usd_per_mtok=message.input_micro_usd_per_mtok / _MICRO,
        output_usd_per_mtok=message.output_micro_usd_per_mtok / _MICRO,
    )


def memory(message: memory_pb2.Memory) -> memories.Memory:
    return memories.Memory(
        id=message.id,
        text=message.text,
        origin=_ORIGIN.get(message.origin, "unknown"),
        created_at=_time(message.created_at),
        updated_at=_time(message.updated_at),
        run_id=message.run_id if message.HasField("run_id") else None,
        similarity=message.similarity if message.HasField("similarity") else None,
    )


def tokens(message: auth_pb2.TokenPair) -> auth.Tokens:
    return auth.Tokens(
        access_token=message.access_token,
        expires_in=message.expires_in.ToSeconds(),
        refresh_token=message.refresh_token,
    )


def user(message: auth_pb2.User) -> auth.User:
    return auth.User(
        id=message.id, email=message.email, created_at=_time(message.created_at), is_admin=message.is_admin
    )


def month_usage(message: auth_pb2.GetUsageResponse) -> catalogue.MonthUsage:
    items = [
        catalogue.ModelUsage(
            model=one.model,
            runs=one.runs,
            input_tokens=one.input_tokens,
            output_tokens=one.output_tokens,
            cost_usd=one.cost_micro_usd / _MICRO,
        )
        for one in message.models
    ]
    return catalogue.MonthUsage(month=message.month, items=items)


def score(message: eval_pb2.Score) -> catalogue.Score:
    return catalogue.Score(
        name=message.name,
        status=_SCORE_STATUS.get(message.status, "unknown"),
        value=message.value if message.HasField("value") else None,
        reasoning=message.reasoning,
        judge_model=message.judge_model,
        prompt_hash=message.prompt_hash,
        created_at=_time(message.created_at),
    )


def _usage_fields(message: agent_pb2.Usage) -> dict[str, Any]:
    return {
        "input_tokens": message.input_tokens,
        "output_tokens": message.output_tokens,
        "cost_usd": message.cost_micro_usd / _MICRO,
    }


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
