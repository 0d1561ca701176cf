"""Limits on what anyone may make a replica do without an account, by client address.

Counted by each replica alone: what is limited here costs less than a call of Redis.
"""

from typing import Final

from mesh_common.clock import Clock
from mesh_common.errors import RateLimited

from mesh_gateway.metrics import REFUSALS

_WINDOW_S: Final = 60.0
# About 20 MB. Beyond them, the address counted first is forgotten.
MAX_ADDRESSES: Final = 100_000


class AddressBudget:
    """How much each address has spent in the current minute. `name` appears in metrics."""

    def __init__(self, name: str, per_minute: int, clock: Clock) -> None:
        self._name = name
        self._per_minute = per_minute
        self._clock = clock
        self.spent: dict[str, int] = {}
        self._ends_at_s = 0.0

    def require(self, address: str) -> None:
        """Raises RateLimited if the address has spent its budget."""
        now_s = self._clock.monotonic_s()
        if now_s < self._ends_at_s and self.spent.get(address, 0) >= self._per_minute:
            REFUSALS.labels(self._name).inc()
            raise RateLimited("Too many requests. Wait a moment.", retry_after_s=self._ends_at_s - now_s)

    def spend(self, address: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._ends_at_s:
            self.spent.clear()
            self._ends_at_s = now_s + _WINDOW_S
        self.spent[address] = self.spent.get(address, 0) + 1
        if len(self.spent) > MAX_ADDRESSES:
            del self.spent[next(iter(self.spent))]
