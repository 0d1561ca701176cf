"""What is left to the collector of cycles: dearer than what goes with its last reference, and a pause for all."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from types import CoroutineType, FrameType, FunctionType, GeneratorType

_TRIES = 3
# Of the loop: those who served what was asked come to their end.
_TURNS = 50


async def cycles_left_by(
    action: Callable[[], Awaitable[object]], *, within: tuple[str, ...] = ("mesh_", "mesh.")
) -> Counter[str]:
    """Objects and frames of the mesh's own code that only the collector frees after `action`: what it leaves each time.

    Once is no proof: others work in the same process. `within`: beginnings of the names of those that are looked for,
    for an action that is over sooner than what others do.
    """
    await action()  # what is made once is no garbage
    left = await _left_by(action, within)
    for _ in range(_TRIES - 1):
        left &= await _left_by(action, within)
    return left


async def _left_by(action: Callable[[], Awaitable[object]], within: tuple[str, ...]) -> Counter[str]:
    await _settle()
    # A look at all objects of a long test run takes a second, and what others had to do meanwhile is done right after
    # it: each time. What is there by now is left out of the next look, and stays out until the run ends.
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
