"""The events of runs that are started here: one stream from each agent carries them all.

A gRPC message wakes three threads of this process, and a busy agent tells dozens of runs within one tick. An agent
invites to open a stream when it acknowledges a run and has none from here. Until it stands, and when it was cut, runs
are followed each on a stream of its own (`follow`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import structlog
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.errors import MeshError, Unavailable
from mesh_common.grpc_client import ServiceCalls
from mesh_common.ids import RunId, new_id

from mesh_gateway import convert
from mesh_gateway.events import StreamEvent
from mesh_gateway.metrics import SHARED_CUTS, SHARED_STREAMS

log = structlog.get_logger()

# What a client may be behind with: some 20 s of a quick model. One that is slower is followed on a stream of its own,
# where it slows down nobody but itself.
MAX_UNREAD: Final = 256
# More agents than a mesh has.
_MAX_INVITATIONS: Final = 100
_OPEN_TIMEOUT_S: Final = 5.0
_PAUSE_AFTER_CUT_S: Final = 1.0


class ExpectedRun:
    """A run that is being started: what a shared stream carries of it, from before its start is acknowledged."""

    def __init__(self, run_id: RunId) -> None:
        self.run_id = run_id
        self.stream_id: str | None = None
        self._unread: deque[agent_pb2.RunEvent] = deque()
        self._changed = asyncio.Event()
        self._cut: MeshError | None = None

    def put(self, event: agent_pb2.RunEvent) -> None:
        if self._cut:
            return
        if len(self._unread) >= MAX_UNREAD:
            self.cut("slow")
            return
        self._unread.append(event)
        self._changed.set()

    def cut(self, cause: str) -> None:
        """No more of it will come; what came is still given."""
        if self._cut is None:
            SHARED_CUTS.labels(cause).inc()
            self._cut = Unavailable("The stream that carried the run was cut.")
            self._changed.set()

    async def events(self) -> AsyncGenerator[StreamEvent]:
        """In order, from the first. Raises Unavailable when it is carried no longer."""
        while True:
            while self._unread:
                yield convert.event(self._unread.popleft())
            if self._cut:
                raise self._cut
            self._changed.clear()
            await self._changed.wait()


class StartedRuns:
    """`expecting` before a run is started, `bind` when it is acknowledged; `watch` reads the streams."""

    def __init__(self, calls: ServiceCalls, open_channel: Callable[[str], grpc.aio.Channel]) -> None:
        """`open_channel` to an agent's address."""
        self.follower_id: Final = str(new_id())
        self._calls = calls
        self._open_channel = open_channel
        self._expected: dict[str, ExpectedRun] = {}
        self._open: set[str] = set()
        # By address, the stream that does not stand yet; there is one at most.
        self._opening: dict[str, str] = {}
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

    def bind(self, expected: ExpectedRun, stream_id: str) -> AsyncGenerator[StreamEvent]:
        """Its events, which come on this stream."""
        expected.stream_id = stream_id
        if stream_id not in self._open:
            expected.cut("stream")
        return expected.events()

    def invite(self, address: str) -> None:
        """An agent that has no stream from here for new runs."""
        if address not in self._opening and not self._invitations.full():
            self._opening[address] = str(new_id())
            self._invitations.put_nowait(address)

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._follow(await self._invitations.get()))

    async def _follow(self, address: str) -> None:
        stream_id = self._opening[address]
        self._open.add(stream_id)
        try:
            with SHARED_STREAMS.track_inprogress():
                await self._read(address, stream_id)
        except (MeshError, TimeoutError, OSError, ValueError) as error:
            # The last two: certificates that are being replaced at this moment.
            reason = error.reason if isinstance(error, MeshError) else type(error).__name__
            log.warning("started_runs.cut", reason=reason)
        finally:
            self._open.discard(stream_id)
            self._cut_all(stream_id)
        if self._opening.get(address) == stream_id:
            # It never stood. Agents invite with every run, and are not asked as often.
            await asyncio.sleep(_PAUSE_AFTER_CUT_S)
            del self._opening[address]

    async def _read(self, address: str, stream_id: str) -> None:
        request = agent_pb2.FollowStartedRunsRequest(follower_id=self.follower_id, stream_id=stream_id)
        async with self._open_channel(address) as channel:
            method = agent_pb2_grpc.AgentServiceStub(channel).FollowStartedRuns
            async with self._calls.stream(method, request, timeout_s=None) as stream:
                async with asyncio.timeout(_OPEN_TIMEOUT_S):
                    await stream.initial_metadata()
                # From here on an invitation means that this stream takes no new runs.
                del self._opening[address]
                async for response in stream:
                    self._deliver(response)

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
