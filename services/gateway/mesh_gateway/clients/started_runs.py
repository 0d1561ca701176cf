"""The events of runs that are started here: one stream from each agent carries them all.

A gRPC message wakes three threads of this process, and a busy agent tells dozens of runs within one tick. An agent
invites to open a stream when it acknowledges a run and has none from here. Until it stands, and when it was cut, runs
are followed each on a stream of its own (`follow`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Final

import grpc
import structlog
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.errors import MeshError, Unavailable
from mesh_common.events.model import RunEvent
from mesh_common.events.wire import event_from_pb
from mesh_common.grpc.client import ServiceCalls
from mesh_common.ids import RunId, new_id

from mesh_gateway.metrics import SHARED_CUTS, SHARED_STREAMS

log = structlog.get_logger()

# What a client may be behind with: some 20 s of a quick model. One that is slower is followed on a stream of its own,
# where it slows down nobody but itself.
MAX_UNREAD: Final = 256
MAX_UNREAD_BYTES: Final = 1_048_576
# More agents than a mesh has.
_MAX_INVITATIONS: Final = 100
_OPEN_TIMEOUT_S: Final = 5.0
# Agents invite with every run; to each at most one stream is opened that often.
_BETWEEN_STREAMS_S: Final = 1.0


class ExpectedRun:
    """A run that is being started: what a shared stream carries of it, from before its start is acknowledged."""

    def __init__(self, run_id: RunId) -> None:
        self.run_id = run_id
        self.stream_id: str | None = None
        self._unread: deque[tuple[RunEvent, int]] = deque()
        self._unread_bytes = 0
        self._has_ended = False
        self._changed = asyncio.Event()
        self._cut: MeshError | None = None

    def put(self, event: agent_pb2.RunEvent) -> None:
        if self._cut:
            return
        size = event.ByteSize()
        if len(self._unread) >= MAX_UNREAD or self._unread_bytes + size > MAX_UNREAD_BYTES:
            self.cut("slow")
            return
        # Here and not when it is read: a part of a message keeps the whole of it in memory.
        converted = event_from_pb(event)
        self._has_ended = converted.is_terminal
        self._unread.append((converted, size))
        self._unread_bytes += size
        self._changed.set()

    def cut(self, cause: str) -> None:
        """No more of it will come; what came is still given."""
        if self._cut or self._has_ended:
            return
        if self.stream_id:
            SHARED_CUTS.labels(cause).inc()
        self._end(Unavailable("The stream that carried the run was cut."))

    def _end(self, error: MeshError) -> None:
        self._cut = error.with_traceback(None)
        self._changed.set()

    async def events(self) -> AsyncGenerator[RunEvent]:
        """In order, from the first. Raises Unavailable when it is carried no longer."""
        while True:
            while self._unread:
                event, size = self._unread.popleft()
                self._unread_bytes -= size
                yield event
            if self._cut:
                # A new one each time: the traceback of one that is kept would hold this frame.
                raise copy(self._cut)
            self._changed.clear()
            await self._changed.wait()


class StartedRuns:
    """`expecting` before a run is started, `bind` when it is acknowledged; `watch` reads the streams."""

    def __init__(self, calls: ServiceCalls, open_channel: Callable[[str], grpc.aio.Channel]) -> None:
        """`open_channel` to an agent's address, on a connection of its own: an older one would be closed sooner."""
        self.follower_id: Final = str(new_id())
        self._calls = calls
        self._open_channel = open_channel
        self._expected: dict[str, ExpectedRun] = {}
        self._open: set[str] = set()
        # Addresses to which a stream is being opened, or was a moment ago.
        self._invited: set[str] = set()
        self._invitations: asyncio.Queue[str] = asyncio.Queue(_MAX_INVITATIONS)

    @contextmanager
    def expecting(self, run_id: RunId) -> Iterator[ExpectedRun]:
        # Registered before the start is sent: events may come before the acknowledgement, for streams have no order
        # among each other. Nobody else may start a run of this id, so they are of this user's run or of none.
        expected = self._expected[str(run_id)] = ExpectedRun(run_id)
        try:
            yield expected
        finally:
            del self._expected[str(run_id)]

    def is_open(self, stream_id: str) -> bool:
        return stream_id in self._open

    def bind(self, expected: ExpectedRun, stream_id: str) -> AsyncGenerator[RunEvent]:
        """Its events, which come on this stream."""
        expected.stream_id = stream_id
        if not self.is_open(stream_id):
            expected.cut("stream")
        return expected.events()

    def invite(self, address: str) -> None:
        """An agent that has no stream from here for new runs, or one that is gone."""
        if address not in self._invited and not self._invitations.full():
            self._invited.add(address)
            self._invitations.put_nowait(address)

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._follow(await self._invitations.get()))

    async def _follow(self, address: str) -> None:
        stream_id = str(new_id())
        self._open.add(stream_id)
        try:
            await self._read(address, stream_id)
        except (MeshError, TimeoutError, OSError, ValueError) as error:
            # The last two: certificates that are being replaced at this moment.
            reason = error.reason if isinstance(error, MeshError) else type(error).__name__
            log.warning("started_runs.cut", reason=reason)
        finally:
            self._open.discard(stream_id)
            self._cut_all(stream_id)
            self._may_be_invited_again(address)

    async def _read(self, address: str, stream_id: str) -> None:
        request = agent_pb2.FollowStartedRunsRequest(follower_id=self.follower_id, stream_id=stream_id)
        async with self._open_channel(address) as channel:
            method = agent_pb2_grpc.AgentServiceStub(channel).FollowStartedRuns
            async with self._calls.stream(method, request, timeout_s=None) as stream:
                async with asyncio.timeout(_OPEN_TIMEOUT_S):
                    await stream.initial_metadata()
                # From here on an invitation means that this stream takes no new runs.
                self._may_be_invited_again(address)
                with SHARED_STREAMS.track_inprogress():
                    async for response in stream:
                        self._deliver(response)

    def _may_be_invited_again(self, address: str) -> None:
        asyncio.get_running_loop().call_later(_BETWEEN_STREAMS_S, self._invited.discard, address)

    def _deliver(self, response: agent_pb2.FollowStartedRunsResponse) -> None:
        for event in response.events:
            expected = self._expected.get(event.run_id)
            if expected:
                expected.put(event)
        for run_id in response.left_run_ids:
            expected = self._expected.get(run_id)
            if expected:
                expected.cut("left")

    def _cut_all(self, stream_id: str) -> None:
        for expected in self._expected.values():
            if expected.stream_id == stream_id:
                expected.cut("stream")
