"""Embeddings that a user waits for outside a run: searches and written memories.

Nobody else may suffer from one user's. An embedding server that works on one text at a time is slow for all as soon as
one user sends it many, so each user has a few calls at a time; the connections of recall are others.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mesh_common.errors import RateLimited, Unavailable
from mesh_common.ids import UserId
from mesh_common.subject import Subject

from mesh_memory.domain import Vector
from mesh_memory.ports import Embedder

# A person's client searches while its user types; two calls at a time are enough for that, also if one is slow.
_CALLS_PER_USER = 2
# Further requests wait, and beyond these are refused: at 25 ms a call, the last of them waits for 0.4 s.
_PENDING_PER_USER = 32
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class FairEmbedder:
    """Raises RateLimited if too many requests of the user are pending, Unavailable as the embedder does."""

    embedder: Embedder
    _pending: Counter[UserId] = field(default_factory=Counter)
    _slots: defaultdict[UserId, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(_CALLS_PER_USER))
    )

    @property
    def space(self) -> str:
        return self.embedder.space

    async def query(self, subject: Subject, text: str, *, timeout_s: float) -> Vector:
        async with self._turn(subject.user_id, timeout_s) as left_s:
            return await self.embedder.query(text, timeout_s=left_s)

    async def passage(self, subject: Subject, text: str, *, timeout_s: float) -> Vector:
        async with self._turn(subject.user_id, timeout_s) as left_s:
            [vector] = await self.embedder.passages([text], timeout_s=left_s)
            return vector

    @asynccontextmanager
    async def _turn(self, user_id: UserId, timeout_s: float) -> AsyncIterator[float]:
        """Waits until the user has a free call, and yields the rest of the time."""
        if self._pending[user_id] >= _CALLS_PER_USER + _PENDING_PER_USER:
            raise RateLimited("Too many of your requests are pending.", retry_after_s=_RETRY_AFTER_S)
        self._pending[user_id] += 1
        try:
            loop = asyncio.get_running_loop()
            until_s = loop.time() + timeout_s
            slot = self._slots[user_id]
            await _acquired(slot, timeout_s)
            try:
                yield until_s - loop.time()
            finally:
                slot.release()
        finally:
            self._pending[user_id] -= 1
            if not self._pending[user_id]:
                del self._pending[user_id], self._slots[user_id]


async def _acquired(slot: asyncio.Semaphore, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await slot.acquire()
    except TimeoutError as error:
        raise Unavailable("The embedding server is too slow.", retry_after_s=_RETRY_AFTER_S) from error
