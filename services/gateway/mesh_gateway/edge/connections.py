"""What the edge knows of ASGI connections, of HTTP and of WebSockets alike."""

from typing import Final

from starlette.types import Receive

from mesh_gateway.limits.stream_slots import UntilLeft

# Asked every few seconds by machines: neither traced nor logged, never refused.
PROBES: Final = frozenset({"/healthz", "/readyz"})
# The status when nobody was there any more to be answered; metrics and logs alone see it (nginx made it common).
CLIENT_GONE: Final = 499
SERVED: Final = frozenset({"http", "websocket"})


def until_left(receive: Receive) -> UntilLeft:
    """For a connection whose client has nothing more to say: what it sends is dropped."""

    async def wait() -> None:
        while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
            pass

    return wait
