"""Many followers of few runs, cheap enough to run a thousand of them next to the mesh: aiohttp, and no parsing."""

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
from mesh_dev.mesh_client import API

from chaos.client import ChaosUser

_TERMINAL = (b"event: run_finished\n", b"event: run_failed\n", b"event: run_cancelled\n")
_RETRY_PAUSE_S = 0.2


@dataclass(slots=True)
class Follower:
    """Reconnects, to one gateway after another, with the id of the last event it saw until the run has ended."""

    user: ChaosUser
    run_id: str
    gateway: int
    positions: list[tuple[int, int]] = field(default_factory=list)
    """Attempt and seq of every event, in order."""
    back_s: list[float] = field(default_factory=list)
    """Monotonic times at which a stream was reopened."""
    ended_as: str = ""
    ended_s: float = 0.0
    """Monotonic time of its end."""
    streams: int = 0

    async def follow(self, session: aiohttp.ClientSession, give_up_s: float) -> None:
        while not self.ended_as and time.monotonic() < give_up_s:
            try:
                await self._follow_once(session)
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(_RETRY_PAUSE_S)
            self.gateway = 1 - self.gateway

    async def _follow_once(self, session: aiohttp.ClientSession) -> None:
        client = self.user.clients[self.gateway]
        headers = {"Authorization": client.http.headers["authorization"]}
        if self.positions:
            attempt, seq = self.positions[-1]
            headers["Last-Event-ID"] = f"{self.run_id}:{attempt}:{seq}"
        url = f"{str(client.http.base_url).rstrip('/')}{API}/runs/{self.run_id}/events"
        async with session.get(url, headers=headers) as response:
            if response.status != HTTPStatus.OK:
                await asyncio.sleep(_RETRY_PAUSE_S)
                return
            self.streams += 1
            self.back_s.append(time.monotonic())
            await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        rest = b""
        async for chunk in response.content.iter_any():
            *frames, rest = (rest + chunk).split(b"\n\n")
            for frame in frames:
                self._take(frame)
            if self.ended_as:
                return

    def _take(self, frame: bytes) -> None:
        if not frame.startswith(b"id: "):
            return
        name, _, _ = frame[4:].partition(b"\n")
        _, attempt, seq = name.decode().split(":")
        self.positions.append((int(attempt), int(seq)))
        if any(terminal in frame + b"\n" for terminal in _TERMINAL):
            self.ended_s = time.monotonic()
            self.ended_as = frame.split(b"event: ", 1)[1].split(b"\n")[0].decode()

    def fault(self) -> str:
        """What is wrong with the events it saw; empty if no attempt has a gap and the end came."""
        if not self.ended_as:
            return f"{self.run_id}: no end after {self.positions[-1:]}"
        for attempt in dict.fromkeys(attempt for attempt, _ in self.positions):
            seqs = [seq for current, seq in self.positions if current == attempt]
            if seqs != list(range(1, len(seqs) + 1)):
                return f"{self.run_id}: attempt {attempt} came as {seqs}"
        return "" if self.positions == sorted(self.positions) else f"{self.run_id}: attempts came out of order"
