"""`python -m simulator.bench`: measures the simulator's own cost in less than 15 s.

The simulator shares the machine in every load test, so its CPU time must be known. This process generates the load over
raw sockets; the simulator reports its own CPU time.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import uvloop

from simulator.client import SimulatorAdmin

_UNPACED_STREAMS = 20_000
_UNPACED_CONNECTIONS = 50
_PACED_STREAMS = 300
_PACED_TOKENS = 150
_ITL_S = 0.02
_TOKEN = b'"delta":{"content":" '


@dataclass(slots=True)
class _Load:
    """The observations of all clients together."""

    left_to_start: int
    tokens: int = 0
    complete: int = 0
    lateness_ms: list[float] = field(default_factory=list)
    """Lateness of each token, relative to the stream's schedule as given by its earliest token."""
    rates: list[float] = field(default_factory=list)
    """Tokens per second of each stream."""


class _Client(asyncio.Protocol):
    """Sends requests sequentially and counts tokens. Minimal, because it shares the machine."""

    def __init__(self, load: _Load, request: bytes, done: asyncio.Future[None], itl_s: float) -> None:
        self._load = load
        self._request = request
        self._done = done
        self._itl_s = itl_s
        self._transport: Any = None
        self._tail = b""
        self._arrivals_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        # The end of the previous data is kept, because a marker may be split across two pieces.
        joined = self._tail + data
        tokens = joined.count(_TOKEN)
        self._load.tokens += tokens
        if self._itl_s and tokens:
            self._arrivals_s += [time.perf_counter()] * tokens
        is_complete = joined.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        self._tail = joined[-len(_TOKEN) + 1 :]
        if is_complete:
            self._load.complete += 1
            self._tail = b""
            self._measure()
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the simulator closed a connection"))

    def _measure(self) -> None:
        arrivals_s, self._arrivals_s = self._arrivals_s, []
        if len(arrivals_s) > 1:
            offsets_s = [arrival_s - index * self._itl_s for index, arrival_s in enumerate(arrivals_s)]
            earliest_s = min(offsets_s)
            self._load.lateness_ms += [(offset_s - earliest_s) * 1000 for offset_s in offsets_s]
            self._load.rates.append((len(arrivals_s) - 1) / (arrivals_s[-1] - arrivals_s[0]))

    def _next(self) -> None:
        if self._load.left_to_start:
            self._load.left_to_start -= 1
            self._transport.write(self._request)
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()


@asynccontextmanager
async def _simulator(*flags: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", "--port", "0", *flags, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - requested above; for the type checker
    try:
        yield (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.terminate()
        await process.wait()


def _request(message: str) -> bytes:
    body = orjson.dumps({"model": "sim-large", "stream": True, "messages": [{"role": "user", "content": message}]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _drive(base_url: str, *, streams: int, connections: int, itl_s: float) -> tuple[_Load, float, float]:
    """Runs the streams over the connections. Returns the load, the wall-clock time and the simulator's CPU time."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    load = _Load(left_to_start=streams)
    done = [loop.create_future() for _ in range(connections)]
    async with SimulatorAdmin(base_url) as admin:
        cpu_before_s = (await admin.stats())["process_cpu_s"]
        started_s = time.perf_counter()
        for number, future in enumerate(done):
            client = partial(_Client, load, _request(f"benchmark {number}"), future, itl_s)
            await loop.create_connection(client, host, int(port))
        await asyncio.gather(*done)
        wall_s = time.perf_counter() - started_s
        stats = await admin.stats()
    if load.complete != streams:
        raise RuntimeError(f"{load.complete} of {streams} streams are complete")
    return load, wall_s, stats["process_cpu_s"] - cpu_before_s


async def _unpaced() -> str:
    async with _simulator("--tokens", "100") as base_url:
        _, wall_s, cpu_s = await _drive(base_url, streams=_UNPACED_STREAMS, connections=_UNPACED_CONNECTIONS, itl_s=0)
    return (
        f"unpaced: {_UNPACED_STREAMS} streams of 100 tokens in {wall_s:.2f} s = {_UNPACED_STREAMS / wall_s:,.0f}/s; "
        f"CPU {cpu_s:.2f} s = {cpu_s / _UNPACED_STREAMS * 1000:.3f} ms per stream, "
        f"{_UNPACED_STREAMS / cpu_s:,.0f} streams/s on one core (target 1,000)\n"
    )


async def _paced(name: str, tick_ms: str) -> str:
    flags = ("--tokens", str(_PACED_TOKENS), "--itl", str(_ITL_S * 1000), "--tick-ms", tick_ms)
    async with _simulator(*flags) as base_url:
        load, wall_s, cpu_s = await _drive(base_url, streams=_PACED_STREAMS, connections=_PACED_STREAMS, itl_s=_ITL_S)
    late = statistics.quantiles(load.lateness_ms, n=100)
    return (
        f"paced, {name}: {_PACED_STREAMS} streams at {1 / _ITL_S:.0f} tokens/s for {wall_s:.2f} s: "
        f"slowest {min(load.rates):.1f} tokens/s, "
        f"CPU {cpu_s / wall_s:.1%} of a core = {cpu_s / _PACED_STREAMS / _PACED_TOKENS * 1e6:.1f} us per token; "
        f"tokens late p50 {late[49]:.1f} ms, p99 {late[98]:.1f} ms\n"
    )


async def _main() -> None:
    sys.stdout.write(await _unpaced())
    sys.stdout.write(await _paced("tick wheel", "1"))
    sys.stdout.write(await _paced("one timer per token", "0"))


if __name__ == "__main__":
    uvloop.run(_main())
