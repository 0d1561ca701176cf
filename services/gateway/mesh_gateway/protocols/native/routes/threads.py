"""Threads and their messages."""

from http import HTTPStatus

from fastapi import APIRouter

from mesh_gateway.edge.costs import ReaderDep, WriterDep
from mesh_gateway.edge.deps import GatewayDep
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.params import IdempotencyKey, Limit, PageCursor, SearchText, ThreadId
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.common import Page
from mesh_gateway.protocols.native.schemas.threads import (
    CreateThreadBody,
    ForkThreadBody,
    Message,
    Thread,
    UpdateThreadBody,
)

router = APIRouter(prefix="/api/v1/threads", tags=["threads"])


@router.post("", status_code=HTTPStatus.CREATED, summary="Make a thread", responses=problems(401, 413, 422, 429))
async def create_thread(
    body: CreateThreadBody, gateway: GatewayDep, caller: WriterDep, idempotency_key: IdempotencyKey = None
) -> Thread:
    thread = await gateway.agent.create_thread(caller.subject, body.title, body.metadata, idempotency_key)
    return answers.thread(thread)


@router.get("", summary="List threads, most recently used first", responses=problems(401, 422, 429))
async def list_threads(
    gateway: GatewayDep,
    caller: ReaderDep,
    limit: Limit = 20,
    cursor: PageCursor = None,
    query: SearchText = None,
) -> Page[Thread]:
    return answers.page(answers.thread, await gateway.agent.threads(caller.subject, limit, cursor, query))


@router.get("/{thread_id}", summary="Get a thread", responses=problems(401, 404, 422, 429))
async def get_thread(thread_id: ThreadId, gateway: GatewayDep, caller: ReaderDep) -> Thread:
    return answers.thread(await gateway.agent.thread(caller.subject, thread_id))


@router.post(
    "/{thread_id}/fork",
    status_code=HTTPStatus.CREATED,
    summary="Make a thread that begins with the messages of this one",
    responses=problems(401, 404, 409, 413, 422, 429),
)
async def fork_thread(
    thread_id: ThreadId,
    body: ForkThreadBody,
    gateway: GatewayDep,
    caller: WriterDep,
    idempotency_key: IdempotencyKey = None,
) -> Thread:
    """The messages are copied: both threads go on independently. The metadata of the new one is `forked_from`."""
    fork = await gateway.agent.fork_thread(caller.subject, thread_id, body.message_id, idempotency_key)
    return answers.thread(fork)


@router.patch(
    "/{thread_id}", summary="Change a thread's title or metadata", responses=problems(401, 404, 413, 422, 429)
)
async def update_thread(thread_id: ThreadId, body: UpdateThreadBody, gateway: GatewayDep, caller: WriterDep) -> Thread:
    thread = await gateway.agent.update_thread(caller.subject, thread_id, title=body.title, metadata=body.metadata)
    return answers.thread(thread)


@router.delete(
    "/{thread_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a thread with its messages and runs",
    responses=problems(401, 404, 422, 429),
)
async def delete_thread(thread_id: ThreadId, gateway: GatewayDep, caller: WriterDep) -> None:
    await gateway.agent.delete_thread(caller.subject, thread_id)


@router.get("/{thread_id}/messages", summary="List messages, oldest first", responses=problems(401, 404, 422, 429))
async def list_messages(
    thread_id: ThreadId, gateway: GatewayDep, caller: ReaderDep, limit: Limit = 20, cursor: PageCursor = None
) -> Page[Message]:
    return answers.page(answers.message, await gateway.agent.messages(caller.subject, thread_id, limit, cursor))
