# ruff: noqa: N802 - methods are named and shaped by the generated servicer
"""agent's RPCs about assistants as the gateway sees them: each request is recorded, and answered with `shown`."""

from typing import Any

import grpc
from google.protobuf.message import Message
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.ids import new_id


def an_assistant(**fields: Any) -> agent_pb2.Assistant:
    values: dict[str, Any] = {
        "name": "pirate",
        "version": "3",
        "is_current": True,
        "source": agent_pb2.ASSISTANT_SOURCE_API,
        "visibility": agent_pb2.ASSISTANT_VISIBILITY_PRIVATE,
        "spec_json": '{"name":"pirate","of_a_newer_release":1}',
        "created_by": str(new_id()),
    }
    return agent_pb2.Assistant(**values | fields)


class FakeAssistants(agent_pb2_grpc.AgentServiceServicer):
    def __init__(self) -> None:
        self.asked: list[Message] = []
        self.shown = an_assistant()
        self.knows_assistants = True
        self.refusal: BaseException | None = None

    async def _answer(self, request: Message, context: Any) -> agent_pb2.Assistant:
        if not self.knows_assistants:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        self.asked.append(request)
        if self.refusal:
            raise self.refusal
        return self.shown

    async def CreateAssistant(
        self, request: agent_pb2.CreateAssistantRequest, context: Any
    ) -> agent_pb2.CreateAssistantResponse:
        return agent_pb2.CreateAssistantResponse(assistant=await self._answer(request, context))

    async def GetAssistant(
        self, request: agent_pb2.GetAssistantRequest, context: Any
    ) -> agent_pb2.GetAssistantResponse:
        return agent_pb2.GetAssistantResponse(assistant=await self._answer(request, context))

    async def ListAssistants(
        self, request: agent_pb2.ListAssistantsRequest, context: Any
    ) -> agent_pb2.ListAssistantsResponse:
        shown = await self._answer(request, context)
        return agent_pb2.ListAssistantsResponse(assistants=[shown], next_cursor="WyJhIl0")

    async def UpdateAssistant(
        self, request: agent_pb2.UpdateAssistantRequest, context: Any
    ) -> agent_pb2.UpdateAssistantResponse:
        return agent_pb2.UpdateAssistantResponse(assistant=await self._answer(request, context))

    async def DeleteAssistant(
        self, request: agent_pb2.DeleteAssistantRequest, context: Any
    ) -> agent_pb2.DeleteAssistantResponse:
        await self._answer(request, context)
        return agent_pb2.DeleteAssistantResponse()

    async def ListAssistantVersions(
        self, request: agent_pb2.ListAssistantVersionsRequest, context: Any
    ) -> agent_pb2.ListAssistantVersionsResponse:
        return agent_pb2.ListAssistantVersionsResponse(versions=[await self._answer(request, context)])

    async def SetCurrentAssistantVersion(
        self, request: agent_pb2.SetCurrentAssistantVersionRequest, context: Any
    ) -> agent_pb2.SetCurrentAssistantVersionResponse:
        return agent_pb2.SetCurrentAssistantVersionResponse(assistant=await self._answer(request, context))

    async def SetAssistantDisabled(
        self, request: agent_pb2.SetAssistantDisabledRequest, context: Any
    ) -> agent_pb2.SetAssistantDisabledResponse:
        return agent_pb2.SetAssistantDisabledResponse(assistant=await self._answer(request, context))
