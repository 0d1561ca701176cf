"""The load generator, a separate process: `python -m bench.load` reads plans from stdin and writes its observations.

Closed loop: a constant number of streams, each starting a turn when its previous one ends. Open loop: turns are due at
a constant rate, regardless of earlier turns, and their latency is measured from the time when they were due.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson
import uvloop
from mesh_common.ids import new_id
from mesh_dev.mesh_client import MeshClient

from bench.connection import Connections
from bench.loops import closed_loop, open_loop
from bench.resources import own_cpu_s
from bench.wire import Turn, TurnConnection

PASSWORD: Final = "lighthouse-keeper-of-a-load-test"  # noqa: S105 - of users that exist only during a measurement
_MESSAGE: Final = "Tell me about lighthouses, turn {number}."
# More concurrent logins would be a load test of their own.
_LOGINS_AT_ONCE: Final = 4
# A turn without an answer by then counts as failed.
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`turns` turns at `rate` per second, or in a closed loop of `streams` if `rate` is 0."""

    url: str
    users: int
    turns: int
    streams: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    turns: Sequence[Turn]
    took_s: float
    cpu_s: float
    """CPU time of the generator itself, without logins."""


@dataclass(frozen=True, slots=True)
class _Thread:
    token: str
    thread_id: str


async def generate(plan: Plan, threads: Sequence[_Thread]) -> Seen:
    began_s, cpu_before_s = time.monotonic(), own_cpu_s()
    pool = _Pool(plan.url, threads)
    try:
        if plan.rate:
            turns = await open_loop(pool.turn, count=plan.turns, rate=plan.rate)
        else:
            turns = await closed_loop(pool.turn, count=plan.turns, at_once=plan.streams)
    finally:
        pool.connections.close()
    return Seen(turns, time.monotonic() - began_s, own_cpu_s() - cpu_before_s)


class _Pool:
    """Idle threads, least recently used first, so that all histories grow equally."""

    def __init__(self, url: str, threads: Sequence[_Thread]) -> None:
        self.connections = Connections(TurnConnection, url)
        self._threads = deque(threads)
        self._number = 0

    async def turn(self, due_s: float) -> Turn:
        if not self._threads:
            raise RuntimeError("no thread is idle: the plan needs more users, or the mesh has stalled")
        thread = self._threads.popleft()
        self._number += 1
        body = {"message": _MESSAGE.format(number=self._number), "thread_id": thread.thread_id}
        try:
            async with self.connections.one() as connection:
                return await connection.run(thread.token, body, due_s, _TIMEOUT_S)
        except OSError as error:
            return Turn(due_s, due_s, ended_s=time.monotonic(), end=type(error).__name__)
        finally:
            self._threads.append(thread)


async def make_threads(plan: Plan, count: int) -> list[_Thread]:
    """Creates `count` threads, spread over the plan's users. Each user has at least one."""
    users = min(plan.users, count)
    gate = asyncio.Semaphore(_LOGINS_AT_ONCE)

    async def user(number: int) -> list[_Thread]:
        async with gate, MeshClient(plan.url) as client:
            email = f"bench-{number}-{new_id().hex}@example.com"
            (await client.register(email, PASSWORD)).raise_for_status()
            token = (await client.login(email, PASSWORD)).raise_for_status().json()["access_token"]
            own = range(number, count, users)
            ids = [(await client.post("/threads", {})).raise_for_status().json()["id"] for _ in own]
            return [_Thread(token, thread_id) for thread_id in ids]

    made = await asyncio.gather(*(user(number) for number in range(users)))
    return [thread for threads in made for thread in threads]


async def _main() -> None:
    """Each line of stdin is a plan, each line of stdout its result. Users are created when plans need more threads."""
    threads: list[_Thread] = []
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        fields: dict[str, Any] = orjson.loads(line)
        count = fields.pop("threads")
        plan = Plan(**fields)
        if len(threads) < count:
            threads += await make_threads(plan, count - len(threads))
        seen = await generate(plan, threads)
        sys.stdout.write(orjson.dumps(asdict(seen)).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main())
