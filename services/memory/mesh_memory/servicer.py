"""Translates between protobuf and the use cases."""

from dataclasses import dataclass
from typing import Any, Final, override

import grpc
from mesh.memory.v1 import memory_pb2 as pb
from mesh.memory.v1 import memory_pb2_grpc
from mesh_common.caller import require_subject

from mesh_memory import convert
from mesh_memory.usecases import EditMemories, FindMemories, ForgetMemories, Remember

PROTO_SERVICE: Final = pb.DESCRIPTOR.services_by_name["MemoryService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class UseCases:
    find: FindMemories
    remember: Remember
    edit: EditMemories
    forget: ForgetMemories


class MemoryServicer(memory_pb2_grpc.MemoryServiceServicer):
    def __init__(self, use_cases: UseCases) -> None:
        self._find = use_cases.find
        self._remember = use_cases.remember
        self._edit = use_cases.edit
        self._forget = use_cases.forget

    def add_to(self, server: grpc.aio.Server) -> None:
        memory_pb2_grpc.add_MemoryServiceServicer_to_server(self, server)

    @override
    async def Recall(self, request: pb.RecallRequest, context: Context) -> pb.RecallResponse:
        query, limit = convert.recall_query(request)
        return convert.recalled_to_proto(await self._find.recall(require_subject(), query, limit))

    @override
    async def Remember(self, request: pb.RememberRequest, context: Context) -> pb.RememberResponse:
        await self._remember(require_subject(), convert.turn(request))
        return pb.RememberResponse()

    @override
    async def ForgetThread(self, request: pb.ForgetThreadRequest, context: Context) -> pb.ForgetThreadResponse:
        thread_id, deleted_at = convert.deleted_thread(request)
        await self._forget.thread(require_subject(), thread_id, deleted_at)
        return pb.ForgetThreadResponse()

    @override
    async def CreateMemory(self, request: pb.CreateMemoryRequest, context: Context) -> pb.CreateMemoryResponse:
        text = convert.fact_text(request.text)
        memory = await self._edit.create(require_subject(), text, convert.said(request))
        return pb.CreateMemoryResponse(memory=convert.memory_to_proto(memory))

    @override
    async def GetMemory(self, request: pb.GetMemoryRequest, context: Context) -> pb.GetMemoryResponse:
        memory = await self._edit.get(require_subject(), convert.memory_id(request.memory_id))
        return pb.GetMemoryResponse(memory=convert.memory_to_proto(memory))

    @override
    async def ListMemories(self, request: pb.ListMemoriesRequest, context: Context) -> pb.ListMemoriesResponse:
        limit, after = convert.page_request(request)
        return convert.page_to_proto(await self._edit.page(require_subject(), limit, after))

    @override
    async def SearchMemories(self, request: pb.SearchMemoriesRequest, context: Context) -> pb.SearchMemoriesResponse:
        query, limit = convert.search_query(request)
        memories = await self._find.search(require_subject(), query, limit)
        return pb.SearchMemoriesResponse(memories=map(convert.memory_to_proto, memories))

    @override
    async def UpdateMemory(self, request: pb.UpdateMemoryRequest, context: Context) -> pb.UpdateMemoryResponse:
        memory_id, text = convert.memory_id(request.memory_id), convert.fact_text(request.text)
        memory = await self._edit.update(require_subject(), memory_id, text)
        return pb.UpdateMemoryResponse(memory=convert.memory_to_proto(memory))

    @override
    async def DeleteMemory(self, request: pb.DeleteMemoryRequest, context: Context) -> pb.DeleteMemoryResponse:
        await self._forget.one(require_subject(), convert.memory_id(request.memory_id))
        return pb.DeleteMemoryResponse()

    @override
    async def DeleteAllMemories(
        self,
        request: pb.DeleteAllMemoriesRequest,
        context: Context,
    ) -> pb.DeleteAllMemoriesResponse:
        return pb.DeleteAllMemoriesResponse(deleted=await self._forget.all(require_subject()))
