"""proto in, use case, proto out: the RPCs about assistants."""

from typing import Any

import grpc
from mesh.agent.v1 import agent_pb2 as pb
from mesh.agent.v1 import agent_pb2_grpc
from mesh_common.caller import require_subject

from mesh_agent import convert, convert_assistants
from mesh_agent.assistants.model import Visibility
from mesh_agent.convert_assistants import assistant_pb
from mesh_agent.usecases.assistants import Assistants

Context = grpc.aio.ServicerContext[Any, Any]


class AssistantRPCs(agent_pb2_grpc.AgentServiceServicer):
    def __init__(self, assistants: Assistants) -> None:
        self._assistants = assistants

    async def CreateAssistant(self, request: pb.CreateAssistantRequest, context: Context) -> pb.CreateAssistantResponse:
        key = convert.idempotency_key(request.idempotency_key) if request.HasField("idempotency_key") else None
        visibility = convert_assistants.visibility(request.visibility) or Visibility.PRIVATE
        created = await self._assistants.create(require_subject(), request.spec_json, visibility, key)
        return pb.CreateAssistantResponse(assistant=assistant_pb(created))

    async def GetAssistant(self, request: pb.GetAssistantRequest, context: Context) -> pb.GetAssistantResponse:
        version = convert_assistants.version(request.version) if request.HasField("version") else None
        found = await self._assistants.get(require_subject(), convert_assistants.name(request.name), version)
        return pb.GetAssistantResponse(assistant=assistant_pb(found))

    async def ListAssistants(self, request: pb.ListAssistantsRequest, context: Context) -> pb.ListAssistantsResponse:
        page = await self._assistants.list(
            require_subject(),
            limit=convert.limit(request.limit),
            cursor=request.cursor if request.HasField("cursor") else None,
        )
        return pb.ListAssistantsResponse(assistants=map(assistant_pb, page.items), next_cursor=page.next_cursor)

    async def UpdateAssistant(self, request: pb.UpdateAssistantRequest, context: Context) -> pb.UpdateAssistantResponse:
        changed = await self._assistants.update(
            require_subject(),
            request.spec_json,
            request.expected_version if request.HasField("expected_version") else None,
            convert_assistants.visibility(request.visibility),
        )
        return pb.UpdateAssistantResponse(assistant=assistant_pb(changed))

    async def DeleteAssistant(self, request: pb.DeleteAssistantRequest, context: Context) -> pb.DeleteAssistantResponse:
        await self._assistants.delete(
            require_subject(),
            convert_assistants.name(request.name),
            request.expected_version if request.HasField("expected_version") else None,
        )
        return pb.DeleteAssistantResponse()

    async def ListAssistantVersions(
        self, request: pb.ListAssistantVersionsRequest, context: Context
    ) -> pb.ListAssistantVersionsResponse:
        page = await self._assistants.versions(
            require_subject(),
            convert_assistants.name(request.name),
            limit=convert.limit(request.limit),
            cursor=request.cursor if request.HasField("cursor") else None,
        )
        return pb.ListAssistantVersionsResponse(versions=map(assistant_pb, page.items), next_cursor=page.next_cursor)

    async def SetCurrentAssistantVersion(
        self, request: pb.SetCurrentAssistantVersionRequest, context: Context
    ) -> pb.SetCurrentAssistantVersionResponse:
        changed = await self._assistants.set_current(
            require_subject(),
            convert_assistants.name(request.name),
            convert_assistants.version(request.version),
            request.expected_version if request.HasField("expected_version") else None,
        )
        return pb.SetCurrentAssistantVersionResponse(assistant=assistant_pb(changed))

    async def SetAssistantDisabled(
        self, request: pb.SetAssistantDisabledRequest, context: Context
    ) -> pb.SetAssistantDisabledResponse:
        changed = await self._assistants.set_disabled(
            require_subject(), convert_assistants.name(request.name), is_disabled=request.is_disabled
        )
        return pb.SetAssistantDisabledResponse(assistant=assistant_pb(changed))
