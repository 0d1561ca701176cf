"""A recall asked for beside the transaction that stores its run: the first token then waits for the longer of the two.

Either takes some 4 ms. A recall writes nothing, so one whose run does not come about is only dropped.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from mesh_common.caller import Caller, acting
from mesh_common.subject import Subject

from mesh_agent.domain import RecalledMemory
from mesh_agent.ports import Memories

type PrefetchedRecall = asyncio.Task[Sequence[RecalledMemory]]
"""Whoever has it awaits it, and is told what `Memories.recall` raises, or cancels it.

Also one that is over already: asyncio then does not complain of an error that nobody heard.
"""
type Spawn = Callable[[Coroutine[Any, Any, Sequence[RecalledMemory]]], PrefetchedRecall]


def prefetch_recall(spawn: Spawn, memories: Memories, subject: Subject, message: str) -> PrefetchedRecall:
    """Its budget counts from now."""
    return spawn(_as_the_run(memories, subject.without_grants(), message))


async def _as_the_run(memories: Memories, subject: Subject, message: str) -> Sequence[RecalledMemory]:
    # The run outlives the request that starts it, and is not held to its deadline.
    with acting(Caller("agent", subject, None)):
        return await memories.recall(subject, message)
