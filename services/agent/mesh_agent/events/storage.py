"""An attempt's events as one compressed column, so that a follower can replay them for 24 h after the end.

JSON lines under zlib level 1: 100 coalesced deltas take some 2 kB and 0.2 ms.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Final

import orjson
from mesh_common.errors import Unavailable
from mesh_common.ids import RunId

from mesh_agent.domain import RecalledMemory, RunError, ToolResult, Usage
from mesh_agent.events import model as events
from mesh_agent.events.model import EventBody, RunEvent

_LEVEL: Final = 1
_TYPES: Final[dict[str, type[EventBody]]] = {
    cls.__name__: cls
    for cls in (
        events.RunStarted,
        events.RunRestarted,
        events.MemoryRecalled,
        events.MessageDelta,
        events.MessageCompleted,
        events.ToolStarted,
        events.ToolFinished,
        events.RunFinished,
        events.RunFailed,
        events.RunCancelled,
    )
}


def encode_frames(run_events: Sequence[RunEvent]) -> bytes:
    lines = [orjson.dumps([event.attempt, event.seq, type(event.body).__name__, event.body]) for event in run_events]
    return zlib.compress(b"\n".join(lines), _LEVEL)


def decode_frames(run_id: RunId, frames: bytes) -> list[RunEvent]:
    """Raises Unavailable for a kind of event that a newer release wrote: a replica of that one can read it."""
    lines = zlib.decompress(frames).split(b"\n")
    return [_event(run_id, *orjson.loads(line)) for line in lines if line]


def _event(run_id: RunId, attempt: int, seq: int, name: str, fields: dict[str, Any]) -> RunEvent:
    if name not in _TYPES:
        raise Unavailable("This replica is older than the run's events. Try again.", reason="EVENTS_OF_NEWER_RELEASE")
    return RunEvent(run_id, attempt, seq, _TYPES[name](**_restored(fields)))


def _restored(fields: dict[str, Any]) -> dict[str, Any]:
    """The nested dataclasses that JSON made dictionaries of."""
    makers: dict[str, Any] = {
        "usage": lambda value: Usage(**value),
        "error": lambda value: RunError(**value),
        "result": lambda value: ToolResult(**value),
        "memories": lambda value: tuple(RecalledMemory(**item) for item in value),
        "reused_tool_results": lambda value: tuple(ToolResult(**item) for item in value),
    }
    return {name: makers[name](value) if name in makers else value for name, value in fields.items()}
