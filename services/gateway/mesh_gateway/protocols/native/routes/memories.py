"""The user's long-term memories."""

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from mesh_gateway.edge.costs import MemoryUserDep, ReaderDep, WriterDep
from mesh_gateway.edge.deps import GatewayDep
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.params import Limit, PageCursor
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.common import Page
from mesh_gateway.protocols.native.schemas.memories import (
    Forgotten,
    FoundMemories,
    Memory,
    MemoryBody,
    SearchMemoriesBody,
)

router = APIRouter(prefix="/api/v1/memories", tags=["memories"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Keep a fact",
    description="If the fact is already stored, the existing memory is returned.",
    responses=problems(401, 413, 422, 429),
)
async def create_memory(body: MemoryBody, gateway: GatewayDep, caller: MemoryUserDep) -> Memory:
    return answers.memory(await gateway.memory.create(caller.subject, body.text))


@router.get("", summary="List memories, newest first", responses=problems(401, 422, 429))
async def list_memories(
    gateway: GatewayDep, caller: ReaderDep, limit: Limit = 20, cursor: PageCursor = None
) -> Page[Memory]:
    return answers.page(answers.memory, await gateway.memory.list(caller.subject, limit, cursor))


@router.post("/search", summary="Find memories by meaning, best first", responses=problems(401, 413, 422, 429))
async def search_memories(body: SearchMemoriesBody, gateway: GatewayDep, caller: MemoryUserDep) -> FoundMemories:
    found = await gateway.memory.search(caller.subject, body.query, body.limit)
    return FoundMemories(items=[answers.memory(one) for one in found])


@router.delete("", summary="Forget everything", responses=problems(401, 429))
async def delete_all_memories(gateway: GatewayDep, caller: WriterDep) -> Forgotten:
    return Forgotten(deleted=await gateway.memory.delete_all(caller.subject))


@router.get("/{memory_id}", summary="Get a memory", responses=problems(401, 404, 422, 429))
async def get_memory(memory_id: UUID, gateway: GatewayDep, caller: ReaderDep) -> Memory:
    return answers.memory(await gateway.memory.get(caller.subject, memory_id))


@router.patch("/{memory_id}", summary="Change a memory's text", responses=problems(401, 404, 409, 413, 422, 429))
async def update_memory(memory_id: UUID, body: MemoryBody, gateway: GatewayDep, caller: MemoryUserDep) -> Memory:
    return answers.memory(await gateway.memory.update(caller.subject, memory_id, body.text))


@router.delete(
    "/{memory_id}", status_code=HTTPStatus.NO_CONTENT, summary="Forget a memory", responses=problems(401, 404, 422, 429)
)
async def delete_memory(memory_id: UUID, gateway: GatewayDep, caller: WriterDep) -> None:
    await gateway.memory.delete(caller.subject, memory_id)
