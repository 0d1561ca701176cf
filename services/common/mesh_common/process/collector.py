"""Python's garbage collector around the start of a process.

Imports make a million objects that live as long as the process. Collecting while they are made finds nothing and takes
up to a third of a start's CPU; walking over them in each full collection later on finds nothing either.
"""

import gc
from typing import Final

# How many containers are made beyond those freed until the young are looked at, and how often that is until older ones
# are. Python looks every 2,000, and finds nearly all of them alive while a hundred turns are under way: that was 8 % of
# the agent's CPU under load, and is 3 % so. What waits to be found in a cycle is some 10 MiB.
_THRESHOLDS: Final = (50_000, 20, 100)


def pause_collector() -> None:
    """Until `resume_collector`. Before a service imports what it is made of."""
    gc.disable()


def resume_collector() -> None:
    """What is there by now counts as living for ever; what comes from now on is collected, more seldom than usual."""
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
        gc.enable()
