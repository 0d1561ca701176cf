"""The measurement's interface to the load generator: plans in, turns out."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from bench.load import Plan, Seen
from bench.wire import Turn

_LOADTEST: Final = Path(__file__).parents[1]
# Enough for ten thousand turns with the times of all their frames.
_LINE_BYTES: Final = 256 * 1024 * 1024
_LONGEST_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Generator:
    process: asyncio.subprocess.Process

    async def run(self, plan: Plan, threads: int) -> Seen:
        """Runs the plan with at least `threads` threads, and returns what the generator observed.

        Raises:
            RuntimeError: the generator ended, or did not answer for ten minutes.
        """
        assert self.process.stdin is not None  # noqa: S101 - requested in `open_generator`; for the type checker
        assert self.process.stdout is not None  # noqa: S101
        self.process.stdin.write(orjson.dumps({**asdict(plan), "threads": threads}) + b"\n")
        await self.process.stdin.drain()
        try:
            async with asyncio.timeout(_LONGEST_S):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise RuntimeError("the load generator did not answer in time") from None
        if not line:
            raise RuntimeError("the load generator ended: see its output above")
        seen = orjson.loads(line)
        return Seen([Turn(**turn) for turn in seen["turns"]], seen["took_s"], seen["cpu_s"])


@asynccontextmanager
async def open_generator() -> AsyncIterator[Generator]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
        cwd=_LOADTEST,
    )
    try:
        yield Generator(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
