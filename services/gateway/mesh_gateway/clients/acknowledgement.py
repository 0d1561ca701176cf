"""Reads the agent's acknowledgement that a run is durable and the user's: initial metadata or the first message.

An agent of release 0.1.0 sends only metadata, this release both, the next one only the message. Metadata is read first,
because it arrives in either case. If it has none of our keys, the agent sends the message.
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
    """Waits for the acknowledgement. `responses` are those of `stream`, none of them read yet.

    None for a call that succeeded without one: grpc.aio loses the metadata of a call that ends without a message
    before the metadata is read. Raises the agent's error if it sent one instead.
    """
    metadata = await stream.initial_metadata()
    if _RUN_ID in metadata:
        return _of_metadata(metadata)
    # An error has none of our metadata; reading raises it.
    first = await anext(responses, None)
    if first is None:
        return None
    if not first.HasField("acknowledged"):
        raise Internal("Something went wrong on our side.")
    return _of_message(first.acknowledged)


async def events_of(responses: AsyncIterator[Response]) -> AsyncIterator[RunEvent]:
    """The events among the responses. Others, such as the acknowledgement, are skipped."""
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
