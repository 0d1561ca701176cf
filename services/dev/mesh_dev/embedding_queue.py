"""The queue of the embedding server: bounded, and without work that nobody waits for any more.

The model works in one thread, which fully uses its core. Callers give up after a while and ask again: without a bound,
the server then works on requests of callers that left, each of which waits longer than the one before.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

# 25 ms each: what waits longer than this is no longer wanted by a recall, and hardly by anything else.
MAX_QUEUED_TEXTS = 256
# The number of texts after which the thread checks whether the caller is still there: 0.2 s.
_CHUNK = 8


class QueueFullError(Exception):
    """The server has more work than it can do in time."""


class EmbeddingQueue[Vector]:
    """Embeds the texts of requests, one request after the other."""

    def __init__(self, embed: Callable[[Sequence[str]], Sequence[Vector]]) -> None:
        self._embed = embed
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")
        self._texts = 0

    async def embed(self, texts: Sequence[str], until_left: Callable[[], Awaitable[None]]) -> list[Vector] | None:
        """One result for each text, in order; None if the caller left before, which `until_left` waits for.

        Raises QueueFullError. A request is always accepted while the queue is empty.
        """
        if self._texts and self._texts + len(texts) > MAX_QUEUED_TEXTS:
            raise QueueFullError
        self._texts += len(texts)
        has_left = threading.Event()

        async def note_leaving() -> None:
            await until_left()
            has_left.set()

        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(note_leaving())
                loop = asyncio.get_running_loop()
                results = await loop.run_in_executor(self._worker, self._embed_all, texts, has_left)
                watching.cancel()
            return results
        finally:
            self._texts -= len(texts)

    def _embed_all(self, texts: Sequence[str], has_left: threading.Event) -> list[Vector] | None:
        results: list[Vector] = []
        for start in range(0, len(texts), _CHUNK):
            if has_left.is_set():
                return None
            results.extend(self._embed(texts[start : start + _CHUNK]))
        return results
