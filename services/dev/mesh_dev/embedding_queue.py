"""The queue of the embedding server: bounded, and without work that nobody waits for any more.

The model works in one thread, which fully uses its core. Callers give up after a while and ask again: without a bound,
the server then works on requests of callers that left, each of which waits longer than the one before.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# 25 ms each: what would wait longer than this is hardly wanted by then.
MAX_QUEUED_TEXTS = 256
# 0.2 s of work. Requests take turns after each chunk, so that a query does not wait for the end of a large batch.
_CHUNK = 8


class QueueFullError(Exception):
    """The server has more work than it can do in time."""


class EmbeddingQueue[Vector]:
    """Embeds the texts of concurrent requests in turns."""

    def __init__(self, embed: Callable[[Sequence[str]], Sequence[Vector]]) -> None:
        self._embed = embed
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")
        self._texts = 0

    async def embed(self, texts: Sequence[str], until_left: Coroutine[Any, Any, object]) -> list[Vector] | None:
        """One result for each text, in order; None if the caller left before, for which `until_left` waits.

        Raises QueueFullError. A request is always accepted while the queue is empty.
        """
        if self._texts and self._texts + len(texts) > MAX_QUEUED_TEXTS:
            until_left.close()
            raise QueueFullError
        self._texts += len(texts)
        try:
            async with asyncio.TaskGroup() as group:
                working = group.create_task(self._embed_in_chunks(texts))
                leaving = group.create_task(until_left)
                await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
                # A chunk that has not begun never does.
                working.cancel()
                leaving.cancel()
        finally:
            self._texts -= len(texts)
        return None if working.cancelled() else working.result()

    async def _embed_in_chunks(self, texts: Sequence[str]) -> list[Vector]:
        loop = asyncio.get_running_loop()
        results: list[Vector] = []
        for start in range(0, len(texts), _CHUNK):
            results += await loop.run_in_executor(self._worker, self._embed, texts[start : start + _CHUNK])
        return results
