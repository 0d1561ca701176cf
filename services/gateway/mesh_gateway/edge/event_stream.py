"""A turn as the body of an HTTP response.

Not FastAPI's `fastapi.sse`: it passes each event through two memory streams and pydantic (104 µs per frame here, ours
9 µs), orders the fields differently, fixes the ping and `Cache-Control`, and sends 200 before the agent has answered.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from mesh_gateway.edge.connections import until_left
from mesh_gateway.runs.ports import Encoder
from mesh_gateway.runs.pump import Pump
from mesh_gateway.runs.turn import Turn

_STREAMED: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStreamResponse(Response):
    """Sends a turn's events until they end. Owns the turn's `resources`, including the open call to the agent."""

    # For the OpenAPI document; each response has its encoder's media type.
    media_type = "text/event-stream"

    def __init__(self, turn: Turn, encoder: Encoder, *, headers: Mapping[str, str], ping_interval_s: float) -> None:
        self._turn = turn
        self._encoder = encoder
        self._ping_interval_s = ping_interval_s
        super().__init__(status_code=HTTPStatus.OK, media_type=encoder.media_type, headers={**_STREAMED, **headers})
        # The length of a stream is not known.
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope

        async def send_bytes(data: bytes) -> None:
            message: Message = {"type": "http.response.body", "body": data, "more_body": True}
            await send(message)

        async with self._turn.resources:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            # Tells the client at once that the run is acknowledged, however long the first event takes.
            await send_bytes(b"")
            pump = Pump(self._turn, self._encoder, send_bytes, ping_interval_s=self._ping_interval_s)
            if await pump.run(until_left(receive)):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
