"""Events as Server-Sent Events: the frames of the native API."""

import random
from typing import Final, assert_never

import orjson
from mesh_common.events.model import RunEvent

from mesh_gateway.protocols.native.events import event_data
from mesh_gateway.runs.ports import StreamEnd

MEDIA_TYPE: Final = "text/event-stream"
_PING: Final = b": ping\n\n"
# One second is what a client hardly notices; spread over it, a thousand clients do not come as one.
_COME_BACK_MS: Final = (200, 1_000)


class SSEEncoder:
    media_type = MEDIA_TYPE

    def encode(self, event: RunEvent) -> bytes:
        head = f"id: {event.run_id}:{event.attempt}:{event.seq}\nevent: {event.body.type}\ndata: "
        return head.encode() + orjson.dumps(event_data(event)) + b"\n\n"

    def ping(self) -> bytes:
        return _PING

    def end(self, end: StreamEnd) -> bytes:
        match end:
            case StreamEnd.COMPLETE | StreamEnd.CUT:
                return b""
            case StreamEnd.REPLICA_STOPS:
                return _come_back()
            case _:
                assert_never(end)


def _come_back() -> bytes:
    """When to connect again: the end of a stream that this replica can serve no longer.

    Without an empty line, which would make an event without data of it in the eyes of simple clients; `retry` takes
    effect by its own line (HTML standard, 9.2.6).
    """
    pause_ms = random.randint(*_COME_BACK_MS)  # noqa: S311 - jitter, no secret
    return f": this replica stops, come back with Last-Event-ID\nretry: {pause_ms}\n".encode()
