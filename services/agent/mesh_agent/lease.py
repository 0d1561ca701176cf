"""What holding a lease means for those who write: go on trying while it holds, stop the moment it does not."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self

from mesh_common.errors import Unavailable
from mesh_common.retrying import with_retries
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from mesh_agent.events.log import LeaseLostError

# What a clock may drift against the database's within one lease, and what sending takes.
_MARGIN: Final = 0.85


@dataclass(slots=True)
class HeldLease:
    """A lease as its owner may trust it: until `valid_until_s`, by the monotonic clock.

    It knows nothing of the run it is for. What asks it is reached from the run, and would be a cycle with it.
    """

    valid_until_s: float

    @classmethod
    def asked_for(cls, asked_at_s: float, ttl_s: float) -> Self:
        """`asked_at_s`: the monotonic time before the claim was sent."""
        return cls(asked_at_s + ttl_s * _MARGIN)

    def holds(self) -> bool:
        return time.monotonic() < self.valid_until_s

    def renewed(self, asked_at_s: float, ttl_s: float) -> None:
        """Answers may overtake each other: the latest end counts."""
        self.valid_until_s = max(self.valid_until_s, asked_at_s + ttl_s * _MARGIN)

    def give_up(self) -> None:
        self.valid_until_s = 0.0


async def while_lease_holds[T](holds_lease: Callable[[], bool], action: Callable[[], Awaitable[T]]) -> T:
    """The action's result, tried again while the database is away and the lease holds.

    Raises LeaseLostError when the lease ran out: another replica takes the run over from its last safe point.
    """

    def lease_is_over(_: RetryCallState) -> bool:
        return not holds_lease()

    def retrying() -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_exponential(multiplier=0.1, max=1.0),
            stop=lease_is_over,
            reraise=True,
        )

    try:
        return await with_retries(action, retrying, on=Unavailable)
    except Unavailable as error:
        raise LeaseLostError from error
