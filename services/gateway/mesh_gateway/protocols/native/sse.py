"""Encodes events as Server-Sent Events, the frames of the native API."""

import random
from typing import Final, assert_never

import orjson
from mesh_common.events.model import RunEvent

from mesh_gateway.protocols.native.events import event_data
from mesh_gateway.runs.ports import StreamEnd

MEDIA_TYPE: Final = "text/event-stream"
_PING: Final = b": ping\n\n"
# A client hardly notices one second; spread over it, a thousand clients do not reconnect at once.
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
                return _come_back("this replica is stopping, reconnect with Last-Event-ID")
            case StreamEnd.REVOKED:
                # Reconnecting gives 401, which every client understands: EventSource gives up, others log in.
                return _come_back("the session has ended, log in again")
            case _:
                assert_never(end)


def _come_back(reason: str) -> bytes:
    """Tells the client when to reconnect; ends a stream that this replica can no longer serve.

    It has no empty line, because simple clients would take that for an event without data; `retry` takes effect by its
    own line (HTML standard, 9.2.6).
    """
    pause_ms = random.randint(*_COME_BACK_MS)  # noqa: S311 - jitter, no secret
    return f": {reason}\nretry: {pause_ms}\n".encode()
