"""Converts assistants between protobuf and the gateway's domain."""

from datetime import UTC
from typing import Final, Literal

from mesh.agent.v1 import agent_pb2

from mesh_gateway.domain import Assistant, AssistantVisibility

_NUMBER: Final[dict[AssistantVisibility, agent_pb2.AssistantVisibility.ValueType]] = {
    "private": agent_pb2.ASSISTANT_VISIBILITY_PRIVATE,
    "organisation": agent_pb2.ASSISTANT_VISIBILITY_ORGANISATION,
}
_VISIBILITY: Final[dict[int, AssistantVisibility]] = {number: name for name, number in _NUMBER.items()}
_SOURCE: Final[dict[int, Literal["file", "api"]]] = {
    agent_pb2.ASSISTANT_SOURCE_FILE: "file",
    agent_pb2.ASSISTANT_SOURCE_API: "api",
}


def visibility_pb(visibility: AssistantVisibility) -> agent_pb2.AssistantVisibility.ValueType:
    return _NUMBER[visibility]


def assistant(message: agent_pb2.Assistant) -> Assistant:
    return Assistant(
        name=message.name,
        version=message.version,
        is_current=message.is_current,
        source=_SOURCE.get(message.source, "unknown"),
        visibility=_VISIBILITY.get(message.visibility, "unknown"),
        is_disabled=message.is_disabled,
        spec_json=message.spec_json,
        created_at=message.created_at.ToDatetime(UTC) if message.HasField("created_at") else None,
        created_by=message.created_by or None,
    )
