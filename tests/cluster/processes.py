"""Runs programs to completion, with a deadline."""

import asyncio
import shlex
from collections.abc import Sequence


class ProgramError(Exception):
    """A program failed or took too long; the message contains the end of its output."""


_TAIL_CHARS = 3_000


async def run(*argv: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
    """The program's output. Raises ProgramError if it fails, or, after killing it, if it takes too long."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=pipe if stdin is not None else asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin.encode() if stdin is not None else None)
    except TimeoutError:
        raise ProgramError(f"{_shown(argv)}: not done after {timeout_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ProgramError(f"{_shown(argv)}: exit code {process.returncode}: {(err + out).decode()[-_TAIL_CHARS:]}")
    return out.decode()


async def run_command(command: str, *arguments: str, timeout_s: float = 120.0) -> str:
    """Runs a command from the settings, split as by a shell, with `arguments` appended."""
    return await run(*shlex.split(command), *arguments, timeout_s=timeout_s)


def _shown(argv: Sequence[str]) -> str:
    return " ".join(argv)[:200]
