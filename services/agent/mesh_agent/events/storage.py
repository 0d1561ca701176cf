"""An attempt's events as one compressed column, so that a follower can replay them for 24 h after the end.

The format is a marker line followed by StoredEvents, compressed with zlib level 1: 100 coalesced deltas take about 2 kB
and 0.2 ms. Release 0.1.0 wrote JSON lines. It reads the marker line as an event of a newer release (docs/adr/0021).
"""

import zlib
from collections.abc import Sequence
from typing import Any, Final

import orjson
from mesh_common.errors import Unavailable
from mesh_common.events import model as events
from mesh_common.events.model import EventBody, RecalledMemory, RunError, RunEvent, ToolResult, Usage
from mesh_common.events.wire import dump_events, load_events
from mesh_common.ids import RunId

_LEVEL: Final = 1
# Attempt, seq, kind and fields of an event, as release 0.1.0 wrote them. Its reader raises Unavailable at this line,
# and the follower tries another replica.
_MARKER: Final = b'[0,0,"StoredEvents",{}]\n'
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
    return zlib.compress(_MARKER + dump_events(run_events), _LEVEL)


def decode_frames(run_id: RunId, frames: bytes) -> list[RunEvent]:
    """Reads frames of this release, the previous one and newer ones, whose new events become UnknownEvent."""
    content = zlib.decompress(frames)
    if content.startswith(_MARKER):
        return load_events(run_id, content[len(_MARKER) :])
    return [_event(run_id, *orjson.loads(line)) for line in content.split(b"\n") if line]


# JSON lines are of releases up to 0.1.0. The release after next can drop them: frames are kept for 24 h.
def _event(run_id: RunId, attempt: int, seq: int, name: str, fields: dict[str, Any]) -> RunEvent:
    if name not in _TYPES:
        raise Unavailable("This replica is older than the run's events. Try again.", reason="EVENTS_OF_NEWER_RELEASE")
    return RunEvent(run_id, attempt, seq, _TYPES[name](**_restored(fields)))


def _restored(fields: dict[str, Any]) -> dict[str, Any]:
    """Turns dictionaries from JSON back into the nested dataclasses."""
    makers: dict[str, Any] = {
        "usage": lambda value: Usage(**value),
        "error": lambda value: RunError(**value),
        "result": lambda value: ToolResult(**value),
        "memories": lambda value: tuple(RecalledMemory(**item) for item in value),
        "reused_tool_results": lambda value: tuple(ToolResult(**item) for item in value),
    }
    return {name: makers[name](value) if name in makers else value for name, value in fields.items()}
