# ruff: noqa: N802, ARG002 - methods are named and shaped by the generated servicer
"""agent as the gateway sees it: runs are lists of events that a test can write slowly, cut, or refuse."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import grpc
from fakes.gateway.assistant_servicer import FakeAssistants
from fakes.gateway.fake_runs import FakeRun, answer_whole
from google.protobuf.timestamp_pb2 import Timestamp
from mesh.agent.v1 import agent_pb2
from mesh_common.caller import require_subject, require_user
from mesh_common.errors import InvalidInput, NotFound, PermissionDenied, PreconditionFailed, Unavailable
from mesh_common.ids import new_id

_SharedMessage = agent_pb2.FollowStartedRunsResponse

_NOW = Timestamp(seconds=1_764_000_000)


def an_interrupt(run_id: str) -> agent_pb2.Interrupt:
    return agent_pb2.Interrupt(
        id=str(new_id()),
        run_id=run_id,
        thread_id=str(new_id()),
        kind=agent_pb2.INTERRUPT_KIND_APPROVAL,
        call_id="call_0",
        tool="pay",
        arguments_json='{"amount":5}',
        allowed=[agent_pb2.DECISION_KIND_APPROVE, agent_pb2.DECISION_KIND_REJECT],
        created_at=_NOW,
        expires_at=_NOW,
    )


class FakeAgent(FakeAssistants):
    """`plan` writes a run's events; `cut_after` breaks each stream once after that many of its events.

    With an `address` it invites callers to shared streams, and carries new runs on the caller's newest one.
    """

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.threads: dict[str, tuple[UUID, agent_pb2.Thread]] = {}
        self.started: list[agent_pb2.StartRunRequest] = []
        self.follows: list[agent_pb2.FollowRunRequest] = []
        self.follow_ended = asyncio.Event()
        self.run_cancelled = asyncio.Event()
        self.shared_opened = asyncio.Event()
        self._shared: dict[str, tuple[str, asyncio.Queue[_SharedMessage | None]]] = {}
        self._writers: list[asyncio.Future[None]] = []
        self.reset()

    def reset(self) -> None:
        FakeAssistants.__init__(self)
        self.plan: Callable[[FakeRun], Any] = answer_whole
        self.error: BaseException | None = None
        self.cut_after: int | None = None
        self.says_has_ended = True
        self.knows_interrupts = True
        self.acknowledges_by = frozenset({"metadata", "message"})
        self.address: str | None = None
        self.role: agent_pb2.MessageRole.ValueType = agent_pb2.MESSAGE_ROLE_USER
        self.release = asyncio.Event()
        self.started.clear()
        self.follows.clear()
        self.follow_ended.clear()
        self.run_cancelled.clear()
        self.shared_opened.clear()

    async def StartRun(
        self, request: agent_pb2.StartRunRequest, context: Any
    ) -> AsyncIterator[agent_pb2.StartRunResponse]:
        user_id = require_user()
        self.started.append(request)
        if self.error:
            raise self.error
        if request.HasField("thread_id"):
            self._thread(request.thread_id)
        run = self._run_of(request, user_id)
        is_new = run.id == request.run_id
        shared = self._shared.get(request.follower_id) if is_new and self.address else None
        self._note_end(context)
        if is_new:
            # Outside of the request, as in the real agent: a follower that disconnects does not end the run.
            self._writers.append(asyncio.ensure_future(self.plan(run)))
        acknowledged = agent_pb2.RunAcknowledged(run_id=run.id, thread_id=run.thread_id)
        if shared:
            acknowledged.events_on = shared[0]
        elif self.address and request.follower_id:
            acknowledged.follow_at = self.address
        if await self._acknowledge(request, context, acknowledged):
            yield agent_pb2.StartRunResponse(acknowledged=acknowledged)
        async for event in self._follow(run, 0):
            if shared:
                shared[1].put_nowait(_SharedMessage(events=[event]))
            else:
                yield agent_pb2.StartRunResponse(event=event)
                self._cut(event)

    async def FollowStartedRuns(
        self, request: agent_pb2.FollowStartedRunsRequest, context: Any
    ) -> AsyncIterator[agent_pb2.FollowStartedRunsResponse]:
        queue: asyncio.Queue[_SharedMessage | None] = asyncio.Queue()
        self._shared[request.follower_id] = request.stream_id, queue
        await context.send_initial_metadata((("mesh-stream-id", request.stream_id),))
        self.shared_opened.set()
        try:
            while message := await queue.get():
                yield message
        finally:
            del self._shared[request.follower_id]

    async def _acknowledge(
        self,
        request: agent_pb2.StartRunRequest | agent_pb2.FollowRunRequest,
        context: Any,
        acknowledged: agent_pb2.RunAcknowledged,
    ) -> bool:
        """Whether the first message must acknowledge the run as well."""
        metadata = {
            "mesh-run-id": acknowledged.run_id,
            "mesh-thread-id": acknowledged.thread_id,
            "mesh-events-on": acknowledged.events_on,
            "mesh-follow-at": acknowledged.follow_at,
            "mesh-run-has-ended": str(acknowledged.has_ended).lower() if acknowledged.HasField("has_ended") else "",
        }
        said = [(name, value) for name, value in metadata.items() if value]
        await context.send_initial_metadata(tuple(said) if "metadata" in self.acknowledges_by else ())
        return "message" in self.acknowledges_by and request.is_acknowledged_by_message

    def leave_shared(self, run: FakeRun) -> None:
        """Stops carrying the run."""
        for _, queue in self._shared.values():
            queue.put_nowait(_SharedMessage(left_run_ids=[run.id]))

    def end_shared(self) -> None:
        """Ends the shared streams, even if they carry runs."""
        for _, queue in self._shared.values():
            queue.put_nowait(None)

    async def FollowRun(
        self, request: agent_pb2.FollowRunRequest, context: Any
    ) -> AsyncIterator[agent_pb2.FollowRunResponse]:
        self.follows.append(request)
        if self.error:
            raise self.error
        run = self._owned_run(request.run_id)
        if run.is_expired:
            raise PreconditionFailed("The events are kept no longer.", reason="EVENTS_EXPIRED")
        self._note_end(context)
        acknowledged = agent_pb2.RunAcknowledged(run_id=run.id, thread_id=run.thread_id)
        if self.says_has_ended:
            acknowledged.has_ended = run.has_ended
        if await self._acknowledge(request, context, acknowledged):
            yield agent_pb2.FollowRunResponse(acknowledged=acknowledged)
        after = request.after_seq if request.after_attempt == run.attempt else 0
        async for event in self._follow(run, after):
            yield agent_pb2.FollowRunResponse(event=event)

    def _note_end(self, context: Any) -> None:
        """The stream may be cancelled at any await, also before its first event: only its call knows when it ended."""
        context.add_done_callback(lambda _: self.follow_ended.set())

    async def CancelRun(self, request: agent_pb2.CancelRunRequest, context: Any) -> agent_pb2.CancelRunResponse:
        run = self._owned_run(request.run_id)
        self.run_cancelled.set()
        if not run.has_ended:
            await run.write(run_cancelled=agent_pb2.RunCancelled(usage=agent_pb2.Usage()))
        return agent_pb2.CancelRunResponse(run=_run(run, agent_pb2.RUN_STATUS_CANCELLED))

    async def GetRun(self, request: agent_pb2.GetRunRequest, context: Any) -> agent_pb2.GetRunResponse:
        run = self._owned_run(request.run_id)
        return agent_pb2.GetRunResponse(run=_run(run, run.status))

    async def ListRuns(self, request: agent_pb2.ListRunsRequest, context: Any) -> agent_pb2.ListRunsResponse:
        self._thread(request.thread_id)
        runs = [one for one in self.runs.values() if one.thread_id == request.thread_id]
        if request.HasField("status"):
            runs = [one for one in runs if one.status == request.status]
        return agent_pb2.ListRunsResponse(runs=[_run(one, one.status) for one in runs])

    async def CreateThread(
        self, request: agent_pb2.CreateThreadRequest, context: Any
    ) -> agent_pb2.CreateThreadResponse:
        thread = _thread(str(new_id()), request.title, dict(request.metadata))
        self.threads[thread.id] = (require_user(), thread)
        return agent_pb2.CreateThreadResponse(thread=thread)

    async def ForkThread(self, request: agent_pb2.ForkThreadRequest, context: Any) -> agent_pb2.ForkThreadResponse:
        if not self.knows_interrupts:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        source = self._thread(request.thread_id)
        fork = _thread(str(new_id()), source.title, {"forked_from": source.id, "at": request.message_id})
        self.threads[fork.id] = (require_user(), fork)
        return agent_pb2.ForkThreadResponse(thread=fork)

    async def GetThread(self, request: agent_pb2.GetThreadRequest, context: Any) -> agent_pb2.GetThreadResponse:
        return agent_pb2.GetThreadResponse(thread=self._thread(request.thread_id))

    async def ListThreads(self, request: agent_pb2.ListThreadsRequest, context: Any) -> agent_pb2.ListThreadsResponse:
        if request.HasField("cursor") and request.cursor != "next":
            raise InvalidInput.of_field("cursor", "is not a cursor of this list")
        user_id = require_user()
        mine = [one for owner, one in self.threads.values() if owner == user_id and request.query in one.title]
        has_more = len(mine) > request.limit
        return agent_pb2.ListThreadsResponse(threads=mine[: request.limit], next_cursor="next" if has_more else None)

    async def UpdateThread(
        self, request: agent_pb2.UpdateThreadRequest, context: Any
    ) -> agent_pb2.UpdateThreadResponse:
        thread = self._thread(request.thread_id)
        if request.HasField("title"):
            thread.title = request.title
        if request.HasField("metadata"):
            thread.metadata.clear()
            thread.metadata.update(request.metadata.entries)
        return agent_pb2.UpdateThreadResponse(thread=thread)

    async def DeleteThread(
        self, request: agent_pb2.DeleteThreadRequest, context: Any
    ) -> agent_pb2.DeleteThreadResponse:
        del self.threads[self._thread(request.thread_id).id]
        return agent_pb2.DeleteThreadResponse()

    async def ListMessages(
        self, request: agent_pb2.ListMessagesRequest, context: Any
    ) -> agent_pb2.ListMessagesResponse:
        self._thread(request.thread_id)
        message = agent_pb2.Message(
            id=str(new_id()),
            role=self.role,
            content="Hi",
            created_at=_NOW,
            run_id=str(new_id()),
        )
        return agent_pb2.ListMessagesResponse(messages=[message])

    async def ListInterrupts(
        self, request: agent_pb2.ListInterruptsRequest, context: Any
    ) -> agent_pb2.ListInterruptsResponse:
        if not self.knows_interrupts:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        if request.HasField("cursor"):
            raise InvalidInput.of_field("cursor", "is not a cursor of this list")
        if request.is_of_organisation and not require_subject().may_approve:
            raise PermissionDenied("Your account may not see what waits in your organisation.")
        return agent_pb2.ListInterruptsResponse(interrupts=[an_interrupt(str(new_id()))])

    async def ListModels(self, request: agent_pb2.ListModelsRequest, context: Any) -> agent_pb2.ListModelsResponse:
        model = agent_pb2.Model(
            name="sim", context_tokens=8_192, capabilities=["tools"], input_micro_usd_per_mtok=150_000
        )
        return agent_pb2.ListModelsResponse(models=[model])

    def _run_of(self, request: agent_pb2.StartRunRequest, user_id: UUID) -> FakeRun:
        for before in self.runs.values():
            key = before.request.idempotency_key
            if before.user_id == user_id and key and key == request.idempotency_key:
                return before
        thread_id = request.thread_id or str(new_id())
        if thread_id not in self.threads:
            self.threads[thread_id] = (user_id, _thread(thread_id, "", {}))
        run = FakeRun(request.run_id, thread_id, user_id, request)
        self.runs[run.id] = run
        return run

    async def _follow(self, run: FakeRun, after: int) -> AsyncIterator[agent_pb2.RunEvent]:
        sent = after
        while True:
            async with run.changed:
                current = [one for one in run.events if one.attempt == run.attempt]
                while len(current) <= sent and not run.has_ended:
                    await run.changed.wait()
                    current = [one for one in run.events if one.attempt == run.attempt]
            if len(current) <= sent:
                return
            yield current[sent]
            sent += 1

    def _cut(self, event: agent_pb2.RunEvent) -> None:
        if self.cut_after is not None and event.seq >= self.cut_after:
            self.cut_after = None
            raise Unavailable("This replica stops.")

    def _owned_run(self, run_id: str) -> FakeRun:
        run = self.runs.get(run_id)
        if run is None or run.user_id != require_user():
            raise NotFound("There is no such run.")
        return run

    def _thread(self, thread_id: str) -> agent_pb2.Thread:
        owner, thread = self.threads.get(thread_id, (None, None))
        if thread is None or owner != require_user():
            raise NotFound("There is no such thread.")
        return thread


def _thread(thread_id: str, title: str, metadata: dict[str, str]) -> agent_pb2.Thread:
    return agent_pb2.Thread(id=thread_id, title=title, metadata=metadata, created_at=_NOW, updated_at=_NOW)


def _run(run: FakeRun, status: agent_pb2.RunStatus.ValueType) -> agent_pb2.Run:
    return agent_pb2.Run(
        id=run.id, thread_id=run.thread_id, status=status, attempt=1, model="sim", created_at=_NOW, metadata={}
    )
