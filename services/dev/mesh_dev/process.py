"""Child processes that log to a file, die with their parent and report in one line how they ended."""

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

# A log that has grown beyond this size is renamed to `<name>.log.1` at the next start.
MAX_LOG_BYTES = 20_000_000
# Enough for the last line of any log, including a long JSON line.
LOG_TAIL_BYTES = 16_384
MAX_QUOTED_CHARS = 300
FATAL_WITHIN_LINES = 4
EXCEPTION_LINE = re.compile(r"[\w.]+(Error|Exception)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to run. `env` is added to the environment of the parent."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    """The signal that the kernel sends when the parent dies for any reason."""


class ChildProcess:
    """One program in its own process group. It can be started and stopped repeatedly, one instance at a time."""

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
        """Starts the program and appends its output to the log.

        Call it from a thread that outlives the child: the kernel sends the death signal when that thread ends.
        """
        if self.is_running:
            raise DevError(f"{self.name} is running already")
        self._is_stopping = False
        with self._open_log() as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._wrapped_argv(),
                env={**os.environ, **self.program.env},  # noqa: TID251 - a child inherits its parent's environment
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Not a session of its own: Linux (sched_autogroup) would give each session as much CPU as the complete
                # mesh, and the priority of a thread would not count against other programs.
                process_group=0,
            )

    async def stop(self) -> None:
        """Asks the program to end, and kills its group if it does not end in time. Harmless if it has ended."""
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
        """Sends a signal to the program only, not to its group, as an accident would."""
        with suppress(ProcessLookupError):
            self._started().send_signal(signal_number)

    def pause(self) -> None:
        """Suspends the program as a stalled machine would; `resume` continues it."""
        self.kill(signal.SIGSTOP)

    def resume(self) -> None:
        """Harmless if the program is not paused or has ended."""
        if self.is_running:
            self.kill(signal.SIGCONT)

    async def wait_ended(self) -> None:
        await self._started().wait()

    async def run_to_end(self) -> None:
        """Starts a program that ends by itself, and waits for its end.

        Raises:
            ChildDiedError: its exit code is not 0.
        """
        await self.start()
        await self.wait_ended()
        if self._started().returncode != 0:
            raise ChildDiedError(self.obituary())

    async def watch(self) -> None:
        """Returns when the program has been stopped on purpose.

        Raises:
            ChildDiedError: it ended by itself.
        """
        await self.wait_ended()
        if not self._is_stopping:
            raise ChildDiedError(self.obituary())

    def obituary(self) -> str:
        """One line with the name, the way it ended, its last log line unless a signal killed it, and the log's path."""
        code = self._started().returncode
        # The last line of a killed program does not explain its end.
        last_line = "" if code is not None and code < 0 else f": {self.last_log_line()}"
        return f"{self.name} {_how_it_ended(code)}{last_line} (log: {self.log_path})"

    def last_log_line(self) -> str:
        """The most informative of the last lines since the last start.

        This is the last one that contains FATAL, else the last exception of a traceback, else the last line.
        """
        lines = [line.strip(" |+-") for line in self.recent_log().split("\n") if line.strip(" |+-")]
        # PostgreSQL logs the reason as FATAL, and after it that it has shut down.
        fatal = [line for line in lines[-FATAL_WITHIN_LINES:] if "FATAL" in line]
        return (fatal or _exceptions_at_end(lines) or lines or ["it wrote nothing"])[-1][:MAX_QUOTED_CHARS]

    def recent_log(self) -> str:
        """The end of the output since the last start."""
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
        # The group has the id of its leader. This ends all processes that the leader left behind.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def _exceptions_at_end(lines: Sequence[str]) -> list[str]:
    """The lines after the last JSON line that name an exception: an uncaught traceback."""
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
