"""proto in, use case, proto out."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.caller import require_subject
from mesh_common.events.interrupt_wire import interrupt_pb
from mesh_common.events.model import Position
from mesh_common.events.wire import fill_event
from mesh_common.ids import parse_id
from structlog.contextvars import bind_contextvars

from mesh_agent import convert
from mesh_agent.convert_events import SharedEvents
from mesh_agent.domain.threads import MAX_TITLE_CHARS
from mesh_agent.events.fan_out import SharedStreams
from mesh_agent.servicer_assistants import AssistantRPCs
from mesh_agent.usecases.assistants import Assistants
from mesh_agent.usecases.cancel_run import CancelRun
from mesh_agent.usecases.follow_run import FollowRun
from mesh_agent.usecases.fork_thread import ForkThread
from mesh_agent.usecases.interrupts import Interrupts
from mesh_agent.usecases.read_runs import Runs
from mesh_agent.usecases.resume_run import ResumeRun
from mesh_agent.usecases.start_run import StartRun
from mesh_agent.usecases.threads import Threads

Context = grpc.aio.ServicerContext[Any, Any]


class AgentServicer(AssistantRPCs):
    def __init__(
        self,
        *,
        assistants: Assistants,
        threads: Threads,
        runs: Runs,
        start_run: StartRun,
        resume_run: ResumeRun,
        interrupts: Interrupts,
        cancel: CancelRun,
        follow: FollowRun,
        shared: SharedStreams[SharedEvents],
        fork_thread: ForkThread,
    ) -> None:
        super().__init__(assistants)
        self._threads = threads
        self._fork_thread = fork_thread
        self._runs = runs
        self._cancel = cancel
        self._follow = follow
        self._start_run = start_run
        self._resume_run = resume_run
        self._interrupts = interrupts
        self._shared = shared

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> AsyncGenerator[pb.StartRunResponse]:
        subject, follower_id = require_subject(), convert.follower_id(request)
        if request.HasField("resume"):
            resumed = await self._resume_run(
                subject, convert.resume_input(request), is_followed=follower_id is not None
            )
            started = resumed.started
            if not resumed.is_own:
                # An approver may see nothing of the run.
                acknowledged = pb.RunAcknowledged(run_id=str(started.run_id), thread_id=str(started.thread_id))
                await _acknowledge(context, acknowledged)
                if request.is_acknowledged_by_message:
                    yield pb.StartRunResponse(acknowledged=acknowledged)
                return
        else:
            started = await self._start_run(subject, convert.run_input(request))
        live = self._follow.live(subject, started.run_id) if started.is_new else None
        delivery = self._shared.delivery(follower_id, live)
        acknowledged = pb.RunAcknowledged(
            run_id=str(started.run_id), thread_id=str(started.thread_id), follow_at=delivery.follow_at
        )
        if delivery.stream and live:
            acknowledged.events_on = str(delivery.stream.id)
            with delivery.stream.carrying(live) as is_over:
                await _acknowledge(context, acknowledged)
                if request.is_acknowledged_by_message:
                    yield pb.StartRunResponse(acknowledged=acknowledged)
                await is_over.wait()
            return
        await _acknowledge(context, acknowledged)
        if request.is_acknowledged_by_message:
            yield pb.StartRunResponse(acknowledged=acknowledged)
        async with aclosing(self._follow(subject, started.run_id, Position())) as events:
            async for event in events:
                response = pb.StartRunResponse()
                fill_event(response.event, event)
                yield response

    async def FollowStartedRuns(
        self, request: pb.FollowStartedRunsRequest, context: Context
    ) -> AsyncGenerator[pb.FollowStartedRunsResponse]:
        follower_id, stream_id = convert.follower(request)
        with self._shared.open(follower_id, stream_id) as stream:
            # Tell the follower at once that the stream is open, however long the first run takes.
            await context.send_initial_metadata((("mesh-stream-id", str(stream_id)),))
            async with aclosing(stream.messages()) as messages:
                async for message in messages:
                    yield message.pb

    async def FollowRun(self, request: pb.FollowRunRequest, context: Context) -> AsyncGenerator[pb.FollowRunResponse]:
        subject, run_id = require_subject(), convert.run_id(request.run_id)
        found = await self._follow.find(subject, run_id)
        acknowledged = pb.RunAcknowledged(run_id=str(run_id), thread_id=str(found.thread_id), has_ended=found.has_ended)
        await _acknowledge(context, acknowledged)
        if request.is_acknowledged_by_message:
            yield pb.FollowRunResponse(acknowledged=acknowledged)
        after = Position(request.after_attempt, request.after_seq)
        async with aclosing(self._follow(subject, run_id, after, found)) as events:
            async for event in events:
                response = pb.FollowRunResponse()
                fill_event(response.event, event)
                yield response

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        subject, run_id = require_subject(), convert.run_id(request.run_id)
        await self._cancel(subject, run_id)
        return pb.CancelRunResponse(run=convert.run_pb(await self._runs.get(subject, run_id)))

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        run = await self._runs.get(require_subject(), convert.run_id(request.run_id))
        return pb.GetRunResponse(run=convert.run_pb(run))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        page = await self._runs.list(
            require_subject(),
            convert.thread_id(request.thread_id),
            status=convert.status(request.status) if request.HasField("status") else None,
            limit=convert.limit(request.limit),
            cursor=request.cursor if request.HasField("cursor") else None,
        )
        return pb.ListRunsResponse(runs=map(convert.run_pb, page.items), next_cursor=page.next_cursor)

    async def CreateThread(self, request: pb.CreateThreadRequest, context: Context) -> pb.CreateThreadResponse:
        key = convert.idempotency_key(request.idempotency_key) if request.HasField("idempotency_key") else None
        title = convert.text(request.title, "title", max_chars=MAX_TITLE_CHARS)
        thread = await self._threads.create(require_subject(), title, convert.metadata(request.metadata), key)
        return pb.CreateThreadResponse(thread=convert.thread_pb(thread))

    async def ForkThread(self, request: pb.ForkThreadRequest, context: Context) -> pb.ForkThreadResponse:
        thread = await self._fork_thread(
            require_subject(),
            convert.thread_id(request.thread_id),
            parse_id(request.message_id, "message_id") if request.HasField("message_id") else None,
            convert.idempotency_key(request.idempotency_key) if request.HasField("idempotency_key") else None,
        )
        return pb.ForkThreadResponse(thread=convert.thread_pb(thread))

    async def GetThread(self, request: pb.GetThreadRequest, context: Context) -> pb.GetThreadResponse:
        thread = await self._threads.get(require_subject(), convert.thread_id(request.thread_id))
        return pb.GetThreadResponse(thread=convert.thread_pb(thread))

    async def ListThreads(self, request: pb.ListThreadsRequest, context: Context) -> pb.ListThreadsResponse:
        page = await self._threads.list(
            require_subject(),
            limit=convert.limit(request.limit),
            cursor=request.cursor if request.HasField("cursor") else None,
            query=convert.text(request.query, "query", max_chars=MAX_TITLE_CHARS) or None,
        )
        return pb.ListThreadsResponse(threads=map(convert.thread_pb, page.items), next_cursor=page.next_cursor)

    async def UpdateThread(self, request: pb.UpdateThreadRequest, context: Context) -> pb.UpdateThreadResponse:
        title = convert.text(request.title, "title", max_chars=MAX_TITLE_CHARS)
        thread = await self._threads.update(
            require_subject(),
            convert.thread_id(request.thread_id),
            title=title if request.HasField("title") else None,
            metadata=convert.metadata(request.metadata.entries) if request.HasField("metadata") else None,
        )
        return pb.UpdateThreadResponse(thread=convert.thread_pb(thread))

    async def DeleteThread(self, request: pb.DeleteThreadRequest, context: Context) -> pb.DeleteThreadResponse:
        await self._threads.delete(require_subject(), convert.thread_id(request.thread_id))
        return pb.DeleteThreadResponse()

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Context) -> pb.ListMessagesResponse:
        page = await self._threads.messages(
            require_subject(),
            convert.thread_id(request.thread_id),
            limit=convert.limit(request.limit),
            cursor=request.cursor if request.HasField("cursor") else None,
        )
        return pb.ListMessagesResponse(messages=map(convert.message_pb, page.items), next_cursor=page.next_cursor)

    async def ListInterrupts(self, request: pb.ListInterruptsRequest, context: Context) -> pb.ListInterruptsResponse:
        page = await self._interrupts.list(
            require_subject(),
            is_of_organisation=request.is_of_organisation,
            limit=convert.limit(request.limit),
            cursor=request.cursor if request.HasField("cursor") else None,
        )
        return pb.ListInterruptsResponse(interrupts=map(interrupt_pb, page.items), next_cursor=page.next_cursor)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        models = await self._runs.list_models(require_subject())
        return pb.ListModelsResponse(models=map(convert.model_pb, models))


async def _acknowledge(context: Context, acknowledged: pb.RunAcknowledged) -> None:
    """Tells the caller in the initial metadata, before any message, that the run is stored and theirs.

    From here on the call's log lines include the run's id. A gateway of release 0.1.0 understands only the metadata.
    """
    bind_contextvars(run_id=acknowledged.run_id, thread_id=acknowledged.thread_id)
    metadata = [("mesh-run-id", acknowledged.run_id), ("mesh-thread-id", acknowledged.thread_id)]
    if acknowledged.HasField("events_on"):
        metadata.append(("mesh-events-on", acknowledged.events_on))
    if acknowledged.HasField("follow_at"):
        metadata.append(("mesh-follow-at", acknowledged.follow_at))
    if acknowledged.HasField("has_ended"):
        metadata.append(("mesh-run-has-ended", str(acknowledged.has_ended).lower()))
    await context.send_initial_metadata(tuple(metadata))
