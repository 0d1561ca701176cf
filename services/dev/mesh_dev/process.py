"""Child processes that log to a file, die with their parent and tell in one line how they ended."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mesh_dev import child
from mesh_dev.errors import ChildDiedError, DevError

# A log that a long-lived `make dev` has let grow beyond this is set aside once, as `<name>.log.1`.
MAX_LOG_BYTES = 20_000_000
# Enough for the last line of any log, a long JSON line included.
LOG_TAIL_BYTES = 16_384
MAX_QUOTED_CHARS = 300
FATAL_WITHIN_LINES = 4
EXCEPTION_LINE = re.compile(r"[\w.]+(Error|Exception)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run: `env` comes on top of the environment of the parent."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends when the parent is gone, however it went."""


class ChildProcess:
    """One program in its own process group, started and stopped any number of times, one instance at a time."""

    def __init__(self, program: Program, log_dir: Path) -> None:
        self.program = program
        self.log_path = log_dir / f"{program.name}.log"
        self._log_start = 0
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the program; its output is appended to the log.

        Call it from the thread that outlives the child: the kernel's death signal watches the thread, not the process.
        """
        if self.is_running:
            raise DevError(f"{self.name} is running already")
        self._is_stopping = False
        with self._open_log() as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._wrapped_argv(),
                env={**os.environ, **self.program.env},  # noqa: TID251 - a child inherits what its parent was given
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Not a session of its own: to Linux each would be worth as much as the whole mesh beside it
                # (sched_autogroup), and a priority that a thread takes would mean nothing to other programs.
                process_group=0,
            )

    async def stop(self) -> None:
        """Ask the program to end, and end it with its group when it does not in time. Harmless when it has ended."""
        if self._process is None:
            return
        self._is_stopping = True
        if self.is_running:
            self.kill(self.program.stop_signal)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.program.stop_timeout_s):
                    await self._process.wait()
        self._kill_group()
        await self._process.wait()

    def kill(self, signal_number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the program alone, as an accident would."""
        with suppress(ProcessLookupError):
            self._started().send_signal(signal_number)

    def pause(self) -> None:
        """Freeze the program where it stands, as a stalled machine would; `resume` lets it go on."""
        self.kill(signal.SIGSTOP)

    def resume(self) -> None:
        """Harmless when it is not paused, or has ended."""
        if self.is_running:
            self.kill(signal.SIGCONT)

    async def wait_ended(self) -> None:
        await self._started().wait()

    async def run_to_end(self) -> None:
        """Start a program that ends by itself, and wait until it has.

        Raises:
            ChildDiedError: it ended with something else than 0.
        """
        await self.start()
        await self.wait_ended()
        if self._started().returncode != 0:
            raise ChildDiedError(self.obituary())

    async def watch(self) -> None:
        """Return when the program was stopped on purpose.

        Raises:
            ChildDiedError: it ended by itself.
        """
        await self.wait_ended()
        if not self._is_stopping:
            raise ChildDiedError(self.obituary())

    def obituary(self) -> str:
        """One line: who ended how, its last words unless a signal cut them off, and where to read more."""
        code = self._started().returncode
        # Who is killed does not say why: its last line is about something else.
        last_words = "" if code is not None and code < 0 else f": {self.last_log_line()}"
        return f"{self.name} {_how_it_ended(code)}{last_words} (log: {self.log_path})"

    def last_log_line(self) -> str:
        """The last line written since the last start, or a better one just before it.

        That is the last that says FATAL, or the last exception of a traceback.
        """
        lines = [line.strip(" |+-") for line in self.recent_log().split("\n") if line.strip(" |+-")]
        # PostgreSQL says why it gives up, and then that it is shut down.
        fatal = [line for line in lines[-FATAL_WITHIN_LINES:] if "FATAL" in line]
        return (fatal or _exceptions_at_end(lines) or lines or ["it wrote nothing"])[-1][:MAX_QUOTED_CHARS]

    def recent_log(self) -> str:
        """The end of what was written since the last start."""
        with self.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise DevError(f"{self.name} was never started")
        return self._process

    def _wrapped_argv(self) -> list[str]:
        wrapper = [sys.executable, "-I", "-S", child.__file__]
        return [*wrapper, str(int(self.program.death_signal)), str(os.getpid()), *self.program.argv]

    def _open_log(self) -> BinaryIO:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.exists() and self.log_path.stat().st_size > MAX_LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        return self.log_path.open("ab")

    def _kill_group(self) -> None:
        # The group bears the id of its leader; whatever the leader left behind in it ends here.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def _exceptions_at_end(lines: Sequence[str]) -> list[str]:
    """The lines that name an exception after the last line of JSON: a traceback that nobody caught."""
    last_json = max((index for index, line in enumerate(lines) if line.startswith("{")), default=-1)
    return [line for line in lines[last_json + 1 :] if EXCEPTION_LINE.match(line)]


def _how_it_ended(return_code: int | None) -> str:
    match return_code:
        case None:
            return "is running"
        case code if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        case code:
            return f"ended with exit code {code}"
