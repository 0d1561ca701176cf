"""What a provider's refusal means, from the status of its response and what it says in the body."""

import asyncio
from contextlib import suppress
from typing import Final

import aiohttp
from mesh_common.clock import utc_now
from mesh_common.model_server import MAX_REFUSAL_BYTES, Refusal, refusal_of
from mesh_common.model_server_waits import requested_wait_s

from mesh_agent.llm.provider_errors import ProviderError, refused

# An error's body comes with its status. A server that trickles it must not delay the next model.
_TIMEOUT_S: Final = 2.0
_REDIRECTS: Final = 300
_MAY_NAME_A_PARAMETER: Final = (400, 422)


class RequestRefusedError(Exception):
    """The request itself is refused. `body` may name the parameter to leave out; `error` is the error otherwise."""

    def __init__(self, body: bytes, error: ProviderError) -> None:
        super().__init__(error.reason)
        self.body = body
        self.error = error


async def check_status(response: aiohttp.ClientResponse) -> None:
    """Raises ProviderError or RequestRefusedError for a status that is no success."""
    if response.status < _REDIRECTS:
        return
    body = await _beginning(response)
    refusal = refusal_of(response.status, body)
    error = refused(refusal, response.status, requested_wait_s(response.headers, utc_now(), body))
    if refusal is Refusal.REFUSED and response.status in _MAY_NAME_A_PARAMETER:
        raise RequestRefusedError(body, error)
    raise error


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The error's body, or what arrives of it. The status counts even if the body breaks off or hangs."""
    body = b""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(_TIMEOUT_S):
            async for data in response.content.iter_any():
                body += data
                if len(body) >= MAX_REFUSAL_BYTES:
                    break
    return body
