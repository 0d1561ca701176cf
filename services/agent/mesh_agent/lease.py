"""A lease and the work done under it: retried while the lease holds, stopped as soon as it does not."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self

from mesh_common.errors import Unavailable
from mesh_common.retrying import with_retries
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from mesh_agent.domain.attempts import LeaseLostError

# Leaves room for the drift of the local clock against the database's within one lease, and for the time to send.
_MARGIN: Final = 0.85


@dataclass(slots=True)
class HeldLease:
    """A lease from its owner's point of view: valid until `valid_until_s` of the monotonic clock."""

    valid_until_s: float
    ttl_s: float

    @classmethod
    def asked_for(cls, asked_at_s: float, ttl_s: float) -> Self:
        """`asked_at_s`: the monotonic time before the claim was sent."""
        return cls(asked_at_s + ttl_s * _MARGIN, ttl_s)

    def holds(self) -> bool:
        return time.monotonic() < self.valid_until_s

    def renewed(self, asked_at_s: float) -> None:
        """Replies may arrive out of order, so the latest end counts."""
        self.valid_until_s = max(self.valid_until_s, asked_at_s + self.ttl_s * _MARGIN)

    def give_up(self) -> None:
        self.valid_until_s = 0.0


async def while_lease_holds[T](holds_lease: Callable[[], bool], action: Callable[[], Awaitable[T]]) -> T:
    """Returns the action's result, retrying while the database is unavailable and the lease holds.

    Raises LeaseLostError if the lease expires: another replica takes over the run from its last safe point.
    """

    def lease_expired(_: RetryCallState) -> bool:
        return not holds_lease()

    def retrying() -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_exponential(multiplier=0.1, max=1.0),
            stop=lease_expired,
            reraise=True,
        )

    try:
        return await with_retries(action, retrying, on=Unavailable)
    except Unavailable as error:
        raise LeaseLostError from error
