"""Events of many runs in one message, for FollowStartedRuns."""

from typing import Final

from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.events.model import RunEvent
from mesh_common.events.wire import event_pb
from mesh_common.ids import RunId

# A gRPC message may have 1 MiB. One event may be nearly as large (a long answer), but most have about 100 bytes.
_SHARED_BYTES: Final = 262_144


class SharedEvents:
    """Builds one message of FollowStartedRuns (`fan_out.SharedMessage`)."""

    def __init__(self) -> None:
        self.pb = pb.FollowStartedRunsResponse()
        self._bytes = 0

    def add(self, event: RunEvent) -> bool:
        message = event_pb(event)
        size = message.ByteSize()
        if size > _SHARED_BYTES:
            raise ValueError("larger than a shared message")
        if self._bytes + size > _SHARED_BYTES:
            return False
        self.pb.events.append(message)
        self._bytes += size
        return True

    def leave(self, run_id: RunId) -> None:
        self.pb.left_run_ids.append(str(run_id))

    @property
    def is_empty(self) -> bool:
        return not self.pb.events and not self.pb.left_run_ids
