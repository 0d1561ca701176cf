"""Finds reference cycles: freeing them needs the collector, which costs more and pauses the whole process."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from types import CoroutineType, FrameType, FunctionType, GeneratorType

_TRIES = 3
# Iterations of the event loop in which tasks that served the action finish.
_TURNS = 50


async def cycles_left_by(
    action: Callable[[], Awaitable[object]], *, within: tuple[str, ...] = ("mesh_", "mesh.")
) -> Counter[str]:
    """Objects and frames of the mesh's own code that every run of `action` leaves to the cycle collector.

    Once is no proof, because other tasks run in the same process. `within`: prefixes of the names to look for, if the
    action ends sooner than the work of other tasks.
    """
    await action()  # objects that only the first run creates are no garbage
    left = await _left_by(action, within)
    for _ in range(_TRIES - 1):
        left &= await _left_by(action, within)
    return left


async def _left_by(action: Callable[[], Awaitable[object]], within: tuple[str, ...]) -> Counter[str]:
    await _settle()
    # In a long test run, one collection takes a second, and other tasks' pending work would follow each one. So exclude
    # all existing objects from the next collection; they stay excluded until the test run ends.
    gc.collect()
    gc.freeze()
    try:
        await _settle()
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        await action()
        await _settle()
        gc.collect()
        return Counter(name for name in map(_name, gc.garbage) if name.startswith(within))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _name(thing: object) -> str:
    match thing:
        case FrameType():
            return f"{thing.f_globals.get('__name__')}.{thing.f_code.co_qualname}"
        case FunctionType():
            return f"{thing.__module__}.{thing.__qualname__}"
        case CoroutineType() | GeneratorType():
            frame = thing.cr_frame if isinstance(thing, CoroutineType) else thing.gi_frame
            return f"{frame.f_globals.get('__name__')}.{thing.__qualname__}" if frame else thing.__qualname__
        case _:
            return f"{type(thing).__module__}.{type(thing).__qualname__}"
