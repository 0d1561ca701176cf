"""How the agent says that a run is durable and the user's: by initial metadata, or by the first message.

An agent of release 0.1.0 sends metadata alone, this release both, the next one the message alone. Metadata is looked at
first: it comes whether or not there is a message, and an agent that sends none of ours sends the message.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from mesh.agent.v1 import agent_pb2
from mesh_common.errors import Internal
from mesh_common.events.model import RunEvent
from mesh_common.events.wire import event_from_pb
from mesh_common.grpc.client import ServerStream
from mesh_common.ids import RunId

_RUN_ID: Final = "mesh-run-id"
_THREAD_ID: Final = "mesh-thread-id"
_HAS_ENDED: Final = "mesh-run-has-ended"
_EVENTS_ON: Final = "mesh-events-on"
_FOLLOW_AT: Final = "mesh-follow-at"

type Response = agent_pb2.StartRunResponse | agent_pb2.FollowRunResponse
type RunStream = ServerStream[agent_pb2.StartRunResponse] | ServerStream[agent_pb2.FollowRunResponse]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """`events_on` names the shared stream that carries the events, `follow_at` the address to open one at."""

    run_id: RunId
    thread_id: str
    has_ended: bool | None = None
    events_on: str | None = None
    follow_at: str | None = None


async def acknowledgement(stream: RunStream, responses: AsyncIterator[Response]) -> Acknowledgement | None:
    """Waits for it. `responses` are those of `stream`, none of them read.

    None for a call that ended well without one: grpc.aio loses the metadata of a call that ends without a message
    before it is asked for. Raises the agent's error when it sent that instead.
    """
    metadata = await stream.initial_metadata()
    if _RUN_ID in metadata:
        return _of_metadata(metadata)
    # An error has no metadata of ours, and comes out of reading.
    first = await anext(responses, None)
    if first is None:
        return None
    if not first.HasField("acknowledged"):
        raise Internal("Something went wrong on our side.")
    return _of_message(first.acknowledged)


async def events_of(responses: AsyncIterator[Response]) -> AsyncIterator[RunEvent]:
    """The events among the responses; what else there is, the acknowledgement for one, is passed over."""
    async for response in responses:
        if response.HasField("event"):
            yield event_from_pb(response.event)


def _of_metadata(metadata: Mapping[str, str]) -> Acknowledgement:
    has_ended = metadata.get(_HAS_ENDED)
    return Acknowledgement(
        RunId(UUID(metadata[_RUN_ID])),
        metadata[_THREAD_ID],
        None if has_ended is None else has_ended == "true",
        metadata.get(_EVENTS_ON),
        metadata.get(_FOLLOW_AT),
    )


def _of_message(message: agent_pb2.RunAcknowledged) -> Acknowledgement:
    return Acknowledgement(
        RunId(UUID(message.run_id)),
        message.thread_id,
        message.has_ended if message.HasField("has_ended") else None,
        message.events_on if message.HasField("events_on") else None,
        message.follow_at if message.HasField("follow_at") else None,
    )
