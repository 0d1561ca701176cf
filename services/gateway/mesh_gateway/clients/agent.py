"""agent over gRPC: threads, runs and the events of runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from uuid import UUID

import grpc
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.errors import DeadlineExceeded, Internal, InvalidInput, MeshError, Unavailable
from mesh_common.events.interrupt_wire import interrupt
from mesh_common.events.interrupts import Interrupt
from mesh_common.events.model import RunEvent
from mesh_common.grpc.error_wire import UNIMPLEMENTED
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_gateway import convert
from mesh_gateway.clients.acknowledgement import Acknowledgement, Response, RunStream, acknowledgement, events_of
from mesh_gateway.clients.assistants import AssistantsClient
from mesh_gateway.clients.backend import Backend
from mesh_gateway.clients.dead_letters import DeadLettersClient
from mesh_gateway.clients.started_runs import ExpectedRun, StartedRuns
from mesh_gateway.domain import KnownRunStatus, Message, Model, Page, Run, Thread
from mesh_gateway.runs.order import RunOrder
from mesh_gateway.runs.ports import EventSource, OpenedRun
from mesh_gateway.runs.position import EventPosition

_UPGRADE_RETRY_AFTER_S: Final = 5.0


class AgentClient:
    def __init__(
        self, backend: Backend, channel: grpc.aio.Channel, started_runs: StartedRuns, *, start_timeout_s: float
    ) -> None:
        self._backend = backend
        self._started_runs = started_runs
        self._stub = agent_pb2_grpc.AgentServiceStub(channel)
        self.assistants = AssistantsClient(backend, channel)
        self.dead_letters = DeadLettersClient(backend, channel)
        self._start_timeout_s = start_timeout_s

    @asynccontextmanager
    async def start_run(self, subject: Subject, order: RunOrder) -> AsyncIterator[OpenedRun]:
        """A run that is durable from here on. Leaving the block ends the stream, not the run."""
        request = convert.start_request(order, self._started_runs.follower_id)
        with self._started_runs.expecting(order.run_id) as expected:
            async with self._backend.stream(self._stub.StartRun, request, subject=subject) as stream:
                responses = aiter(stream)
                try:
                    acknowledged = await self._acknowledged(stream, responses)
                except InvalidInput as error:
                    # An agent that cannot resume runs misses the message.
                    if order.resume and any(fault.field == "message" for fault in error.fields):
                        raise _older_agent() from error
                    raise
                if acknowledged:
                    yield _opened(acknowledged, self._carried(acknowledged, expected, stream, responses))
                    return
        # Its events went to a shared stream, and the run ended before this process read the call's metadata.
        async with self.follow_run(subject, order.run_id, None) as ended:
            yield ended

    def _carried(
        self,
        acknowledged: Acknowledgement,
        expected: ExpectedRun,
        call: RunStream,
        responses: AsyncIterator[Response],
    ) -> AsyncIterator[RunEvent]:
        """The run's events, from the call that started it or from a shared stream, as the agent decided."""
        stream_id, address = acknowledged.events_on, acknowledged.follow_at
        if address and not (stream_id and self._started_runs.is_open(stream_id)):
            self._started_runs.invite(address)
        if stream_id is None or acknowledged.run_id != expected.run_id:
            return events_of(responses)
        return _until_cut(self._started_runs.bind(expected, stream_id), call)

    @asynccontextmanager
    async def follow_run(
        self, subject: Subject, run_id: RunId, after: EventPosition | None
    ) -> AsyncIterator[OpenedRun]:
        """The events after a position; opens as soon as the agent confirms that the run is the user's."""
        request = convert.follow_request(run_id, after)
        async with self._backend.stream(self._stub.FollowRun, request, subject=subject) as stream:
            responses = aiter(stream)
            # None from an agent of release 0.1.0: the run has ended, or that agent is draining; which, it does not say.
            acknowledged = await self._acknowledged(stream, responses) or Acknowledgement(run_id, "")
            yield _opened(acknowledged, events_of(responses))

    async def _acknowledged(self, stream: RunStream, responses: AsyncIterator[Response]) -> Acknowledgement | None:
        try:
            async with asyncio.timeout(self._start_timeout_s):
                return await acknowledgement(stream, responses)
        except TimeoutError:
            raise DeadlineExceeded("The run was not acknowledged in time.") from None

    async def cancel_run(self, subject: Subject, run_id: RunId) -> Run:
        request = agent_pb2.CancelRunRequest(run_id=str(run_id))
        return convert.run((await self._backend.unary(self._stub.CancelRun, request, subject=subject)).run)

    async def run(self, subject: Subject, run_id: RunId) -> Run:
        request = agent_pb2.GetRunRequest(run_id=str(run_id))
        return convert.run((await self._backend.unary(self._stub.GetRun, request, subject=subject)).run)

    async def runs(
        self, subject: Subject, thread_id: UUID, *, status: KnownRunStatus | None, limit: int, cursor: str | None
    ) -> Page[Run]:
        request = convert.list_runs_request(thread_id, status, limit, cursor)
        response = await self._backend.unary(self._stub.ListRuns, request, subject=subject)
        return Page(items=[convert.run(one) for one in response.runs], next_cursor=_next(response))

    async def create_thread(
        self, subject: Subject, title: str, metadata: Mapping[str, str], idempotency_key: str | None
    ) -> Thread:
        request = agent_pb2.CreateThreadRequest(title=title, metadata=metadata, idempotency_key=idempotency_key)
        return convert.thread((await self._backend.unary(self._stub.CreateThread, request, subject=subject)).thread)

    async def fork_thread(
        self, subject: Subject, thread_id: UUID, message_id: UUID | None, idempotency_key: str | None
    ) -> Thread:
        request = agent_pb2.ForkThreadRequest(
            thread_id=str(thread_id),
            message_id=str(message_id) if message_id else None,
            idempotency_key=idempotency_key,
        )
        with _of_this_release():
            return convert.thread((await self._backend.unary(self._stub.ForkThread, request, subject=subject)).thread)

    async def thread(self, subject: Subject, thread_id: UUID) -> Thread:
        request = agent_pb2.GetThreadRequest(thread_id=str(thread_id))
        return convert.thread((await self._backend.unary(self._stub.GetThread, request, subject=subject)).thread)

    async def threads(self, subject: Subject, limit: int, cursor: str | None, query: str | None) -> Page[Thread]:
        request = agent_pb2.ListThreadsRequest(limit=limit, cursor=cursor, query=query)
        response = await self._backend.unary(self._stub.ListThreads, request, subject=subject)
        return Page(items=[convert.thread(one) for one in response.threads], next_cursor=_next(response))

    async def update_thread(
        self, subject: Subject, thread_id: UUID, *, title: str | None, metadata: Mapping[str, str] | None
    ) -> Thread:
        """None leaves the title, or all metadata, as it is."""
        replaced = None if metadata is None else agent_pb2.ThreadMetadata(entries=metadata)
        request = agent_pb2.UpdateThreadRequest(thread_id=str(thread_id), title=title, metadata=replaced)
        return convert.thread((await self._backend.unary(self._stub.UpdateThread, request, subject=subject)).thread)

    async def delete_thread(self, subject: Subject, thread_id: UUID) -> None:
        request = agent_pb2.DeleteThreadRequest(thread_id=str(thread_id))
        await self._backend.unary(self._stub.DeleteThread, request, subject=subject)

    async def messages(self, subject: Subject, thread_id: UUID, limit: int, cursor: str | None) -> Page[Message]:
        request = agent_pb2.ListMessagesRequest(thread_id=str(thread_id), limit=limit, cursor=cursor)
        response = await self._backend.unary(self._stub.ListMessages, request, subject=subject)
        return Page(items=[convert.thread_message(one) for one in response.messages], next_cursor=_next(response))

    async def interrupts(
        self, subject: Subject, *, is_of_organisation: bool, limit: int, cursor: str | None
    ) -> Page[Interrupt]:
        request = agent_pb2.ListInterruptsRequest(limit=limit, cursor=cursor, is_of_organisation=is_of_organisation)
        with _of_this_release():
            response = await self._backend.unary(self._stub.ListInterrupts, request, subject=subject)
        return Page(items=list(map(interrupt, response.interrupts)), next_cursor=_next(response))

    async def models(self, subject: Subject) -> list[Model]:
        response = await self._backend.unary(self._stub.ListModels, agent_pb2.ListModelsRequest(), subject=subject)
        return [convert.model(one) for one in response.models]


@contextmanager
def _of_this_release() -> Iterator[None]:
    """Around calls that the agent of the release before does not serve."""
    try:
        yield
    except Internal as error:
        if error.reason != UNIMPLEMENTED:
            raise
        raise _older_agent() from error


def _older_agent() -> Unavailable:
    """During an upgrade, another replica of the agent may be new already."""
    return Unavailable("This part of the service is being upgraded. Try again.", retry_after_s=_UPGRADE_RETRY_AFTER_S)


def _opened(acknowledged: Acknowledgement, events: AsyncIterator[RunEvent]) -> OpenedRun:
    return OpenedRun(acknowledged.run_id, acknowledged.thread_id, EventSource(events), acknowledged.has_ended)


async def _until_cut(events: AsyncIterator[RunEvent], call: RunStream) -> AsyncIterator[RunEvent]:
    try:
        async for event in events:
            yield event
    except MeshError:
        # From here on the run is followed on another stream, so the agent can stop sending it on this one.
        call.cancel()
        raise


def _next(
    response: agent_pb2.ListRunsResponse
    | agent_pb2.ListThreadsResponse
    | agent_pb2.ListMessagesResponse
    | agent_pb2.ListInterruptsResponse,
) -> str | None:
    return response.next_cursor if response.HasField("next_cursor") else None
