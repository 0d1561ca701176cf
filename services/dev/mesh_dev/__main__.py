"""`python -m mesh_dev dev|demo|trace`: the commands behind `make dev`, `make demo` and `make trace`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Final

import httpx
from mesh_common.process.settings import load_settings

from mesh_dev.demo import run_demo
from mesh_dev.dev import run_dev
from mesh_dev.errors import DevError
from mesh_dev.settings import DevSettings
from mesh_dev.trace_source import print_trace

FAILED: Final = 1
# The exit code that a shell reports for a program ended by SIGINT.
INTERRUPTED: Final = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="mesh_dev", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("dev", help="start the whole stack and leave it running until Ctrl-C")
    commands.add_parser("demo", help="start the stack, show one conversation, stop the stack")
    trace = commands.add_parser("trace", help="print a trace of the running stack")
    trace.add_argument("id", help="id of a trace or a run")
    arguments = parser.parse_args()
    settings = load_settings(DevSettings)
    match arguments.command:
        case "dev":
            # Ctrl-C is the normal way to end it.
            return _run(run_dev(settings), when_interrupted=0)
        case "demo":
            return _run(run_demo(settings))
        case _:
            return _run(print_trace(settings, arguments.id))


def _run(work: Coroutine[None, None, None], *, when_interrupted: int = INTERRUPTED) -> int:
    try:
        is_interrupted = asyncio.run(_until_signal(work))
    except* (DevError, httpx.HTTPError, OSError) as failures:
        reason = _first_leaf(failures)
    else:
        return when_interrupted if is_interrupted else 0
    sys.stderr.write(f"mesh: {reason}\n")
    return FAILED


async def _until_signal(work: Coroutine[None, None, None]) -> bool:
    """Whether SIGINT or SIGTERM ended the work. They cancel it, and it then stops what it started."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
    return task.cancelled()


def _first_leaf(failure: BaseException) -> BaseException:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


if __name__ == "__main__":
    sys.exit(main())
