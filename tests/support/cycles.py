"""What is left to the collector of cycles: dearer than what goes with its last reference, and a pause for all."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def cycles_left() -> Iterator[Counter[str]]:
    """Counts, once left, the objects and frames of the mesh's own code that only the collector would have freed."""
    left: Counter[str] = Counter()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield left
        gc.collect()
        left.update(name for name in map(_name, gc.garbage) if name.startswith("mesh_"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def _name(thing: object) -> str:
    if isinstance(thing, FrameType):
        return f"{thing.f_globals.get('__name__')}.{thing.f_code.co_qualname}"
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
