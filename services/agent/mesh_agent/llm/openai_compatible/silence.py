"""The time that a provider may send nothing: first before its first token, then between any two pieces of data."""

import asyncio
from dataclasses import dataclass
from typing import Final

import aiohttp

from mesh_agent.llm.completion import Completion

# A model that shows its tokens begins within seconds, and a user waits.
_FIRST_TOKEN_TIMEOUT_S: Final = 20.0


def first_token_timeout_s(configured_s: float | None, silence_s: float | None) -> float:
    """20 s if none is configured, or the limit of later silence if that is shorter."""
    if configured_s is not None:
        return configured_s
    return min(_FIRST_TOKEN_TIMEOUT_S, silence_s or _FIRST_TOKEN_TIMEOUT_S)


def without_silence(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
    """aiohttp would also count the time before the first token as silence."""
    return aiohttp.ClientTimeout(timeout.total, timeout.connect, None, timeout.sock_connect)


@dataclass(slots=True)
class Silence:
    """Moves the timeout of a stream: from the first token on, it counts from the last data."""

    timeout: asyncio.Timeout
    limit_s: float | None

    def received(self, completion: Completion) -> None:
        """Called when data has been parsed. Keep-alive comments count as data, but not as a first token."""
        if completion.has_begun:
            now_s = asyncio.get_running_loop().time()
            self.timeout.reschedule(None if self.limit_s is None else now_s + self.limit_s)
