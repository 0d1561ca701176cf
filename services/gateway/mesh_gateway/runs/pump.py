"""Sends the events of a turn as bytes, in any protocol: with pings while idle, and a closing frame."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from mesh_gateway.limits.stream_slots import Closing, UntilLeft, cancel_when_left
from mesh_gateway.runs.ports import Encoder, StreamEnd
from mesh_gateway.runs.turn import Turn

_END_BY: Final = {Closing.REPLICA_STOPS: StreamEnd.REPLICA_STOPS, Closing.REVOKED: StreamEnd.REVOKED}

type SendBytes = Callable[[bytes], Awaitable[None]]


class Pump:
    def __init__(self, turn: Turn, encoder: Encoder, send: SendBytes, *, ping_interval_s: float) -> None:
        self._turn = turn
        self._encoder = encoder
        self._send_bytes = send
        self._ping_interval_s = ping_interval_s
        self._now_s = asyncio.get_running_loop().time
        self._sent_at_s = self._now_s()
        self._end = StreamEnd.CUT

    async def run(self, until_left: UntilLeft) -> bool:
        """Sends all events and the closing bytes. False if the client disconnected: send nothing more then."""
        slot = self._turn.slot
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump())
            others = (
                group.create_task(cancel_when_left(until_left, slot, pump)),
                group.create_task(self._ping_while_idle()),
            )
            slot.when_closed(pump.cancel)
            pump.add_done_callback(lambda _: [task.cancel() for task in others])
        if pump.cancelled():
            if slot.has_client_left or not slot.closed_by:
                return False
            self._end = _END_BY[slot.closed_by]
        last = self._encoder.end(self._end)
        if last:
            await self._send(last)
        return True

    async def _pump(self) -> None:
        turn, encode = self._turn, self._encoder.encode
        async with aclosing(turn.events) as events:
            async for event in events:
                turn.on_event(event)
                if event.is_terminal:
                    self._end = StreamEnd.COMPLETE
                data = encode(event)
                if data:
                    await self._send(data)

    async def _ping_while_idle(self) -> None:
        while True:
            idle_s = self._now_s() - self._sent_at_s
            if idle_s >= self._ping_interval_s:
                await self._send(self._encoder.ping())
                idle_s = 0.0
            await asyncio.sleep(self._ping_interval_s - idle_s)

    async def _send(self, data: bytes) -> None:
        self._sent_at_s = self._now_s()
        await self._send_bytes(data)
