"""Client of the other replicas of the agent. The owner of a run is the only source of its live events."""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import suppress

import grpc
import structlog
from mesh.agent.v1 import agent_pb2 as pb
from mesh.agent.v1 import agent_pb2_grpc
from mesh_common.errors import DeadlineExceeded, NotFound, Unavailable
from mesh_common.events.model import Position, RunEvent
from mesh_common.events.wire import event_from_pb
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.ids import RunId
from mesh_common.process.tls_files import ChannelTls

log = structlog.get_logger()

# More than a mesh has replicas. The addresses of deleted pods are evicted as the least recently used.
_MAX_CHANNELS = 100
_CANCEL_TIMEOUT_S = 4.0


class PeerAgentClients:
    """Channels by address, opened at first use and closed by `close`."""

    def __init__(self, calls: ServiceCalls, tls: ChannelTls | None) -> None:
        self._calls = calls
        self._tls = tls
        self._channels: OrderedDict[str, grpc.aio.Channel] = OrderedDict()

    async def follow(self, address: str, run_id: RunId, after: Position) -> AsyncGenerator[RunEvent]:
        """The owner's events. Ends without a terminal event if the owner becomes unavailable; its attempt is then
        void."""
        stub = agent_pb2_grpc.AgentServiceStub(await self._channel(address))
        request = pb.FollowRunRequest(run_id=str(run_id), after_attempt=after.attempt, after_seq=after.seq)
        with suppress(Unavailable):
            async with self._calls.stream(stub.FollowRun, request, timeout_s=None) as stream:
                async for response in stream:
                    if response.HasField("event"):
                        yield event_from_pb(response.event)

    async def cancel(self, address: str, run_id: RunId) -> None:
        """Tells the owner at once. The run's row already requests the cancellation, so an owner that cannot be reached
        learns of it by its heartbeat."""
        stub = agent_pb2_grpc.AgentServiceStub(await self._channel(address))
        request = pb.CancelRunRequest(run_id=str(run_id))
        try:
            await self._calls.unary(stub.CancelRun, request, timeout_s=_CANCEL_TIMEOUT_S)
        except NotFound:
            # The run was deleted with its thread, and this call has made the owner discard it.
            return
        except (Unavailable, DeadlineExceeded):
            log.warning("peer.not_reached")

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address, tls=self._tls)
        self._channels.move_to_end(address)
        if len(self._channels) > _MAX_CHANNELS:
            _, oldest = self._channels.popitem(last=False)
            await oldest.close()
        return channel
