"""Client of auth."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.auth.v1 import auth_pb2 as pb
from mesh.auth.v1 import auth_pb2_grpc
from mesh_common.caller import acting
from mesh_common.clock import Clock
from mesh_common.grpc.client import ServiceCalls
from mesh_common.ids import RunId
from mesh_common.subject import Subject
from opentelemetry import trace

from mesh_agent.clients.usage_batches import UsageBatches
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.runs import Usage

# A run's start waits for entitlements. After this time it uses cached ones or the default.
_ENTITLEMENTS_TIMEOUT_S = 1.0
_USAGE_TIMEOUT_S = 5.0


class AuthClient:
    def __init__(self, calls: ServiceCalls, stub: auth_pb2_grpc.AuthServiceStub, clock: Clock) -> None:
        self._calls = calls
        self._stub = stub
        self._batches = UsageBatches(self._record_batch, clock)

    async def get_entitlements(self, subject: Subject) -> Entitlements:
        response = await self._calls.unary(
            self._stub.GetEntitlements, pb.GetEntitlementsRequest(), timeout_s=_ENTITLEMENTS_TIMEOUT_S, subject=subject
        )
        return entitlements_from(response.entitlements)

    async def record_usage(self, subject: Subject, run_id: RunId, model: str, usage: Usage, ended_at: datetime) -> None:
        stamp = Timestamp()
        stamp.FromDatetime(ended_at)
        request = pb.RecordUsageRequest(
            run_id=str(run_id),
            model=model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_micro_usd=usage.cost_micro_usd,
            ended_at=stamp,
        )
        # The trace of a sampled run shows the whole turn, so its usage is not booked in another run's call.
        is_traced = trace.get_current_span().is_recording()
        if is_traced or not await self._batches.book(_entry(subject, request)):
            await self._calls.unary(self._stub.RecordUsage, request, timeout_s=_USAGE_TIMEOUT_S, subject=subject)

    async def _record_batch(self, entries: Sequence[pb.UsageEntry]) -> Collection[str]:
        request = pb.RecordUsageBatchRequest(entries=entries)
        # One run's job sends the batch for several users, so the call acts for no user.
        with acting(None):
            response = await self._calls.unary(self._stub.RecordUsageBatch, request, timeout_s=_USAGE_TIMEOUT_S)
        return response.unknown_user_ids


def entitlements_from(received: pb.Entitlements) -> Entitlements:
    return Entitlements(
        models=_names(received, "allowed_models", received.models),
        tools=_names(received, "allowed_tools", received.tools),
        context_tokens=received.context_tokens if received.HasField("context_tokens") else None,
        monthly_tokens=received.monthly_tokens if received.HasField("monthly_tokens") else None,
        used_tokens=received.used_tokens,
    )


def _names(
    received: pb.Entitlements, field: Literal["allowed_models", "allowed_tools"], names_of_0_1_0: Sequence[str]
) -> tuple[str, ...] | None:
    if not received.HasField(field):
        # From auth of release 0.1.0, which takes no names for all names.
        return tuple(names_of_0_1_0) or None
    allowed: pb.AllowedNames = getattr(received, field)
    return None if allowed.all else tuple(allowed.names)


def _entry(subject: Subject, usage: pb.RecordUsageRequest) -> pb.UsageEntry:
    return pb.UsageEntry(user_id=str(subject.user_id), org_id=str(subject.organisation_id), usage=usage)
