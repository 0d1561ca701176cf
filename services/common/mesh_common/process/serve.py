"""The life cycle of a service process: uvloop, signals, drain and exit code."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
import uvloop

from mesh_common.process.collector import resume_collector

log = structlog.get_logger()


def run_process(main: Coroutine[Any, Any, None]) -> None:
    """Runs `main` on uvloop. On an OSError or RuntimeError, logs one line and exits with code 1."""
    try:
        uvloop.run(main)
    except (OSError, RuntimeError) as error:
        log.exception("process.failed", error=type(error).__name__)
        sys.exit(1)


async def serve_until_signal(
    open_service: Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]],
) -> None:
    """Opens a service, waits for SIGTERM or SIGINT, drains the service and closes it.

    `open_service` returns a context manager whose value is the service's drain, which makes the service unready, lets
    work in progress end, and stops the server.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_service() as drain:
        resume_collector()
        log.info("process.started")
        await stop.wait()
        log.info("process.draining")
        await drain()
    log.info("process.stopped")
