"""SIGTERM before a process serves, and in commands that end by themselves.

The first process of a container has no default for signals: without a handler the kernel drops SIGTERM, and a pod that
is deleted while it starts or migrates would stay until its grace is over.
"""

import signal
import sys
from types import FrameType

# What a shell gives a program that the signal ended.
_EXIT_CODE = 128 + signal.SIGTERM


def end_on_sigterm() -> None:
    """Called first thing in the process; `serve_until_signal` puts its own handler in place of this one."""
    signal.signal(signal.SIGTERM, _end)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(_EXIT_CODE)
