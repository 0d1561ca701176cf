"""The examples of docs/api as processes, and a server with scripted responses for them."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_ENDS_WITHIN_S: Final = 60.0


@dataclass
class Example:
    """A running example and what it has printed so far."""

    process: asyncio.subprocess.Process
    printed: str = ""
    has_text: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def texts(self) -> list[str]:
        """The text of each attempt: a run_restarted discards the text before it."""
        return ["".join(re.split(r"\n\[\w+\]\n", attempt)) for attempt in self.printed.split("\n[run_restarted]\n")]

    @property
    def has_finished(self) -> bool:
        return self.printed.endswith("\n[run_finished]\n")

    async def read(self) -> None:
        assert self.process.stdout
        while chunk := await self.process.stdout.read(4_096):
            self.printed += chunk.decode()
            if any(self.texts):
                self.has_text.set()


@asynccontextmanager
async def running(folder: Path, *argv: str) -> AsyncIterator[Example]:
    """The block ends once the example has exited; its errors fail the test."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=folder
    )
    example = Example(process)
    try:
        async with asyncio.timeout(_ENDS_WITHIN_S), asyncio.TaskGroup() as group:
            group.create_task(example.read())
            yield example
            await process.wait()
        assert process.stderr
        errors = (await process.stderr.read()).decode()
        # Node prints a warning about an experimental API there.
        assert process.returncode == 0, errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass
class Script:
    """A server that sends the answers in turn, each on a new connection."""

    answers: list[str]
    closes: bool = True
    asked: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(f"HTTP/1.1 {self.answers[len(self.asked) - 1]}".encode())
        await writer.drain()
        if not self.closes:
            await reader.read()
        writer.close()


def streamed(*frames: str) -> str:
    return "200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n" + "".join(frames)


def frame(seq: int, name: str) -> str:
    return f'id: r:1:{seq}\nevent: {name}\ndata: {{"type":"{name}"}}\n\n'
