"""A chaos user who also records when events came."""

import time
from collections.abc import AsyncIterator

from mesh_dev.mesh_client import Event

from chaos.client import ChaosUser
from chaos.history import Stream


class TimedUser(ChaosUser):
    """By run, monotonic: `restarted_s` is when `run_restarted` first came, `ended_s` when its terminal event came."""

    restarted_s: dict[str, float]
    ended_s: dict[str, float]

    async def _read(self, events: AsyncIterator[Event], stream: Stream, leave_after: int | None = None) -> None:
        await super()._read(self._noted(events), stream, leave_after)

    async def _noted(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            if event.type == "run_restarted":
                self.restarted_s.setdefault(event.run_id, time.monotonic())
            if event.is_terminal:
                self.ended_s.setdefault(event.run_id, time.monotonic())
            yield event
