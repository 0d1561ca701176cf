"""Assistants over the agent's gRPC, and descriptions of them."""

from typing import Any

import orjson
from google.protobuf.message import Message
from grpc.aio import UnaryUnaryMultiCallable
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.ids import OrganisationId, UserId, new_id
from mesh_common.subject import Subject

from support.agent import AgentUnderTest, Followed

PRIVATE, SHARED = pb.ASSISTANT_VISIBILITY_PRIVATE, pb.ASSISTANT_VISIBILITY_ORGANISATION
PIRATE: dict[str, Any] = {"name": "pirate", "instructions": "Answer as a pirate."}


def spec(**fields: Any) -> str:
    return orjson.dumps({**PIRATE, **fields}).decode()


def member(organisation: UserId, *scopes: str) -> Subject:
    """Somebody in this organisation."""
    return Subject(OrganisationId(organisation), UserId(new_id()), scopes=frozenset(scopes))


class AssistantCalls:
    """The RPCs, as a subject."""

    def __init__(self, agent: AgentUnderTest, subject: Subject) -> None:
        self._agent = agent
        self.subject = subject

    async def _call[Q: Message, R: Message](self, rpc: UnaryUnaryMultiCallable[Q, R], request: Q) -> R:
        return await self._agent.calls.unary(rpc, request, timeout_s=5, subject=self.subject)

    async def create(self, spec_json: str = "", **fields: Any) -> pb.Assistant:
        request = pb.CreateAssistantRequest(spec_json=spec_json or spec(), **fields)
        return (await self._call(self._agent.stub.CreateAssistant, request)).assistant

    async def get(self, name: str = "pirate", version: str | None = None) -> pb.Assistant:
        return (
            await self._call(self._agent.stub.GetAssistant, pb.GetAssistantRequest(name=name, version=version))
        ).assistant

    async def page(self, **fields: Any) -> pb.ListAssistantsResponse:
        return await self._call(self._agent.stub.ListAssistants, pb.ListAssistantsRequest(**fields))

    async def names(self) -> list[str]:
        return [one.name for one in (await self.page(limit=100)).assistants]

    async def update(self, spec_json: str = "", **fields: Any) -> pb.Assistant:
        request = pb.UpdateAssistantRequest(spec_json=spec_json or spec(), **fields)
        return (await self._call(self._agent.stub.UpdateAssistant, request)).assistant

    async def delete(self, name: str = "pirate", **fields: Any) -> None:
        await self._call(self._agent.stub.DeleteAssistant, pb.DeleteAssistantRequest(name=name, **fields))

    async def versions(self, name: str = "pirate", **fields: Any) -> pb.ListAssistantVersionsResponse:
        return await self._call(
            self._agent.stub.ListAssistantVersions, pb.ListAssistantVersionsRequest(name=name, **fields)
        )

    async def set_current(self, version: str, name: str = "pirate", **fields: Any) -> pb.Assistant:
        request = pb.SetCurrentAssistantVersionRequest(name=name, version=version, **fields)
        return (await self._call(self._agent.stub.SetCurrentAssistantVersion, request)).assistant

    async def disable(self, name: str = "pirate", *, is_disabled: bool = True) -> pb.Assistant:
        request = pb.SetAssistantDisabledRequest(name=name, is_disabled=is_disabled)
        return (await self._call(self._agent.stub.SetAssistantDisabled, request)).assistant

    async def start(self, message: str = "Hello", **fields: Any) -> Followed:
        """Starts a run and follows it to its end."""
        request = pb.StartRunRequest(**{"run_id": str(new_id()), "message": message, **fields})
        async with self._agent.calls.stream(
            self._agent.stub.StartRun, request, timeout_s=20, subject=self.subject
        ) as stream:
            metadata = await stream.initial_metadata()
            events = [response.event async for response in stream]
        return Followed(metadata["mesh-run-id"], metadata["mesh-thread-id"], events)

    async def run_of(self, turn: Followed) -> pb.Run:
        return (await self._call(self._agent.stub.GetRun, pb.GetRunRequest(run_id=turn.run_id))).run

    async def thread_of(self, turn: Followed) -> pb.Thread:
        return (await self._call(self._agent.stub.GetThread, pb.GetThreadRequest(thread_id=turn.thread_id))).thread
