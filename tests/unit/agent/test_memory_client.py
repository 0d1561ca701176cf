"""The client of memory, next to another release of it."""

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
from mesh.memory.v1 import memory_pb2 as pb
from mesh.memory.v1.memory_pb2_grpc import MemoryServiceStub
from mesh_agent.clients.memory import MemoryClient
from mesh_agent.domain.threads import Message, Role, ToRemember
from mesh_common.errors import Internal, MeshError, PermissionDenied, Unavailable
from mesh_common.grpc.client import ServiceCalls
from mesh_common.grpc.error_wire import EDGE_NOT_ALLOWED, UNIMPLEMENTED
from mesh_common.ids import RunId, ThreadId, new_id
from support.subjects import some_subject

ADA = some_subject()
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Answering:
    """Answers every call, or fails it, and keeps the request."""

    def __init__(self, answer: object = None) -> None:
        self._answer = answer
        self.request: Any = None

    async def unary(self, _: object, request: object, **__: object) -> object:
        self.request = request
        if isinstance(self._answer, MeshError):
            raise self._answer
        return self._answer


def _client(calls: Answering) -> MemoryClient:
    class Stub:
        Recall = Remember = ForgetThread = None

    return MemoryClient(cast("ServiceCalls", calls), cast("MemoryServiceStub", Stub()), 0.3)


@pytest.mark.parametrize("error", [Internal("x", reason=UNIMPLEMENTED), PermissionDenied("x", reason=EDGE_NOT_ALLOWED)])
async def test_older_memory_hears_of_a_deleted_thread_once_it_is_upgraded(error: MeshError) -> None:
    """The outbox drops what is refused for good, and retries what is unavailable."""
    with pytest.raises(Unavailable):
        await _client(Answering(error)).forget_thread(ADA, ThreadId(new_id()), NOON)


async def test_other_refusals_of_memory_are_not_hidden() -> None:
    with pytest.raises(PermissionDenied):
        await _client(Answering(PermissionDenied("x"))).forget_thread(ADA, ThreadId(new_id()), NOON)


@pytest.mark.parametrize(
    ("response", "generation"),
    [
        (pb.RecallResponse(), None),
        (pb.RecallResponse(forget_generation=0), 0),
        (pb.RecallResponse(forget_generation=3), 3),
    ],
)
async def test_generation_is_unknown_if_memory_does_not_send_one(
    response: pb.RecallResponse, generation: int | None
) -> None:
    assert (await _client(Answering(response)).recall(ADA, "tea")).forget_generation == generation


@pytest.mark.parametrize("generation", [None, 0, 3])
async def test_message_is_sent_with_its_run_time_and_generation(generation: int | None) -> None:
    calls, message_id, run_id = Answering(), new_id(), RunId(new_id())
    message = Message(message_id, Role.USER, "I like tea.", NOON, run_id, is_partial=False)

    await _client(calls).remember(ADA, RunId(new_id()), ThreadId(new_id()), [ToRemember(message, generation)])

    [sent] = calls.request.messages
    assert (UUID(sent.run_id), UUID(sent.message_id)) == (run_id, message_id)
    assert sent.said_at.ToDatetime(UTC) == NOON
    assert (sent.forget_generation if sent.HasField("forget_generation") else None) == generation
