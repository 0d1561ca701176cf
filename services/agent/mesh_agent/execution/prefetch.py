"""Recalls memories while a transaction stores their run, so the first token waits only for the longer of the two.

Each takes about 4 ms. A recall writes nothing, so it is simply cancelled if the run is not started.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mesh_common.caller import Caller, acting
from mesh_common.subject import Subject

from mesh_agent.domain.threads import Recalled
from mesh_agent.ports import Memories

type PrefetchedRecall = asyncio.Task[Recalled]
"""Its holder either awaits it, which raises what `Memories.recall` raises, or cancels it.

Cancel it even if it is done: asyncio then logs no unretrieved exception.
"""
type Spawn = Callable[[Coroutine[Any, Any, Recalled]], PrefetchedRecall]


def prefetch_recall(spawn: Spawn, memories: Memories, subject: Subject, message: str) -> PrefetchedRecall:
    """The time limit of the recall starts now."""
    return spawn(_as_the_run(memories, subject.without_grants(), message))


async def _as_the_run(memories: Memories, subject: Subject, message: str) -> Recalled:
    # The run outlives the request that starts it, so the request's deadline does not apply.
    with acting(Caller("agent", subject, None)):
        return await memories.recall(subject, message)
