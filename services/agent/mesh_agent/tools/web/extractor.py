"""Runs the extraction of a page's text in processes of their own, few at a time, each with a deadline."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import orjson

from mesh_agent.tools.web.errors import FetchError, FetchOutcome

_PROGRAM: Final = ("-I", "-m", "mesh_agent.tools.web.extraction")
_DEADLINE_S: Final = 10.0
# Each takes a core, 0.2 s at least, and for a page of 2 MB 90 MiB.
_AT_ONCE: Final = 2
# More than any plan gives to a model; the program cuts its own text far below.
_MAX_OUTPUT_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class PageText:
    title: str
    text: str


class Extractor:
    def __init__(self, *, deadline_s: float = _DEADLINE_S, at_once: int = _AT_ONCE) -> None:
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(at_once)

    async def text_of(self, html: str, url: str) -> PageText:
        """Raises FetchError if the page cannot be read within the deadline."""
        async with self._slots:
            # No variables: the process needs none, and the agent's contain its secrets.
            process = await asyncio.create_subprocess_exec(
                sys.executable, *_PROGRAM, url, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}
            )
            try:
                async with asyncio.timeout(self._deadline_s):
                    output = await _exchanged(process, html.encode(errors="replace"))
                    status = await process.wait()
            except TimeoutError as error:
                raise _unreadable() from error
            finally:
                await _ended(process)
        if status != 0:
            raise _unreadable()
        page = orjson.loads(output)
        return PageText(page["title"], page["text"])


async def _exchanged(process: Process, html: bytes) -> bytes:
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(process, html))
        output = bytearray()
        while process.stdout is not None and (chunk := await process.stdout.read(65_536)):
            output += chunk
            if len(output) > _MAX_OUTPUT_BYTES:
                process.kill()
    return bytes(output)


async def _feed(process: Process, html: bytes) -> None:
    if process.stdin is None:
        return
    # A process that ended early says so by its status.
    with suppress(ConnectionError):
        process.stdin.write(html)
        await process.stdin.drain()
    process.stdin.close()


async def _ended(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _unreadable() -> FetchError:
    return FetchError(FetchOutcome.UNREADABLE, "The text of this page cannot be read.")
