"""The events of runs that this gateway starts: one stream from each agent carries them all.

A gRPC message wakes three threads of this process, and a busy agent sends events of dozens of runs within one tick.
If an agent acknowledges a run and has no stream from this process, it invites the gateway to open one. Until that
stream is open, and after it is cut, each run is followed on its own stream (`follow_run`).
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

# How many events a client may be behind: some 20 s of a fast model. A slower client gets its own stream, where it
# slows down nobody but itself.
MAX_UNREAD: Final = 256
MAX_UNREAD_BYTES: Final = 1_048_576
# More agents than a mesh has.
_MAX_INVITATIONS: Final = 100
_OPEN_TIMEOUT_S: Final = 5.0
# Agents send an invitation with every run; at most one stream per agent is opened in this time.
_BETWEEN_STREAMS_S: Final = 1.0


class ExpectedRun:
    """A run that is being started. Buffers its events from a shared stream, even before its acknowledgement."""

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
        # Converted here and not when it is read: a part of a message keeps the whole message in memory.
        converted = event_from_pb(event)
        self._has_ended = converted.is_terminal
        self._unread.append((converted, size))
        self._unread_bytes += size
        self._changed.set()

    def cut(self, cause: str) -> None:
        """Ends the run's events on this stream. Events that already came can still be read."""
        if self._cut or self._has_ended:
            return
        if self.stream_id:
            SHARED_CUTS.labels(cause).inc()
        self._end(Unavailable("The stream that carried the run was cut."))

    def _end(self, error: MeshError) -> None:
        self._cut = error
        self._changed.set()

    async def events(self) -> AsyncGenerator[RunEvent]:
        """In order, from the first. Raises Unavailable once the shared stream no longer carries the run."""
        while True:
            while self._unread:
                event, size = self._unread.popleft()
                self._unread_bytes -= size
                yield event
            if self._cut:
                # A new exception each time: the traceback of a stored one would keep this frame alive.
                raise copy(self._cut)
            self._changed.clear()
            await self._changed.wait()


class StartedRuns:
    """Call `expecting` before a run is started and `bind` when it is acknowledged; `watch` reads the streams."""

    def __init__(self, calls: ServiceCalls, open_channel: Callable[[str], grpc.aio.Channel]) -> None:
        """`open_channel` must open a new connection: one in use would reach its maximum age sooner."""
        self.follower_id: Final = str(new_id())
        self._calls = calls
        self._open_channel = open_channel
        self._expected: dict[str, ExpectedRun] = {}
        self._open: set[str] = set()
        # Addresses to which a stream is being opened, or was opened a moment ago.
        self._invited: set[str] = set()
        self._invitations: asyncio.Queue[str] = asyncio.Queue(_MAX_INVITATIONS)

    @contextmanager
    def expecting(self, run_id: RunId) -> Iterator[ExpectedRun]:
        # Registered before the start is sent: streams are not ordered relative to each other, so events may come before
        # the acknowledgement. Nobody else can start a run with this id, so the events belong to this user's run.
        expected = self._expected[str(run_id)] = ExpectedRun(run_id)
        try:
            yield expected
        finally:
            del self._expected[str(run_id)]

    def is_open(self, stream_id: str) -> bool:
        return stream_id in self._open

    def bind(self, expected: ExpectedRun, stream_id: str) -> AsyncGenerator[RunEvent]:
        """The run's events, which come on this stream."""
        expected.stream_id = stream_id
        if not self.is_open(stream_id):
            expected.cut("stream")
        return expected.events()

    def invite(self, address: str) -> None:
        """Has a stream opened to an agent that reported none from this process for new runs."""
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
            # The last two occur while certificates are being replaced.
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
                # From here on, an invitation means that this stream no longer accepts new runs.
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
