"""Tunes Python's garbage collector for the start of a process and for load.

Imports create a million objects that live as long as the process. Collections during the imports find no garbage and
take up to a third of the start's CPU. Later full collections would traverse these objects, also in vain.
"""

import gc
from typing import Final

# A young collection runs after 50,000 net allocations of containers, one of an older generation after 20 and 100 of the
# younger. With Python's default of 2,000, nearly all objects are still alive while a hundred turns are active:
# collections took 8 % of the agent's CPU under load, and take 3 % with these values. Errors leave cycles (an exception
# refers to its traceback, and frames in it to the exception), and only the collector frees those: some 10 MiB, in
# pauses of about 40 ms in a storm of errors (docs/performance.md).
_THRESHOLDS: Final = (50_000, 20, 100)


def pause_collector() -> None:
    """Pauses collection until `resume_collector`. Call it before a service imports its modules."""
    gc.disable()


def resume_collector() -> None:
    """Excludes all existing objects from collection, and collects new ones less often than Python's default."""
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
        gc.enable()
