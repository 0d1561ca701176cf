"""Assistants, over agent's gRPC."""

from collections.abc import Awaitable
from typing import Final

import grpc
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.errors import Internal, Unavailable
from mesh_common.grpc.error_wire import UNIMPLEMENTED
from mesh_common.subject import Subject

from mesh_gateway import convert_assistants as convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.domain import Assistant, AssistantVisibility, Page

_UPGRADE_RETRY_AFTER_S: Final = 5.0


class AssistantsClient:
    def __init__(self, backend: Backend, channel: grpc.aio.Channel) -> None:
        self._backend = backend
        self._stub = agent_pb2_grpc.AgentServiceStub(channel)

    async def create(
        self, subject: Subject, spec_json: str, visibility: AssistantVisibility, idempotency_key: str | None
    ) -> Assistant:
        request = agent_pb2.CreateAssistantRequest(
            spec_json=spec_json, visibility=convert.visibility_pb(visibility), idempotency_key=idempotency_key
        )
        response = await _known(self._backend.unary(self._stub.CreateAssistant, request, subject=subject))
        return convert.assistant(response.assistant)

    async def get(self, subject: Subject, name: str, version: str | None) -> Assistant:
        request = agent_pb2.GetAssistantRequest(name=name, version=version)
        response = await _known(self._backend.unary(self._stub.GetAssistant, request, subject=subject))
        return convert.assistant(response.assistant)

    async def list(self, subject: Subject, limit: int, cursor: str | None) -> Page[Assistant]:
        request = agent_pb2.ListAssistantsRequest(limit=limit, cursor=cursor)
        response = await _known(self._backend.unary(self._stub.ListAssistants, request, subject=subject))
        following = response.next_cursor if response.HasField("next_cursor") else None
        return Page([convert.assistant(one) for one in response.assistants], following)

    async def update(
        self, subject: Subject, spec_json: str, expected: str | None, visibility: AssistantVisibility | None
    ) -> Assistant:
        request = agent_pb2.UpdateAssistantRequest(
            spec_json=spec_json,
            expected_version=expected,
            visibility=convert.visibility_pb(visibility) if visibility else agent_pb2.ASSISTANT_VISIBILITY_UNSPECIFIED,
        )
        response = await _known(self._backend.unary(self._stub.UpdateAssistant, request, subject=subject))
        return convert.assistant(response.assistant)

    async def delete(self, subject: Subject, name: str, expected: str | None) -> None:
        request = agent_pb2.DeleteAssistantRequest(name=name, expected_version=expected)
        await _known(self._backend.unary(self._stub.DeleteAssistant, request, subject=subject))

    async def versions(self, subject: Subject, name: str, limit: int, cursor: str | None) -> Page[Assistant]:
        request = agent_pb2.ListAssistantVersionsRequest(name=name, limit=limit, cursor=cursor)
        response = await _known(self._backend.unary(self._stub.ListAssistantVersions, request, subject=subject))
        following = response.next_cursor if response.HasField("next_cursor") else None
        return Page([convert.assistant(one) for one in response.versions], following)

    async def set_current(self, subject: Subject, name: str, version: str, expected: str | None) -> Assistant:
        request = agent_pb2.SetCurrentAssistantVersionRequest(name=name, version=version, expected_version=expected)
        response = await _known(self._backend.unary(self._stub.SetCurrentAssistantVersion, request, subject=subject))
        return convert.assistant(response.assistant)

    async def set_disabled(self, subject: Subject, name: str, *, is_disabled: bool) -> Assistant:
        request = agent_pb2.SetAssistantDisabledRequest(name=name, is_disabled=is_disabled)
        response = await _known(self._backend.unary(self._stub.SetAssistantDisabled, request, subject=subject))
        return convert.assistant(response.assistant)


async def _known[T](call: Awaitable[T]) -> T:
    """The response. Raises Unavailable if this replica of the agent is of the release before."""
    try:
        return await call
    except Internal as error:
        if error.reason != UNIMPLEMENTED:
            raise
        raise Unavailable(
            "This part of the service is being upgraded. Try again.", retry_after_s=_UPGRADE_RETRY_AFTER_S
        ) from error
