"""agent over gRPC: threads, runs and the events of runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import grpc
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.errors import DeadlineExceeded, Internal, MeshError
from mesh_common.grpc.client import ServerStream
from mesh_common.ids import RunId, UserId

from mesh_gateway import convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.clients.started_runs import ExpectedRun, StartedRuns
from mesh_gateway.protocols.native.schemas.catalogue import Model
from mesh_gateway.protocols.native.schemas.common import Page
from mesh_gateway.protocols.native.schemas.runs import Run, RunStatus
from mesh_gateway.protocols.native.schemas.threads import CreateThreadBody, Message, Thread, UpdateThreadBody
from mesh_gateway.runs.events import EventPosition, EventSource, RunOrder, StreamEvent

_RUN_ID_METADATA: Final = "mesh-run-id"
_THREAD_ID_METADATA: Final = "mesh-thread-id"
_HAS_ENDED_METADATA: Final = "mesh-run-has-ended"
_EVENTS_ON_METADATA: Final = "mesh-events-on"
_FOLLOW_AT_METADATA: Final = "mesh-follow-at"

type _Stream = ServerStream[agent_pb2.StartRunResponse] | ServerStream[agent_pb2.FollowRunResponse]


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run that was acknowledged, and its events from here on."""

    run_id: RunId
    thread_id: str
    """Empty where a followed run had ended and its stream did not say it."""
    events: EventSource
    has_ended: bool | None = None
    """Of a followed run; None where the agent did not say."""


class AgentClient:
    def __init__(
        self, backend: Backend, channel: grpc.aio.Channel, started_runs: StartedRuns, *, start_timeout_s: float
    ) -> None:
        self._backend = backend
        self._started_runs = started_runs
        self._stub = agent_pb2_grpc.AgentServiceStub(channel)
        self._start_timeout_s = start_timeout_s

    @asynccontextmanager
    async def start_run(self, user_id: UserId, order: RunOrder) -> AsyncIterator[OpenedRun]:
        """A run that is durable from here on; leaving the block ends the following only."""
        request = convert.start_request(order, self._started_runs.follower_id)
        with self._started_runs.expecting(order.run_id) as expected:
            async with self._backend.stream(self._stub.StartRun, request, user_id=user_id) as stream:
                opened = await self._acknowledged(stream)
                if opened:
                    yield await self._carried(opened, expected, stream)
                    return
        # Its events are on a shared stream, and it was over before this process looked at the call's metadata.
        async with self.follow_run(user_id, order.run_id, None) as ended:
            yield ended

    async def _carried(self, opened: OpenedRun, expected: ExpectedRun, call: _Stream) -> OpenedRun:
        """The run with its events from where the agent sends them: on the call that started it, or on a shared
        stream."""
        metadata = await call.initial_metadata()
        stream_id = metadata.get(_EVENTS_ON_METADATA)
        if _FOLLOW_AT_METADATA in metadata and not (stream_id and self._started_runs.is_open(stream_id)):
            self._started_runs.invite(metadata[_FOLLOW_AT_METADATA])
        if stream_id is None or opened.run_id != expected.run_id:
            return opened
        return replace(opened, events=EventSource(_until_cut(self._started_runs.bind(expected, stream_id), call)))

    @asynccontextmanager
    async def follow_run(self, user_id: UserId, run_id: RunId, after: EventPosition | None) -> AsyncIterator[OpenedRun]:
        """The events after a position; opened as soon as the agent knows the run to be the user's."""
        request = convert.follow_request(run_id, after)
        async with self._backend.stream(self._stub.FollowRun, request, user_id=user_id) as stream:
            # None: it had ended, and all of it was seen.
            yield await self._acknowledged(stream) or _seen_whole(stream, run_id)

    async def _acknowledged(self, stream: _Stream) -> OpenedRun | None:
        try:
            async with asyncio.timeout(self._start_timeout_s):
                return await _opened(stream)
        except TimeoutError:
            raise DeadlineExceeded("The run was not acknowledged in time.") from None

    async def cancel_run(self, user_id: UserId, run_id: RunId) -> Run:
        request = agent_pb2.CancelRunRequest(run_id=str(run_id))
        return convert.run((await self._backend.unary(self._stub.CancelRun, request, user_id=user_id)).run)

    async def run(self, user_id: UserId, run_id: RunId) -> Run:
        request = agent_pb2.GetRunRequest(run_id=str(run_id))
        return convert.run((await self._backend.unary(self._stub.GetRun, request, user_id=user_id)).run)

    async def runs(
        self, user_id: UserId, thread_id: UUID, *, status: RunStatus | None, limit: int, cursor: str | None
    ) -> Page[Run]:
        request = convert.list_runs_request(thread_id, status, limit, cursor)
        response = await self._backend.unary(self._stub.ListRuns, request, user_id=user_id)
        return Page(items=[convert.run(one) for one in response.runs], next_cursor=_next(response))

    async def create_thread(self, user_id: UserId, body: CreateThreadBody, idempotency_key: str | None) -> Thread:
        request = agent_pb2.CreateThreadRequest(
            title=body.title, metadata=body.metadata, idempotency_key=idempotency_key
        )
        return convert.thread((await self._backend.unary(self._stub.CreateThread, request, user_id=user_id)).thread)

    async def thread(self, user_id: UserId, thread_id: UUID) -> Thread:
        request = agent_pb2.GetThreadRequest(thread_id=str(thread_id))
        return convert.thread((await self._backend.unary(self._stub.GetThread, request, user_id=user_id)).thread)

    async def threads(self, user_id: UserId, limit: int, cursor: str | None, query: str | None) -> Page[Thread]:
        request = agent_pb2.ListThreadsRequest(limit=limit, cursor=cursor, query=query)
        response = await self._backend.unary(self._stub.ListThreads, request, user_id=user_id)
        return Page(items=[convert.thread(one) for one in response.threads], next_cursor=_next(response))

    async def update_thread(self, user_id: UserId, thread_id: UUID, body: UpdateThreadBody) -> Thread:
        metadata = None if body.metadata is None else agent_pb2.ThreadMetadata(entries=body.metadata)
        request = agent_pb2.UpdateThreadRequest(thread_id=str(thread_id), title=body.title, metadata=metadata)
        return convert.thread((await self._backend.unary(self._stub.UpdateThread, request, user_id=user_id)).thread)

    async def delete_thread(self, user_id: UserId, thread_id: UUID) -> None:
        request = agent_pb2.DeleteThreadRequest(thread_id=str(thread_id))
        await self._backend.unary(self._stub.DeleteThread, request, user_id=user_id)

    async def messages(self, user_id: UserId, thread_id: UUID, limit: int, cursor: str | None) -> Page[Message]:
        request = agent_pb2.ListMessagesRequest(thread_id=str(thread_id), limit=limit, cursor=cursor)
        response = await self._backend.unary(self._stub.ListMessages, request, user_id=user_id)
        return Page(items=[convert.thread_message(one) for one in response.messages], next_cursor=_next(response))

    async def models(self, user_id: UserId) -> list[Model]:
        response = await self._backend.unary(self._stub.ListModels, agent_pb2.ListModelsRequest(), user_id=user_id)
        return [convert.model(one) for one in response.models]


async def _opened(stream: _Stream) -> OpenedRun | None:
    """Waits for the acknowledgement; None for a call that ended well and is not known to have given any: grpc.aio loses
    the metadata of one that ends without a message before it looks. Raises the agent's error when it sent that instead.
    """
    metadata = await stream.initial_metadata()
    events = EventSource(_events(stream))
    if _RUN_ID_METADATA in metadata:
        said = metadata.get(_HAS_ENDED_METADATA)
        has_ended = None if said is None else said == "true"
        return OpenedRun(RunId(UUID(metadata[_RUN_ID_METADATA])), metadata[_THREAD_ID_METADATA], events, has_ended)
    # An error has no metadata of ours, and comes out of reading.
    if await events.peek() is None:
        return None
    raise Internal("Something went wrong on our side.")


async def _until_cut(events: AsyncIterator[StreamEvent], call: _Stream) -> AsyncIterator[StreamEvent]:
    try:
        async for event in events:
            yield event
    except MeshError:
        # It is followed otherwise from here on, and the agent need carry it no longer.
        call.cancel()
        raise


def _seen_whole(stream: _Stream, run_id: RunId) -> OpenedRun:
    return OpenedRun(run_id, "", EventSource(_events(stream)), has_ended=True)


async def _events(stream: _Stream) -> AsyncIterator[StreamEvent]:
    async for response in stream:
        yield convert.event(response.event)


def _next(
    response: agent_pb2.ListRunsResponse | agent_pb2.ListThreadsResponse | agent_pb2.ListMessagesResponse,
) -> str | None:
    return response.next_cursor if response.HasField("next_cursor") else None
