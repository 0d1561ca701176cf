"""Facts about ASGI connections that hold for HTTP and WebSockets alike."""

from contextlib import suppress
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import Receive

from mesh_gateway.limits.stream_slots import UntilLeft

# Polled every few seconds by machines: neither traced nor logged, never refused.
PROBES: Final = frozenset({"/healthz", "/readyz"})
# The status of a request whose client disconnected first; only metrics and logs show it (nginx's convention).
CLIENT_GONE: Final = 499
SERVED: Final = frozenset({"http", "websocket"})


def until_left(receive: Receive) -> UntilLeft:
    """For a connection whose request is complete: anything else the client sends is dropped."""

    async def wait() -> None:
        # A body that was declared and never comes ends as the client's failure, like a disconnect.
        with suppress(HTTPException):
            while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
                pass

    return wait
