"""Finds code that blocks the event loop, and with it everything else in its process.

A thread asks the loop for a sign of life once a second. If none comes in time, the loop's stack shows who is at work.
"""

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Final

import structlog
from prometheus_client import Counter

log = structlog.get_logger()

_INTERVAL_S: Final = 1.0
# Garbage collection, the start of a process and a busy machine take a few hundred milliseconds at worst.
_LIMIT_S: Final = 1.0


class Watchdog:
    """`packages`: top-level packages that may be to blame by name. Anything else counts as `own_name`."""

    def __init__(
        self,
        packages: frozenset[str],
        own_name: str,
        blocked: Counter,
        *,
        interval_s: float = _INTERVAL_S,
        limit_s: float = _LIMIT_S,
    ) -> None:
        self._packages = packages
        self._own_name = own_name
        self._blocked = blocked
        self._interval_s = interval_s
        self._limit_s = limit_s
        for name in (own_name, *packages):
            blocked.labels(name)

    async def run(self) -> None:
        """Watches the running loop until cancelled."""
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        watched = loop, threading.get_ident(), stopped
        threading.Thread(target=self._watch, args=watched, name="watchdog", daemon=True).start()
        try:
            await loop.create_future()
        finally:
            stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int, stopped: threading.Event) -> None:
        while not stopped.wait(self._interval_s):
            alive = threading.Event()
            try:
                loop.call_soon_threadsafe(alive.set)
            except RuntimeError:
                # The loop is closed.
                return
            if not alive.wait(self._limit_s) and not stopped.is_set():
                self._report(sys._current_frames().get(thread_id))  # noqa: SLF001 - the documented way to a thread's stack
                # One report for each time, however long it lasts.
                while not alive.wait(self._interval_s) and not stopped.is_set():
                    pass

    def _report(self, frame: FrameType | None) -> None:
        by = next((name for name in _packages_of(frame) if name in self._packages), self._own_name)
        # Places only: the values in the frames belong to users.
        where = "".join(traceback.format_stack(frame)) if frame else ""
        log.error("event_loop.blocked", by=by, longer_than_s=self._limit_s, stack=where)
        self._blocked.labels(by).inc()


def _packages_of(frame: FrameType | None) -> Iterator[str]:
    """Top-level packages of the functions on the stack, the innermost first."""
    while frame is not None:
        yield str(frame.f_globals.get("__name__", "")).partition(".")[0]
        frame = frame.f_back
