"""Handles SIGTERM before a process serves, and in commands that end by themselves.

The first process of a container has no default signal handlers: without this, the kernel would drop SIGTERM, and a pod
that is deleted while it starts or migrates would remain until its grace period ends.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

# The exit code that a shell reports for a program ended by this signal.
_EXIT_CODE = 128 + signal.SIGTERM


def end_on_sigterm() -> None:
    """Call it at the start of the process. `serve_until_signal` later replaces this handler by its own."""
    signal.signal(signal.SIGTERM, _end)


def _end(_signal: int, _frame: FrameType | None) -> None:
    """Ends at once. An exception could be raised anywhere, also where a library has half made an object, and would then
    leave a traceback. The database rolls back what was open."""
    # RuntimeError: the signal came inside a write to the same stream.
    with suppress(RuntimeError, OSError):
        sys.stdout.flush()
    os._exit(_EXIT_CODE)
