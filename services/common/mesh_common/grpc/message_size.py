"""The largest gRPC message, the same for every sender and receiver of the mesh.

With bounds of their own, a server could send what its client refuses, and the client would ask for it again and again.
What grows with its content is bounded well below: a page by `MAX_PAGE_BYTES`, an answer by a setting of agent.
"""

from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 4_194_304
# A page ends before the item that would exceed this, unless it is the first. Clients of release 0.1.0 take 1 MiB.
MAX_PAGE_BYTES: Final = 524_288
MESSAGE_SIZE_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
